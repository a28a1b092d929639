"""What a command ends with: one table from exceptions to exit codes and sentences."""

from __future__ import annotations

import codecs
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch

from data_utils.files.download import DownloadError
from data_utils.store.writer import StoreError

from ..training.loop import ENDING
from ..training.machine import Dispensable
from ..training.parallel import rank, world_size
from .grade import GradingError

GOOD, FAILED, WRONG_INPUT, TRY_AGAIN, INTERRUPTED = 0, 1, 2, 75, 130


class CommandFailed(RuntimeError):
    """A command could not do what was asked; the message says why."""


EXIT_CODES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (  # the first row that fits counts
    ((KeyboardInterrupt,), INTERRUPTED),
    ((CommandFailed, GradingError, DownloadError, StoreError, FloatingPointError, torch.cuda.OutOfMemoryError), FAILED),
    ((ValueError, ModuleNotFoundError), WRONG_INPUT),
    ((FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError), WRONG_INPUT),
    ((OSError,), FAILED),
)
LIKENESS = {"±": "+/-", "−": "-", "×": "x", "…": "...", "’": "'"}
EXTRAS = {  # which extra installs a package that a command needs
    "tensorboard": "tensorboard",
    "dask": "cluster",
    "distributed": "cluster",
    "nbformat": "lab",
    "nbclient": "lab",
    "jupyter_client": "lab",
    "nbgrader": "course",
    "psutil": "course",
}


class Stopped(KeyboardInterrupt):
    """The system ends the program: SIGTERM or SIGHUP."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command; what it raises becomes an exit code and one sentence on the standard error stream.

    A stream that fails stops no command. A full disk behind the standard output is told at the end; that a reader has
    had enough, as in ``… | head``, is no error. An exception that is not in the table is a mistake of ours, and keeps
    its traceback.
    """
    kinds = tuple(kind for row, _ in EXIT_CODES for kind in row)
    spell_out_what_a_terminal_lacks()
    out, err = Dispensable(sys.stdout), Dispensable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):  # type: ignore[type-var]
        code = code_of(command, kinds)
        out.flush()
        if out.error and not isinstance(out.error, BrokenPipeError):
            print(f"error: {sentence(out.error)}", file=sys.stderr)
            code = code or FAILED
        err.flush()
    return code


def code_of(command: Callable[[], int | None], kinds: tuple[type[BaseException], ...]) -> int:
    """The exit code of a command that may raise exceptions of these kinds."""
    try:
        with signals_raised():
            return command() or GOOD
    except kinds as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        if isinstance(error, Stopped):
            return 128 + error.signum
        return next(code for row, code in EXIT_CODES if isinstance(error, row))


@contextmanager
def signals_raised() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `Stopped`, unless whoever started us ignores them, as nohup does."""

    def stop(signum: int, frame: object) -> None:
        raise Stopped(signum)

    in_main_thread = threading.current_thread() is threading.main_thread()
    ours = [signum for signum in ENDING if in_main_thread and signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, stop) for signum in ours}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def spell_out_what_a_terminal_lacks() -> None:
    """A terminal in ASCII or Latin-1 shows +/- for ±, and ? for a letter that has no such likeness."""

    def spelled(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(LIKENESS.get(letter, "?") for letter in error.object[error.start : error.end]), error.end

    codecs.register_error("spelled", spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def sentence(error: BaseException) -> str:
    """What went wrong, and what to do where the exception itself does not say it."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        name = f"'cxgrad-lite[{EXTRAS[package]}]'" if package in EXTRAS else package
        return f"this needs {package}; install it with: pip install {name}"
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f"{str(error).splitlines()[0]} Fewer filters, queries or tasks_per_batch need less."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    where = f"process {rank()}: " if world_size() > 1 else ""
    return f"{where}{' '.join(str(error).split())}" or type(error).__name__
