"""One visual language: layers, methods and classes keep their colours everywhere, and every picture has its text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure, SubFigure

from ..probes import LAYERS
from .marks import GREY, Symbol

# Okabe and Ito's colours, which people with any common colour vision can tell apart.
METHOD_COLOURS = {  # the first that a label begins with
    "MAMLPlusPlus": "#56B4E9",  # with learned rates
    "MetaSGD": "#56B4E9",
    "MAML": "#0072B2",
    "CxGrad": "#D55E00",
    "ANIL": "#009E73",
    "BOIL": "#CC79A7",
    **dict.fromkeys(("CAVIA", "L2F", "ALFA", "ModGrad"), "#E69F00"),  # conditioned on the task
    **dict.fromkeys(("MatchingNet", "ProtoNet", "RelationNet", "nearest pixels"), "#7F7F7F"),  # they compare
}
# Blocks grow darker with depth; the lightest still has a contrast of 3 : 1 on white.
LAYER_COLOURS = dict(zip(LAYERS, ["#978ACE", "#7561B4", "#53308F", "#2D0057", "#C77F00"]))
RIGHT, WRONG = "#009E73", "#D55E00"
DPI = 110


@dataclass(frozen=True)
class Picture:
    """A figure with its alternative text; shown as the last value of a notebook cell."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, dpi=DPI, bbox_inches="tight", facecolor="white")
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        Path(path).write_bytes(self.png())

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def colour(label: str) -> str | None:
    """The colour of a method; labels may say more, such as 'MAML, α = 0.3'."""
    return next((c for name, c in METHOD_COLOURS.items() if label.startswith(name)), None)


def axes(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure that knows nothing of pyplot, so that it can be drawn in any thread; its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
    for ax in panels:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, panels


def halves(figure: Figure, ratios: Sequence[float] = (1, 1)) -> tuple[SubFigure, SubFigure]:
    """Two parts side by side."""
    left, right = np.atleast_1d(np.asarray(figure.subfigures(1, 2, width_ratios=ratios)))
    return left, right


# Paul Tol's bright scheme: safe for any common colour vision, and none of it is a method's or a layer's colour.
CLASS_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
CLASS_SYMBOLS: tuple[Symbol, ...] = ("circle", "square", "triangle-up", "diamond", "cross", "x", "star")


def class_style(c: int) -> tuple[str, Symbol]:
    """Colour and shape of class ``c``, the same in all figures; different for up to 49 classes."""
    turn, i = divmod(c, len(CLASS_COLOURS))
    return CLASS_COLOURS[i], CLASS_SYMBOLS[(i + turn) % len(CLASS_SYMBOLS)]


def method_colours(labels: Iterable[str]) -> list[str]:
    """A colour per label: the method's, paler where a label before it has the same; grey for unknown methods."""
    bases = [colour(label) or GREY for label in labels]
    strengths = [0.5 ** bases[:i].count(base) for i, base in enumerate(bases)]
    return [to_hex(blend(base, strength)) for base, strength in zip(bases, strengths)]


def stage_colours(labels: Sequence[str], bases: Sequence[str]) -> list[str]:
    """The bases, paler where a label says 'untrained'; labels of the same base after it grow to the full colour."""
    strengths = [1.0] * len(labels)
    for base in {base for base, label in zip(bases, labels) if "untrained" in label}:
        alike = [i for i, other in enumerate(bases) if other == base]
        for rank, i in enumerate(sorted(alike, key=lambda i: "untrained" not in labels[i])):
            strengths[i] = 0.45 + 0.55 * rank / max(len(alike) - 1, 1)
    return [to_hex(blend(base, strength)) for base, strength in zip(bases, strengths)]


def blend(base: str, strength: float) -> tuple[float, float, float]:
    """A colour mixed with white."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(base))
    return red, green, blue
