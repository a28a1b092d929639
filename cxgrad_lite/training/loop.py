"""The outer loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, get_args

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from ..core.maml import MAML
from ..core.method import Method
from ..core.outer import Episode, Tasks
from .engines import (
    Captured,
    Engine,
    Precision,
    add_gradients,
    all_finite,
    arithmetic,
    choose_engine,
    clip,
    device_of,
)
from .evaluation import evaluate
from .folder import RunFolder
from .fused import fused_blocks
from .parallel import add_up_gradients, any_process, check_split, rank, share, total
from .state import History, Run

ADVICE = "a smaller inner_lr or meta_lr, or clip_value=10, usually helps"


@dataclass(frozen=True)
class TrainConfig:
    """How the outer loop runs.

    Raises:
        ValueError: if a number is out of range, or a schedule, engine or precision unknown.
    """

    iterations: int = 1000  # meta-iterations: one Adam step each
    meta_lr: float = 1e-3  # Adam's rate; released code: 1e-3
    schedule: Literal["constant", "cosine"] = "constant"  # released code: cosine by name, constant in effect
    decay: float = 1.0  # meta_lr is multiplied by this …
    decay_every: int = 0  # … every so many meta-iterations; 0: never
    clip_value: float | None = None  # clamp each entry of the meta-gradient to ± this (MAML, MAML++, L2F: 10)
    clip_norm: float | None = None  # scale the meta-gradient to at most this norm
    validate_every: int = 0  # meta-iterations between two validations; 0: none
    validation_episodes: int = 100
    progress: bool = True  # show a bar with loss, accuracy and time left
    engine: Engine = "auto"  # "graph" on a GPU, "fused" on a CPU, "eager" works everywhere; see `accelerate`
    precision: Precision = "float32"  # or "tf32", "bf16"; see `accelerate.arithmetic`

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.meta_lr <= 0 or self.validate_every < 0:
            raise ValueError(f"iterations and validate_every must be 0 or more, meta_lr above 0: {self}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', not {self.schedule!r}")
        if self.engine not in get_args(Engine) or self.precision not in get_args(Precision):
            raise ValueError(
                f"engine must be one of {get_args(Engine)}, precision one of {get_args(Precision)}, "
                f"not {self.engine!r} and {self.precision!r}"
            )


def meta_train(
    method: Method,
    tasks: Tasks,
    config: TrainConfig | None = None,
    validation: Tasks | None = None,
    callback: Callable[[History], bool | None] | None = None,
    folder: RunFolder | None = None,
) -> History:
    """Meta-train in place with Adam on the mean query loss of each meta-batch.

    An interrupt (the stop button of a notebook, Ctrl-C) ends the run after the current meta-iteration; the method
    keeps what it has learned, and the history says so. A second interrupt stops at once. With a folder the run can
    also be killed, and resumed. Under ``torchrun`` the processes share the tasks of each meta-batch.

    Args:
        method: what to train; its parameters are what Adam sees.
        tasks: meta-batches come from ``tasks.sample()``.
        config: how; default `TrainConfig()`.
        validation: tasks for ``config.validate_every``.
        callback: called with the history after every meta-iteration; returning True ends the run.
        folder: keeps the state of the run and its best checkpoints.

    Raises:
        ValueError: if validation is asked for without tasks for it, tasks do not fit the head, a folder belongs to
            another run, or ``engine="graph"`` cannot work here.
        FloatingPointError: if a loss is not finite; the parameters are then as before that meta-iteration.
    """
    config = config or TrainConfig()
    if config.validate_every and validation is None:
        raise ValueError("validate_every is set, but no validation tasks were given")
    optimiser = make_optimiser(method, config)
    run = Run(method, tasks, optimiser, make_schedule(optimiser, config))
    config = replace(config, engine=choose_engine(config.engine, config.precision, method, tasks))
    captured = Captured(run, config.clip_value, config.clip_norm) if config.engine == "graph" else None
    if folder:
        folder.begin(run, config)
    history, start = run.history, time.perf_counter() - run.history.seconds
    done = len(history.loss)
    hidden = not config.progress or rank() > 0
    bar = tqdm(total=config.iterations, initial=done, desc=type(method).__name__, disable=hidden)
    with bar, interrupt_flag(history) as interrupted:
        for iteration in range(done + 1, config.iterations + 1):
            meta_step(run, config, iteration, captured)
            if validation and config.validate_every and iteration % config.validate_every == 0:
                history.validation.append((iteration, evaluate(method, validation, config.validation_episodes)))
                if folder:
                    folder.after_validation(run)
            history.seconds = time.perf_counter() - start
            bar.update()
            bar.set_postfix(loss=f"{history.loss[-1]:.3f}", accuracy=f"{history.accuracy[-1]:.2f}", refresh=False)
            stop = any_process(bool(callback and callback(history)) or interrupted.is_set())
            if folder:
                folder.after_iteration(run, last=stop or iteration == config.iterations)
            if stop:
                history.interrupted = iteration < config.iterations
                break
    return history


def meta_step(run: Run, config: TrainConfig, iteration: int, captured: Captured | None = None) -> None:
    """One meta-iteration: sample, adapt, differentiate, update; all at once if it was captured."""
    run.method.begin_iteration(iteration - 1)
    with arithmetic(config.precision, device_of(run.method)), fused_blocks(run.method, config.engine == "fused"):
        if captured is not None:
            episodes, found, skipped = captured()
            loss, correct = mean_loss_and_accuracy(run.method, episodes, found, iteration)
            if skipped:
                refuse_overflow(run.method, iteration)
        else:
            run.optimiser.zero_grad()
            loss, correct = meta_gradient(run.method, run.tasks.sample(), iteration)
            prepare_gradients(run.method, config, iteration)
            run.optimiser.step()
    run.schedule.step()
    run.history.loss.append(loss)
    run.history.accuracy.append(correct)


def meta_gradient(method: Method, episodes: list[Episode], iteration: int = 0) -> tuple[float, float]:
    """Add the gradient of the mean query loss to the parameters' ``.grad``; return mean loss and accuracy.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    check_split(episodes)
    loss, correct = mean_loss_and_accuracy(method, episodes, add_gradients(method, episodes), iteration)
    add_up_gradients(method.parameters())
    return loss, correct


