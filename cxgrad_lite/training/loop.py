"""The outer loop: sample tasks, adapt to each, descend the query loss."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from ..core.method import Method
from ..core.outer import Tasks, check_tasks, clip
from .engines import GRAPHS, arithmetic, device_of
from .evaluation import WEIGHTS, evaluate
from .fused import fused_blocks
from .graph import Captured
from .machine import fit_threads
from .overflow import check_gradients, check_losses, finite_gradients, in_iteration, look
from .parallel import TaskThreads, any_process, average_gradients, check_split, progress_bar, share, total
from .resume import RunFolder
from .state import History, Run, TrainConfig, trained_alone

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # no SIGHUP on Windows

__all__ = ["History", "Run", "TrainConfig", "meta_steps", "meta_train"]


def meta_steps(run: Run) -> Iterator[History]:
    """One meta-iteration with each ``next``, until ``run.config.iterations`` have been made.

    Whoever iterates may do anything between two of them: validate, save, draw, change the inner rate, or stop.

    Yields:
        the run's history, with the new meta-iteration.

    Raises:
        FloatingPointError: if a loss or gradient is not finite; the parameters are as before that meta-iteration.
        ValueError: if there are more processes than tasks in a meta-batch.
        RuntimeError: inside ``torch.no_grad()``, where nothing can be differentiated.
    """
    if not torch.is_grad_enabled():
        raise RuntimeError("meta-training needs gradients; leave torch.no_grad() or torch.inference_mode() first")
    fit_threads()
    method, tasks, optimiser, config = run.method, run.tasks, run.optimiser, run.config
    captured, threads = Captured(run) if config.engine in GRAPHS else None, TaskThreads([method], config.precision)
    while run.done < config.iterations:
        method.begin_iteration(run.done)
        optimiser.param_groups[0]["lr"] = config.rate(run.done)
        fused = fused_blocks("fused" in run.config.engine)
        with arithmetic(config.precision, device_of(method)), fused, in_iteration(run.done + 1):
            captured = captured and captured.ready()
            if captured:  # all of the following in one go
                with WEIGHTS:
                    episodes, *results = captured()
            else:
                optimiser.zero_grad()
                episodes = tasks.sample()
                check_split(episodes)
                mine = list(share(episodes))
                losses, accuracies = threads.meta_gradient(method, mine)  # for each task: adapt, query loss, backward
                average_gradients(method.parameters(), len(mine) / len(episodes))
                results = [losses, accuracies, finite_gradients(method)]
            task_losses, task_accuracies, finite = look(*results)
            check_losses(method, episodes, task_losses)
            check_gradients(method, finite)
            if not captured:
                clip(method.parameters(), config.clip_value, config.clip_norm)
                with WEIGHTS:
                    optimiser.step()
        sums = torch.tensor([task_losses, task_accuracies], dtype=torch.float64).sum(1)  # (2,)
        loss, accuracy = (total(sums) / len(episodes)).tolist()
        run.history.loss.append(loss)
        run.history.accuracy.append(accuracy)
        yield run.history


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
    also be killed, and resumed, and SIGTERM and SIGHUP end the program once the state is saved. Under ``torchrun`` the
    processes share the tasks of each meta-batch.

    Args:
        method: what to train; its parameters are what Adam sees.
        tasks: meta-batches come from ``tasks.sample()``.
        config: how; default `TrainConfig()`.
        validation: tasks for ``config.validate_every``.
        callback: called with the history after every meta-iteration; returning True ends the run.
        folder: keeps the state of the run and its best checkpoints.

    Raises:
        TypeError: if tasks are not a source of episodes, but a data set, for instance.
        ValueError: if validation is asked for without tasks for it, tasks do not fit the head, a folder belongs to
            another run, or ``engine="graph"`` cannot work here.
        FileExistsError: if another process is training in the folder.
        RuntimeError: if the method is being trained already, by a panel for instance; inside ``torch.no_grad()``, where
            nothing can be differentiated.
        FloatingPointError: if a loss is not finite; the parameters are then as before that meta-iteration.
    """
    run = Run(method, tasks, config)
    config = run.config
    check_validation(config, validation)
    name, length = type(method).__name__, config.iterations
    with (
        trained_alone(method),
        folder.open(run) if folder else nullcontext(),
        interrupt_flag(run, folder is not None) as interrupted,
        progress_bar(config.progress, total=length, initial=run.done, desc=name) as bar,
    ):
        start = time.perf_counter() - run.history.seconds
        try:
            if validate(run, validation, interrupted) and folder:  # the last part ended in the middle of it
                folder.after_validation(run)
            for history in meta_steps(run):
                if validate(run, validation, interrupted) and folder:
                    folder.after_validation(run)
                history.seconds = time.perf_counter() - start
                bar.update()
                bar.set_postfix(loss=f"{history.loss[-1]:.3f}", accuracy=f"{history.accuracy[-1]:.2f}", refresh=False)
                stop = any_process(bool(callback and callback(history)) or interrupted.is_set())
                if folder:
                    folder.after_iteration(run, last=stop or run.done == config.iterations)
                if stop:
                    history.interrupted = run.done < config.iterations
                    break
        except FloatingPointError:
            if folder and run.done:
                folder.after_iteration(run, last=True)  # the parameters are the last good ones
            raise
    return run.history


