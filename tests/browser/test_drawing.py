"""Drawing five characters: by mouse in a page without a kernel, where a web worker adapts, and in JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from browser import CHROMIUM, Lab, ask, errors_in, open_notebook, run_all, screenshots, tab
from pages import served
from panel_page import write_notebook
from torchvision.transforms.v2.functional import resize

import cxgrad_lite
from cxgrad_lite import Conv4, CxGrad, ProtoNet
from cxgrad_lite.live import draw_and_adapt
from cxgrad_lite.live.drawing import unpacked
from cxgrad_lite.plots.style import CLASS_COLOURS, LAYER_COLOURS
from cxgrad_lite.probes import states
from cxgrad_lite.recipes.course import best_zoo_recipe
from cxgrad_lite.recipes.recipe import pretrained

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]

PACKAGE = Path(cxgrad_lite.__file__).parent
WEIGHTS = {
    name: f"/recipes/pretrained/{best_zoo_recipe('omniglot_small', name, 5).name}.safetensors"
    for name in ("MAML", "CxGrad")
}
PAGE = """<!doctype html><html lang="en"><title>drawing</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/live/browser/drawing.css"><div class="cx-panel"></div>
<script type="module">
import {fillPage} from "/live/browser/site.js";
const {dataset} = document.querySelector(".cx-panel");
dataset.methods = `METHODS`;
if (location.hash) dataset.example = "/live/browser/example.json";
fillPage();
</script>"""
BOTH = "() => /MAML reads .*CxGrad reads/.test(document.querySelector('.cx-message').textContent)"
ANSWERS = """() => [...document.querySelectorAll('.cx-results section')].map(method =>
    [...method.querySelectorAll('rect[data-p]')].map(bar => Number(bar.dataset.p)))"""
CROSS = [[(0.1, 0.1), (0.9, 0.9)], [(0.9, 0.1), (0.1, 0.9)]]
RING = [[(0.5 + 0.4 * np.cos(t), 0.5 + 0.4 * np.sin(t)) for t in np.linspace(0, 6.28, 25)]]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page with an empty panel, or, at ``#example``, a filled one; in the end nothing may have gone anywhere."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request))
    with served(PACKAGE) as address:
        html = PAGE.replace("METHODS", str(WEIGHTS).replace("'", '"'))
        page.route(f"{address}/", lambda route: route.fulfill(content_type="text/html", body=html))
        page.home = f"{address}/"
        page.goto(page.home)
        page.locator(".cx-paper").wait_for()
        yield page
        assert {(r.method, r.post_data) for r in requests} == {("GET", None)}
        assert all(r.url.startswith((address, "blob:", "data:")) for r in requests)
        page.close()
    assert complaints == []


def with_example(page: Any) -> Any:
    page.goto(f"{page.home}#example")
    page.reload()
    page.wait_for_function(BOTH, timeout=90_000)
    return page


def draw(page: Any, strokes: list[list[tuple[float, float]]], field: str = "") -> None:
    """Draws with the mouse, in the field with this label."""
    if field:
        page.get_by_role("button", name=re.compile(f"^{field}")).click()
    box = page.locator(".cx-paper").bounding_box()
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def message(page: Any) -> str:
    return str(page.locator(".cx-message[role=alert]").inner_text(timeout=10_000))


def drawing(page: Any, slot: str = "A1") -> Any:
    """(28, 28) what the networks would see of a field."""
    values = page.evaluate("slot => Array.from(document.querySelector('.cx-panel').panel.sheet.image(slot))", slot)
    return np.array(values).reshape(28, 28)


def test_the_example_is_read_as_in_torch(page: Any) -> None:
    shown = with_example(page).evaluate(ANSWERS)
    support, query = (
        page.evaluate(f"() => document.querySelector('.cx-panel').panel.sheet.{part}")
        for part in ("support()", "query()")
    )
    images = torch.tensor(support["images"]).double().view(-1, 1, 28, 28) / 255
    labels, asked = torch.tensor(support["labels"]), torch.tensor(query).double().view(1, 1, 28, 28) / 255
    batch = torch.cat([images, asked])
    for ours, name in zip(shown, WEIGHTS):
        method, _ = pretrained(best_zoo_recipe("omniglot_small", name, 5))
        thetas, _ = states(method.double(), (images, labels))  # type: ignore[arg-type]
        with torch.no_grad():
            theirs = torch.stack([method.logits(theta, batch)[-1].softmax(-1) for theta in thetas])
        torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64).view(6, 5), theirs, rtol=0, atol=1e-9)


def test_strokes_change_the_answers(page: Any) -> None:
    before = with_example(page).evaluate(ANSWERS)
    press(page, "clear")
    draw(page, [[(0.2, 0.3), (0.8, 0.3)], [(0.6, 0.3), (0.6, 0.9)]])
    page.wait_for_function(
        "before => JSON.stringify((" + ANSWERS + ")()) !== JSON.stringify(before)", arg=before, timeout=60_000
    )
    assert len(page.evaluate(ANSWERS)[0]) == 30
    page.screenshot(path=screenshots(Path("/tmp")) / "drawing_panel.png", full_page=True)


def test_two_characters_by_mouse(page: Any) -> None:
    for field, strokes in (("drawing 1 of character B", CROSS), ("drawing 1 of character D", RING)):
        draw(page, strokes, field)
    draw(page, RING, "the character to be read")
    press(page, "adapt")
    page.wait_for_function(BOTH, timeout=60_000)
    assert page.locator(".cx-message").inner_text().count("reads D") == 2
    assert np.allclose(np.array(page.evaluate(ANSWERS)).reshape(2, 6, 2).sum(-1), 1)


def test_a_drawing_is_centred_and_undone(page: Any) -> None:
    draw(page, [[(x / 2, y / 2) for x, y in stroke] for stroke in RING])
    small = drawing(page)
    draw(page, RING, "drawing 1 of character B")
    large = drawing(page, "B1")
    assert np.abs(small - large).mean() < 4, "size and place on the canvas do not matter"
    rows, columns = np.nonzero(large > 100)
    assert abs(rows.mean() - 13.5) < 0.5 and abs(columns.mean() - 13.5) < 0.5 and 16 <= np.ptp(rows) <= 20
    page.get_by_label("pen").fill("9")
    assert drawing(page, "B1").sum() > 1.5 * large.sum()
    draw(page, CROSS)
    assert len(page.evaluate("() => document.querySelector('.cx-panel').panel.sheet.slots.get('B1')")) == 3
    for left in (2, 1, 0):
        press(page, "undo")
        assert len(page.evaluate("() => document.querySelector('.cx-panel').panel.sheet.slots.get('B1')")) == left


@pytest.mark.parametrize("ink", [0, 1], ids=["dark on light", "light on dark"])
def test_an_upload_is_a_drawing(page: Any, tmp_path: Path, ink: int) -> None:
    picture = np.full((60, 60, 3), 1.0 - ink)
    for i in range(10, 50):
        picture[i - 2 : i + 3, [i - 1, i, i + 1]] = ink
        picture[i - 2 : i + 3, [59 - i, 60 - i, 61 - i]] = ink
    matplotlib.image.imsave(tmp_path / "cross.png", picture)
    page.locator(".cx-file").set_input_files(tmp_path / "cross.png")
    page.locator("button.cx-full").wait_for()
    draw(page, CROSS, "drawing 1 of character B")
    draw(page, RING, "drawing 1 of character C")
    images = np.stack([drawing(page, slot).flatten() for slot in ("A1", "B1", "C1")])
    _, cross, ring = np.corrcoef(images)[0]
    assert cross > 0.7 and ring < 0.3


def test_bad_input_is_named(page: Any, tmp_path: Path) -> None:
    press(page, "adapt")
    assert message(page).startswith("Nothing has been drawn yet: draw at least two characters")
    draw(page, RING, "drawing 2 of character C")
    press(page, "adapt")
    assert message(page).startswith("Only C has been drawn: draw at least two different characters")
    (tmp_path / "notes.txt").write_text("not an image")
    page.locator(".cx-file").set_input_files(tmp_path / "notes.txt")
    page.get_by_text("“notes.txt” is no image that this browser can read").wait_for()
    matplotlib.image.imsave(tmp_path / "blank.png", np.full((30, 30, 3), 0.5))
    page.locator(".cx-file").set_input_files(tmp_path / "blank.png")
    page.get_by_text("“blank.png” shows no drawing").wait_for()


def test_a_browser_without_workers_is_told(page: Any) -> None:
    page.add_init_script("delete window.Worker")
    page.goto(f"{page.home}#example")
    page.reload()
    page.locator("button.cx-full").first.wait_for()
    assert message(page).startswith("This browser has no web workers")


def test_shrinking_is_torchvisions(page: Any) -> None:
    fine = torch.randint(0, 256, (105, 105), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small = page.evaluate(
        "async fine => Array.from((await import('/live/browser/strokes.js')).shrink(fine))", fine.flatten().tolist()
    )
    expected = resize(fine[None].double(), [28, 28], antialias=True).round()
    assert (torch.tensor(small).view(28, 28) - expected[0]).abs().max() <= 1, "rounding of halves may differ"


def test_colours_are_those_of_the_figures(page: Any) -> None:
    colours = page.evaluate("async () => ({...await import('/live/browser/charts.js')})")
    assert colours["LAYER_COLOURS"] == list(LAYER_COLOURS.values())
    assert colours["LAYERS"] == list(LAYER_COLOURS) and colours["CLASS_COLOURS"] == list(CLASS_COLOURS[:5])


SET_UP = """
import torch
from cxgrad_lite import MAML, Conv4, CxGrad, ProtoNet
from cxgrad_lite.live import draw_and_adapt
torch.manual_seed(0)
methods = [CxGrad(Conv4(1, 28, 5, width=8), inner_lr=0.1, inner_steps=3), ProtoNet(Conv4(1, 28, 5, width=8))]
"""


def test_in_jupyterlab_the_kernel_adapts(root: Path, lab: Lab, browser: Any, tmp_path: Path) -> None:
    with tab(browser) as page:
        write_notebook(root / "drawing.ipynb", [SET_UP, "panel = draw_and_adapt(methods)\npanel"])
        page.set_viewport_size({"width": 1280, "height": 1500})
        open_notebook(page, lab, "drawing.ipynb")
        assert errors_in(run_all(page)) == []
        page.get_by_text("ProtoNet reads").wait_for(timeout=60_000)  # the example
        assert ask(page, "[list(panel.support[0].shape), panel.support[1].bincount().tolist()]") == [
            [25, 1, 28, 28],
            [5] * 5,
        ]
        press(page, "clear all")
        draw(page, CROSS, "drawing 1 of character A")
        draw(page, RING, "drawing 1 of character B")
        draw(page, RING, "drawing 2 of character B")
        draw(page, CROSS, "the character to be read")
        press(page, "adapt")
        page.get_by_text(re.compile("CxGrad reads .*ProtoNet reads A")).wait_for(timeout=60_000)
        assert ask(page, "panel.support[1].tolist()") == [0, 1, 1]
        (drawings,) = re.findall(r"drawings='([^']*)'", ask(page, "panel.code()"))
        assert unpacked(drawings).keys() == {"A1", "B1", "B2", "query"}
        shown = [np.array(rows) for rows in page.evaluate(ANSWERS)]
        assert [len(rows) for rows in shown] == [4 * 2, 1 * 2]
        for rows, name in zip(shown, ("CxGrad", "ProtoNet")):
            assert rows == pytest.approx(ask(page, f"panel.answers['{name}'].flatten().tolist()"))
        page.locator(".cx-draw").screenshot(path=screenshots(tmp_path) / "drawing_in_lab.png")
        words = ask(page, "[panel.close(), panel.alt()][1]")
        assert re.fullmatch("3 drawings of 2 characters; CxGrad reads [AB], ProtoNet reads A", words)
        page.locator(".jp-RenderedImage img").wait_for()
        assert page.complaints == []


def test_networks_for_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="1×28×28, but the network of CxGrad takes 3×84×84"):
        draw_and_adapt(CxGrad(Conv4(3, 84, 5, width=8)))
    with pytest.raises(ValueError, match="names"):
        draw_and_adapt([ProtoNet(Conv4(1, 28, 5, width=8)), ProtoNet(Conv4(1, 28, 5, width=8))])