def mean_loss_and_accuracy(
    method: Method, episodes: list[Episode], found: Tensor, iteration: int
) -> tuple[float, float]:
    """Means over all processes of (tasks, 2) losses and accuracies; the first look at what the device has computed."""
    found = found.double().cpu()
    for (number, episode), (loss, _) in zip(share(enumerate(episodes, 1)), found.tolist(), strict=True):
        if not math.isfinite(loss):
            where = f"meta-iteration {iteration}, task {number} of {len(episodes)}"
            raise FloatingPointError(f"{where}: {describe_overflow(method, episode)}")
    loss_mean, correct = (total(found.sum(0)) / len(episodes)).tolist()
    return loss_mean, correct


def describe_overflow(method: Method, episode: Episode) -> str:
    """Which loss turned non-finite first, and what to do."""
    bad = []
    if isinstance(method, MAML):
        with torch.no_grad():
            _, trace = method.adapt(episode[0], trace=True)
        bad = [k for k, seen in enumerate(trace, 1) if not torch.isfinite(seen.loss)]
    what = f"the support loss is not finite in inner step {bad[0]}" if bad else "the query loss is not finite"
    return f"{what}; {ADVICE}"


def prepare_gradients(method: Method, config: TrainConfig, iteration: int) -> None:
    """Refuse a meta-gradient that would destroy the parameters; clip it if the configuration says so."""
    if not all_finite(method):
        refuse_overflow(method, iteration)
    clip(method, config.clip_value, config.clip_norm)


def refuse_overflow(method: Method, iteration: int) -> NoReturn:
    """Raises FloatingPointError with the name of the first parameter whose meta-gradient is not finite."""
    grads = [(name, p.grad) for name, p in method.named_parameters() if p.grad is not None]
    name = next(name for name, grad in grads if not torch.isfinite(grad).all())
    raise FloatingPointError(f"meta-iteration {iteration}: the meta-gradient of {name} is not finite; {ADVICE}")


def make_optimiser(method: Method, config: TrainConfig) -> Adam:
    """Adam, on a GPU with all of the update in one kernel."""
    return Adam(method.parameters(), lr=config.meta_lr, fused=True if device_of(method).type == "cuda" else None)


def make_schedule(optimiser: Adam, config: TrainConfig) -> LambdaLR:
    def factor(iteration: int) -> float:
        decayed = config.decay ** (iteration // config.decay_every) if config.decay_every else 1.0
        cosine = config.schedule == "cosine"
        return decayed * (0.5 * (1 + math.cos(math.pi * iteration / config.iterations)) if cosine else 1.0)

    return LambdaLR(optimiser, factor)


@contextmanager
def interrupt_flag(history: History) -> Iterator[threading.Event]:
    """An event that the first interrupt sets instead of raising, so that no update is left half done."""
    interrupted = threading.Event()

    def first(signum: int, frame: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    in_main_thread = threading.current_thread() is threading.main_thread()  # elsewhere no signal arrives
    previous = signal.signal(signal.SIGINT, first) if in_main_thread else None
    try:
        yield interrupted
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, previous)
