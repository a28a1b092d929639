"""Static figures in one visual language: layers, methods and classes keep their colours everywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from ..core.method import Batch
from ..probes import LAYERS

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
# Blocks grow darker with depth.
LAYER_COLOURS = dict(zip(LAYERS, ["#CBC9E2", "#9E9AC8", "#756BB1", "#3F007D", "#E69F00"]))
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


def axes(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure that knows nothing of pyplot, so that it can be drawn in any thread."""
    figure = Figure(figsize=(width, height), layout="constrained")
    row = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for ax in row:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, row


def halves(figure: Figure, ratios: Sequence[float] = (1, 1)) -> tuple[SubFigure, SubFigure]:
    """Two parts side by side."""
    left, right = np.atleast_1d(np.asarray(figure.subfigures(1, 2, width_ratios=ratios)))
    return left, right


def show_image(ax: Axes, image: Tensor, frame: str | None = None) -> None:
    """One (C, H, W) image with values in [0, 1]; one channel is drawn as ink on paper."""
    grey = image.shape[0] == 1
    ax.imshow(
        (1 - image[0] if grey else image.permute(1, 2, 0)).cpu().numpy(),
        cmap="gray" if grey else None,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=frame or "#BBBBBB", linewidth=2.5 if frame else 0.8)


def show_episode(support: Batch, query: Batch, queries: int = 5) -> Picture:
    """A task: one row per class, its support images on the left, the first of its query images on the right."""
    ways = int(support[1].max()) + 1
    shots = len(support[1]) // ways
    columns = shots + queries
    figure = Figure(figsize=(0.8 * columns + 1.1, 0.82 * ways + 0.5), layout="constrained")
    left, right = halves(figure, [shots + 0.8, queries])
    left.suptitle("support: labels are given", fontsize=10)
    right.suptitle("query: labels are asked for", fontsize=10)
    for part, (images, labels), count in ((left, support, shots), (right, query, queries)):
        grid = part.subplots(ways, count, squeeze=False)
        for c in range(ways):
            for ax, image in zip(grid[c], images[labels == c]):
                show_image(ax, image)
            if part is left:
                grid[c][0].set_ylabel(f"class {c}", rotation=0, ha="right", va="center", fontsize=10)
    return Picture(figure, f"A {ways}-way {shots}-shot task: {shots} support and some query images of each class.")


def show_predictions(query: Batch, before: Tensor, after: Tensor, per_class: int = 5) -> Picture:
    """The first query images of each class, framed by whether they are classified rightly before and after adaptation.

    Args:
        query: (images, labels).
        before, after: (n, ways) logits.
        per_class: images shown per class.
    """
    images, labels = query
    ways = int(labels.max()) + 1
    figure = Figure(figsize=(1.7 * per_class + 0.6, 0.78 * ways + 0.6), layout="constrained")
    parts = halves(figure)
    shares = []
    for half, name, logits in zip(parts, ("before", "after"), (before, after)):
        predicted = logits.argmax(-1)
        shares.append((predicted == labels).float().mean().item())
        half.suptitle(f"{name} adaptation: {shares[-1]:.0%} right", fontsize=10)
        grid = half.subplots(ways, per_class, squeeze=False)
        for c in range(ways):
            rows = torch.nonzero(labels == c).flatten()[:per_class]
            for ax, row in zip(grid[c], rows):
                show_image(ax, images[row], RIGHT if predicted[row] == c else WRONG)
                mistake = f"taken for {int(predicted[row])}" if predicted[row] != c else " "
                ax.set_xlabel(mistake, fontsize=7, labelpad=1)
            if half is parts[0]:
                grid[c][0].set_ylabel(f"class {c}", rotation=0, ha="right", va="center", fontsize=10)
    return Picture(
        figure,
        f"Query images, right ones framed in green, wrong ones in orange: {shares[0]:.0%} right before adaptation, "
        f"{shares[1]:.0%} after.",
    )


def curve(ax: Axes, values: Sequence[float], label: str, step: int = 1, dashed: bool = False) -> None:
    """A curve over meta-iterations, ``step`` of them from point to point."""
    x = [step * (i + 1) for i in range(len(values))]
    ax.plot(x, values, color=colour(label), label=label, linewidth=1.8, linestyle="--" if dashed else "-")


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Running mean over at most ``window`` values up to each one."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(window, i + 1) for i in range(len(values))]


