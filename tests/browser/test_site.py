"""The course as a site: built offline from the stored notebooks, and read in two widths and two themes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, screenshots
from pages import served

from cxgrad_lite.course.lesson import gamma_dials, two_parabolas
from cxgrad_lite.live import scale_explorer
from cxgrad_lite.live.drawing import BROWSER
from cxgrad_lite.recipes import Recipe, pretrained

pytest.importorskip("myst_nb", reason="the site's builder is not installed (pip install -e '.[site]')")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
READ = ("index", "notebooks/00_start_here", "notebooks/02_maml", "notebooks/05_cxgrad", "notebooks/glossary")
LOOKS = {"phone, dark": (375, "dark"), "desk, light": (1400, "light")}
LIMIT = 3_000_000  # bytes of a page before the worker's weights
BOTH = "() => /MAML reads .*CxGrad reads/.test(document.querySelector('.cx-message')?.textContent ?? '')"
WIDER = "() => document.scrollingElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site") / "html"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    command = [sys.executable, str(ROOT / ".ci" / "build_site.py"), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stderr == "", done.stderr[-3000:]
    return out


@pytest.fixture
def visit(site: Path, browser: Any) -> Iterator[Any]:
    """Opens a page in a look; in the end nothing may have been asked of another host, and nothing complained."""
    complaints, requests, opened = [], [], []
    with served(site) as address:

        def visit(page: str, look: str = "desk, light", **options: Any) -> Any:
            width, scheme = LOOKS[look]
            opened.append(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options))
            opened[-1].on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
            opened[-1].on("pageerror", lambda error: complaints.append(str(error)))
            opened[-1].on("request", lambda request: requests.append(request.url))
            opened[-1].goto(f"{address}/{page}.html")
            return opened[-1]

        yield visit
        for page in opened:
            page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


def test_every_notebook_is_a_page(site: Path) -> None:
    assert len(NOTEBOOKS) == 12
    assert all((site / "notebooks" / f"{name}.html").is_file() for name in NOTEBOOKS)
    assert not list(site.glob("notebooks/assignments*")), "hidden tests must not be published"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", READ)
def test_a_page_can_be_read(visit: Any, page: str, look: str, tmp_path: Path) -> None:
    opened = visit(page, look)
    opened.wait_for_load_state("networkidle")
    assert opened.evaluate(WIDER) <= 0, "nothing sticks out sideways"
    for picture in opened.locator("main img").all():
        alt = picture.get_attribute("alt") or ""
        assert len(alt) > 20 and not alt.endswith((".png", ".svg")), picture.get_attribute("src")
    assert serious(opened) == []
    name = f"site_{page.rpartition('/')[2]}_{look.partition(',')[0]}.png"
    opened.screenshot(path=screenshots(tmp_path) / name, full_page=True)


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
    sizes: list[int] = []
    page.on(
        "response", lambda r: sizes.append(0 if r.url.endswith(".bin") else int(r.headers.get("content-length", 0)))
    )
    page.reload()
    page.wait_for_function(BOTH, timeout=120_000)
    assert 0 < sum(sizes) < LIMIT
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


def test_the_first_frame_needs_no_script(visit: Any) -> None:
    page = visit("index", java_script_enabled=False)
    for name in ("before_after", "drawing"):
        picture = page.locator(f"img[src*='{name}']")
        assert picture.is_visible() and picture.bounding_box()["height"] > 200


def test_measured_numbers_stand_on_the_front_page(visit: Any) -> None:
    text = visit("index").locator("main").inner_text()
    for row in json.loads((ROOT / "results" / "drawings.json").read_text())["rows"]:
        if (row["images"], row["batch"]) == ("drawn", "with_support"):
            assert f"{100 * row['mean']:.0f} %" in text


def dial(visit: Any) -> Any:
    page = visit("notebooks/04_batch_norm_and_scale")
    page.locator(".cx-scale .cx-chart").wait_for(timeout=60_000)
    return page


def test_the_dial_shows_what_the_notebooks_panel_shows(visit: Any) -> None:
    page = dial(visit)
    page.get_by_label("layer", exact=True).select_option("block 2")
    page.get_by_label("a, from 0.1 to 10").fill("0.4")
    a = round(10**0.4, 2)
    assert page.url.endswith(f"#layer=block-2&a={a}")
    line = page.locator(".cx-scale code").inner_text()
    made: dict[str, Any] = {}
    exec(line.removesuffix("; panel"), {"scale_explorer": scale_explorer}, made)
    bars = page.locator(".cx-scale rect").evaluate_all("bars => bars.map(bar => Number(bar.dataset.value))")
    panel = made["panel"]
    assert panel.a.value == a and panel.layer.value == "block 2"
    assert bars[0::2] == pytest.approx(list(panel.norms_at_1.values()), rel=1e-4)
    assert bars[1::2] == pytest.approx(list(panel.norms.values()), rel=1e-4)
    panel.close()


def test_a_link_brings_the_dial_back(visit: Any) -> None:
    states = dial(visit).evaluate(
        """async () => {
            const {readState, writeState} = await import(document.baseURI + '/../../_static/scale.js');
            const layers = ['block 1', 'block 2', 'block 3', 'block 4', 'head'];
            const layer = () => layers[Math.floor(5 * Math.random())];
            const a = () => Number((10 ** (2 * Math.random() - 1)).toPrecision(3));
            const random = () => ({layer: layer(), a: a()});
            return Array.from({length: 200}, random).map(state => [state, readState(writeState(state))]);
        }"""
    )
    assert len(states) == 200 and all(before == after for before, after in states)
    page = visit("notebooks/04_batch_norm_and_scale", "phone, dark")
    page.goto(page.url + "#layer=block-3&a=5")
    page.locator(".cx-scale code", has_text='"block 3", 5').wait_for(timeout=60_000)
    page.goto(page.url.partition("#")[0] + "#layer=nonsense&a=1e9")
    page.locator(".cx-scale code", has_text='"block 4", 1').wait_for(timeout=60_000)


def test_the_parabolas_are_those_of_the_notebooks_panel(visit: Any) -> None:
    page = visit("notebooks/02_maml", "phone, dark")
    page.get_by_label("start w").fill("0.2")
    page.get_by_label("rate α").fill("0.25")
    assert page.url.endswith("#start=0.2&alpha=0.25")
    made: dict[str, Any] = {}
    line = page.locator(".cx-parabolas code").inner_text()
    exec(line.removesuffix("; panel"), {"two_parabolas": two_parabolas}, made)
    panel = made["panel"]
    words = page.locator(".cx-parabolas [role=status]").inner_text()
    assert f"falls from {panel.before:.2f} to {panel.after:.2f}" in words and "one step for each task at 0.00" in words
    panel.close()


def test_the_dials_are_those_of_the_notebooks_panel(visit: Any) -> None:
    page = visit("notebooks/05_cxgrad")
    page.locator(".cx-gammas .cx-chart").first.wait_for(timeout=120_000)
    slider = page.get_by_label("γ of block 4")
    slider.fill("-0.5")
    slider.dispatch_event("change")
    page.locator(".cx-gammas code", has_text="0.316").wait_for(timeout=60_000)
    recipe = Recipe("glyphs", "CxGrad", inner_lr=0.01)
    panel = gamma_dials(pretrained(recipe)[0], recipe.tasks("test"), episodes=1)
    exec(page.locator(".cx-gammas code").inner_text().partition("; ")[2], {"panel": panel})
    bars = page.locator(".cx-gammas rect").evaluate_all("bars => bars.map(bar => Number(bar.dataset.value))")
    assert bars[1:10:2] == pytest.approx(list(panel.grad.values()), rel=1e-3)
    assert bars[11:20:2] == pytest.approx(list(panel.turn.values()), rel=1e-3)
    shown = page.locator(".cx-gammas circle").evaluate_all("dots => dots.map(dot => Number(dot.dataset.y))")
    assert shown[6:] == pytest.approx(panel.accuracy, abs=2)  # an image of 75 may stand between two answers
    panel.close()
