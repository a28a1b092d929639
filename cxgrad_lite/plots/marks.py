"""What a chart shows, as values: marks in panes. Static figures and both live backends draw the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Symbol = Literal["circle", "square", "diamond", "triangle-up", "cross", "x", "star"]
Corner = Literal["", "upper left", "upper right", "lower left", "lower right"]
Limits = tuple[float | None, float | None]
GREY = "#7F7F7F"


def short(value: float) -> str:
    """1.9 and 0.019, but 190 instead of 1.9e+02."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


@dataclass(frozen=True)
class Line:
    """A line through (x, y). A gap is None: NaN is no JSON, and the browser would not get it."""

    x: Sequence[float | None]
    y: Sequence[float | None]
    label: str = ""
    colour: str = GREY
    dashed: bool = False
    markers: bool = False


@dataclass(frozen=True)
class Bars:
    """One bar per label; several `Bars` in a pane stand side by side. ``errors``: half-widths of intervals."""

    labels: Sequence[str]
    values: Sequence[float]
    colours: Sequence[str]
    label: str = ""
    errors: Sequence[float] = ()
    fmt: str | None = None  # of the number above each bar: as `short` writes it; "" for none

    @property
    def heights(self) -> list[float]:
        """The values; 0 for one that is not finite, whose text still says what it is."""
        return [value if math.isfinite(value) else 0.0 for value in self.values]

    @property
    def texts(self) -> list[str]:
        """What stands above each bar; nothing if there are to be no numbers."""
        if self.fmt is None:
            return [short(value) for value in self.values]
        return [format(value, self.fmt) for value in self.values] if self.fmt else []


@dataclass(frozen=True)
class Points:
    """Markers at (x, y). ``hover``: a text per point, shown under the mouse where the backend can."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    colour: str | Sequence[str] = GREY
    symbol: Symbol = "circle"
    size: float = 8
    hover: Sequence[str] = ()
    filled: bool = True


@dataclass(frozen=True)
class Images:
    """A grid of (n, C, H, W) images in [0, 1], row by row.

    ``frames``: a colour per image, "" for none; ``captions``: a short text under each; ``columns``: images per row.
    """

    images: Tensor
    columns: int = 5
    frames: Sequence[str] = ()
    captions: Sequence[str] = ()


Mark = Line | Bars | Points | Images


@dataclass(frozen=True)
class Pane:
    """Where marks are drawn: title, axes and legend. Limits of None are found from the marks."""

    title: str = ""
    x_label: str = ""
    y_label: str = ""
    x_limits: Limits = (None, None)
    y_limits: Limits = (None, None)
    log_x: bool = False
    log_y: bool = False
    equal: bool = False  # one unit of x is as long as one unit of y
    hide_axes: bool = False  # for images, and for embeddings, whose units mean nothing
    legend: Corner = ""  # where the labels of the marks are listed; "" for no legend


@dataclass(frozen=True)
class Content:
    """What a pane shows now."""

    pane: Pane
    title: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Panes in reading order."""

    columns: int
    rows: int
    widths: tuple[float, ...]
    inches: tuple[float, float]  # of the whole chart


Plotted = list[tuple[list[Any], list[Any]]]
