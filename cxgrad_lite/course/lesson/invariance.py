"""Notebook 04: its figures, and what its checks look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ...plots.marks import GREY
from ...plots.style import LAYER_COLOURS, METHOD_COLOURS, Picture, axes, blend
from ...training.evaluation import Evaluation
from .blanks import Exercise

# --- blanks


def batch_norm(z: Tensor) -> Tensor:
    over = (0, 2, 3)
    mean, variance = z.mean(over, keepdim=True), z.var(over, correction=0, keepdim=True)
    return (z - mean) / variance.sqrt()


def equal_rate(alpha: float, a: float) -> float:
    return alpha / a**2


def normalise(over: int | tuple[int, ...], root: float = 0.5, centred: bool = True) -> Callable[[Tensor], Tensor]:
    def norm(z: Tensor) -> Tensor:
        mean = z.mean(over, keepdim=True) if centred else 0
        return (z - mean) / z.var(over, correction=0, keepdim=True) ** root

    return norm


def look_at_norm(norm: Callable[[Tensor], Tensor]) -> Mapping[str, Tensor]:
    z = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    return {"the normalised output": norm(3 * z + torch.arange(3).view(1, 3, 1, 1))}


def look_at_rate(rate: Callable[[float, float], float]) -> Mapping[str, Tensor]:
    cases = ((0.01, 0.25), (0.3, 0.25), (0.3, 3.0))
    return {f"the rate for α = {alpha:g} and a = {a:g}": torch.tensor(rate(alpha, a)) for alpha, a in cases}


def rate_with(power: float) -> Callable[[float, float], float]:
    return lambda alpha, a: alpha * a**power


INVARIANCE = {
    "batch_norm": Exercise(
        batch_norm,
        look_at_norm,
        mistakes={
            "That is layer norm: one mean for each image. Batch norm has one for each channel, over all images.": (
                normalise((1, 2, 3))
            ),
            "Each image has a mean of its own: a channel shares it over all images, so dimension 0 belongs to it.": (
                normalise((2, 3))
            ),
            "Each pixel has a mean of its own: a channel shares it over all pixels too, dimensions 2 and 3.": normalise(
                0
            ),
            "All channels share one mean: dimension 1 is the one to keep apart.": normalise((0, 1, 2, 3)),
            "That divides by the variance; batch norm divides by its root, the standard deviation.": normalise(
                (0, 2, 3), root=1
            ),
            "The mean has not been subtracted.": normalise((0, 2, 3), centred=False),
        },
        raised={"must match the size": "The mean has lost dimensions: keep them with keepdim=True."},
    ),
    "equal_rate": Exercise(
        equal_rate,
        look_at_rate,
        mistakes={
            "The norm acts twice: the gradient is divided by a, and the same step turns a longer kernel less.": (
                rate_with(-1)
            ),
            "The wrong way round: a short kernel turns further, so a small a needs a large rate.": rate_with(2),
            "The wrong way round, and only once: a short kernel turns further, for two reasons.": rate_with(1),
            "That is α itself: the factor a is missing.": rate_with(0),
        },
    ),
}

# --- figures


def fan(loss: Callable[[Tensor, bool], Tensor], points: Tensor) -> Picture:
    """The loss over all filters of two numbers, without and with batch norm, and the way downhill at (n, 2) points."""
    figure, panels = axes(10.5, 4.2, 2)
    line = torch.linspace(-3, 3, 160).double()
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)  # (160, 160, 2)
    for ax, normalised in zip(panels, (False, True)):
        values = loss(grid.reshape(-1, 2), normalised).reshape(160, 160)
        surface = ax.contourf(line, line, values, levels=24, cmap="Blues_r")
        figure.colorbar(surface, ax=ax, label="loss", ticks=MaxNLocator(5), shrink=0.8)
        start = points.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(start, normalised).sum(), start)
        scale = 0.45 if normalised else 0.9  # where arrows are long, they would run into each other
        ax.quiver(*points.T, *-slope.T, color="black", angles="xy", scale_units="xy", scale=scale, width=0.005)
        ax.set(
            xlabel="$w_1$", ylabel="$w_2$", aspect="equal", title=f"{'with' if normalised else 'without'} batch norm"
        )
    return Picture(
        figure,
        "Two loss surfaces over w, with arrows downhill. Without batch norm a valley; with it a fan of rays out of the "
        "origin, and arrows that go round the origin and get shorter outwards.",
    )


def parting(steps: Sequence[int], by_step: Mapping[str, Tensor], trained: str) -> Picture:
    """Left: mean accuracy by inner step. Right: difference to the trained network in the last step, task by task.

    Args:
        steps: after how many inner steps accuracy was taken, from 0 on.
        by_step: factor → (tasks, len(steps)) accuracies in percent.
        trained: the factor to compare with.
    """
    figure, (left, right) = axes(10, 3.4, 2)
    said = []
    for i, (factor, found) in enumerate(by_step.items()):
        tint, marker = blend(METHOD_COLOURS["MAML"], 0.45 + 0.55 * i / (len(by_step) - 1)), "os^Dv"[i]
        left.plot(steps, found.mean(0), color=tint, marker=marker, markersize=5, label=factor)
        gain = Evaluation.over_tasks(found[:, -1] - by_step[trained][:, -1])
        right.errorbar(i, gain.mean, gain.ci95, color=tint, marker=marker, capsize=3)
        shown = f"{gain.mean:+.1f}" if factor != trained else ""
        right.annotate(shown, (i, gain.mean), (10, 0), textcoords="offset points", va="center", fontsize=9)
        said.append(f"{factor}: {found[:, 0].mean():.0f} to {found[:, -1].mean():.0f} %, {gain.mean:+.1f} points")
    right.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="inner steps", ylabel="accuracy, %", ylim=(0, 103), xticks=steps)
    left.legend(frameon=False, fontsize=9, title="block 4's kernel")
    right.set(xlabel="block 4's kernel", ylabel=f"minus {trained}, points", xlim=(-0.4, len(by_step) - 0.3))
    right.set_xticks(range(len(by_step)), list(by_step))
    return Picture(
        figure, f"Accuracy before and after {steps[-1]} steps, and difference to {trained}. {'; '.join(said)}."
    )


def two_slopes(factors: Sequence[float], norms: Mapping[str, Sequence[float]], relative: Sequence[float]) -> Picture:
    """Gradient norm of every layer, and block 4's relative step α‖g‖/‖W‖, over the factor on block 4's kernel."""
    figure, (left, right) = axes(10, 3.3, 2)
    for (layer, tint), style in zip(LAYER_COLOURS.items(), ("-", "--", "-.", "-", "-")):
        left.plot(factors, norms[layer], style, marker="o", markersize=3, color=tint, label=layer)
    middle = len(factors) // 2
    right.plot(factors, relative, "o", color=LAYER_COLOURS["block 4"], label="measured")
    law = [relative[middle] * (factors[middle] / a) ** 2 for a in factors]
    right.plot(factors, law, color=GREY, linewidth=1, label="slope −2")
    left.set(ylabel="gradient norm")
    right.set(ylabel="relative step of block 4, α‖g‖/‖W‖")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="a, factor on block 4's kernel")
        ax.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        f"Over a from {factors[0]:g} to {factors[-1]:g}: block 4's gradient falls with slope −1, all others are flat; "
        "its relative step falls with slope −2.",
    )


def lengths_over_steps(lengths: Tensor, pythagoras: Tensor) -> Picture:
    """Norms of five layers before and after each step of gradient descent, relative to the start, and their law.

    Args:
        lengths, pythagoras: (steps + 1, 5).
    """
    figure, (ax,) = axes(6.5, 3)
    for i, (layer, tint) in enumerate(LAYER_COLOURS.items()):
        steps = range(1, len(lengths))  # at the start all are 1
        ax.plot(steps, lengths[1:, i] / lengths[0, i], "o", markersize=3.5, color=tint, label=layer)
        if layer != "head":
            ax.plot(pythagoras[:, i] / lengths[0, i], color="black", linewidth=0.8)
    ax.set(xlabel="steps of gradient descent", ylabel="norm, relative to the start")
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    last = ", ".join(f"{layer} {x:.2f}" for layer, x in zip(LAYER_COLOURS, lengths[-1] / lengths[0]))
    return Picture(
        figure, f"Norms over {len(lengths) - 1} steps, relative to the start; kernels on Pythagoras: {last}."
    )


def outer_slopes(slopes: Mapping[str, Evaluation]) -> Picture:
    """Slope of the outer loss in the log of each kernel's norm, with intervals over tasks."""
    figure, (ax,) = axes(5.5, 3)
    means, halves = [found.mean for found in slopes.values()], [found.ci95 for found in slopes.values()]
    ax.bar(list(slopes), means, yerr=halves, color=[LAYER_COLOURS[layer] for layer in slopes], capsize=3, width=0.6)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(ylabel="slope of the outer loss\nin the log of the norm")
    said = ", ".join(f"{layer} {found.mean:+.3f} ± {found.ci95:.3f}" for layer, found in slopes.items())
    return Picture(figure, f"Slope of the outer loss in the log of each kernel's norm after five inner steps: {said}.")
