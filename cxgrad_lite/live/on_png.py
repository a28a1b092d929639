"""A chart as a picture in an `ipywidgets.Image`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.collections import Collection, PathCollection
from matplotlib.container import BarContainer

from ..plots.draw import figure_of, fill
from ..plots.marks import Bars, Content, Grid, Images, Line, Plotted, Points


def listed(values: Any) -> list[Any]:
    return np.asarray(values).tolist()


def offsets(collection: Collection) -> np.ndarray:
    return np.asarray(collection.get_offsets())  # (points, 2)


class PngSurface:
    """The chart as a PNG in an `ipywidgets.Image`; of the figure, only panes that changed are drawn anew."""

    def __init__(self, grid: Grid, contents: Mapping[str, Content]) -> None:
        self.contents = dict(contents)
        self.figure = figure_of(grid, contents, constrained=False)
        self.widget = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self._show()

    def draw(self, contents: Mapping[str, Content]) -> None:
        for name, ax in zip(contents, self.figure.axes):
            if contents[name] is not self.contents[name]:
                fill(ax, contents[name])
        self.contents = dict(contents)
        self._show()

    def _show(self) -> None:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", facecolor="white", pil_kwargs={"compress_level": 1})
        self.widget.value = buffer.getvalue()

    def on_hover(self, name: str, callback: Callable[[int, int], None]) -> bool:
        return False

    def plotted(self, name: str) -> Plotted:
        ax = next(ax for ax in self.figure.axes if ax.get_label() == name)
        ticks = [tick.get_text() for tick in ax.get_xticklabels()]
        bars = [container for container in ax.containers if isinstance(container, BarContainer)]
        points = [c for c in ax.collections if isinstance(c, PathCollection)]
        by_kind: dict[type, list[tuple[list[Any], list[Any]]]] = {
            Line: [(listed(line.get_xdata()), listed(line.get_ydata())) for line in ax.lines],
            Bars: [(ticks, listed([bar.get_height() for bar in container])) for container in bars],
            Points: [(listed(xy[:, 0]), listed(xy[:, 1])) for xy in map(offsets, points)],
            Images: [([], [text.get_text() for text in ax.texts])],
        }  # of each kind, in the order in which they were drawn
        kinds = [type(mark) for mark in self.contents[name].marks]
        return [by_kind[kind].pop(0) for kind in kinds]
