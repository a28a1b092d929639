"""Blanks in the cells of the course, and a check that says at once what is wrong with what was filled in.

    def inner_loop(net, support, alpha, steps):
        ...
        theta = {name: ____ for ...}                 # the blank
    inner_loop = check(inner_loop)

The check runs the reader's code on a small case. What is wrong is found by comparison with typical mistakes: code that
behaves like one of them has made it. *Run all* never stops: until the blanks are filled rightly, `check` returns the
course's own version, and says so.
"""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

import torch
from IPython.display import display
from torch import Tensor

__all__ = ["Blank", "Exercise", "check", "diagnose"]

BLANK = "____"
COLOURS = {"right": "#009E73", "open": "#7F7F7F", "wrong": "#D55E00"}


class Blank:
    """Stands in a cell where the reader is to write."""

    def __repr__(self) -> str:
        return BLANK


@dataclass(frozen=True)
class Exercise:
    """What a check knows.

    Attributes:
        solution: the course's own version.
        observe: what the code does, as tensors by name, on a small case; it may raise.
        mistakes: hint → a version with that mistake.
        look: a hint read off what was observed of the reader's version and of the solution; "" where there is none.
        raised: part of an exception's text → hint.
    """

    solution: Any
    observe: Callable[[Any], Mapping[str, Tensor]]
    mistakes: Mapping[str, Any] = field(default_factory=dict)
    look: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], str] | None = None
    raised: Mapping[str, str] = field(default_factory=dict)


def functions(thing: Any, seen: set[int] | None = None) -> Iterator[FunctionType]:
    """A function, or the functions of a class, and those of the same notebook that they call."""
    seen = set() if seen is None else seen
    members = vars(thing).values() if isinstance(thing, type) else [thing]
    for member in members:
        if isinstance(member, FunctionType) and id(member) not in seen:
            seen.add(id(member))
            yield member
            called = [member.__globals__.get(name) for code in codes(member.__code__) for name in code.co_names]
            for other in called:
                if isinstance(other, FunctionType) and other.__module__ == member.__module__:
                    yield from functions(other, seen)


def codes(code: CodeType) -> Iterator[CodeType]:
    """A piece of code, and those nested in it, such as comprehensions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def has_blank(thing: Any) -> bool:
    return any(BLANK in code.co_names for function in functions(thing) for code in codes(function.__code__))


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        one[key].shape == two[key].shape and torch.allclose(one[key].double(), two[key].double(), rtol=1e-5, atol=1e-9)
        for key in one
    )


def diagnose(reader: Any, exercise: Exercise) -> str:
    """What is wrong with a reader's version; "" if nothing is."""
    truth = exercise.observe(exercise.solution)
    try:
        found = exercise.observe(reader)
    except Exception as error:  # whatever a reader's code may raise
        return explain(error, reader, exercise.raised)
    if same(found, truth):
        return ""
    for hint, wrong in exercise.mistakes.items():
        if same(found, exercise.observe(wrong)):
            return hint
    said = exercise.look(found, truth) if exercise.look else ""
    return said or difference(found, truth)


def explain(error: Exception, reader: Any, raised: Mapping[str, str]) -> str:
    """An exception, with the line of the cell that it comes from."""
    files = {function.__code__.co_filename for function in functions(reader)}
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    where = f" in line {lines[-1]} of the cell" if lines else ""
    hints = [f"{hint} " for text, hint in raised.items() if text in str(error)]
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    return f"{''.join(hints[:1])}(Python says: {type(error).__name__}{where}, {first}.)"


def difference(found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> str:
    """Where two versions first do something else, in numbers."""
    for key, right in truth.items():
        if key not in found:
            return f"It does not give {key}."
        value = found[key]
        if value.shape != right.shape:
            return f"{key} has the shape {tuple(value.shape)}; it should be {tuple(right.shape)}."
        if not same({key: value}, {key: right}):
            off = (value.double() - right.double()).abs().max().item()
            return (
                f"{key} is off by up to {off:.2g}; the first of its numbers is {at(value)} and should be {at(right)}."
            )
    return f"It gives more than was asked for: {', '.join(found.keys() - truth.keys())}."


def at(value: Tensor) -> str:
    return f"{value.flatten()[0].item():.3g}"


def check(reader: Any) -> Any:
    """Check a function or class of the notebook, found by its name, and say what is wrong with it.

    Returns:
        the reader's version if it is right, else the course's.

    Raises:
        ValueError: if no exercise has this name.
    """
    from .exercises import EXERCISES  # which are made of what stands above

    name = reader.__name__
    if name not in EXERCISES:
        raise ValueError(f"there is nothing to check under the name {name!r}; there is {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    wrong = None if has_blank(reader) else diagnose(reader, exercise)
    if wrong == "":
        tell("right", f"{name}: right. From here on, the notebook runs yours.")
        return reader
    if wrong is None:
        tell(
            "open",
            f"{name}: its blanks are open. Until they are filled, the notebook goes on with the course's version.",
        )
    else:
        tell("wrong", f"{name}: not yet. {wrong} Until it is right, the notebook goes on with the course's version.")
    return exercise.solution


def tell(state: str, sentence: str) -> None:
    """Show what was found, as HTML where that can be shown."""
    style = f"border-left: 4px solid {COLOURS[state]}; padding-left: 8px"
    data = {"text/html": f'<div role="status" style="{style}">{html.escape(sentence)}</div>', "text/plain": sentence}
    display(data, raw=True)
