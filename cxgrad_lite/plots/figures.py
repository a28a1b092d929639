"""Static figures of tasks, training and accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..core.method import Batch
from ..probes import LAYERS
from ..training.evaluation import Evaluation
from .draw import draw_bars, draw_line
from .marks import GREY, Bars, Line, short
from .style import LAYER_COLOURS, RIGHT, WRONG, Picture, axes, colour, halves, stage_colours


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


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Running mean over at most ``window`` values up to each one."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(window, i + 1) for i in range(len(values))]


def training_curves(runs: Mapping[str, Mapping[str, Sequence[float]]], step: int = 1, window: int = 1) -> Picture:
    """Query loss and accuracy over meta-iterations; loss alone where no run has an accuracy.

    Args:
        runs: label → {"loss": …, "accuracy": …}. A label that repeats a method's colour is drawn dashed.
        step: meta-iterations between two values.
        window: running mean over this many values.
    """
    kinds: list[tuple[str, int, str, int | None]]
    kinds = [("loss", 1, "query loss", None), ("accuracy", 100, "query accuracy, %", 100)]
    kinds = kinds if any(run["accuracy"] for run in runs.values()) else kinds[:1]
    figure, panels = axes(4.5 * len(kinds), 3, len(kinds))
    tints: list[str] = []
    for label, run in runs.items():
        tint = colour(label) or GREY
        for ax, (key, unit, _, _) in zip(panels, kinds):
            means = [unit * value for value in smooth(run[key], window)]
            full = window - 1 if len(means) >= 2 * window else 0  # a mean over fewer values would wander
            x = [step * (i + 1) for i in range(full, len(means))]
            draw_line(ax, Line(x, means[full:], label, tint, dashed=tint in tints))
        tints.append(tint)
    for ax, (_, _, label, top) in zip(panels, kinds):
        ax.set(xlabel="meta-iterations", ylabel=label, ylim=(0, top))
        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    panels[-1].legend(frameon=False, fontsize=9)
    key, spec = ("accuracy", ".0%") if len(kinds) > 1 else ("loss", ".2f")
    ends = {label: smooth(run[key], window)[-1] for label, run in runs.items() if run[key]}
    last = ", ".join(f"{label} ends at {end:{spec}}" for label, end in ends.items())
    return Picture(figure, f"Query {' and '.join(kind[0] for kind in kinds)} over meta-iterations; {key}: {last}.")


def accuracy_by_steps(runs: Mapping[str, Tensor]) -> Picture:
    """Query accuracy before the first inner step and after each one, with 95 % intervals over tasks.

    Args:
        runs: label → (tasks, steps + 1) accuracies in percent. Untrained networks are drawn pale and dashed.
    """
    figure, (ax,) = axes(6.5, 2.8)
    said = []
    tints = stage_colours(list(runs), [colour(label) or GREY for label in runs])
    for (label, accuracies), tint, marker in zip(runs.items(), tints, "s^oDv"):
        by_step = [Evaluation.over_tasks(column) for column in accuracies.T]
        means, ranges = [step.mean for step in by_step], [step.ci95 for step in by_step]
        line = marker + ("--" if "untrained" in label else "-")
        ax.errorbar(range(len(means)), means, ranges, fmt=line, color=tint, label=label, capsize=3, markersize=5)
        said.append(f"{label}: " + ", ".join(f"{mean:.0f}" for mean in means))
    ax.set(xlabel="gradient steps on the support set", ylabel="accuracy on new tasks, %", ylim=(0, 100))
    ax.legend(frameon=False, fontsize=9, loc="lower right")
    return Picture(figure, f"Query accuracy in percent before the first inner step and after each. {'; '.join(said)}.")


def norms_by_layer(norms: Mapping[str, Mapping[str, float]], what: str = "gradient norm", log: bool = False) -> Picture:
    """Bars: one group per method, one bar per layer (as Figure 2 of the CxGrad paper); on a log axis zero has none."""
    figure, (ax,) = axes(1.6 + 2.4 * len(norms), 3)
    groups = list(norms)
    draw_bars(
        ax,
        [
            Bars(groups, [norms[group][layer] for group in groups], [LAYER_COLOURS[layer]] * len(groups), layer)
            for layer in LAYERS
        ],
    )
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
        ax.barh(row, 100 * mean, xerr=100 * ci95, color=colour(label) or GREY, height=0.65, capsize=3)
        ax.text(100 * (mean + ci95) + 1, row, f"{100 * mean:.1f} ± {100 * ci95:.1f}", va="center", fontsize=9)
    ax.axvline(100 * chance, color="black", linestyle=":", linewidth=1)
    ax.text(100 * chance, 1.01, "chance", fontsize=8, ha="center", va="bottom", transform=ax.get_xaxis_transform())
    ax.set_yticks(range(len(results)), list(results))
    ax.set(xlabel="accuracy on new tasks, %", xlim=(0, 108))
    ax.invert_yaxis()
    described = ", ".join(f"{label} {100 * m:.1f} ± {100 * ci:.1f} %" for label, (m, ci) in results.items())
    return Picture(figure, f"Accuracy on new tasks with 95 % intervals: {described}.")
