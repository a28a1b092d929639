"""Plans of the sweep, by name: each says which runs can be named now, given the results that there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..training.engines import Engine
from ..training.settings import suggestion
from . import paper
from .course import course_recipes
from .recipe import Recipe

Recipes = Callable[[Path], list[Recipe]]


@dataclass(frozen=True)
class Plan:
    """What to make.

    Attributes:
        recipes: from the folder of results to the recipes that can be named now. A run that depends on the result of
            another is named once that is there.
        engine: how the runs compute; results of different engines differ by rounding.
    """

    recipes: Recipes
    engine: Engine = "auto"


def after_rates(recipes: Recipes) -> Plan:
    """A plan of the paper: the rates first, then the runs at the best of them."""
    return Plan(lambda folder: paper.unique([*paper.rates(folder), *recipes(folder)]))


PLANS = {
    "course": Plan(course_recipes, "eager"),  # as the shipped runs were made
    "paper-rates": Plan(paper.rates),
    "paper-main": after_rates(paper.main),
    "paper-usual-rate": after_rates(paper.usual_rate),
    "paper-map": after_rates(paper.feature_map),
    "paper-crossdomain": after_rates(paper.cross_domain),
    "paper-again": after_rates(paper.again),
    "paper-stepwise": after_rates(paper.stepwise),
    "paper-steps": after_rates(paper.steps),
    "paper-beta": after_rates(paper.beta),
    "paper-one-shot": after_rates(paper.one_shot),
    "paper-others": Plan(paper.others),
    "paper-norms": after_rates(paper.norms),
    "paper": after_rates(paper.everything),
}


def plan_named(name: str) -> Plan:
    """A plan of this table, or one of your own, "module:function".

    Raises:
        ValueError: if there is none of that name.
    """
    if name in PLANS:
        return PLANS[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"there is no plan {name!r}{suggestion(name, PLANS)} (your own is MODULE:FUNCTION)")
    try:
        return Plan(getattr(importlib.import_module(module), function))
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"there is no plan {name}: {error}") from error
