"""Figures of notebooks 01, 03, 03b and 09, which would fill their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

from ...costs import Cost
from ...plots.figures import show_image
from ...plots.marks import GREY
from ...plots.style import LAYER_COLOURS, Picture, axes
from ...training.evaluation import Evaluation

BLUE, ORANGE = "#0072B2", "#D55E00"
STYLES: tuple[dict[str, Any], ...] = ({"color": GREY, "marker": "o"}, {"color": BLUE, "marker": "s", "linestyle": "--"})
LAYER_MARKERS = "os^Dv"
Results = Mapping[str, Sequence[Evaluation]]


def image_row(images: Tensor, alt: str) -> Picture:
    """(n, C, H, W) images side by side."""
    figure, row = axes(1.2 * len(images), 1.4, columns=len(images))
    for ax, image in zip(row, images):
        ax.spines[:].set_visible(True)
        show_image(ax, image)
    return Picture(figure, alt)


def look_up(asked: Tensor, added: Sequence[Tensor]) -> Picture:
    """Each of (n, C, H, W) images, and on its right the (m, C, H, W) images that a memory adds to it."""
    _, _, height, width = asked.shape
    rows = [
        F.pad(torch.cat([F.pad(image, (0, width)), *found], -1), (0, 0, height // 8, height // 8))
        for image, found in zip(asked, added)
    ]
    picture = torch.cat(rows, -2)
    figure, (ax,) = axes(9, 9 * picture.shape[-2] / picture.shape[-1] + 0.3)
    ax.spines[:].set_visible(False)
    show_image(ax, picture)
    ax.text(0, -2, "support")
    ax.text(2 * width, -2, "what the memory adds, under the same label")
    return Picture(figure, f"{len(asked)} support images, and beside each the images that the memory adds to it.")


def draw_results(ax: Axes, x: Sequence[float], results: Results) -> str:
    """Accuracies over x with their intervals, one method's curves in one colour; returns them in words."""
    for (name, found), style in zip(results.items(), STYLES):
        means, halves = [100 * r.mean for r in found], [100 * r.ci95 for r in found]
        tint = {"color": GREY} if name.startswith("nearest pixels") else {}
        ax.errorbar(x, means, halves, label=name, capsize=3, **style | tint)
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
    rule = [halves[-1] * (counts[-1] / n) ** 0.5 for n in counts]
    left.loglog(counts, rule, color=GREY, label="proportional to 1/√n")
    left.set_xticks(counts, [str(n) for n in counts], fontsize=8)
    left.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    left.minorticks_off()
    left.set(xlabel="tasks", ylabel="95 % interval, ± points")
    left.legend(frameon=False)
    mean = per_task.mean().item()
    reported, over_tasks, over_images = group_intervals(per_task, tasks, images)
    missed = []
    for widths, thickness, beside in ((over_tasks, 1.0, 0.0), (over_images, 2.5, 0.4)):
        missed.append(((reported - mean).abs() > widths)[:shown])
        for i, miss in enumerate(missed[-1]):
            tint = ORANGE if miss else BLUE
            right.errorbar(i + beside, 100 * reported[i], 100 * widths[i], color=tint, linewidth=thickness)
    right.axhline(100 * mean, color=GREY, linewidth=1)
    right.set(xlabel=f"group of {tasks} tasks (the first {shown} groups)", ylabel="query accuracy, %")
    over = f"{missed[0].sum()} over tasks (thin), {missed[1].sum()} over images (thick)"
    right.set_title(f"missing the mean: {over}", fontsize=9)
    shrinking = ", ".join(f"{half:.2f} at {n}" for n, half in zip(counts, halves))
    return Picture(
        figure, f"Left: half-width of the interval in points, {shrinking}. Right: of {shown}, {over} miss the mean."
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
    return Picture(figure, f"Accuracy in percent over the leaked share: {said}; no memory {100 * without.mean:.0f}.")


def norms_over_training(curves: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Gradient norm of each layer over meta-training, one panel per run; the panels share their axis of norms."""
    figure, panels = axes(10, 3.1, len(curves))
    largest = max(max(norms) for run in curves.values() for norms in run["norms"].values())
    said = []
    for ax, (label, run) in zip(panels, curves.items()):
        for (layer, tint), marker in zip(LAYER_COLOURS.items(), LAYER_MARKERS):
            line: dict[str, Any] = {"color": tint, "marker": marker, "markersize": 4, "markevery": 2, "label": layer}
            ax.plot(run["iteration"], run["norms"][layer], **line)
        ax.set(title=label, xlabel="meta-iterations", ylabel="gradient norm", ylim=(0, 1.05 * largest))
        ends = {layer: sum(norms[-5:]) / len(norms[-5:]) for layer, norms in run["norms"].items()}
        said.append(f"{label}: " + ", ".join(f"{layer} {norm:.1f}" for layer, norm in ends.items()))
    panels[-1].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return Picture(
        figure, f"Inner gradient norm by layer over meta-training; mean of the last five probes, {'; '.join(said)}."
    )


Draw = tuple[int, Tensor, Mapping[str, Tensor]]  # side of the final map, (draws,) ‖h‖, layer → (draws,) gradient norms


def norms_over_side(by_width: Mapping[int, Sequence[Draw]], width: int, star: Draw) -> Picture:
    """Norms at initialisation over the side of the final map, for one width; head over block 4, all, with intervals."""
    figure, (left, right) = axes(10, 3.3, 2)
    sides, lengths, norms = zip(*by_width[width])
    left.plot(sides, [values.mean() for values in lengths], "--", color=GREY, label="‖h‖")
    for (layer, tint), marker in zip(LAYER_COLOURS.items(), LAYER_MARKERS):
        means = [found[layer].mean() for found in norms]
        left.plot(sides, means, marker=marker, markersize=4, color=tint, label=layer)
    said = []
    for (filters, row), marker in zip(by_width.items(), "s^D"):
        ratios = [Evaluation.over_tasks(found["head"] / found["block 4"]) for _, _, found in row]
        means, halves = [ratio.mean for ratio in ratios], [ratio.ci95 for ratio in ratios]
        beside = [side * (1 + 0.05 * (marker == "D") - 0.05 * (marker == "s")) for side in sides]
        style: dict[str, Any] = {"color": GREY, "markersize": 5, "capsize": 2, "label": f"28 px, {filters} filters"}
        right.errorbar(beside, means, halves, fmt=marker, **style)
        said.append(f"{filters} filters " + ", ".join(f"{mean:.1f}" for mean in means))
    above = Evaluation.over_tasks(star[2]["head"] / star[2]["block 4"])
    right.errorbar(star[0], above.mean, above.ci95, fmt="*k", markersize=9, capsize=2, label="84 px, 48 filters")
    right.axhline(1, color="black", linewidth=0.8)
    for ax, label in ((left, f"norms at initialisation, {width} filters"), (right, "head's gradient / block 4's")):
        ax.set(xscale="log", yscale="log", xlabel="side of the final map", ylabel=label)
        ax.set_xticks(sides, [str(side) for side in sides])
        ax.minorticks_off()
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    left.set_yticks([3, 10, 30], ["3", "10", "30"])
    right.set_yticks([0.3, 1, 3], ["0.3", "1", "3"])
    return Picture(
        figure, f"Head over block 4 at sides {sides}: {'; '.join(said)}; 84 pixels, side {star[0]}: {above.mean:.1f}."
    )


def over_steps(panels: Mapping[str, Mapping[str, Tensor]], colours: Sequence[str], y_label: str, first: int) -> Picture:
    """Lines over the inner steps with 95 % intervals over tasks, one panel per network; the panels share their axes.

    ``panels``: title → label → (tasks, steps) values; ``first``: number of the step of the first value.
    """
    figure, row = axes(10, 2.9, len(panels))
    every = torch.stack([values.mean(0) for lines in panels.values() for values in lines.values()])
    low, high = min(0.0, 1.15 * every.min().item()), 1.15 * every.max().item()
    said = []
    for ax, (title, lines) in zip(row, panels.items()):
        for (label, values), tint, marker in zip(lines.items(), colours, "os^Dv"):
            by_step = [Evaluation.over_tasks(column) for column in values.T]
            means, halves = [step.mean for step in by_step], [step.ci95 for step in by_step]
            x = range(first, first + len(means))
            ax.errorbar(x, means, halves, color=tint, marker=marker, markersize=4, capsize=2, label=label)
            said.append(f"{title}, {label}: " + ", ".join(f"{mean:.1f}" for mean in means))
        ax.set(title=title, xlabel="inner step", ylabel=y_label, ylim=(low, high))
        ax.set_xticks(range(first, first + every.shape[1]))
    row[-1].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return Picture(figure, f"{y_label.capitalize()} by inner step. {'; '.join(said)}.")


def by_part(panels: Mapping[str, Mapping[str, Sequence[Sequence[Evaluation]]]], y_label: str, hollow: str) -> Picture:
    """Values by part of a network, one filled mark for each training run and a hollow one beside it; axes are shared.

    ``panels``: title → part → three pairs of evaluations; ``y_label`` and ``hollow`` name the two of a pair.
    """
    figure, row = axes(10, 3, len(panels))
    top, said = 0.0, []
    for ax, (title, parts) in zip(row, panels.items()):
        for i, (what, tint, fill) in enumerate(((y_label, BLUE, "full"), (hollow, ORANGE, "none"))):
            for seed, mark in enumerate("os^"):
                found = [pairs[seed][i] for pairs in parts.values()]
                means, halves = [one.mean for one in found], [one.ci95 for one in found]
                x = [place + 0.26 * (seed - 1) + 0.1 * i for place in range(len(parts))]
                style: dict[str, Any] = {"color": tint, "fillstyle": fill, "label": what if seed == 1 else None}
                ax.errorbar(x, means, halves, fmt=mark, capsize=2, **style)
                top = max(top, 1.1 * max(means))
        told = [f"{part} " + ", ".join(f"{a.mean:.1f} ({b.mean:.1f})" for a, b in runs) for part, runs in parts.items()]
        said.append(f"{title}: {'; '.join(told)}")
        ax.set(title=title, ylabel=y_label, xticks=range(len(parts)), xticklabels=list(parts))
    for ax in row:
        ax.set(ylim=(0, top))
    row[-1].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return Picture(figure, f"{y_label.capitalize()} of three runs; in brackets {hollow}. {'. '.join(said)}.")


def operations_by_kind(costs: Mapping[str, Cost]) -> Picture:
    """Bars of the calls and of the time of each kind of operation."""
    figure, pair = axes(9, 2.2, 2)
    calls = [float(cost.calls) for cost in costs.values()]
    milliseconds = [1000 * cost.seconds for cost in costs.values()]
    for ax, values, what in zip(pair, (calls, milliseconds), ("calls", "milliseconds")):
        ax.bar_label(ax.barh(list(costs), values, color=GREY), fmt="{:,.0f}", padding=3)
        ax.set(xlabel=what)
        ax.margins(x=0.2)
        ax.invert_yaxis()
    said = "; ".join(f"{kind}: {cost.calls} calls, {1000 * cost.seconds:.0f} ms" for kind, cost in costs.items())
    return Picture(figure, f"Operations of one meta-iteration. {said}.")


def kept_memory(steps: Sequence[int], kept: Mapping[str, Sequence[float]]) -> Picture:
    """Megabytes kept for a meta-gradient over the number of inner steps, a line for each order."""
    figure, (ax,) = axes(5.5, 3)
    for (order, values), line in zip(kept.items(), ("-o", "--s")):
        ax.plot(steps, values, line, color=BLUE, label=order)
    ax.set(xlabel="inner steps", ylabel="megabytes kept per task", ylim=(0, None), xticks=steps)
    ax.legend(frameon=False)
    said = "; ".join(f"{o}: {v[0]:.1f} MB with {steps[0]}, {v[-1]:.1f} with {steps[-1]}" for o, v in kept.items())
    return Picture(figure, f"Memory kept for the meta-gradient of one task, by inner steps. {said}.")
