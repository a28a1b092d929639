"""Static figures of representations: how similar they stay, where the query images move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..training.evaluation import Evaluation
from .draw import draw_bars, draw_marks
from .marks import Bars, Line, Points
from .style import Picture, axes, class_style, colour, method_colours


def interval(values: Tensor) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, 1.96 · std / √n, of (n,) values of n tasks.

    Raises:
        ValueError: if there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over tasks needs at least 2 tasks, not {len(values)}")
    result = Evaluation.over_tasks(values)
    return result.mean, result.ci95


def cka_by_layer(results: Mapping[str, Mapping[str, Tensor]]) -> Picture:
    """Bars: one group per layer, one bar per method, with 95 % intervals over tasks (as Figure 3 of the CxGrad paper).

    Args:
        results: label → layer → (tasks,) values, as from `probes.cka_before_after`. A label that repeats a method's
            colour is drawn paler.
    """
    layers = list(next(iter(results.values())))
    figure, (ax,) = axes(2.2 + 1.15 * len(layers), 3.2)
    bars = []
    for (label, by_layer), tint in zip(results.items(), method_colours(results)):
        means, errors = zip(*(interval(by_layer[layer]) for layer in layers))
        bars.append(Bars(layers, means, [tint] * len(layers), label, errors, fmt=""))
    draw_bars(ax, bars)
    ax.set(ylabel="CKA, before and after", ylim=(0, 1.05))
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return Picture(
        figure, f"Similarity (linear CKA) of each layer's output before and after adaptation. {in_words(results)}."
    )


def in_words(results: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The numbers of a `cka_by_layer` in words, for those who cannot see the bars."""

    def one(layer: str, values: Tensor) -> str:
        mean, ci95 = interval(values)
        return f"{layer} {mean:.2f} ± {ci95:.2f}"

    return "; ".join(f"{name}: " + ", ".join(one(*item) for item in by.items()) for name, by in results.items())


def class_points(points: Tensor, labels: Tensor, hover: Sequence[str] = (), size: float = 8) -> list[Points]:
    """(n, 2) points as one mark per class, in the class's colour and shape."""
    marks = []
    for c in labels.unique().tolist():
        tint, symbol = class_style(c)
        rows = (labels == c).nonzero().flatten().tolist()
        x, y = points[rows].T.tolist()
        marks.append(Points(x, y, f"class {c}", tint, symbol, size, [hover[i] for i in rows] if hover else ()))
    return marks


def class_trails(points: Tensor, labels: Tensor) -> list[Line]:
    """The way of each image so far, from (steps, n, 2) points: one line per class, with gaps between images."""
    marks = []
    for c in labels.unique().tolist():
        ways = points[:, labels == c].permute(2, 1, 0).tolist()  # (2, m, steps)
        x, y = ([value for way in axis for value in (*way, None)] for axis in ways)  # None lifts the pen
        marks.append(Line(x, y, colour=class_style(c)[0] + "55"))
    return marks


def limits(points: Tensor) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of x and y that hold (…, 2) points, with a margin."""
    flat = points.reshape(-1, 2)
    low, high = flat.min(0).values, flat.max(0).values
    margin = 0.06 * (high - low).clamp(min=1e-6)
    (x0, y0), (x1, y1) = (low - margin).tolist(), (high + margin).tolist()
    return (x0, x1), (y0, y1)


def empty(ax: Axes, points: Tensor) -> None:
    """Axes for points of a projection: its directions have no names and its units no meaning."""
    xlim, ylim = limits(points)
    ax.set(xlim=xlim, ylim=ylim, xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#BBBBBB")


def before_after(
    points: Mapping[str, Tensor], labels: Tensor, separation: Mapping[str, Tensor] | None = None
) -> Picture:
    """Query images in the plane before and after adaptation, one row per method (as Figure 4 of the CxGrad paper).

    The two panes of a row have the same axes. Rows have planes of their own: do not compare places across rows.

    Args:
        points: label → (steps + 1, n, 2), as from `probes.project`; the first and the last step are drawn.
        labels: (n,).
        separation: label → (steps + 1,), as from `probes.class_separation`, written above the panes.
    """
    labels = labels.cpu()
    figure = Figure(figsize=(7.2, 0.5 + 2.7 * len(points)), layout="constrained")
    grid = figure.subplots(len(points), 2, squeeze=False)
    described = []
    for row, (label, steps) in zip(grid, points.items()):
        shares = [] if separation is None else [separation[label][i].item() for i in (0, -1)]
        for ax, when, i in zip(row, ("before", "after"), (0, -1)):
            empty(ax, steps[[0, -1]])
            draw_marks(ax, class_points(steps[i], labels))
            share = f": {shares[i]:.0%} between classes" if shares else ""
            ax.set_title(f"{when} adaptation{share}", fontsize=9)
        row[0].set_ylabel(label, fontsize=10, color=colour(label) or "black")
        described.append(
            label + (f", between classes {shares[0]:.0%} before and {shares[1]:.0%} after" if shares else "")
        )
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6), frameon=False, fontsize=9)
    return Picture(figure, f"Query images in the plane before and after adaptation. {'; '.join(described)}.")


def paths(points: Tensor, labels: Tensor) -> Picture:
    """The way of every query image through the plane: a line over the inner steps, the class's shape at its end.

    Args:
        points: (steps + 1, n, 2), as from `probes.project`.
        labels: (n,).
    """
    figure, (ax,) = axes(5.2, 4)
    draw_paths(ax, points, labels.cpu())
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    moved = (points[-1] - points[0]).norm(dim=-1).mean() / np.ptp(points.numpy(), axis=(0, 1)).max()
    return Picture(
        figure,
        f"{len(labels)} query images move through the plane in {len(points) - 1} inner steps, on average by "
        f"{moved:.0%} of the width of the picture.",
    )


def draw_paths(ax: Axes, points: Tensor, labels: Tensor) -> None:
    """(steps + 1, n, 2) points: a line for each image, and where it is at the end."""
    empty(ax, points)
    draw_marks(ax, [*class_trails(points, labels), *class_points(points[-1], labels)])
