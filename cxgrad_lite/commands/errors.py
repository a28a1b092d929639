"""What a command ends with: one table from exceptions to exit codes and sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import torch

from data_utils.files.download import DownloadError
from data_utils.store.writer import StoreError

from ..training.parallel import rank, world_size
from .grade import GradingError

GOOD, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class CommandFailed(RuntimeError):
    """A command could not do what was asked; the message says why."""


EXIT_CODES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (  # the first row that fits counts
    ((BrokenPipeError,), GOOD),  # the reader has had enough, as in `… | head`
    ((KeyboardInterrupt,), INTERRUPTED),
    ((CommandFailed, GradingError, DownloadError, StoreError, FloatingPointError, torch.cuda.OutOfMemoryError), FAILED),
    ((ValueError, ModuleNotFoundError), WRONG_INPUT),
    ((FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError), WRONG_INPUT),
    ((OSError,), FAILED),
)
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


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command; what it raises becomes an exit code and one sentence on the standard error stream.

    An exception that is not in the table is a mistake of ours, and keeps its traceback.
    """
    kinds = tuple(kind for row, _ in EXIT_CODES for kind in row)
    try:
        code = command() or GOOD
        sys.stdout.flush()  # where a closed pipe shows, if it has not yet
        return code
    except kinds as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        else:
            print(f"error: {sentence(error)}", file=sys.stderr)
        return next(code for row, code in EXIT_CODES if isinstance(error, row))


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
