"""Static figures of representations: how similar they stay, where the query images move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ..training.evaluation import Evaluation
from .figures import Picture, axes, colour
from .marks import Symbol

# Paul Tol's bright scheme: safe for any common colour vision, and none of it is a method's or a layer's colour.
CLASS_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
CLASS_SYMBOLS: tuple[Symbol, ...] = ("circle", "square", "triangle-up", "diamond", "cross", "x", "star")
MARKERS = dict(zip(CLASS_SYMBOLS, "os^DPX*"))  # what matplotlib calls them


def class_style(c: int) -> tuple[str, Symbol]:
    """Colour and shape of class ``c``, the same in all figures; different for up to 49 classes."""
    turn, i = divmod(c, len(CLASS_COLOURS))
    return CLASS_COLOURS[i], CLASS_SYMBOLS[(i + turn) % len(CLASS_SYMBOLS)]


def method_colours(labels: Iterable[str]) -> list[str]:
    """A colour per label: the method's, paler where a label before it has the same; grey for unknown methods."""
    bases = [colour(label) or "#7F7F7F" for label in labels]
    strengths = [0.5 ** bases[:i].count(base) for i, base in enumerate(bases)]
    return [to_hex(blend(base, strength)) for base, strength in zip(bases, strengths)]


def blend(base: str, strength: float) -> tuple[float, float, float]:
    """A colour mixed with white."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(base))
    return red, green, blue


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
    layers = list(dict.fromkeys(layer for by_layer in results.values() for layer in by_layer))
    figure, (ax,) = axes(2.2 + 1.15 * len(layers), 3.2)
    width = 0.8 / len(results)
    for i, ((label, by_layer), fill) in enumerate(zip(results.items(), method_colours(results))):
        means, errors = zip(*map(interval, by_layer.values()))
        x = [layers.index(layer) + (i - (len(results) - 1) / 2) * width for layer in by_layer]
        ax.bar(x, means, 0.92 * width, yerr=errors, capsize=3, label=label, color=fill)
    ax.set_xticks(range(len(layers)), layers)
    ax.set(ylabel="CKA, before and after", ylim=(0, 1.05))
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return Picture(
        figure, f"Similarity (linear CKA) of each layer's output before and after adaptation. {told(results)}."
    )


def told(results: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The numbers of a `cka_by_layer` in words, for those who cannot see the bars."""

    def one(layer: str, values: Tensor) -> str:
        mean, ci95 = interval(values)
        return f"{layer} {mean:.2f} ± {ci95:.2f}"

    return "; ".join(f"{name}: " + ", ".join(one(*item) for item in by.items()) for name, by in results.items())


def scatter(ax: Axes, points: Tensor, labels: Tensor) -> None:
    """(n, 2) points in the colour and shape of their class."""
    for c in labels.unique().tolist():
        class_colour, symbol = class_style(c)
        own = points[labels == c].numpy()
        ax.scatter(
            own[:, 0],
            own[:, 1],
            s=26,
            c=class_colour,
            marker=MARKERS[symbol],
            edgecolors="white",
            linewidths=0.5,
            label=f"class {c}",
        )


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
            scatter(ax, steps[i], labels)
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
    for c in labels.unique().tolist():
        ways = points[:, labels == c].numpy()  # (steps + 1, m, 2)
        ax.plot(ways[..., 0], ways[..., 1], color=class_style(c)[0], linewidth=0.8, alpha=0.6)
    scatter(ax, points[-1], labels)
