"""The live panels in JupyterLab, moved by mouse and keyboard: what is drawn in the page is the method's state."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Lab, screenshots, tab
from panel_page import PanelPage, write_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]

SET_UP = """
import torch
from cxgrad_lite import MAML, Conv4, CxGrad, TrainConfig
from cxgrad_lite.live import compare_cka, compare_embeddings, scale_explorer, watch_adaptation, watch_training
from cxgrad_lite.probes import mean_layer_norms
from data_utils import TaskSampler, load

torch.manual_seed(0)
tasks = TaskSampler(load("glyphs", "test"), ways=3, shots=1, queries=4, tasks_per_batch=1)
task = next(tasks.episodes(1))
method = CxGrad(Conv4(1, 28, 3, width=8), inner_lr=0.1, inner_steps=3)
first = [parameter.detach().clone() for parameter in method.parameters()]
LONG = TrainConfig(iterations=100_000)


class Fragile(MAML):
    iteration = 0

    def begin_iteration(self, iteration):
        self.iteration = iteration

    def step(self, theta, support, k):
        if self.iteration == 2:
            raise RuntimeError("the reader's own mistake")
        return super().step(theta, support, k)
"""
Show = Callable[[str], PanelPage]


@pytest.fixture
def show(root: Path, lab: Lab, browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Show]:
    """Opens a notebook that makes a panel; in the end nobody may have complained."""
    name = re.sub(r"\W+", "_", request.node.name.removeprefix("test_")).strip("_")
    with tab(browser) as page:

        def show(panel: str) -> PanelPage:
            write_notebook(root / f"{name}.ipynb", [SET_UP, f"panel = {panel}\npanel", "6 * 7"])
            return PanelPage.open(page, lab, root / f"{name}.ipynb", screenshots(tmp_path))

        yield show
        assert page.complaints == []


def shows_the_method(shown: PanelPage, backend: str) -> None:
    """What `watch_training` has drawn is the history, and what the inner loop does now."""
    history = shown.ask("panel.history.loss")
    norms = list(shown.ask("mean_layer_norms(method, tasks, episodes=1)").values())
    gamma = shown.ask("method.adapt(task[0], trace=True)[1][-1].scaling.tolist()")
    if backend == "png":
        shown.shows_the_png()
        plotted = shown.ask("{name: panel.chart.plotted(name) for name in panel.chart.contents}")
    else:
        shown.becomes(lambda: shown.heights("norms")[0], norms)
        panes = ("loss", "norms", "norm history", "gamma now", "gamma")
        plotted = {pane: [(trace["x"], trace["y"]) for trace in shown.traces(pane)] for pane in panes}
    ((x, loss),) = plotted["loss"]
    x = [int(i) for i in x]  # matplotlib keeps floats
    assert x[-1:] == [len(history)] * bool(history)
    assert loss == pytest.approx([sum(history[max(0, i - 10) : i]) / min(i, 10) for i in x])
    for now, so_far, numbers in (("norms", "norm history", norms), ("gamma now", "gamma", gamma)):
        assert plotted[now][0][1] == pytest.approx(numbers)
        assert [y[-1] for _, y in plotted[so_far]] == pytest.approx(numbers)


@pytest.mark.parametrize("backend", ["plotly", "png"])
def test_watch_training(backend: str, show: Show) -> None:
    shown = show(f"watch_training(method, tasks, LONG, backend={backend!r})")
    shown.becomes(shown.status, "0 meta-iterations, ready")
    shows_the_method(shown, backend)
    shown.click("start")
    before = shown.until(shown.iterations, lambda now: now >= 3)
    assert shown.answers(2) == "42", "the kernel stays usable"
    assert shown.status().endswith("training")
    shown.until(shown.iterations, lambda now: now > before)

    shown.click("pause")
    shown.until(shown.status, lambda status: status.endswith("paused"))
    iterations = shown.iterations()
    shown.page.wait_for_timeout(500)
    assert shown.iterations() == shown.ask("len(panel.history.loss)") == iterations
    shows_the_method(shown, backend)

    shown.click("step")
    shown.until(shown.status, lambda status: status.startswith(f"{iterations + 1} ") and status.endswith("paused"))
    shown.slide("inner rate", "ArrowRight", "ArrowRight")
    shown.slide("inner steps", "ArrowRight")
    shown.becomes(lambda: shown.ask("[method.inner_lr, method.inner_steps]"), [10**-0.9, 4])
    shown.click("step")
    shown.until(shown.status, lambda status: status.startswith(f"{iterations + 2} ") and status.endswith("paused"))
    assert shown.ask("len(panel.history.loss)") == iterations + 2
    assert shown.ask("len(method.adapt(task[0], trace=True)[1])") == 4
    shows_the_method(shown, backend)
    shown.photograph("paused")

    shown.click("reset")
    shown.becomes(shown.status, "0 meta-iterations, ready")
    assert shown.ask("all(torch.equal(p, old) for p, old in zip(method.parameters(), first))")
    assert shown.ask("[method.inner_lr, method.inner_steps, panel.history.loss]") == [0.1, 3, []]
    shows_the_method(shown, backend)
    shown.close()


def test_what_moves_before_it_is_shown_keeps_its_labels(show: Show) -> None:
    """Plotly draws a figure that changed before it was seen from what its messages had; see `PlotlySurface._update`."""
    shown = show("watch_adaptation(method, task, backend='plotly')\npanel.step.value = 2")
    shown.page.locator(".annotation-text", has_text="after 2 steps").wait_for()
    ticks = shown.page.locator(".xtick text").all_text_contents()
    assert {"block 1", "block 4", "head"} <= set(ticks)
    captions = shown.page.locator(".textpoint text").all_text_contents()
    assert any("→" in caption for caption in captions), "of the images after two steps"


def test_what_goes_wrong_in_the_training_is_shown(show: Show) -> None:
    shown = show("watch_training(Fragile(method.net, inner_steps=2), tasks, LONG)")
    shown.click("start")
    alert = shown.page.get_by_role("alert")
    alert.wait_for()
    assert "RuntimeError: the reader's own mistake" in alert.text_content()
    shown.becomes(shown.status, "stopped after 2 meta-iterations")
    alert.locator("summary").click()
    assert "in step" in alert.locator("pre").text_content()
    for theme in ("Light", "Dark"):
        shown.theme(theme)
        for text in (alert, shown.page.locator(".widget-label").first):
            assert shown.contrast(text) > 4.5, theme
        shown.photograph(theme.lower())


@pytest.mark.parametrize("backend", ["plotly", "png"])
def test_scale_explorer(backend: str, show: Show) -> None:
    shown = show(f"scale_explorer(backend={backend!r})")
    before = shown.png() if backend == "png" else ""
    shown.slide("a", *["ArrowLeft"] * 15)  # 0.02 each, of log10(a)
    ratio = pytest.approx(10**0.3, rel=0.01)
    shown.until(lambda: shown.ask("panel.norms['block 4'] / panel.norms_at_1['block 4']"), lambda now: now == ratio)
    now, at_1 = shown.ask("[list(norms.values()) for norms in (panel.norms, panel.norms_at_1)]")
    assert shown.ask("panel.a.value") == pytest.approx(10**-0.3)
    if backend == "png":
        shown.shows_the_png()
        assert shown.png() != before
        assert [y for _, y in shown.ask("panel.chart.plotted('norms')")] == [at_1, pytest.approx(now)]
    else:
        shown.becomes(lambda: [*shown.heights("norms"), [], []][1], now)  # none while it is drawn anew
        drawn = shown.boxes("norms", ".bars .point path")  # grey bars, then coloured ones
        ratios = [new["height"] / old["height"] for old, new in zip(drawn[:5], drawn[5:])]
        shown.becomes(lambda: [*shown.heights("norms"), []][0], at_1)
        assert ratios == pytest.approx([1, 1, 1, 10**0.3, 1], rel=0.03)
        outputs = shown.traces("outputs")[1]
        assert len(outputs["x"]) == 125 and outputs["y"] == pytest.approx(outputs["x"], abs=1e-2), "outputs stay"
    shown.photograph("half")
    shown.close()


def along(pixels: list[float], values: list[float]) -> bool:
    """Whether places on the screen lie as the values do, to a pixel."""
    slope, offset = np.polyfit(values, pixels, 1)
    return bool(np.abs(slope * np.array(values) + offset - pixels).max() < 1)


def test_watch_adaptation(show: Show) -> None:
    shown = show("watch_adaptation(method, task)")
    places, keys = [], ["Home", "ArrowRight", "ArrowRight", "ArrowRight"]
    for k, key in enumerate(keys):
        shown.slide("inner steps", key)
        gradients = shown.ask(f"[norms[{k - 1}] if {k} else 0 for norms in panel.grad_norms.values()]")
        shown.becomes(lambda: shown.heights("gradients")[0], gradients)  # noqa: B023
        points = shown.ask(f"[panel.points[{k}][panel.labels == c].T.tolist() for c in range(3)]")
        assert [[mark["x"], mark["y"]] for mark in shown.traces("embedding")[3:]] == pytest.approx(np.array(points))
        accuracy = shown.ask(f"[100 * panel.support_accuracy[{k}].item(), 100 * panel.query_accuracy[{k}].item()]")
        assert shown.heights("accuracy")[2] == pytest.approx(accuracy)
        places.append(shown.boxes("embedding", "path.point")[:4])  # class 0: circles
        assert along([box["x"] for box in places[-1]], points[0][0])
        assert along([box["y"] for box in places[-1]], points[0][1])
        answers = [int(text[-1]) for text in shown.traces("now")[1]["text"]]
        assert answers == shown.ask(f"panel.predicted[{k}, panel.shown].tolist()")
    assert places[0] != places[3], "the points move"
    assert shown.image("now").shape == shown.image("before").shape
    shown.photograph("after")
    shown.close()


def isolated(boxes: list[dict[str, float]]) -> int:
    """The point that is farthest from its nearest neighbour: there the mouse can mean no other."""
    at = np.array([(box["x"], box["y"]) for box in boxes])
    distance = np.linalg.norm(at[:, None] - at, axis=-1) + np.diag([np.inf] * len(at))
    return int(distance.min(0)[1:].argmax()) + 1  # image 0 is the one that is chosen


def shows_image(shown: PanelPage, row: int) -> None:
    shown.becomes(lambda: shown.ask("panel.chosen.value"), row)
    shown.page.locator(".annotation-text", has_text=f"image {row}: class {row // 4}").wait_for()
    ink = shown.ask(f"(1 - panel.images[{row}, 0]).tolist()")
    assert shown.image("image")[4:60:2, 4:60:2, 0] == pytest.approx(np.array(ink), abs=0.01), "twice as large, framed"
    odds = shown.ask(f"[p[:, {row}].tolist() for p in panel.probability.values()]")
    assert shown.heights("probability") == pytest.approx(np.array(odds))


def test_compare_embeddings(show: Show) -> None:
    shown = show("compare_embeddings([MAML(method.net, inner_steps=1), method], task)")
    shows_image(shown, 0)
    row = isolated(shown.boxes("MAML after", "path.point")[:12])  # the ring comes after them
    shown.hover("MAML after", row)
    shows_image(shown, row)
    shown.photograph("hovered")
    shown.page.mouse.move(0, 0)
    shown.slide("query image", "End", "ArrowLeft")
    shows_image(shown, 10)
    ring = shown.boxes("CxGrad after", "path.point")[12]
    chosen = shown.boxes("CxGrad after", "path.point")[10]
    assert (ring["x"], ring["y"]) == pytest.approx((chosen["x"], chosen["y"]), abs=3)
    shown.close()


def test_compare_cka(show: Show) -> None:
    shown = show("compare_cka([MAML(method.net, inner_steps=1), method], tasks, episodes=4)")
    shown.slide("tasks", "ArrowLeft")
    shown.page.locator(".widget-dropdown select").select_option("block 1")
    shown.page.locator(".annotation-text", has_text="block 1, task by task").wait_for()
    means = shown.ask("[[v[:3].mean().item() for v in by.values()] for by in panel.similarity.values()]")
    assert shown.heights("layers") == pytest.approx(np.array(means))
    singly = shown.ask("[by['block 1'][:3].tolist() for by in panel.similarity.values()]")
    assert shown.heights("tasks")[::2] == pytest.approx(np.array(singly))
    shown.photograph("three_tasks")
    shown.close()
