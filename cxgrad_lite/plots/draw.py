"""Draws marks with matplotlib's `Figure`, without pyplot, which is safe in any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from .marks import Bars, Content, Grid, Images, Line, Mark, Pane, Points

SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X", "star": "*"}
SCREEN_DPI = 90
FREE = (None, None)
CELL = 56  # pixels of an image in a grid, at least


def montage(mark: Images) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """(height, width, 3) float32 picture of an image grid, and the (x, y) place of each caption in it.

    One channel is drawn as ink on paper, as everywhere in the course.
    """
    images = mark.images.detach().cpu().float().numpy()  # (n, C, H, W)
    images = 1 - images.repeat(3, 1) if images.shape[1] == 1 else images
    zoom = -(-CELL // images.shape[-1])
    images = images.transpose(0, 2, 3, 1).repeat(zoom, 1).repeat(zoom, 2)  # (n, H, W, 3)
    height, width = images.shape[1:3]
    frame, strip = max(2, width // 14), (height // 3 if any(mark.captions) else 0)
    step_y, step_x = height + 3 * frame + strip, width + 3 * frame
    rows = -(-len(images) // mark.columns)
    sheet = np.ones((rows * step_y, mark.columns * step_x, 3), dtype=np.float32)
    places = []
    for i, image in enumerate(images):
        y, x = i // mark.columns * step_y, i % mark.columns * step_x
        if i < len(mark.frames) and mark.frames[i]:
            sheet[y : y + height + 2 * frame, x : x + width + 2 * frame] = to_rgb(mark.frames[i])
        sheet[y + frame : y + frame + height, x + frame : x + frame + width] = image
        places.append((x + frame + width / 2, y + height + 2 * frame + strip / 2))
    return sheet.clip(0, 1), places


def draw_line(ax: Axes, mark: Line) -> None:
    style, marker = "--" if mark.dashed else "-", "o" if mark.markers else None
    x, y = (np.array(values, dtype=float) for values in (mark.x, mark.y))  # None becomes NaN, a gap
    ax.plot(x, y, color=mark.colour, label=mark.label, linestyle=style, marker=marker, linewidth=1.8, ms=4)


def draw_points(ax: Axes, mark: Points) -> None:
    colour = mark.colour if isinstance(mark.colour, str) else list(mark.colour)
    face: dict[str, Any] = {"c": colour} if mark.filled else {"facecolors": "none", "edgecolors": colour}
    marker = SYMBOLS[mark.symbol]
    ax.scatter(mark.x, mark.y, s=mark.size**2 / 1.6, marker=marker, label=mark.label, linewidths=1.0, **face)


def draw_bars(ax: Axes, marks: list[Bars]) -> None:
    width = 0.8 / len(marks)
    for i, mark in enumerate(marks):
        x = np.arange(len(mark.labels)) + (i - (len(marks) - 1) / 2) * width
        errors: dict[str, Any] = {"yerr": list(mark.errors), "capsize": 3} if mark.errors else {}
        drawn = ax.bar(x, mark.heights, 0.92 * width, color=list(mark.colours), label=mark.label, **errors)
        if mark.texts:
            ax.bar_label(drawn, mark.texts, fontsize=8)
    ax.set_xticks(range(len(marks[0].labels)), list(marks[0].labels), fontsize=8)


def draw_images(ax: Axes, mark: Images) -> None:
    sheet, places = montage(mark)
    ax.imshow(sheet, interpolation="nearest")
    for (x, y), caption in zip(places, mark.captions):
        ax.text(x, y, caption, ha="center", va="center", fontsize=8)


def draw_marks(ax: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        if isinstance(mark, Line):
            draw_line(ax, mark)
        elif isinstance(mark, Points):
            draw_points(ax, mark)
        elif isinstance(mark, Images):
            draw_images(ax, mark)
    bars = [mark for mark in marks if isinstance(mark, Bars)]
    if bars:
        draw_bars(ax, bars)


def dress(ax: Axes, pane: Pane) -> None:
    """What stays when the marks change."""
    ax.set(xlabel=pane.x_label, ylabel=pane.y_label)
    ax.spines[["top", "right"]].set_visible(False)
    for name, axis, log in (("x", ax.xaxis, pane.log_x), ("y", ax.yaxis, pane.log_y)):
        if log:
            ax.set(**{f"{name}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")  # much faster than powers of ten
    if pane.hide_axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)


def fill(ax: Axes, content: Content) -> None:
    """Marks, title, limits and legend, in place of those from before."""
    for artist in [*ax.lines, *ax.collections, *ax.patches, *ax.texts, *ax.images]:
        artist.remove()
    ax.containers.clear()
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()
    ax.dataLim.set_points(Bbox.null().get_points())
    ax.ignore_existing_data_limits = True
    ax.autoscale(True)
    draw_marks(ax, content.marks)
    pane = content.pane
    ax.set_title(content.title, fontsize=10)
    if pane.x_limits != FREE:
        ax.set(xlim=pane.x_limits)
    if pane.y_limits != FREE:
        ax.set(ylim=pane.y_limits)
    if pane.equal:
        free = pane.x_limits == pane.y_limits == FREE and not ax.images
        ax.set_aspect("equal", adjustable="datalim" if free else "box")
    if pane.legend and any(getattr(mark, "label", "") for mark in content.marks):
        ax.legend(loc=pane.legend, fontsize=8, frameon=False)


def figure_of(grid: Grid, contents: Mapping[str, Content], constrained: bool) -> Figure:
    """All panes. A constrained layout is tidier and twice as slow."""
    figure = Figure(figsize=grid.inches, layout="constrained" if constrained else None, dpi=SCREEN_DPI)
    layout = figure.add_gridspec(grid.rows, grid.columns, width_ratios=grid.widths)
    for i, (name, content) in enumerate(contents.items()):
        ax = figure.add_subplot(layout[i // grid.columns, i % grid.columns], label=name)
        dress(ax, content.pane)
        fill(ax, content)
    if not constrained:
        wide, high = grid.inches
        figure.subplots_adjust(0.62 / wide, 0.5 / high, 1 - 0.15 / wide, 1 - 0.32 / high, 0.28, 0.5)
    return figure
