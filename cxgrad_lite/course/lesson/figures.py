"""Figures of notebook 01, which would fill its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from torch import Tensor

from ...plots.figures import show_image
from ...plots.marks import GREY
from ...plots.style import Picture, axes
from ...training.evaluation import Evaluation

BLUE, ORANGE = "#0072B2", "#D55E00"
STYLES: tuple[dict[str, Any], ...] = ({"color": GREY, "marker": "o"}, {"color": BLUE, "marker": "s", "linestyle": "--"})
Results = Mapping[str, Sequence[Evaluation]]


def image_row(images: Tensor, alt: str) -> Picture:
    """(n, C, H, W) images side by side."""
    figure, row = axes(1.2 * len(images), 1.4, columns=len(images))
    for ax, image in zip(row, images):
        ax.spines[:].set_visible(True)
        show_image(ax, image)
    return Picture(figure, alt)


def draw_results(ax: Axes, x: Sequence[float], results: Results) -> str:
    """Accuracies over x with their intervals; returns them in words."""
    for (name, found), style in zip(results.items(), STYLES):
        means, halves = [100 * r.mean for r in found], [100 * r.ci95 for r in found]
        ax.errorbar(x, means, halves, label=name, capsize=3, **style)
    ax.set(ylabel="query accuracy, %", ylim=(0, 103))
    return "; ".join(f"{name} {', '.join(f'{100 * r.mean:.0f}' for r in found)}" for name, found in results.items())


def shots_and_ways(shots: Sequence[int], over_shots: Results, ways: Sequence[int], over_ways: Results) -> Picture:
    """Left: accuracy over the shots of a 5-way task; right: over the ways. Both have the same axis of accuracies."""
    figure, panels = axes(9, 3.2, columns=2)
    said = []
    for ax, x, results, chance in zip(panels, (shots, ways), (over_shots, over_ways), ([20] * len(shots), ways)):
        said.append(f"at {', '.join(map(str, x))}: {draw_results(ax, x, results)}")
        ax.set(xscale="log")
        ax.set_xticks(x, [str(value) for value in x])
        ax.minorticks_off()
        ax.plot(x, [20] * len(x) if ax is panels[0] else [100 / n for n in chance], ":", color="black", label="chance")
    panels[0].set(xlabel="shots (5-way)")
    panels[1].set(xlabel="ways")
    panels[0].legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.18))
    panels[1].legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(1, 1.08))
    return Picture(figure, f"Accuracy in percent over the shots, {said[0]}. Over the ways, {said[1]}.")


def intervals(per_task: Tensor, counts: Sequence[int], tasks: int = 50, images: int = 75, shown: int = 40) -> Picture:
    """How the interval over tasks shrinks, and how often intervals over tasks and over images contain the mean."""
    figure, (left, right) = axes(9, 3.2, columns=2)
    halves = [100 * Evaluation.over_tasks(per_task[:n]).ci95 for n in counts]
    left.loglog(counts, halves, "o", color=BLUE, label="measured")
    left.loglog(
        counts, [halves[-1] * (counts[-1] / n) ** 0.5 for n in counts], color=GREY, label="proportional to 1/√n"
    )
    left.set_xticks(counts, [str(n) for n in counts], fontsize=8)
    left.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    left.minorticks_off()
    left.set(xlabel="tasks", ylabel="95 % interval, ± points")
    left.legend(frameon=False)
    mean = per_task.mean().item()
    reported, over_tasks, over_images = group_intervals(per_task, tasks, images)
    for i in range(shown):
        tint = ORANGE if abs(reported[i] - mean) > over_tasks[i] else BLUE
        right.errorbar(i, 100 * reported[i], 100 * over_tasks[i], color=tint, linewidth=1.2)
        right.errorbar(i, 100 * reported[i], 100 * over_images[i], color="black", linewidth=2.5)
    right.axhline(100 * mean, color=GREY, linewidth=1)
    right.set(xlabel=f"group of {tasks} tasks (the first {shown} groups)", ylabel="query accuracy, %")
    shrinking = ", ".join(f"{half:.2f} at {n}" for n, half in zip(counts, halves))
    return Picture(
        figure, f"Left: half-width of the interval in points, {shrinking}. Right: {shown} intervals of each kind."
    )


def group_intervals(per_task: Tensor, tasks: int, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """(groups,) means of groups of tasks, half-widths over their tasks, and half-widths over their images."""
    groups = per_task.view(-1, tasks)
    reported = groups.mean(1)
    over_images = 1.96 * (reported * (1 - reported) / (tasks * images)) ** 0.5
    return reported, 1.96 * groups.std(1) / tasks**0.5, over_images


def leaks(shares: Sequence[float], results: Results, without: Evaluation) -> Picture:
    """Accuracy over the share of test classes that are in memory."""
    figure, (ax,) = axes(6.5, 3.2)
    said = draw_results(ax, [100 * share for share in shares], results)
    ax.axhline(100 * without.mean, color="black", linestyle=":", label="no memory: nearest pixels")
    ax.set(xlabel="share of the test classes that leaked into memory, %")
    ax.legend(frameon=False, fontsize=9, loc="lower right")
    return Picture(
        figure, f"Accuracy in percent over the leaked share: {said}; without memory {100 * without.mean:.0f}."
    )
