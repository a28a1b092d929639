"""One gate for settings from outside: command lines, files of recipes, headers of checkpoints.

What a setting may be is said once: its type by the constructor that takes it, its range by its name in `RANGES`.
"""

from __future__ import annotations

import inspect
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..core.method import Method
from ..core.nets import Conv4
from ..zoo.registry import METHODS

MANY = 10**9
# The smallest and the largest value of a number, by the name that it has everywhere; of a fraction "above 0" is the
# smallest that float32 can tell from it. A number that is not here may be any, but not NaN or infinite.
ABOVE_ZERO = 1.2e-38
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("ways", "shots", "queries", "train_ways", "train_queries", "tasks_per_batch"), (1, 10_000)),
    **dict.fromkeys(("image_size", "size"), (1, 1024)),
    **dict.fromkeys(("in_channels", "width", "context_dim", "hidden", "mixtures"), (1, 4096)),
    **dict.fromkeys(("eps", "meta_lr", "decay", "clip_value", "clip_norm", "temperature"), (ABOVE_ZERO, math.inf)),
    **dict.fromkeys(("inner_lr", "context_lr", "weight_decay"), (0, math.inf)),
    **dict.fromkeys(("annealing", "decay_every", "validate_every", "every"), (0, MANY)),
    **dict.fromkeys(("episodes", "validation_episodes"), (2, 1_000_000)),  # an interval over tasks needs two
    "poolings": (0, 4),
    "inner_steps": (0, 1000),
    **dict.fromkeys(("iterations", "keep"), (1, MANY)),
    "seed": (0, 2**63 - 1),
    "minutes": (0, MANY),
}


@dataclass
class Header:
    """What a checkpoint says of itself."""

    format: int
    recipe: dict[str, Any]
    provenance: dict[str, Any]
    sha256: str  # of the numbers; "" where it was not stored


@dataclass
class Parts:
    """The recipe in a checkpoint's header: a method, its options and those of its network."""

    method: str
    options: dict[str, Any]
    net: dict[str, Any]


def check(kind: Callable[..., Any], values: Any, where: object = "", besides: str = "") -> None:
    """Check values that ``kind``, a class, is to be made with.

    Args:
        kind: its constructor has the names and types.
        values: by name.
        where: the file they come from.
        besides: a parameter that is no setting.

    Raises:
        ValueError: naming the file, the setting, its value and what is allowed.
    """
    kinds, file = settings_of(kind, besides), f"{where}: " if where else ""
    if not isinstance(values, dict):
        raise ValueError(f"{file}{kind.__name__} must be a table, not {type(values).__name__}")
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"{file}{kind.__name__} has no setting {name!r}{suggestion(name, kinds)}")
        if not fits(name, kinds[name], value):
            shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:80]} …"
            raise ValueError(f"{file}{name} must be {allowed(name, kinds[name])}, not {shown}")


def settings_of(kind: Callable[..., Any], besides: str = "") -> dict[str, Any]:
    """The names and types that a class is made with."""
    hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    return {name: hints.get(name, Any) for name in inspect.signature(kind).parameters if name != besides}


def check_header(header: Any, where: object) -> None:
    """Check the header of a checkpoint, down to each option of method and network.

    Raises:
        ValueError: see `check`.
    """
    check_table(Header, header, where)
    check_table(Parts, header["recipe"], where)
    check_method(header["recipe"]["method"], header["recipe"]["options"], where)
    check(Conv4, header["recipe"]["net"], where)


def check_table(kind: Callable[..., Any], values: Any, where: object) -> None:
    """Check values from a file that has to have all of them.

    Raises:
        ValueError: see `check`.
    """
    check(kind, values, where)
    missing = [name for name in settings_of(kind) if name not in values]
    if missing:
        raise ValueError(f"{where}: {kind.__name__} lacks {', '.join(missing)}")


def check_method(name: str, options: Mapping[str, Any], where: object = "") -> type[Method]:
    """The method of this name, if it takes these options.

    Raises:
        ValueError: if there is no such method; and see `check`.
    """
    if name not in METHODS:
        raise ValueError(f"{f'{where}: ' if where else ''}there is no method {name!r}{suggestion(name, METHODS)}")
    check(METHODS[name], options, where, besides="net")
    return METHODS[name]


def from_texts(kind: Callable[..., Any], texts: Mapping[str, str], besides: str = "") -> dict[str, Any]:
    """Texts of a command line as values of the types that ``kind`` is made with.

    Raises:
        ValueError: naming the setting, the text and what is allowed.
    """
    kinds = settings_of(kind, besides)
    check(kind, {name: None for name in texts if name not in kinds}, besides=besides)
    return {name: from_text(name, kinds[name], text) for name, text in texts.items()}


def from_text(name: str, kind: Any, text: str) -> Any:
    """One of them."""
    plain = next(option for option in alternatives(kind) if option is not None)
    try:
        if None in alternatives(kind) and text.lower() == "none":
            return None
        if plain is bool:
            return {"true": True, "false": False}[text.lower()]
        return plain(text) if plain in (int, float) else text
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name} must be {allowed(name, kind)}, not {text!r}") from error


def alternatives(kind: Any) -> list[Any]:
    """What a type is one of; None stands for NoneType."""
    options = [kind] if get_origin(kind) in (Literal, dict, list, None) else list(get_args(kind))
    return [None if option is type(None) else option for option in options]


def fits(name: str, kind: Any, value: Any) -> bool:
    """Whether a value has the type, and as a number the range, that its name asks for."""
    for option in alternatives(kind):
        if option is Any or option is None and value is None:
            return True
        if get_origin(option) is Literal:
            if isinstance(value, str) and value in get_args(option):
                return True
        elif option in (int, float):
            low, high = RANGES.get(name, (-math.inf, math.inf))
            is_number = isinstance(value, numbers.Integral if option is int else numbers.Real)
            if is_number and not isinstance(value, bool) and low <= value <= high:
                return option is int or abs(value) <= sys.float_info.max
        elif option is not None and isinstance(value, get_origin(option) or option):
            return True
    return False


def allowed(name: str, kind: Any) -> str:
    """In words, what `fits` asks for."""
    low, high = RANGES.get(name, (-math.inf, math.inf))
    least = "above 0" if low == ABOVE_ZERO else f"of at least {low:g}" if math.isfinite(low) else ""
    span = least if high >= MANY else f"from {low:g} to {high:g}"
    words = {int: f"a whole number {span}", float: f"a number {span}", bool: "true or false", str: "text", None: "none"}
    names = [
        f"one of {', '.join(get_args(option))}" if get_origin(option) is Literal else words.get(option, "a table")
        for option in alternatives(kind)
    ]
    return " or ".join(name.strip() for name in names)


def suggestion(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about an unknown name: what may have been meant, else ``otherwise``, else all there is."""
    names = list(names)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    everything = f"; there are {', '.join(names)}" if names else ": there are none"
    return f"; did you mean {' or '.join(close)}?" if close else otherwise or everything
