"""A meta-training run that is steered, and its buttons and sliders: the training thread asks what to do next."""

from __future__ import annotations

import inspect
import math
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean
from typing import Any, Literal

import ipywidgets
import torch

from ..core.method import Batch
from ..core.outer import Tasks
from ..probes import LAYERS, layer_norms, layer_of
from ..training.loop import Run, TrainConfig, check_validation, meta_steps, validate
from ..training.state import trained_alone

State = Literal["ready", "training", "paused", "finished"]
NUMBERS = ("inner_lr", "inner_steps")  # of a method, that sliders change


class Steering:
    """Makes meta-iterations one by one: pausing is not asking for the next, a reset restores the first state.

    Args:
        method, tasks, config, validation: as for `meta_train`; progress is not printed.

    Attributes:
        run: what is steered.
        numbers: inner rate and steps asked for, by name; they count from the next meta-iteration on.
    """

    def __init__(self, method: Any, tasks: Tasks, config: TrainConfig | None, validation: Tasks | None) -> None:
        self.run, self.validation = Run(method, tasks, replace(config or TrainConfig(), progress=False)), validation
        check_validation(self.run.config, validation)
        self.length = self.run.config.iterations
        self.beginning = self.run.state()
        self.first_numbers = {name: getattr(method, name) for name in NUMBERS if hasattr(method, name)}
        self.numbers: dict[str, float] = {}
        self._steps = meta_steps(self.run)
        self._lock, self._allowed, self._reset = threading.Lock(), 0.0, False

    def allow(self, iterations: float) -> None:
        """Let that many meta-iterations be made, beside those allowed already; 0 pauses after the present one."""
        with self._lock:
            endless = math.inf in (self._allowed, iterations) or iterations == 0
            self._allowed = iterations if endless else self._allowed + iterations

    def reset(self) -> None:
        """Return to the first state, inner rate and steps, once the present meta-iteration is over."""
        with self._lock:
            self._allowed, self._reset = 0.0, True

    @property
    def ordered(self) -> bool:
        """Whether `advance` has something to do."""
        return self._reset or self._allowed > 0

    def advance(self) -> State:
        """Carry out one order, a reset or a meta-iteration; the state that the run is in afterwards."""
        with self._lock:
            reset, self._reset = self._reset, False
            step = not reset and self._allowed > 0
            self._allowed -= step
        if reset:
            self._restore()
            return "ready"
        if step:
            try:
                self._train()
            except BaseException:
                self._steps = meta_steps(self.run)  # an exception ends a generator
                self.allow(0)
                raise
            if self.run.done == self.run.config.iterations:
                self.allow(0)
                return "finished"
        return "training" if self.ordered else "paused"

    def _train(self) -> None:
        if self.run.done == self.run.config.iterations:  # trained to the end, and started once more
            self.run.config = replace(self.run.config, iterations=self.run.done + self.length)
            self._steps = meta_steps(self.run)
        self.take_numbers()
        start = time.perf_counter()
        with trained_alone(self.run.method):
            history = next(self._steps)
        validate(self.run, self.validation)
        history.seconds += time.perf_counter() - start

    def _restore(self) -> None:
        self.run.config = replace(self.run.config, iterations=self.length)
        self.run.restore(self.beginning)
        self._steps = meta_steps(self.run)
        self.order(self.first_numbers)

    def order(self, numbers: dict[str, float]) -> None:
        """Give the method these numbers now, and ask for none later: it may be changed elsewhere, too."""
        self.numbers = numbers
        self.take_numbers()
        self.numbers = {}

    def take_numbers(self) -> None:
        """Give the method the inner rate and steps that are asked for."""
        for name, value in self.numbers.items():
            setattr(self.run.method, name, value)


def part_from(panels: Iterable[Any], method: Any, tasks: Tasks) -> None:
    """Close panels that train the same weights, and say so where one draws from the same tasks."""
    weights = {id(p) for p in method.parameters()}
    for other in panels:
        if weights & {id(p) for p in other.method.parameters()}:
            other.close()  # two threads must not train the same weights
        elif other.tasks is tasks:
            warnings.warn(
                "another panel draws from the same tasks: each gets a part of the stream, and neither what its seed "
                "says; give each a TaskSampler of its own",
                stacklevel=4,
            )


class Share:
    """Keeps what is done inside ``with`` to a share of the time: begin only when `left` says so."""

    def __init__(self, share: float) -> None:
        self.share, self._busy_until = share, -math.inf

    def left(self) -> bool:
        return time.perf_counter() >= self._busy_until

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        now = time.perf_counter()
        self._busy_until = now + (now - self._began) * (1 / self.share - 1)


def traceable(method: Any) -> bool:
    """Whether the method has an inner loop that can be looked into."""
    return hasattr(method, "inner_lr") and "trace" in inspect.signature(method.adapt).parameters


def probe(method: Any, support: Batch) -> tuple[dict[str, float], list[float]]:
    """Gradient norm of each adapted layer, mean over the inner steps of one task; CxGrad's γ in the last, if any.

    What belongs to no layer of `Conv4` is listed by its own name if nothing else is adapted (CAVIA's context).
    """
    with torch.no_grad():
        trace = method.adapt(support, trace=True)[1]
    if not trace:
        return {}, []
    names, by_layer, gamma = trace[0].grads, layer_norms(trace), trace[-1].scaling
    adapted = {layer_of(name) for name in names}
    norms = {layer: fmean(by_layer[layer]) for layer in LAYERS if layer in adapted}
    norms = norms or {name: fmean(step.grad_norms[name] for step in trace) for name in names}
    return norms, [] if gamma is None else gamma.tolist()


def make_buttons() -> list[ipywidgets.Button]:
    """Start, pause, step and reset."""
    looks = {
        "start": ("play", "train until paused"),
        "pause": ("pause", "pause after this meta-iteration"),
        "step": ("step-forward", "make one meta-iteration"),
        "reset": ("undo", "back to the first parameters and tasks"),
    }
    return [
        ipywidgets.Button(description=name, icon=icon, tooltip=tooltip, layout={"width": "90px"})
        for name, (icon, tooltip) in looks.items()
    ]


def make_sliders(method: Any) -> dict[str, ipywidgets.Widget]:
    """A slider for ``inner_lr`` and one for ``inner_steps``, by name, where the method has them."""
    sliders: dict[str, ipywidgets.Widget] = {}
    rate, steps = getattr(method, "inner_lr", None), getattr(method, "inner_steps", None)
    # A method that learns its rates only starts from inner_lr: a slider would do nothing.
    if isinstance(rate, (int, float)) and rate > 0 and not hasattr(method, "rates"):
        low, high = min(-3, math.floor(math.log10(rate))), max(0, math.ceil(math.log10(rate)))
        sliders["inner_lr"] = ipywidgets.FloatLogSlider(
            rate, min=low, max=high, step=0.05, description="inner rate", readout_format=".3g"
        )
    if isinstance(steps, int):
        sliders["inner_steps"] = ipywidgets.IntSlider(
            steps, min=1 if steps else 0, max=max(10, steps), description="inner steps"
        )
    return sliders