def training_curves(runs: Mapping[str, Mapping[str, Sequence[float]]], step: int = 1, window: int = 1) -> Picture:
    """Query loss and accuracy over meta-iterations.

    Args:
        runs: label → {"loss": …, "accuracy": …}. A label that repeats a method's colour is drawn dashed.
        step: meta-iterations between two values.
        window: running mean over this many values.
    """
    figure, (loss, right) = axes(9, 3, 2)
    used: set[str | None] = set()
    for label, run in runs.items():
        dashed = colour(label) in used
        used.add(colour(label))
        curve(loss, smooth(run["loss"], window), label, step, dashed)
        curve(right, [100 * a for a in smooth(run["accuracy"], window)], label, step, dashed)
    loss.set(xlabel="meta-iterations", ylabel="query loss", ylim=(0, None))
    right.set(xlabel="meta-iterations", ylabel="query accuracy, %", ylim=(None, 100))
    right.legend(frameon=False, fontsize=9)
    ends = {label: smooth(run["accuracy"], window)[-1] for label, run in runs.items() if run["accuracy"]}
    last = ", ".join(f"{label} ends at {end:.0%}" for label, end in ends.items())
    return Picture(figure, f"Query loss and accuracy over meta-iterations; accuracy: {last}.")


def short(value: float) -> str:
    """1.9 and 0.019, but 190 instead of 1.9e+02."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def norms_by_layer(norms: Mapping[str, Mapping[str, float]], what: str = "gradient norm", log: bool = False) -> Picture:
    """Bars: one group per method, one bar per layer (as Figure 2 of the CxGrad paper); on a log axis zero has none."""
    figure, (ax,) = axes(1.6 + 2.4 * len(norms), 3)
    for group, by_layer in enumerate(norms.values()):
        for i, layer in enumerate(LAYERS):
            bar = ax.bar(group + (i - 2) * 0.16, by_layer[layer], 0.14, color=LAYER_COLOURS[layer])
            ax.bar_label(bar, fmt=short, fontsize=8)
            if group == 0:
                bar.set_label(layer)
    ax.set_xticks(range(len(norms)), list(norms))
    ax.set(ylabel=what)
    if log:
        drawn = [norm for by_layer in norms.values() for norm in by_layer.values() if norm > 0] or [1.0]
        ax.set(ylim=(min(drawn) / 3, max(drawn) * 3), yscale="log")  # in this order: only zeros cannot be autoscaled
    ax.legend(frameon=False, fontsize=9, ncols=1, loc="upper left", bbox_to_anchor=(1, 1))
    described = "; ".join(f"{m}: " + ", ".join(f"{k} {short(v)}" for k, v in by.items()) for m, by in norms.items())
    return Picture(figure, f"Bars of the {what} by layer. {described}.")


def accuracy_bars(results: Mapping[str, tuple[float, float]], chance: float) -> Picture:
    """Accuracies with their 95 % intervals.

    Args:
        results: label → (mean, half-width of the interval), fractions.
        chance: accuracy of guessing, drawn as a line.
    """
    figure, (ax,) = axes(7, 0.6 + 0.42 * len(results))
    for row, (label, (mean, ci95)) in enumerate(results.items()):
        ax.barh(row, 100 * mean, xerr=100 * ci95, color=colour(label) or "#7F7F7F", height=0.65, capsize=3)
        ax.text(100 * (mean + ci95) + 1, row, f"{100 * mean:.1f} ± {100 * ci95:.1f}", va="center", fontsize=9)
    ax.axvline(100 * chance, color="black", linestyle=":", linewidth=1)
    ax.text(100 * chance, 1.01, "chance", fontsize=8, ha="center", va="bottom", transform=ax.get_xaxis_transform())
    ax.set_yticks(range(len(results)), list(results))
    ax.set(xlabel="accuracy on new tasks, %", xlim=(0, 108))
    ax.invert_yaxis()
    described = ", ".join(f"{label} {100 * m:.1f} ± {100 * ci:.1f} %" for label, (m, ci) in results.items())
    return Picture(figure, f"Accuracy on new tasks with 95 % intervals: {described}.")
