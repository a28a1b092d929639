"""Which runs are made for the notebooks: searches of the inner rate, the zoo of 08, and the studies of 03 to 07."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.methods import METHODS
from .recipe import PRETRAINED, Recipe, best_rate, best_recipe, has_inner_rate, rate_search

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


def best_zoo_recipe(dataset: str, method: str, shots: int, folder: Path = PRETRAINED) -> Recipe:
    """The zoo's recipe at the inner rate that did best on validation classes."""
    recipe = zoo_recipe(dataset, method, shots)
    if not has_inner_rate(method):
        return recipe
    return replace(recipe, inner_lr=best_rate(rate_search(dataset, method, folder, shots, ZOO_SEARCH_ITERATIONS)))


def search_recipes() -> list[Recipe]:
    """The short runs that inner rates are chosen by."""
    pairs = [
        Recipe(dataset, method, inner_lr=rate, iterations=SEARCH_ITERATIONS, episodes=200, purpose="search")
        for dataset, methods in PAIRS.items()
        for method in methods
        for rate in PAIR_RATES.get(method, SEVEN)
    ]
    zoo = [
        replace(
            zoo_recipe(dataset, method, shots),
            inner_lr=rate,
            iterations=ZOO_SEARCH_ITERATIONS,
            episodes=100,
            purpose="search",
        )
        for dataset, shots in ZOO
        for method, rates in ZOO_RATES.items()
        for rate in rates
    ]
    return pairs + zoo


def pair_recipes(folder: Path) -> list[Recipe]:
    """Notebooks 04 to 06: at the best rate, and MAML and CxGrad at the paper's 0.01 too."""
    best = [best_recipe(dataset, method, folder) for dataset, methods in PAIRS.items() for method in methods]
    return best + [replace(recipe, inner_lr=0.01) for recipe in best if recipe.method != "BOIL"]


def gradient_studies() -> list[Recipe]:
    """Notebook 03: MAML and CxGrad at the paper's rate, with a head that sees one pixel or 7 × 7 of them."""
    usual: dict[str, Any] = {"inner_lr": 0.01, "train_queries": 5, "iterations": STUDY_ITERATIONS, "episodes": 300}
    return [Recipe(method=method, poolings=poolings, **usual) for method in ("MAML", "CxGrad") for poolings in (4, 2)]


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
    runs = zoo_recipes(folder) + pair_recipes(folder) + gradient_studies() + context_studies()
    return list({recipe.name: recipe for recipe in runs}.values())


def recipe_named(name: str) -> Recipe | None:
    """A run of the plan by its name, whatever rate is best."""
    searches = search_recipes()
    pairs = [
        replace(r, iterations=Recipe.iterations, episodes=Recipe.episodes, purpose="whole")
        for r in searches
        if r.iterations == SEARCH_ITERATIONS
    ]
    zoo = [
        replace(r, iterations=ZOO_ITERATIONS, episodes=300, purpose="whole")
        for r in searches
        if r.iterations == ZOO_SEARCH_ITERATIONS
    ]
    zoo += [zoo_recipe(dataset, method, shots) for dataset, shots in ZOO for method in METHODS]
    known = [*searches, *pairs, *zoo, *gradient_studies(), *context_studies()]
    return {recipe.name: recipe for recipe in known}.get(name)
