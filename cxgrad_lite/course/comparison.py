"""What notebook 08 shows of each method, read off the method itself."""

from __future__ import annotations

import ast
import inspect
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..core.maml import MAML
from ..core.method import Batch, Method
from ..core.nets import Conv4
from ..core.outer import Tasks, meta_gradient
from ..plots.marks import GREY
from ..plots.style import Picture, axes, colour
from ..recipes.course import best_zoo_recipe
from ..recipes.recipe import Recipe, pretrained
from ..zoo.registry import METHODS
from .lesson.blanks import Exercise

COLUMNS = ("block 1", "block 2", "block 3", "block 4", "gains", "head", "context")


def zoo_runs(dataset: str, shots: int) -> dict[str, tuple[Recipe, dict[str, Any]]]:
    """The shipped run of every method in one setting of the zoo: name → (recipe, provenance)."""
    recipes = {name: best_zoo_recipe(dataset, name, shots) for name in METHODS}
    return {name: (recipe, pretrained(recipe)[1]) for name, recipe in recipes.items()}


def what_moves(method: Method, support: Batch) -> dict[str, bool]:
    """Which parts of the network differ between tasks: kernels of each block, normalisation gains, head, context.

    A part counts if adaptation has changed it, whether by a step, by attenuation or by scaling. Metric methods change
    none.
    """
    moved = dict.fromkeys(COLUMNS, False)
    if not isinstance(method, MAML):
        return moved
    with torch.no_grad():
        theta = method.adapt(support)
    before = dict(method.net.named_parameters()) | dict(method.net.named_buffers())
    for name, tensor in theta.items():
        if name in before and tensor.shape == before[name].shape and torch.equal(tensor, before[name]):
            continue
        if name.endswith("context"):
            moved["context"] = True
        elif ".norm." in name:
            moved["gains"] |= tensor.shape == before[name].shape  # rows of MAML++ change with the step, not the task
        else:
            moved["head" if name.startswith("head") else f"block {int(name.split('.')[1]) + 1}"] = True
    return moved


def parameter_counts(method: Method) -> tuple[int, int]:
    """How many numbers the outer loop learns: in the network, and beside it."""
    total = sum(p.numel() for p in method.parameters())
    net = sum(p.numel() for name, p in method.net.named_parameters() if ".film." not in name)
    return net, total - net


def lines_of_code(cls: type) -> int:
    """Lines of a class without docstrings, comments and blank lines."""
    source = textwrap.dedent(inspect.getsource(cls))
    strings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for i, line in lines if i not in strings and line.strip() and not line.strip().startswith("#"))


def seconds_in_turn(methods: Mapping[str, Method], tasks: Tasks, rounds: int = 3) -> dict[str, float]:
    """Least processor time of a meta-gradient of each method, after one to warm up; the parameters stay as they are.

    The methods take turns, so that a slow minute of the machine falls on all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(1 + rounds):
        episodes = tasks.sample()
        for name, method in methods.items():
            start = time.process_time()
            meta_gradient(method, episodes)
            taken[name].append(time.process_time() - start)
            method.zero_grad()
    return {name: min(seconds[1:]) for name, seconds in taken.items()}


def moves_picture(moves: dict[str, dict[str, bool]]) -> Picture:
    """One row per method, one column per part of the network; a disc where the part differs between tasks."""
    figure, (ax,) = axes(7, 0.34 * len(moves) + 0.7)
    for row, (name, parts) in enumerate(moves.items()):
        for column, part in enumerate(COLUMNS):
            face = (colour(name) or GREY) if parts[part] else "none"
            ax.scatter(column, row, s=110, facecolor=face, edgecolor="#BBBBBB", linewidth=0.8)
    ax.set_xticks(range(len(COLUMNS)), COLUMNS)
    ax.set_yticks(range(len(moves)), list(moves))
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set(xlim=(-0.5, len(COLUMNS) - 0.5))
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    in_words = [f"{name}: {', '.join(p for p in COLUMNS if parts[p]) or 'nothing'}" for name, parts in moves.items()]
    return Picture(figure, f"What differs between tasks in each method. {'; '.join(in_words)}.")


def rates_picture(searches: Mapping[str, Mapping[float, Mapping[str, float]]]) -> Picture:
    """Validation accuracy over the inner rate: a panel for each method, and a ring at the best rate.

    Args:
        searches: method → rate → "mean" and "ci95" as fractions.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panes = figure.subplots(2, -(-len(searches) // 2), sharex=True, sharey=True).flat
    said = []
    for ax, (name, found) in zip(panes, searches.items()):
        rates, tint = list(found), colour(name) or GREY
        means, halves = ([100 * result[key] for result in found.values()] for key in ("mean", "ci95"))
        ax.errorbar(rates, means, halves, fmt="o-", markersize=4, color=tint, capsize=2)
        best = means.index(max(means))
        ax.plot(rates[best], means[best], "o", markersize=11, color="black", fillstyle="none")
        ax.set(title=name, xscale="log", ylim=(15, 100))
        ax.spines[["top", "right"]].set_visible(False)
        said.append(f"{name} {', '.join(f'{rate:g}: {mean:.0f}' for rate, mean in zip(rates, means))}")
    figure.supxlabel("inner rate", fontsize=10)
    figure.supylabel("accuracy on validation, %", fontsize=10)
    return Picture(figure, f"Validation accuracy in percent of short runs, by inner rate. {'; '.join(said)}.")


# --- the blank


def moves_if(rule: Callable[[str], bool]) -> type[MAML]:
    """MAML that adapts the parameters whose names fit."""
    return type("HeadOnly", (MAML,), {"is_fast": lambda self, name: rule(name)})


def look_at_fast(method: type[MAML]) -> Mapping[str, Tensor]:
    net = Conv4(1, 16, 2, width=3)
    names = [name for name, _ in net.named_parameters()]
    return {f"whether {name} moves (1 or 0)": torch.tensor(int(bool(method(net).is_fast(name)))) for name in names}


BLANKS = {
    "HeadOnly": Exercise(
        moves_if(lambda name: name.startswith("head.")),
        look_at_fast,
        mistakes={
            "Now everything moves, batch norm's gains too.": moves_if(lambda name: True),
            "Now nothing moves.": moves_if(lambda name: False),
            "The other way round: this holds the head and adapts the blocks.": moves_if(
                lambda name: not name.startswith("head.")
            ),
            "The head has a bias as well, and ANIL adapts both.": moves_if(lambda name: name == "head.weight"),
            "The head has a weight as well, and ANIL adapts both.": moves_if(lambda name: name == "head.bias"),
        },
    )
}
