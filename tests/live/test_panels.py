"""Charts and panels without a browser: both backends draw what is set, and changes of traits drive the panels."""

from __future__ import annotations

import gc
import math
import sys
import threading
import weakref
from importlib.metadata import PackageNotFoundError
from types import ModuleType, SimpleNamespace
from typing import Any

import ipywidgets
import pytest
import torch

from cxgrad_lite import MAML, Conv4
from cxgrad_lite.live import (
    charts,
    compare_cka,
    compare_embeddings,
    draw_and_adapt,
    panel,
    scale_explorer,
    watch_adaptation,
    watch_training,
)
from cxgrad_lite.live.charts import Backend, Chart, choose_backend
from cxgrad_lite.live.on_plotly import css
from cxgrad_lite.live.on_png import PngSurface
from cxgrad_lite.live.panel import WIDGET_VIEW, Panel, weak
from cxgrad_lite.live.scale import ScalePanel, kernel_of, look, stripes
from cxgrad_lite.plots.marks import Bars, Images, Line, Mark, Pane, Points
from cxgrad_lite.probes import LAYERS

PANES = {
    "line": Pane("a line", "x", "y", y_limits=(0, None), legend="upper right"),
    "bars": Pane("bars"),
    "points": Pane("points", equal=True),
    "images": Pane("images", hide_axes=True, equal=True),
    "log": Pane("logarithmic", log_x=True, log_y=True, x_limits=(0.1, 10)),
}


TASK = (stripes(3, 2, 16), stripes(3, 3, 16))
METHOD = MAML(Conv4(1, 16, 3, width=4), inner_steps=1)


