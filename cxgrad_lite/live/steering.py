"""A meta-training run that can be paused, stepped and reset; `meta_train` does the training."""

from __future__ import annotations

import inspect
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.method import Batch
from ..core.outer import Tasks
from ..probes import LAYERS, layer_of
from ..training.loop import History, TrainConfig, meta_train
from ..training.threads import release_pool

State = Literal["ready", "training", "paused", "finished"]
POLL_SECONDS = 0.1


class Snapshot:
    """Parameters, buffers, inner rate and steps of a method, and where its tasks stand; to be restored later."""

    NUMBERS = ("inner_lr", "inner_steps")

    def __init__(self, method: Any, tasks: Tasks) -> None:
        self.method, self.tasks = method, tasks
        self.tensors = [t.detach().clone() for t in self._tensors()]
        self.numbers = {name: getattr(method, name) for name in self.NUMBERS if hasattr(method, name)}
        self.stream = tasks.state_dict() if hasattr(tasks, "state_dict") else None

    def _tensors(self) -> list[Tensor]:
        buffers = self.method.buffers() if hasattr(self.method, "buffers") else ()
        return [*self.method.parameters(), *buffers]

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, saved in zip(self._tensors(), self.tensors):
            tensor.copy_(saved)
            tensor.grad = None
        for name, value in self.numbers.items():
            setattr(self.method, name, value)
        if self.stream is not None:
            self.tasks.load_state_dict(self.stream)  # type: ignore[attr-defined]


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
    norms: dict[str, float] = {}
    for seen in trace:
        squares: dict[str, float] = {}
        for name, norm in seen.grad_norms.items():
            layer = layer_of(name) or name
            squares[layer] = squares.get(layer, 0.0) + norm**2
        for layer, square in squares.items():
            norms[layer] = norms.get(layer, 0.0) + math.sqrt(square) / len(trace)
    of_layers = {layer: norms[layer] for layer in LAYERS if layer in norms}
    gamma = trace[-1].scaling if trace else None
    return of_layers or norms, [] if gamma is None else gamma.tolist()


class Run:
    """Runs in one thread at a time (`work`), is steered from any other.

    Args:
        method, tasks, config, validation: as for `meta_train`; progress is not printed.
        closing: set when the run must end for good.
        seen: called in the training thread between two meta-iterations, with the state the run is in.
    """

    def __init__(
        self,
        method: Any,
        tasks: Tasks,
        config: TrainConfig | None,
        validation: Tasks | None,
        closing: threading.Event,
        seen: Callable[[State], object],
    ) -> None:
        self.method, self.tasks, self.validation = method, tasks, validation
        self.config = replace(config or TrainConfig(), progress=False)
        self.closing, self.seen = closing, seen
        self.snapshot, self.history = Snapshot(method, tasks), History()
        self.wanted: dict[str, float] = {}  # inner rate and steps, from the next meta-iteration on
        self._state = threading.Condition()
        self._allowed, self._reset, self._training = 0.0, False, False

    def allow(self, iterations: float) -> None:
        """Let that many meta-iterations be made; 0 pauses after the one that is running."""
        with self._state:
            finite = math.isfinite(self._allowed) and math.isfinite(iterations) and iterations > 0
            self._allowed = max(self._allowed, 0) + iterations if finite else iterations
            self._state.notify_all()

    def reset(self) -> None:
        """Back to how everything was when the run was made, as soon as the running meta-iteration is over."""
        with self._state:
            self._allowed, self._reset = 0.0, True
            self._state.notify_all()

    def _idle(self) -> bool:
        return self.closing.is_set() or not (self._training or self._allowed > 0 or self._reset)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run is paused or over; False if that took longer than ``timeout`` seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        with self._state:
            while not self._idle() and time.monotonic() < end:
                self._state.wait(POLL_SECONDS)
            return self._idle()

    def work(self) -> None:
        """What the thread does: restore if asked to, train as far as allowed, restore if asked to meanwhile."""
        self._restore_if_asked()
        if self._allowed > 0 and not self.closing.is_set():
            try:
                self._train()
            finally:
                with self._state:
                    self._training = False
                    self._allowed = self._allowed if self._reset else 0.0
                    self._state.notify_all()
        self._restore_if_asked()

    def _train(self) -> None:
        self._training = True
        self._take_wanted()
        before = self.history.seconds
        done = 0

        def callback(history: History) -> bool:
            nonlocal done
            done += 1
            self._remember(history, before, done)
            return self._gate(last=done == self.config.iterations)

        meta_train(self.method, self.tasks, self.config, self.validation, callback)
        if not self._reset:
            self.seen("finished")

    def _remember(self, history: History, seconds: float, done: int) -> None:
        """Add the newest meta-iteration to the history of the whole run."""
        self.history.loss.append(history.loss[-1])
        self.history.accuracy.append(history.accuracy[-1])
        self.history.seconds = seconds + history.seconds
        if history.validation and history.validation[-1][0] == done:
            self.history.validation.append((len(self.history.loss), history.validation[-1][1]))

    def _gate(self, last: bool) -> bool:
        """Between two meta-iterations: wait while paused. True ends `meta_train`."""
        with self._state:
            self._allowed -= 1
        if last:
            return False
        if not self._paused():
            self.seen("training")
        self._wait_while_paused()
        self._take_wanted()
        return self._reset or self.closing.is_set()

    def _paused(self) -> bool:
        return self._allowed <= 0 and not self._reset and not self.closing.is_set()

    def _wait_while_paused(self) -> None:
        shown = False
        while self._paused():
            if not shown:
                self.seen("paused")
                release_pool()  # a paused panel slows nobody
                shown = True
            with self._state:
                self._training = False
                self._state.notify_all()
                if self._paused():
                    self._state.wait(POLL_SECONDS)
        self._training = True

    def _take_wanted(self) -> None:
        for name, value in self.wanted.items():
            setattr(self.method, name, value)

    def _restore_if_asked(self) -> None:
        with self._state:
            if not self._reset:
                return
        self.snapshot.restore()
        self.history, self.wanted = History(), {}
        self.seen("ready")
        with self._state:
            self._reset = False
            self._state.notify_all()
