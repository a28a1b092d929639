"""The outer loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from .evaluation import Episode, Tasks, accuracy, evaluate
from .maml import MAML
from .method import Method
from .parallel import add_up_gradients, any_process, check_split, rank, share, total
from .run_folder import RunFolder
from .run_state import History, Run

ADVICE = "a smaller inner_lr or meta_lr, or clip_value=10, usually helps"


@dataclass(frozen=True)
class TrainConfig:
    """How the outer loop runs.

    Raises:
        ValueError: if a number is out of range or the schedule is unknown.
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

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.meta_lr <= 0 or self.validate_every < 0:
            raise ValueError(f"iterations and validate_every must be 0 or more, meta_lr above 0: {self}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', not {self.schedule!r}")


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
        ValueError: if validation is asked for without tasks for it, tasks do not fit the head, or a folder belongs to
            another run.
        FloatingPointError: if a loss is not finite; the parameters are then as before that meta-iteration.
    """
    config = config or TrainConfig()
    if config.validate_every and validation is None:
        raise ValueError("validate_every is set, but no validation tasks were given")
    optimiser = Adam(method.parameters(), lr=config.meta_lr)
    run = Run(method, tasks, optimiser, make_schedule(optimiser, config))
    if folder:
        folder.begin(run, config)
    history, start = run.history, time.perf_counter() - run.history.seconds
    done = len(history.loss)
    hidden = not config.progress or rank() > 0
    bar = tqdm(total=config.iterations, initial=done, desc=type(method).__name__, disable=hidden)
    with bar, interrupt_flag(history) as interrupted:
        for iteration in range(done + 1, config.iterations + 1):
            meta_step(run, config, iteration)
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


def meta_step(run: Run, config: TrainConfig, iteration: int) -> None:
    """One meta-iteration: sample, adapt, differentiate, update."""
    run.optimiser.zero_grad()
    run.method.begin_iteration(iteration - 1)
    loss, correct = meta_gradient(run.method, run.tasks.sample(), iteration)
    prepare_gradients(run.method, config, iteration)
    run.optimiser.step()
    run.schedule.step()
    run.history.loss.append(loss)
    run.history.accuracy.append(correct)


def meta_gradient(method: Method, episodes: list[Episode], iteration: int = 0) -> tuple[float, float]:
    """Add the gradient of the mean query loss to the parameters' ``.grad``; return mean loss and accuracy.

    One task at a time: the graph of a task is freed before the next begins, so memory does not grow with their number.
    """
    check_split(episodes)
    sums = torch.zeros(2, dtype=torch.float64)  # of losses and accuracies
    for number, episode in share(enumerate(episodes, 1)):
        support, query = episode
        loss, logits = method.outer(support, query)
        if not torch.isfinite(loss):
            where = f"meta-iteration {iteration}, task {number} of {len(episodes)}"
            raise FloatingPointError(f"{where}: {describe_overflow(method, episode)}")
        (loss / len(episodes)).backward()
        sums += torch.tensor([loss.item(), accuracy(logits.detach(), query[1]).item()], dtype=torch.float64)
    add_up_gradients(method.parameters())
    loss_mean, correct = (total(sums) / len(episodes)).tolist()
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
    for name, parameter in method.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise FloatingPointError(f"meta-iteration {iteration}: the meta-gradient of {name} is not finite; {ADVICE}")
    if config.clip_value is not None:
        torch.nn.utils.clip_grad_value_(method.parameters(), config.clip_value)
    if config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(method.parameters(), config.clip_norm)


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
