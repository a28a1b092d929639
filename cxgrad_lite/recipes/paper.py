"""The runs that set the paper's claims on photographs beside its tables: CIFAR-FS at 32 pixels, several seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .recipe import Recipe

SETTING = Recipe("cifar_fs", inner_lr=0.01, poolings=3, iterations=3000, purpose="study")
CONTROLS: dict[str, dict[str, Any]] = {
    "CxGrad": {},
    "frozen": {"options": {"frozen_context": True}},
    "constant": {"options": {"constant_gamma": True}},
    "MAML": {"method": "MAML"},
    "BOIL": {"method": "BOIL"},
}
RATES = {  # by variant and poolings: which inner rates are compared
    ("MAML", 3): (0.003, 0.01, 0.03),
    ("CxGrad", 3): (0.003, 0.01, 0.03),
    ("constant", 3): (0.003, 0.01),
    ("BOIL", 3): (0.1, 0.3, 0.5),
    ("CxGrad", 2): (0.001, 0.003),
}


def variant(name: str, **changes: Any) -> Recipe:
    """The main setting with another method or control, and further changes."""
    return replace(SETTING, **(CONTROLS[name] | changes))


def rate_recipes() -> list[Recipe]:
    """Short runs on which the inner rates are chosen."""
    return [
        variant(name, poolings=poolings, inner_lr=rate, iterations=800, episodes=300, purpose="search")
        for (name, poolings), rates in RATES.items()
        for rate in rates
    ]