@pytest.mark.parametrize(
    "make, arguments, words",
    [
        (watch_training, {"method": None, "tasks": None}, "a method is needed, such as MAML.net., not NoneType"),
        (watch_adaptation, {"method": MAML, "task": TASK}, "not the class MAML"),
        (compare_cka, {"methods": [METHOD.net], "tasks": None}, "not Conv4"),
        (compare_cka, {"methods": [], "tasks": None}, "no method was given"),
        (draw_and_adapt, {"methods": None}, "not NoneType"),
        (watch_training, {"method": METHOD, "tasks": [TASK]}, r"tasks must have episodes\(\)"),
        (watch_training, {"method": METHOD, "tasks": None, "config": {}}, "config must be a TrainConfig, not dict"),
        (watch_adaptation, {"method": METHOD, "task": TASK, "per_class": 0}, "per_class must be at least 1, not 0"),
        (watch_adaptation, {"method": METHOD, "task": TASK, "per_class": -1}, "per_class must be at least 1, not -1"),
        (
            watch_adaptation,
            {"method": METHOD, "task": TASK, "backend": ""},
            "backend must be 'plotly' or 'png', not ''",
        ),
        (watch_adaptation, {"method": METHOD, "task": None}, r"a task is \(support, query\), such as .*, not NoneType"),
        (compare_embeddings, {"methods": [METHOD], "task": TASK[:1]}, "a task is"),
        (compare_embeddings, {"methods": [METHOD], "task": (TASK[0], TASK[0][0])}, "a query set is a pair of tensors"),
        (
            compare_embeddings,
            {"methods": [METHOD], "task": (TASK[0], (TASK[1][0], TASK[1][1] + 1))},
            "a query label is 3, and the task has 3 classes",
        ),
        (scale_explorer, {"net": METHOD}, "net must be a Conv4, not MAML"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(make: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        make(**arguments)


@pytest.fixture(params=["plotly", "png"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "plotly" and choose_backend() != "plotly":
        pytest.skip("plotly 6 with anywidget and ipywidgets 8 is not installed")
    monkeypatch.setattr(charts, "choose_backend", lambda: request.param)
    return request.param


def marks(step: int) -> dict[str, list[Mark]]:
    """Other numbers, and another number of marks, for every step."""
    n, pictures = step + 2, torch.full((step + 1, 1, 5, 5), 0.5)
    x = [1.0 + i for i in range(n)]
    names = [f"image {i}" for i in range(step + 1)]
    lines = [Line(x, [step + v for v in x], "first", "#D55E00")] + [Line(x, x, "second", dashed=True)] * (step % 2)
    bars = [Bars(["u", "v"], [step, 2.0], ["#CBC9E2", "#3F007D"], errors=[0.1, 0.2])] * (1 + step % 2)
    return {
        "line": [*lines],
        "bars": [*bars],
        "points": [Points(x, [-v * step for v in x], colour=["#D55E00"] * n, symbol="square", hover=["word"] * n)],
        "images": [Images(pictures, 2, ["#009E73"] * (step + 1), names)],
        "log": [Line(x, x), Points(x, x, filled=False)],
    }


def set_all(chart: Chart, step: int) -> None:
    for name, content in marks(step).items():
        chart.set(name, *content, title=f"{name}, step {step}")


def xy(mark: Mark) -> tuple[list[Any], list[Any]]:
    if isinstance(mark, Bars):
        return list(mark.labels), list(mark.values)
    return ([], list(mark.captions)) if isinstance(mark, Images) else (list(mark.x), list(mark.y))


def test_what_is_set_is_drawn_also_when_the_marks_change(backend: Backend) -> None:
    chart = Chart(PANES)
    assert chart.backend == backend
    for step in range(4):
        set_all(chart, step)
        chart.draw()
        for name, content in marks(step).items():
            assert chart.plotted(name) == [xy(mark) for mark in content], name


def test_nothing_is_seen_before_it_is_drawn_and_drawing_can_be_rationed(backend: Backend) -> None:
    chart = Chart({"line": Pane()})
    chart.set("line", Line([1, 2], [3, 4]))
    assert chart.plotted("line") == []
    assert chart.draw(every=60)
    assert chart.plotted("line") == [([1, 2], [3, 4])]
    chart.set("line", Line([1, 2], [5, 6]))
    assert not chart.draw(every=60)
    assert chart.plotted("line") == [([1, 2], [3, 4])]
    assert chart.draw()
    assert chart.plotted("line") == [([1, 2], [5, 6])]
    with pytest.raises(KeyError):
        chart.set("another", Line([], []))


def test_panes_that_are_drawn_anew_look_as_if_they_were_new() -> None:
    chart = Chart(PANES, backend="png")
    for step in range(4):
        set_all(chart, step)
        chart.draw()
        assert chart.widget.value == PngSurface(chart.grid, chart.contents).widget.value, f"step {step}"


def test_titles_and_colours_reach_plotly() -> None:
    if choose_backend() != "plotly":
        pytest.skip("no FigureWidget here")
    chart = Chart(PANES, backend="plotly")
    set_all(chart, 1)
    chart.draw()
    assert [a.text for a in chart.widget.layout.annotations] == [f"{name}, step 1" for name in PANES]
    first, second = chart.surface.traces["line"]  # type: ignore[attr-defined]
    assert (first.line.color, first.line.dash, first.showlegend, second.line.dash) == ("#D55E00", "solid", True, "dash")
    assert chart.surface.traces["bars"][0].marker.color == ("#CBC9E2", "#3F007D")  # type: ignore[attr-defined]


def test_the_mouse_over_a_point(backend: Backend) -> None:
    chart, seen = Chart(PANES), []  # type: Chart, list[tuple[int, int]]
    works = chart.on_hover("log", lambda mark, point: seen.append((mark, point)))
    assert works == (backend == "plotly")
    set_all(chart, 1)
    chart.draw()
    if works:
        trace = chart.surface.traces["log"][1]  # type: ignore[attr-defined]
        trace._dispatch_on_hover(SimpleNamespace(point_inds=[2]), None)
        assert seen == [(1, 2)], "also for marks that came after the callback"


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"plotly": "6.0.1", "ipywidgets": "8.1.0", "anywidget": "0.9.0"}, "plotly"),
        ({"plotly": "5.24.1", "ipywidgets": "8.1.0", "anywidget": "0.9.0"}, "png"),
        ({"plotly": "6.0.1", "ipywidgets": "7.7.1", "anywidget": "0.9.0"}, "png"),
        ({"plotly": "6.0.1", "ipywidgets": "8.1.0"}, "png"),
    ],
)
def test_the_backend_follows_the_versions(
    found: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(charts, "version", version)
    assert choose_backend() == expected
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    assert choose_backend() == "png"


class Squares(Panel):
    """Draws the square of a slider's value, in the background on request."""

    def __init__(self) -> None:
        self.number, self.go = ipywidgets.IntSlider(2), ipywidgets.Button(description="go")
        super().__init__(Chart({"square": Pane("square")}), [[self.number, self.go]])
        self.on(self.number, self.redraw)
        self.on(self.go, self.later)
        self.begun, self.gate, self.jobs = threading.Event(), threading.Event(), 0

    def redraw(self) -> None:
        if self.number.value == 13:
            raise ValueError("not <13>")
        self.chart.set("square", Line([0, 1], [0, self.number.value**2]))
        self.chart.draw()

    def later(self) -> None:
        self.background(self.slow)

    def slow(self) -> None:
        self.begun.set()
        while not (self.gate.wait(0.01) or self.closing.is_set()):
            pass
        self.jobs += 1
        self.redraw()

    def alt(self) -> str:
        return f"The square of {self.number.value}."


def panel_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "panel"]


def test_controls_drive_the_chart(backend: Backend) -> None:
    squares = Squares()
    squares.number.value = 7
    assert squares.chart.plotted("square") == [([0, 1], [0, 49])]
    squares.close()
    squares.number.value = 8
    assert squares.chart.plotted("square") == [([0, 1], [0, 49])], "a closed panel does nothing"


def test_an_exception_is_shown_until_the_next_action(backend: Backend) -> None:
    squares = Squares()
    squares.number.value = 13
    trouble = squares.widget.children[1]
    assert squares.error and "ValueError: not <13>" in squares.error and "in redraw" in squares.error
    assert "not &lt;13&gt;" in trouble.value and trouble.layout.display == ""
    squares.number.value = 3
    assert squares.error is None and trouble.layout.display == "none"
    squares.close()


def test_an_exception_in_the_thread_is_shown(backend: Backend) -> None:
    squares = Squares()
    squares.number.value = 13
    squares.gate.set()
    squares.go.click()
    assert squares.wait(10)
    assert squares.error and "in slow" in squares.error
    assert "not &lt;13&gt;" in squares.widget.children[1].value
    squares.close()


def test_a_job_that_has_not_begun_is_replaced(backend: Backend) -> None:
    squares = Squares()
    squares.go.click()
    assert squares.begun.wait(10) and not squares.wait(0.01)
    for _ in range(3):
        squares.go.click()
    squares.gate.set()
    assert squares.wait(10)
    assert squares.jobs == 2 and panel_threads() == []
    squares.close()


def test_closing_ends_the_thread_and_frees_the_widgets(backend: Backend) -> None:
    squares = Squares()
    squares.go.click()
    assert squares.begun.wait(10)
    squares.close()
    squares.close()
    assert squares.closed and panel_threads() == []
    assert squares.number.comm is None and squares.widget.comm is None and squares.chart.widget.comm is None
    squares.background(squares.slow)
    assert panel_threads() == [], "nothing begins in a closed panel"


def test_a_panel_that_nobody_refers_to_is_closed(backend: Backend) -> None:
    squares = Squares()
    slider, alive = squares.number, weakref.ref(squares)
    squares.redraw()
    del squares
    gc.collect()
    assert alive() is None and slider.comm is None
    slider.value = 5  # and nothing happens


def test_weak_methods_do_nothing_when_their_object_is_gone() -> None:
    class Counter:
        count = 0

        def add(self, number: int) -> int:
            self.count += number
            return self.count

    counter = Counter()
    add = weak(counter.add)
    assert add(2) == 2
    del counter
    gc.collect()
    assert add(2) is None


def test_what_stays_in_the_notebook_is_a_picture(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, Any], dict[str, Any]]] = []

    class Handle:
        def update(self, data: dict[str, Any], metadata: dict[str, Any], raw: bool) -> None:
            shown.append((data, metadata))

    def display(data: dict[str, Any], metadata: dict[str, Any], raw: bool, display_id: bool) -> Handle:
        shown.append((data, metadata))
        return Handle()

    monkeypatch.setattr(panel, "display", display)
    squares = Squares()
    squares._ipython_display_()
    squares.number.value = 3
    model = squares.widget.model_id
    squares.close()
    (live, _), (still, metadata) = shown
    assert live[WIDGET_VIEW]["model_id"] == model and live["image/png"].startswith(b"\x89PNG")
    assert WIDGET_VIEW not in still and still["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == still["text/plain"] == "The square of 3."
    assert squares.picture().figure.axes[0].lines[0].get_ydata().tolist() == [0, 9]


@pytest.fixture()
def explorer(backend: Backend) -> ScalePanel:
    explorer = scale_explorer()
    assert explorer.chart.backend == backend
    return explorer


def test_outputs_stay_and_the_gradient_goes_as_one_over_a(explorer: ScalePanel) -> None:
    at_1 = explorer.norms_at_1
    for a in (0.2, 5.0):
        explorer.a.value = a
        assert explorer.difference < 1e-2
        for layer in LAYERS:
            factor = 1 / a if layer == "block 4" else 1
            assert explorer.norms[layer] == pytest.approx(factor * at_1[layer], rel=0.01)
        assert explorer.chart.plotted("norms")[1] == (list(LAYERS), [explorer.norms[layer] for layer in LAYERS])
        (now,) = zip(*explorer.chart.plotted("law")[2])
        assert now == pytest.approx((a, explorer.norms["block 4"]))
    (x, y) = explorer.chart.plotted("outputs")[1]
    assert len(x) == 25 * 5 and y == pytest.approx(x, abs=1e-2)
    assert len(explorer.chart.plotted("law")[1][0]) == 3, "a = 1, 0.2 and 5 were tried"
    assert "block 4 multiplied by 5" in explorer.picture().alt


@pytest.mark.parametrize("norm, stays", [("batch", True), ("layer", True), ("group", True), ("none", False)])
def test_the_claim_needs_the_normalisation(norm: str, stays: bool, explorer: ScalePanel) -> None:
    explorer.norm.value = norm
    explorer.eps.value = 1e-12
    explorer.a.value = 0.5
    ratio = explorer.norms["block 4"] / explorer.norms_at_1["block 4"]
    assert (explorer.difference < 1e-4) == stays
    assert (abs(ratio - 2) < 1e-3) == stays


def test_a_large_eps_and_the_head_break_the_claim(explorer: ScalePanel) -> None:
    explorer.a.value = 0.3
    before = explorer.difference
    explorer.eps.value = 0.1
    assert explorer.difference > 100 * before and explorer.norms["block 4"] < 2 * explorer.norms_at_1["block 4"]
    explorer.eps.value = 1e-5
    explorer.layer.value = "head"
    assert explorer.difference > 0.1 and explorer.error is None
    assert len(explorer.chart.plotted("law")[1][0]) == 2, "what was tried in other settings is forgotten"


def test_the_explorer_shows_what_the_network_does() -> None:
    torch.manual_seed(1)
    net = Conv4(3, 16, 4, width=8, norm="group", eps=1e-4)
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(4).repeat(2)
    before = {name: p.clone() for name, p in net.named_parameters()}
    explorer = scale_explorer(net, images, labels, backend="png")
    explorer.layer.value = "block 2"
    explorer.a.value = 3.0
    net.get_parameter(kernel_of("block 2")).data.mul_(3)
    logits, norms = look(net, images, labels, "block 1", 1.0)
    assert explorer.norms == pytest.approx(norms)
    net.get_parameter(kernel_of("block 2")).data.copy_(before[kernel_of("block 2")])
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    torch.testing.assert_close(logits, net(images), atol=1e-2, rtol=0)
    with pytest.raises(ValueError, match="both"):
        scale_explorer(net, images)


def test_the_explorer_leaves_the_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    scale_explorer(backend="png")
    assert torch.equal(torch.random.get_rng_state(), state)
    images, labels = stripes(3, 2, 20)
    assert images.shape == (6, 1, 20, 20) and labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.min() >= 0 and images.max() <= 1


def test_colours_with_opacity_are_written_so_that_every_plotly_knows_them() -> None:
    assert css("#4477AA55") == "rgba(68,119,170,0.333)" and css("#4477AA") == "#4477AA" and css("red") == "red"


def test_a_panel_goes_on_after_a_system_exit() -> None:
    panel = Panel(Chart({"a": Pane()}, backend="png"))
    done: list[int] = []

    def leaves() -> None:
        raise SystemExit("enough")

    panel._worker.submit(leaves)
    assert panel.wait(10) and "SystemExit: enough" in (panel.error or "")
    panel._worker.submit(lambda: done.append(1))
    assert panel.wait(10) and done == [1]
    panel.close()


@pytest.mark.parametrize("backend", ["png", "plotly"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_can_be_drawn(backend: Backend, value: float) -> None:
    chart = Chart({"bars": Pane(y_limits=(0, None)), "line": Pane(log_y=True)}, backend=backend)
    chart.set("bars", Bars(["a", "b"], [value, 2.0], ["#000000"] * 2))
    chart.set("line", Line([1, 2, 3], [1.0, value, 3.0]))
    assert chart.draw() and chart.plotted("bars")[0][1] == [0.0, 2.0]
    assert chart.picture("x").png().startswith(b"\x89PNG")
    assert Bars(["a"], [value], ["#000000"]).texts == [f"{value:.2g}" if math.isnan(value) else "inf"]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="'plotly' or 'png', not 'svg'"):
        Chart({"a": Pane()}, backend="svg")  # type: ignore[arg-type]
