"""Watch a method learn: loss, accuracy, gradient norms by layer and CxGrad's γ, while it trains in the background."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import ipywidgets

from ..core.outer import Tasks
from ..plots.figures import smooth
from ..plots.marks import GREY
from ..plots.style import LAYER_COLOURS, RIGHT, colour
from ..probes import LAYERS
from ..training.loop import History, TrainConfig
from .charts import Backend
from .panel import Bars, Chart, Line, Pane, Panel, Points, remembers
from .steering import Share, State, Steering, make_buttons, make_sliders, part_from, probe, traceable

POINTS = 300  # of a curve, at most: more cannot be told apart and are slow to send
WINDOW = 10  # meta-iterations that a running mean is over
SHARE = 0.02  # of the time for looking into the inner loop, and as much for drawing
ByLayer = tuple[int, dict[str, float]]  # meta-iterations done, a number for each layer
OPEN: weakref.WeakSet[TrainingPanel] = weakref.WeakSet()

X = "meta-iterations"
UPPER = {
    "loss": Pane("query loss", X, y_limits=(0, None)),
    "norms": Pane("gradient norm, now"),
    "gamma now": Pane("γ, now", y_limits=(0, None)),
}
LOWER = {
    "accuracy": Pane("query accuracy, %", X, y_limits=(0, 100), legend="lower right"),
    "norm history": Pane("gradient norm so far", X, y_limits=(0, None)),
    "gamma": Pane("γ so far", X),
}


def running_mean(values: Sequence[float], window: int = WINDOW) -> tuple[list[int], list[float]]:
    """Mean over at most ``window`` values up to each of at most `POINTS` places, which are counted from 1."""
    return thinned(list(range(1, len(values) + 1))), thinned(smooth(values, window))


def thinned(values: list[Any]) -> list[Any]:
    """Every n-th value, the last one always among them."""
    stride = max(1, math.ceil(len(values) / POINTS))
    return values[::-stride][::-1]


def layer_lines(values: list[ByLayer]) -> list[Line]:
    """A line for each layer in the newest of the values."""
    places, rows = zip(*thinned(values))
    tints = {layer: LAYER_COLOURS.get(layer, GREY) for layer in rows[-1]}
    one = len(places) == 1  # before training: no line yet, but a point
    return [Line(places, [row.get(la, 0.0) for row in rows], la, tint, markers=one) for la, tint in tints.items()]


class TrainingPanel(Panel):
    """See `watch_training`.

    Attributes:
        method: what is trained, in place.
        history: loss, accuracy and validation since the start or the last reset.
        norms: (meta-iterations done, {layer: gradient norm}) of every look into the inner loop.
        gammas: (meta-iterations done, {block: γ}), for CxGrad.
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
        part_from([panel for panel in OPEN if not panel.closed], method, tasks)
        self.method, self.tasks = method, tasks
        self._support = next(iter(tasks.episodes(1)))[0]  # always the same, so that changes are the method's
        self.norms: list[ByLayer] = []
        self.gammas: list[ByLayer] = []
        first = probe(method, self._support) if traceable(method) else ({}, [])
        columns = 1 + bool(first[0]) + bool(first[1])
        panes = {name: pane for row in (UPPER, LOWER) for name, pane in list(row.items())[:columns]}
        self._status, self.buttons, self.sliders = ipywidgets.Label(), make_buttons(), make_sliders(method)
        self.start_button, self.pause_button, self.step_button, self.reset_button = self.buttons
        chart = Chart(panes, max(columns, 2), backend=backend)
        super().__init__(chart, [self.buttons, list(self.sliders.values()), [self._status]])
        self._steering = Steering(method, tasks, config, validation)
        self._looking, self._drawing = Share(SHARE), Share(SHARE)
        for button, act in zip(self.buttons, (self.start, self.pause, self.step, self.reset)):
            self.on(button, act)
        for slider in self.sliders.values():
            self.on(slider, self._take_sliders)
        self._show("ready")
        OPEN.add(self)

    @property
    def history(self) -> History:
        return self._steering.run.history

    def start(self) -> None:
        """Train, in the background, for ``config.iterations`` meta-iterations or until paused."""
        self._go(math.inf)

    def step(self) -> None:
        """Make one meta-iteration, then pause."""
        self._go(1)

    def _go(self, iterations: float) -> None:
        self.fail(None)
        self._steering.allow(iterations)
        self.background(self._advance)

    def pause(self) -> None:
        """Pause after the meta-iteration that is running; the optimiser keeps its state."""
        self._steering.allow(0)

    def reset(self) -> None:
        """Return to the parameters, inner rate and steps, tasks and random numbers that the panel began with."""
        self._steering.reset()
        self.background(self._advance)

    def _advance(self) -> None:
        """One meta-iteration or reset in the panel's thread, which holds the panel only meanwhile."""
        self._show(state := self._steering.advance())
        if self._steering.ordered:
            self.background(self._advance)
        elif state == "training":  # paused while that was drawn
            self._show("paused")

    def train(self, seconds: float | None = None) -> None:
        """What a reader does with the buttons: start, pause after that many seconds, and wait for it."""
        self.start()
        if not self.wait(seconds):
            self.pause()
            self.wait()

    def _take_sliders(self) -> None:
        self._steering.numbers = {name: slider.value for name, slider in self.sliders.items()}
        if self.wait(0):  # nobody is using the method
            self._steering.take_numbers()

    def fail(self, error: BaseException | None) -> None:
        super().fail(error)
        if error is not None:
            self._status.value = f"stopped after {len(self.history.loss)} meta-iterations"

    def _show(self, state: State) -> None:
        """Look into the method and draw, between two meta-iterations."""
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
        self.gammas = [entry for entry in self.gammas if entry[0] < done] + [(done, dict(zip(LAYERS, gamma)))]

    def _draw(self, state: State) -> None:
        """Show everything as it is now."""
        self._set()
        self.chart.draw()
        done = len(self.history.loss)
        speed = f", {done / self.history.seconds:.1f} per second" if done else ""
        self._status.value = f"{done} meta-iterations{speed}, {state}"

    def _return_sliders(self) -> None:
        values = {name: getattr(self.method, name) for name in self.sliders}
        for name, slider in self.sliders.items():  # each change orders what all sliders say at that moment
            slider.value = values[name]
        self._steering.order(values)

    def _set(self) -> None:
        name, history = type(self.method).__name__, self.history
        tint = colour(name) or GREY
        x, loss = running_mean(history.loss)
        title = "query loss" if x else "query loss: press start"
        self.chart.set("loss", Line(x, loss, name, tint, markers=len(x) == 1), title=title)
        x, accuracy = running_mean([100 * a for a in history.accuracy])
        validation = [(i, 100 * result.mean) for i, result in history.validation]
        self.chart.set(
            "accuracy",
            Line(x, accuracy, f"{name}, mean of {WINDOW}", tint, markers=len(x) == 1),
            Points([i for i, _ in validation], [v for _, v in validation], "validation" * bool(validation), RIGHT),
        )
        for now, so_far, values in (("norms", "norm history", self.norms), ("gamma now", "gamma", self.gammas)):
            if now in self.chart.contents:
                last = values[-1][1]
                tints = [LAYER_COLOURS.get(layer, GREY) for layer in last]
                self.chart.set(now, Bars(list(last), list(last.values()), tints))
                self.chart.set(so_far, *layer_lines(values))

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
            words.append("γ by block: " + ", ".join(f"{g:.2f}" for g in self.gammas[-1][1].values()))
        return "; ".join(words) + "."


@remembers
def watch_training(
    method: Any,
    tasks: Tasks,
    config: TrainConfig | None = None,
    validation: Tasks | None = None,
    backend: Backend | None = None,
) -> TrainingPanel:
    """A panel in which a method is meta-trained in the background while the notebook stays usable.

    Start, pause, step and reset; sliders for the inner rate and the number of inner steps, which count from the next
    meta-iteration on. The method is trained in place. While it trains, do not use it elsewhere: pause first
    (``panel.pause(); panel.wait()``). A second panel on the same weights closes the first.

    The gradient norms are those of always the same task, so what changes is the method. Looking and drawing take at
    most 4 % of the time.

    Args:
        method: any method of this package or a class of your own, derived from `Method`, or an `nn.Module` that has
            ``begin_iteration``, ``outer``, ``adapt`` and ``logits`` as `Method` has them.
        tasks: meta-batches; with ``state_dict`` and ``load_state_dict``, as `TaskSampler` has them, reset also returns
            to the first meta-batch.
        config: as for `meta_train`; ``start`` trains for ``config.iterations``.
        validation: tasks for ``config.validate_every``.
        backend: see `Chart`.
    """
    return TrainingPanel(method, tasks, config, validation, backend)
