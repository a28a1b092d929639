"""The course as a site: built offline from the stored notebooks, and read in two widths and two themes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, screenshots
from pages import LOOKS

from cxgrad_lite.live.drawing import BROWSER

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
ALIVE = {  # pages with a panel → what is there before any script has run
    "index": "drawing",
    "beat_the_machine": "contest",
    "notebooks/02_maml": "02_maml-",
    "notebooks/04_batch_norm_and_scale": "04_batch_norm_and_scale-",
    "notebooks/05_cxgrad": "05_cxgrad-",
    "notebooks/06_representation_change": "06_representation_change-",
}
READ = (*ALIVE, "notebooks/00_start_here", "notebooks/glossary")
LIMIT = 3_000_000  # bytes of a page before the worker's weights
BOTH = "() => /MAML reads .*CxGrad reads/.test(document.querySelector('.cx-message')?.textContent ?? '')"
FOCUSED = "() => { const at = document.activeElement; return at.ariaLabel ?? at.textContent.trim(); }"
LINK_BEFORE = """() => {
    const panel = document.querySelector(".cx-panel");
    const above = [...document.querySelectorAll("main a[href]")].filter(a => a.compareDocumentPosition(panel) & 4);
    above.at(-1).focus();
}"""
WIDER = "() => document.scrollingElement.scrollWidth - innerWidth"


def test_every_notebook_is_a_page(site: Path) -> None:
    assert len(NOTEBOOKS) == 13
    assert all((site / "notebooks" / f"{name}.html").is_file() for name in NOTEBOOKS)
    assert not list(site.glob("notebooks/assignments*")), "hidden tests must not be published"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", READ)
def test_a_page_can_be_read(visit: Any, page: str, look: str, tmp_path: Path) -> None:
    opened = visit(page, look)
    opened.wait_for_load_state("networkidle", timeout=120_000)
    assert 0 < sum(size for url, size in opened.sizes.items() if not url.endswith(".bin")) < LIMIT
    assert opened.evaluate(WIDER) <= 0, "nothing sticks out sideways"
    assert serious(opened) == []
    name = f"site_{page.rpartition('/')[2]}_{look.partition(',')[0]}.png"
    opened.screenshot(path=screenshots(tmp_path) / name, full_page=True)


def test_every_page_tells_its_pictures_and_can_be_run(site: Path) -> None:
    pages = [site / "index.html", site / "beat_the_machine.html", *site.glob("notebooks/**/*.html")]
    assert len(pages) == 2 + len(NOTEBOOKS) + len(list((ROOT / "notebooks" / "solutions").glob("*.ipynb")))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for picture in re.findall(r"<img[^>]*>", text):
            alt = re.search(r'alt="([^"]*)"', picture)
            assert alt and len(alt[1]) > 20 and not alt[1].endswith((".png", ".svg")), (page.name, picture)
        assert 'href="https://colab.research.google.com' in text and 'href="https://mybinder.org' in text, page.name


def serious(page: Any) -> list[tuple[str, str]]:
    """What axe-core finds on a page that keeps somebody from reading or using it: rule, and the first element."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with the extra [test]")
    page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    violations = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")["violations"]
    return [(v["id"], v["nodes"][0]["html"]) for v in violations if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_what_is_wrong(visit: Any, look: str) -> None:
    page = visit("index", look)
    page.evaluate("document.querySelector('main img').removeAttribute('alt')")
    assert [rule for rule, _ in serious(page)] == ["image-alt"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_numbers_are_those_stored(visit: Any, name: str) -> None:
    text = " ".join(visit(f"notebooks/{name}").locator("main").inner_text().split())
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    printed = [o["text"] for cell in cells for o in cell.get("outputs", []) if o.get("name") == "stdout"]
    for output in printed:
        assert " ".join("".join(output).split()) in text


def test_the_front_page_is_alive(visit: Any) -> None:
    page = visit("index", "phone, dark")
    page.wait_for_function(BOTH, timeout=120_000)
    assert "MAML reads C" in page.locator(".cx-message").inner_text()
    page.get_by_role("button", name="clear", exact=True).click()
    page.locator(".cx-paper").scroll_into_view_if_needed()
    box = page.locator(".cx-paper").bounding_box()
    for stroke in json.loads((BROWSER / "example.json").read_text())["E3"]:  # drawn again by mouse
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
    page.locator(".cx-message", has_text=re.compile("MAML reads E .*CxGrad reads E")).wait_for(timeout=120_000)


@pytest.mark.parametrize("name", ALIVE)
def test_the_first_frame_needs_no_script(visit: Any, name: str) -> None:
    page = visit(name, java_script_enabled=False)
    above = page.locator(f"img[src*='_static/{ALIVE[name]}']").last
    assert above.is_visible() and above.bounding_box()["height"] > 100


def test_all_of_the_drawing_panel_is_reached_by_keyboard(visit: Any) -> None:
    page = visit("index")
    page.get_by_role("button", name="undo").wait_for()
    wanted = page.locator(".cx-panel :is(button, input)").evaluate_all(
        "all => all.map(one => one.ariaLabel ?? one.textContent.trim())"
    )
    page.evaluate(LINK_BEFORE)
    reached = []
    for _ in wanted:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    assert len(wanted) > 30 and reached == wanted


def test_measured_numbers_stand_on_the_front_page(visit: Any) -> None:
    text = visit("index").locator("main").inner_text()
    for row in json.loads((ROOT / "results" / "drawings.json").read_text())["rows"]:
        if (row["images"], row["batch"]) == ("drawn", "with_support"):
            assert f"{100 * row['mean']:.0f}\N{NO-BREAK SPACE}%" in text