def check_validation(config: TrainConfig, validation: Tasks | None) -> None:
    """Refuse validation without tasks for it before any work is done."""
    if config.validate_every and validation is None:
        raise ValueError("validate_every is set, but no validation tasks were given")
    if validation is not None:
        check_tasks(validation, "episodes")


def validate(run: Run, validation: Tasks | None, interrupt: Interrupt | None = None) -> bool:
    """Evaluate on the validation tasks if it is time and was not done; whether it was done now."""
    every, validated = run.config.validate_every, [done for done, _ in run.history.validation[-1:]]
    if validation is None or not every or not run.done or run.done % every or validated == [run.done]:
        return False
    try:
        with (interrupt or Interrupt()).at_once():
            result = evaluate(run.method, validation, run.config.validation_episodes)
    except Interrupted:
        return False
    run.history.validation.append((run.done, result))
    return True


class Interrupted(Exception):
    """A signal to stop came where a run can stop at once."""


class Interrupt(threading.Event):
    """Is set by the first signal to stop. A meta-iteration is then finished; what is done `at_once` is left."""

    leave = False

    def set(self) -> None:
        super().set()
        if self.leave:
            self.leave = False
            raise Interrupted

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, the signal raises Interrupted, and so it does here if it has come before."""
        self.leave = True
        try:
            if self.is_set():
                raise Interrupted
            yield
        finally:
            self.leave = False


@contextmanager
def interrupt_flag(run: Run, has_folder: bool) -> Iterator[Interrupt]:
    """An event that the first signal to stop sets instead of raising, so that no update is left half done.

    Where there is a folder for the state, these are also the signals by which systems end a program, SIGTERM and
    SIGHUP; whoever handled them before gets them once the state is saved.
    """
    interrupted, received = Interrupt(), []
    before: dict[int, Any] = {}

    def first(signum: int, frame: object) -> None:
        received.append(signum)
        put_back()
        interrupted.set()

    def put_back() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    others = [signum for signum in ENDING if has_folder and signal.getsignal(signum) is not signal.SIG_IGN]
    in_main_thread = threading.current_thread() is threading.main_thread()  # elsewhere no signal arrives
    for signum in [signal.SIGINT, *others] if in_main_thread else []:
        before[signum] = signal.signal(signum, first)
    try:
        yield interrupted
    except KeyboardInterrupt:
        run.history.interrupted = True
    finally:
        put_back()
    for signum in received:
        if signum != signal.SIGINT:
            signal.raise_signal(signum)
