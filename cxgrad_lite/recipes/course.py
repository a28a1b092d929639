"""Which runs are made for the notebooks: searches of the inner rate, the zoo of 08, and the studies of 03 to 07."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..zoo.registry import METHODS
from .recipe import PRETRAINED, Recipe, has_inner_rate
from .results import RATES_FILE, best, read_result, validation, write_json

SEARCH_ITERATIONS, ZOO_SEARCH_ITERATIONS = 150, 100
STUDY_ITERATIONS, ZOO_ITERATIONS = 400, 1000
PAIRS = {"glyphs": ("MAML", "BOIL", "CxGrad"), "omniglot_small": ("MAML", "CxGrad")}  # compared in 04 to 06
PAIR_RATES = {"BOIL": (0.1, 0.3, 1.0)}
SEVEN = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
ZOO = (("omniglot_small", 5), ("glyphs", 1))  # data set and shots
ZOO_RATES = {  # three around the published one, and one more where the best was at the edge
    "MAML": (0.03, 0.1, 0.3),
    "ANIL": (0.1, 0.3, 1.0),
    "BOIL": (0.03, 0.1, 0.3, 1.0),
    "MetaSGD": (0.01, 0.03, 0.1, 0.3),
    "MAMLPlusPlus": (0.03, 0.1, 0.3),
    "CAVIA": (0.1, 0.3, 1.0, 3.0),
    "L2F": (0.003, 0.01, 0.03, 0.1),
    "ALFA": (0.03, 0.1, 0.3),
    "ModGrad": (0.1, 1.0, 10.0, 100.0),
    "CxGrad": (0.0003, 0.001, 0.003, 0.01),
}


def zoo_recipe(dataset: str, method: str, shots: int) -> Recipe:
    """The zoo's recipe, at the method's default rate. Few queries while training make it affordable."""
    options: dict[str, Any] = {"annealing": 300} if method == "MAMLPlusPlus" else {}
    poolings = 2 if method == "RelationNet" else 4  # its relation module needs a feature map
    settings: dict[str, Any] = {"options": options, "poolings": poolings, "iterations": ZOO_ITERATIONS}
    return Recipe(dataset, method, shots=shots, train_queries=5, episodes=300, **settings)


def pair_searches(dataset: str, method: str) -> list[Recipe]:
    """Short runs of notebooks 04 to 06, one for each inner rate."""
    rates = PAIR_RATES.get(method, SEVEN)
    short: dict[str, Any] = {"iterations": SEARCH_ITERATIONS, "episodes": 200, "purpose": "search"}
    return [Recipe(dataset, method, inner_lr=rate, **short) for rate in rates]


def zoo_searches(dataset: str, method: str, shots: int) -> list[Recipe]:
    """Short runs of notebook 08, one for each inner rate."""
    recipe = replace(
        zoo_recipe(dataset, method, shots), iterations=ZOO_SEARCH_ITERATIONS, episodes=100, purpose="search"
    )
    return [replace(recipe, inner_lr=rate) for rate in ZOO_RATES[method]]


def search_recipes() -> list[Recipe]:
    """All short runs that inner rates are chosen by."""
    pairs = [r for dataset, methods in PAIRS.items() for method in methods for r in pair_searches(dataset, method)]
    return pairs + [r for dataset, shots in ZOO for method in ZOO_RATES for r in zoo_searches(dataset, method, shots)]


def rate_search(
    dataset: str, method: str, folder: Path = PRETRAINED, shots: int = 5, iterations: int = SEARCH_ITERATIONS
) -> dict[float, dict[str, float]]:
    """Validation accuracy of short runs by inner rate: rate → {"mean", "ci95", "episodes"}.

    Args:
        dataset, method, shots, iterations: of the runs; the zoo's (notebook 08) have 100 meta-iterations.
        folder: where the results lie.
    """
    zoo = iterations == ZOO_SEARCH_ITERATIONS
    searches = zoo_searches(dataset, method, shots) if zoo else pair_searches(dataset, method)
    results = {recipe.inner_lr: read_result(recipe, folder) for recipe in searches}
    return {rate: validation(result) for rate, result in results.items() if rate is not None and result is not None}


def best_recipe(dataset: str, method: str, folder: Path = PRETRAINED) -> Recipe:
    """The 5-shot recipe at the inner rate that did best on validation classes.

    Raises:
        ValueError: if the folder lacks a run of the search.
    """
    return Recipe(dataset, method, inner_lr=best_of(pair_searches(dataset, method), folder).inner_lr)


def best_zoo_recipe(dataset: str, method: str, shots: int, folder: Path = PRETRAINED) -> Recipe:
    """The zoo's recipe at the inner rate that did best on validation classes.

    Raises:
        ValueError: if the folder lacks a run of the search.
    """
    recipe = zoo_recipe(dataset, method, shots)
    if not has_inner_rate(method):
        return recipe
    return replace(recipe, inner_lr=best_of(zoo_searches(dataset, method, shots), folder).inner_lr)


def best_of(searches: list[Recipe], folder: Path) -> Recipe:
    chosen = best(searches, folder)
    if chosen is None:
        raise ValueError(f"{folder} lacks runs of the search {searches[0].name}, …; make them first")
    return chosen


def pair_recipes(folder: Path) -> list[Recipe]:
    """Notebooks 04 to 06: at the best rate, and MAML and CxGrad at the paper's 0.01 too."""
    winners = [best_recipe(dataset, method, folder) for dataset, methods in PAIRS.items() for method in methods]
    return winners + [replace(recipe, inner_lr=0.01) for recipe in winners if recipe.method != "BOIL"]


