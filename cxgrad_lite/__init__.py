"""Gradient-based few-shot learning, from MAML to Contextual Gradient Scaling."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .public import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The names of `public`, imported when the first of them is asked for.

    PyTorch takes seconds to import. A command imports it where Ctrl-C, or a file that hides one of Python's modules, is
    one sentence and no traceback, and that cannot be here.
    """
    public = import_module(f"{__name__}.public")
    if name != "__all__" and name not in public.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(public, name)


def __dir__() -> list[str]:
    return [*globals(), *import_module(f"{__name__}.public").__all__]
