"""Static figures of comparisons: accuracies by seed, paired differences with their intervals, γ of each block."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from .marks import GREY
from .style import LAYER_COLOURS, Picture, axes, colour, method_colours

ABREAST = 4  # panels in a row
HATCHES = ("", "////", "....", "xxxx")  # of bars of one method, which are paler and paler
Interval = tuple[float, float]  # mean, half-width
Curves = Sequence[tuple[Sequence[int], Tensor, bool]]  # x, (n, blocks) values, whether dashed


def accuracies_by_seed(arms: Mapping[str, Tensor]) -> Picture:
    """A point for each training of an arm, and a stroke at their mean.

    Args:
        arms: label → (seeds, tasks) accuracies in per cent.
    """
    figure, (ax,) = axes(7, 0.7 + 0.45 * len(arms))
    by_seed = {label: accuracies.double().mean(1).tolist() for label, accuracies in arms.items()}
    for row, (label, means) in enumerate(by_seed.items()):
        mean = sum(means) / len(means)
        ax.plot([mean, mean], [row - 0.3, row + 0.3], color=colour(label) or GREY, linewidth=3)
        ax.plot(means, [row - 0.15, row, row + 0.15][: len(means)], "o", color=colour(label) or GREY, markersize=6)
        ax.text(max(means) + 0.15, row, f"{mean:.1f}", va="center", fontsize=9)
    ax.set_yticks(range(len(arms)), list(arms))
    low, high = (pick(pick(means) for means in by_seed.values()) for pick in (min, max))
    ax.set(xlabel="accuracy on new tasks, %", xlim=(low - 1, high + 1), ylim=(len(arms) - 0.5, -0.5))
    said = [f"{label} {', '.join(f'{mean:.1f}' for mean in means)}" for label, means in by_seed.items()]
    return Picture(figure, f"Accuracy on new tasks in per cent, by seed: {'; '.join(said)}.")


def accuracy_dots(results: Mapping[str, Interval], start: float) -> Picture:
    """Accuracies with their 95 % intervals, the best above; those below the axis are named at its end.

    Args:
        results: label → (mean, half-width), fractions.
        start: of the axis, in per cent.
    """
    figure, (ax,) = axes(7, 0.7 + 0.3 * len(results))
    best_first = sorted(results, key=lambda label: -results[label][0])
    for row, label in enumerate(best_first):
        mean, half = (100 * value for value in results[label])
        if mean > start:
            ax.errorbar(mean, row, xerr=half, fmt="o", color=colour(label) or GREY, capsize=3, markersize=6)
        else:
            ax.plot(start, row, "<", color=colour(label) or GREY, markersize=8, clip_on=False)
        ax.annotate(
            f"{mean:.1f} ± {half:.1f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    ax.set_yticks(range(len(best_first)), best_first)
    ax.set(xlabel="accuracy on new tasks, %", xlim=(start, None), ylim=(len(results) - 0.5, -0.5))
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    described = ", ".join(
        f"{name} {100 * results[name][0]:.1f} ± {100 * results[name][1]:.1f} %" for name in best_first
    )
    return Picture(figure, f"Accuracy on new tasks with 95 % intervals, the best first: {described}.")


def paired_differences(rows: Mapping[str, Sequence[Interval]], label: str) -> Picture:
    """Differences with their 95 % intervals, zero marked.

    Args:
        rows: label → (mean, half-width) of one or several comparisons; of several, the last is drawn bold. A
            method's name gives its colour.
        label: of the axis.
    """
    figure, (ax,) = axes(8, 0.8 + (0.55 if any(len(found) > 1 for found in rows.values()) else 0.38) * len(rows))
    said = []
    for row, (name, found) in enumerate(rows.items()):
        for i, (mean, half) in enumerate(found):
            bold = i == len(found) - 1
            at = row if len(found) == 1 else row + 0.2 * (i - (len(found) - 1) / 2)
            usual = {"fmt": "o", "color": GREY, "markersize": 4}
            style = {"fmt": "D", "color": colour(name) or "black"} if bold else usual
            ax.errorbar(mean, at, xerr=half, capsize=3, **style)
        said.append(f"{name} {found[-1][0]:+.2f} ± {found[-1][1]:.2f}")
        text = f"{found[-1][0]:+.2f} ± {found[-1][1]:.2f}".replace("-", "−")
        ax.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), list(rows))
    return Picture(figure, f"{label[0].upper()}{label[1:]}, with 95 % intervals: {'; '.join(said)}.")


def gap_over_training(iterations: Sequence[int], one: tuple[str, Tensor], other: tuple[str, Tensor]) -> Picture:
    """Two methods' accuracy over meta-training, a line for each training run, and how far the first is ahead.

    Args:
        iterations: meta-iterations after which accuracy was measured.
        one, other: label and (seeds, points) accuracies in per cent, of the same seeds.
    """
    figure, (left, right) = axes(9, 3, 2)
    for label, accuracies in (one, other):
        left.plot(iterations, accuracies.T.tolist(), "o-", color=colour(label) or GREY, markersize=3, linewidth=1)
        left.plot([], [], "o-", color=colour(label) or GREY, label=label)
    gaps = one[1] - other[1]
    right.plot(iterations, gaps.T.tolist(), "o", color=GREY, markersize=4)
    means = gaps.mean(0).tolist()
    right.plot(iterations, means, "D-", color="black", label=f"mean of {len(gaps)} runs")
    least = min(0, gaps.min().item())
    left.set(xlabel="meta-iterations", ylabel="validation accuracy, %", xlim=(0, None))
    right.set(xlabel="meta-iterations", ylabel=f"{one[0]} − {other[0]}, points", xlim=(0, None), ylim=(least, None))
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=9, loc="lower right")
    told = ", ".join(f"{gap:+.1f} after {n}" for n, gap in zip(iterations, means))
    return Picture(figure, f"{one[0]} − {other[0]} on validation tasks, in points, mean of {len(gaps)} runs: {told}.")


def curves_by_block(
    panels: Mapping[str, Curves], label: str, log: bool = False, limits: tuple[float | None, float | None] = (0, None)
) -> Picture:
    """A number for each block over the meta-iterations; all panels have the same axis.

    Args:
        panels: title → curves.
        label: of the vertical axis.
        log: whether it is logarithmic.
        limits: of the vertical axis.
    """
    figure, row = axes(10, 3.2, len(panels))
    said = []
    for ax in row[1:]:
        ax.sharey(row[0])
    for ax, (title, curves) in zip(row, panels.items()):
        for place, (x, values, dashed) in enumerate(curves):
            for i, (block, tint) in enumerate(list(LAYER_COLOURS.items())[:4]):
                text = block if place == 0 else None
                ax.plot(x, values[:, i].tolist(), "--" if dashed else "-", color=tint, linewidth=1.4, label=text)
        ends = ["/".join(f"{value:.2g}" for value in values[-1].tolist()) for _, values, _ in curves]
        said.append(f"{title}, at the end in blocks 1 to 4: {', '.join(ends)}")
        ax.set(xlabel="meta-iterations")
        ax.set_title(title, fontsize=10)
    row[0].set(ylabel=label, yscale="log" if log else "linear")
    row[0].set(ylim=limits)
    row[0].legend(frameon=False, fontsize=8)
    return Picture(figure, f"{label} over meta-training. {'; '.join(said)}.")


def bars_by_setting(
    settings: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    label: str,
    limits: tuple[float, float],
    chance: float | None = None,
    printed: Collection[str] = (),
) -> Picture:
    """A panel for each setting, in it a group of bars for each quantity, in it a bar for each method.

    More than four panels stand in several rows.

    Args:
        settings: setting → method → quantity → mean and half-width of its 95 % interval.
        label, limits: of the vertical axis, which all panels share.
        chance: drawn as a line.
        printed: quantities whose means are written above their bars.
    """
    rows = math.ceil(len(settings) / ABREAST)
    columns = math.ceil(len(settings) / rows)
    figure, panels = axes(4.1 * columns + 0.5, 3.4 * rows, columns, rows)
    said = []
    for ax, (setting, methods) in zip(panels, settings.items()):
        groups = list(next(iter(methods.values())))
        tints, bases = method_colours(methods), [colour(method) or GREY for method in methods]
        for i, ((method, found), tint, base) in enumerate(zip(methods.items(), tints, bases)):
            means, halves = zip(*found.values())
            x = [place + (i - (len(methods) - 1) / 2) * 0.8 / len(methods) for place in range(len(groups))]
            hatch = HATCHES[bases[:i].count(base) % len(HATCHES)]
            width = 0.74 / len(methods)
            ax.bar(x, means, width, yerr=halves, capsize=2, label=method, color=tint, edgecolor=base, hatch=hatch)
            for place, group, mean, half in zip(x, groups, means, halves):
                if group in printed:
                    text = f" {mean:.2f}" if limits[1] < 2 else f" {mean:.0f}"
                    ax.text(place, mean + half, text, rotation=90, ha="center", va="bottom", fontsize=7)
            said.append(f"{setting}, {method}: " + ", ".join(f"{g} {m:.3g} ± {h:.2g}" for g, (m, h) in found.items()))
        if chance is not None:
            ax.axhline(chance, color="black", linestyle=":", linewidth=1)
        ax.set_xticks(range(len(groups)), groups, fontsize=8)
        ax.set(title=setting, ylim=limits)
        ax.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    for ax in panels[::columns]:
        ax.set(ylabel=label)
    return Picture(figure, f"{label} with 95 % intervals over tasks. {'; '.join(said)}.")