def gradient_studies() -> list[Recipe]:
    """Notebook 03: MAML and CxGrad at the paper's rate, with a head that sees one pixel or 7 × 7 of them."""
    usual: dict[str, Any] = {"inner_lr": 0.01, "train_queries": 5, "iterations": STUDY_ITERATIONS, "episodes": 300}
    return [Recipe(method=method, poolings=poolings, **usual) for method in ("MAML", "CxGrad") for poolings in (4, 2)]


def further_seeds() -> list[Recipe]:
    """Notebook 03b: MAML of notebook 03, trained again with two other seeds."""
    return [replace(recipe, seed=seed) for recipe in gradient_studies() if recipe.method == "MAML" for seed in (1, 2)]


def context_studies() -> list[Recipe]:
    """Notebook 07: the context free or frozen at zero, with the usual and with a large ε in batch norm."""
    usual: dict[str, Any] = {"inner_lr": 0.01, "train_queries": 5, "iterations": ZOO_ITERATIONS, "episodes": 300}
    return [
        Recipe(eps=eps, options=options, **usual) for eps in (1e-5, 1e-1) for options in ({}, {"frozen_context": True})
    ]


def zoo_recipes(folder: Path) -> list[Recipe]:
    """Notebook 08: every method at its own best rate, in two settings."""
    return [best_zoo_recipe(dataset, method, shots, folder) for dataset, shots in ZOO for method in METHODS]


def whole_recipes(folder: Path) -> list[Recipe]:
    """Every run that is shipped."""
    runs = zoo_recipes(folder) + pair_recipes(folder) + gradient_studies() + further_seeds() + context_studies()
    return list({recipe.name: recipe for recipe in runs}.values())


def course_recipes(folder: Path) -> list[Recipe]:
    """The searches; once they are all made, the whole runs too, and the searches in one file as they are shipped."""
    searches = search_recipes()
    results = [read_result(recipe, folder) for recipe in searches]
    if None in results:
        return searches
    gather(folder, [result for result in results if result is not None])
    return searches + whole_recipes(folder)


def gather(folder: Path, results: list[dict[str, Any]]) -> None:
    """Write the searches into one file, without the numbers of single tasks."""
    long = ("val", "probes", "validation", "judging_seconds")
    short = [{k: v for k, v in run.items() if k not in long} | {"validation": validation(run)} for run in results]
    if not (folder / RATES_FILE).exists():
        write_json(folder / RATES_FILE, short, indent=1)
