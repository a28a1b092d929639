"""All thirteen methods in one table: accuracy of the shipped runs, time per meta-iteration measured now, size.

Usage: python benchmarks/zoo_table.py > results/zoo.md
"""

from __future__ import annotations

import platform
from datetime import date

import torch

from cxgrad_lite import METHODS
from cxgrad_lite.course.comparison import lines_of_code, parameter_counts, seconds_in_turn
from cxgrad_lite.recipes.course import ZOO, best_zoo_recipe
from cxgrad_lite.recipes.recipe import pretrained

TIMED = ("glyphs", 1)  # in the package; the other one would have to be downloaded


def row(name: str, seconds: float) -> str:
    """One line of the table."""
    cells = [name]
    for dataset, shots in ZOO:
        recipe = best_zoo_recipe(dataset, name, shots)
        method, run = pretrained(recipe)
        rate = "" if recipe.inner_lr is None else f", α = {recipe.inner_lr:g}"
        cells.append(f"{100 * run['test']['mean']:.1f} ± {100 * run['test']['ci95']:.1f}{rate}")
    net, beside = parameter_counts(method)
    return (
        "| "
        + " | ".join([*cells, f"{seconds:.2f}", f"{net:,}", f"{beside:,}", str(lines_of_code(METHODS[name]))])
        + " |"
    )


def main() -> None:
    settings = [f"{dataset}, 5-way {shots}-shot, %" for dataset, shots in ZOO]
    titles = ["method", *settings, "s per meta-iteration", "parameters", "… beside the network", "lines of code"]
    print(f"| {' | '.join(titles)} |")
    print("|---" * len(titles) + "|")
    dataset, shots = TIMED
    recipes = {name: best_zoo_recipe(dataset, name, shots) for name in METHODS}
    methods = {name: pretrained(recipe)[0] for name, recipe in recipes.items()}
    for name, seconds in seconds_in_turn(methods, recipes["MAML"].tasks("train"), rounds=10).items():
        print(row(name, seconds))
    machine = f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"\nProcessor time: least of 10 in turn, on {TIMED[0]}, {TIMED[1]}-shot, {machine}, {date.today()}.")


if __name__ == "__main__":
    main()
