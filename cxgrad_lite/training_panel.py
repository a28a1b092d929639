"""Watch a method learn: loss, accuracy, gradient norms by layer and CxGrad's γ, while it trains in the background."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import ipywidgets

from .charts import GREY, Backend
from .evaluation import Tasks
from .panel import Bars, Chart, Line, Pane, Panel, Points, weak
from .plots import LAYER_COLOURS, RIGHT, colour
from .training import History, TrainConfig
from .training_run import Run, Share, State, probe, traceable

POINTS = 300  # of a curve, at most: more cannot be told apart and are slow to send
WINDOW = 10  # meta-iterations that a running mean is over
SHARE = 0.03  # of the time for looking into the inner loop, and as much for drawing
OPEN: weakref.WeakSet[TrainingPanel] = weakref.WeakSet()

X = "meta-iterations"
PANES = {
    "loss": Pane("query loss", X, y_limits=(0, None)),
    "accuracy": Pane("query accuracy, %", X, y_limits=(0, 100), legend="lower right"),
}
NORM_PANES = {
    "norms": Pane("gradient norm by layer, now"),
    "norm history": Pane("gradient norm by layer, same colours", X, y_limits=(0, None)),
}
GAMMA_PANE = {"gamma": Pane("γ by block, same colours", X)}


def running_mean(values: Sequence[float], window: int = WINDOW) -> tuple[list[int], list[float]]:
    """Mean over at most ``window`` values up to each of at most `POINTS` places; places are counted from 1."""
    stride = max(1, math.ceil(len(values) / POINTS))
    x = list(range(len(values), 0, -stride))[::-1]
    return x, [sum(values[max(0, i - window) : i]) / min(window, i) for i in x]


def thinned(values: list[Any]) -> list[Any]:
    """Every n-th value, the last one always among them."""
    stride = max(1, math.ceil(len(values) / POINTS))
    return values[::-stride][::-1]


def shares_weights(a: Any, b: Any) -> bool:
    return bool({id(p) for p in a.parameters()} & {id(p) for p in b.parameters()})


def button(label: str, icon: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=label, icon=icon, tooltip=tooltip, layout={"width": "90px"})


class TrainingPanel(Panel):
    """See `watch_training`.

    Attributes:
        method: what is trained, in place.
        history: loss, accuracy and validation since the start or the last reset.
        norms: (meta-iterations done, {layer: gradient norm}) of every look into the inner loop.
        gammas: (meta-iterations done, γ of each block), for CxGrad.
    """

    method: Any

    def __init__(
        self,
        method: Any,
        tasks: Tasks,
        config: TrainConfig | None = None,
        validation: Tasks | None = None,
        backend: Backend | None = None,
    ) -> None:
        for other in list(OPEN):
            if shares_weights(other.method, method):
                other.close()  # two threads must not train the same weights
        self.method = method
        self._support = next(iter(tasks.episodes(1)))[0]  # always the same, so that changes are the method's
        self.norms: list[tuple[int, dict[str, float]]] = []
        self.gammas: list[tuple[int, list[float]]] = []
        first = probe(method, self._support) if traceable(method) else ({}, [])
        panes = PANES | (GAMMA_PANE if first[1] else {}) | (NORM_PANES if first[0] else {})
        self._status = ipywidgets.Label()
        self._make_controls()
        chart = Chart(panes, columns=3 if first[1] else 2, backend=backend)
        super().__init__(chart, [self.buttons, list(self.sliders.values()), [self._status]])
        self.run = Run(method, tasks, config, validation, self.closing, weak(self._seen))
        self._looking, self._drawing = Share(SHARE), Share(SHARE)
        self._connect()
        self._seen("ready")
        OPEN.add(self)

    def _make_controls(self) -> None:
        self.start_button = button("start", "play", "train until paused")
        self.pause_button = button("pause", "pause", "pause after this meta-iteration")
        self.step_button = button("step", "step-forward", "make one meta-iteration")
        self.reset_button = button("reset", "undo", "back to the first parameters and tasks")
        self.buttons = [self.start_button, self.pause_button, self.step_button, self.reset_button]
        self.sliders: dict[str, ipywidgets.Widget] = {}
        rate, steps = getattr(self.method, "inner_lr", None), getattr(self.method, "inner_steps", None)
        # A method that learns its rates takes inner_lr only as their start: a slider would do nothing.
        if isinstance(rate, (int, float)) and rate > 0 and not hasattr(self.method, "rates"):
            low, high = min(-3, math.floor(math.log10(rate))), max(0, math.ceil(math.log10(rate)))
            self.sliders["inner_lr"] = ipywidgets.FloatLogSlider(
                rate, min=low, max=high, step=0.05, description="inner rate", readout_format=".3g"
            )
        if isinstance(steps, int):
            self.sliders["inner_steps"] = ipywidgets.IntSlider(
                steps, min=1 if steps else 0, max=max(10, steps), description="inner steps"
            )

    def _connect(self) -> None:
        self.on(self.start_button, self.start)
        self.on(self.pause_button, self.pause)
        self.on(self.step_button, self.step)
        self.on(self.reset_button, self.reset)
        for slider in self.sliders.values():
            self.on(slider, self._slid)

    @property
    def history(self) -> History:
        return self.run.history

    def start(self) -> None:
        """Train, in the background, for ``config.iterations`` meta-iterations or until paused."""
        self._go(math.inf)

    def step(self) -> None:
        """Make one meta-iteration, then pause."""
        self._go(1)

    def _go(self, iterations: float) -> None:
        self.fail(None)
        self.run.allow(iterations)
        self._worker.submit(self.run.work)

    def pause(self) -> None:
        """Pause after the meta-iteration that is running; the optimiser keeps its state."""
        self.run.allow(0)

    def reset(self) -> None:
        """Back to the parameters, inner rate and steps, and tasks that the panel found."""
        self.run.reset()
        self._worker.submit(self.run.work)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the training is paused or over; False if that took longer than ``timeout`` seconds."""
        return self.run.wait(timeout)

    def train(self, seconds: float | None = None) -> None:
        """What a reader does with the buttons: start, pause after that many seconds, and wait for it."""
        self.start()
        if not self.wait(seconds):
            self.pause()
            self.wait()

    def _slid(self) -> None:
        self.run.wanted = {name: slider.value for name, slider in self.sliders.items()}
        if self.wait(0):  # nobody is using the method
            self.run._take_wanted()

    def fail(self, error: Exception | None) -> None:
        super().fail(error)
        if error is not None:
            self._status.value = f"stopped after {len(self.history.loss)} meta-iterations"

    def _seen(self, state: State) -> None:
        """In the training thread, between two meta-iterations."""
        if state == "ready":
            self._return_sliders()
        if self._looking.left() or state != "training":
            with self._looking:
                self._look()
        if self._drawing.left() or state != "training":
            with self._drawing:
                self._draw(state)
        if state == "finished":
            self._show_again()

    def _look(self) -> None:
        """Look into the inner loop."""
        if "norms" not in self.chart.contents:
            return
        done = len(self.history.loss)
        norms, gamma = probe(self.method, self._support)
        self.norms = [entry for entry in self.norms if entry[0] < done] + [(done, norms)]
        self.gammas = [entry for entry in self.gammas if entry[0] < done] + [(done, gamma)]

    def _draw(self, state: State) -> None:
        """Show everything as it is now."""
        self._set()
        self.chart.draw()
        done = len(self.history.loss)
        speed = f", {done / self.history.seconds:.1f} per second" if done else ""
        self._status.value = f"{done} meta-iterations{speed}, {state}"

    def _return_sliders(self) -> None:
        for name, slider in self.sliders.items():
            slider.value = getattr(self.method, name)

    def _set(self) -> None:
        name, history = type(self.method).__name__, self.history
        tint = colour(name) or GREY
        x, loss = running_mean(history.loss)
        self.chart.set("loss", Line(x, loss, name, tint, markers=len(x) == 1))
        x, accuracy = running_mean([100 * a for a in history.accuracy])
        validation = [(i, 100 * result.mean) for i, result in history.validation]
        self.chart.set(
            "accuracy",
            Line(x, accuracy, f"{name}, mean of {WINDOW}", tint, markers=len(x) == 1),
            Points([i for i, _ in validation], [v for _, v in validation], "validation" * bool(validation), RIGHT),
        )
        if "norms" in self.chart.contents:
            self._set_norms()
        if "gamma" in self.chart.contents:
            places, rows = zip(*thinned(self.gammas))
            blocks = [(f"block {i + 1}", list(column)) for i, column in enumerate(zip(*rows))]
            self.chart.set("gamma", *(Line(places, y, block, LAYER_COLOURS.get(block, GREY)) for block, y in blocks))

    def _set_norms(self) -> None:
        now = self.norms[-1][1]
        tints = [LAYER_COLOURS.get(layer, GREY) for layer in now]
        self.chart.set("norms", Bars(list(now), list(now.values()), tints))
        x, rows = zip(*thinned(self.norms))
        lines = (Line(x, [row.get(la, 0.0) for row in rows], la, tint) for la, tint in zip(now, tints))
        self.chart.set("norm history", *lines)

    def alt(self) -> str:
        done = len(self.history.loss)
        words = [f"{type(self.method).__name__} after {done} meta-iterations"]
        if done:
            loss, accuracy = running_mean(self.history.loss)[1][-1], running_mean(self.history.accuracy)[1][-1]
            words.append(f"query loss {loss:.2f} and query accuracy {accuracy:.0%}, means of the last {WINDOW}")
        if self.norms:
            listed = ", ".join(f"{layer} {norm:.2g}" for layer, norm in self.norms[-1][1].items())
            words.append(f"gradient norm by layer: {listed}")
        if "gamma" in self.chart.contents:
            words.append("γ by block: " + ", ".join(f"{g:.2f}" for g in self.gammas[-1][1]))
        return "; ".join(words) + "."


def watch_training(
    method: Any,
    tasks: Tasks,
    config: TrainConfig | None = None,
    validation: Tasks | None = None,
    backend: Backend | None = None,
) -> TrainingPanel:
    """A panel in which a method is meta-trained in the background, by `meta_train`, while the notebook stays usable.

    Start, pause, step and reset; sliders for the inner rate and the number of inner steps, which count from the next
    meta-iteration on. The method is trained in place. While it trains, do not use it elsewhere: pause first
    (``panel.pause(); panel.wait()``). A second panel on the same weights closes the first.

    The gradient norms are those of always the same task, so what changes is the method. Looking and drawing take at
    most 6 % of the time.

    Args:
        method: any method of this package or a class of your own with ``outer``, ``adapt``, ``logits`` and
            ``parameters`` as `MAML` has them.
        tasks: meta-batches; with ``state_dict`` and ``load_state_dict``, as `TaskSampler` has them, reset also returns
            to the first meta-batch.
        config: as for `meta_train`; ``start`` trains for ``config.iterations``.
        validation: tasks for ``config.validate_every``.
        backend: how it is drawn; default: `charts.choose_backend`.
    """
    return TrainingPanel(method, tasks, config, validation, backend)
