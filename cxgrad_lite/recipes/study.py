"""The runs that a report sets beside the paper: arms, which are runs that differ in their seed only, and its claims."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from . import paper
from .results import Arm, read_study

NAMES = {"CxGrad": "CxGrad", "frozen": "CxGrad, context frozen", "constant": "CxGrad, γ constant"}
BACK = "miniImageNet → CIFAR-FS"
TABLE_1 = {  # of the paper: 5-way 5-shot on miniImageNet, per cent
    "MAML": 63.11, "BOIL": 66.45, "ProtoNet": 68.20, "MatchingNet": 55.31, "RelationNet": 65.32, "CAVIA": 65.85,
    "MAMLPlusPlus": 68.32, "ALFA": 69.12, "ModGrad": 69.17, "L2F": 69.38,
}  # fmt: skip
Claim = tuple[str, float, float, Arm, Arm]
JOURNEYS: dict[str, tuple[dict[str, Any], str | None]] = {  # title: (trained on, tested on the meta-test classes of)
    "CIFAR-FS → miniImageNet": ({"dataset": "cifar_fs"}, "mini_imagenet"),
    "miniImageNet": ({"dataset": "mini_imagenet", "size": 32}, None),
    BACK: ({"dataset": "mini_imagenet", "size": 32}, "cifar_fs"),
}


class Study:
    """The arms of the report, from the results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = {name: self.arm_of(name) for name in paper.CONTROLS}
        self.usual = [self.arm_of(name, inner_lr=0.01) for name in ("CxGrad", "MAML")]
        self.usual_frozen = self.arm_of("frozen", inner_lr=0.01)
        self.maps = {
            32 >> poolings: {name: self.arm_of(name, poolings) for name in ("CxGrad", "frozen", "MAML")}
            for poolings in (2, 4)
        }
        self.stepwise = self.arm_of("CxGrad", options={"context_update": "step"})
        self.steps = [self.arm_of("CxGrad", inner_steps=k) for k in (1, 2, 3, 4)]
        self.betas = {beta: self.arm_of("CxGrad", options={"context_lr": beta}) for beta in (0.01, 0.1)}
        self.journeys = {where: self.journey(where) for where in JOURNEYS}
        self.one_shot = self.rivals(shots=1, tasks_per_batch=4)
        self.norms = [self.rivals(norm=norm) for norm in ("layer", "group")]
        self.methods = self.other_methods()

    def rivals(self, **changes: Any) -> tuple[Arm, Arm]:
        """CxGrad and MAML with the same change of the main setting."""
        return self.arm_of("CxGrad", **changes), self.arm_of("MAML", **changes)

    def journey(self, where: str) -> tuple[Arm, Arm]:
        """CxGrad and MAML where they are trained or tested on another dataset."""
        trained, tested = JOURNEYS[where]
        one, other = (self.arm_of(name, **trained, test_dataset=tested) for name in ("CxGrad", "MAML"))
        return replace(one, title=f"{where}: CxGrad"), replace(other, title=f"{where}: MAML")

    def other_methods(self) -> list[Arm]:
        """The methods that item 8 runs, with their published inner loops."""
        arms = []
        for recipe in paper.others(self.folder):
            rate = "" if recipe.inner_lr is None else f", α = {recipe.inner_lr:g}"
            result = read_study(recipe, self.folder)
            arms.append(Arm(recipe.method + rate, () if result is None else (result,)))
        return arms

    def arm_of(self, name: str, poolings: int = 3, **changes: Any) -> Arm:
        """The seeds of a variant that were run, at its chosen rate or another."""
        rate = changes.pop("inner_lr", None) or paper.chosen_rate(name, poolings, self.folder)
        base = paper.variant(name, inner_lr=rate, poolings=poolings, **changes)
        changed = {key: value for key, value in changes.items() if key != "options"} | changes.get("options", {})
        label = [NAMES.get(name, name), *(f"{key} = {value}" for key, value in changed.items())]
        label += [] if rate is None else [f"α = {rate:g}"]
        results = [read_study(replace(base, seed=seed), self.folder) for seed in (0, 1, 2)]
        return Arm(", ".join(label), tuple(result for result in results if result is not None))

    def claims(self) -> list[Claim]:
        """Table by table what the paper prints of two networks, and the runs that correspond to them here."""
        whole, five, beta = self.main["CxGrad"], "Table 4: five inner steps − ", "Table 5, 5-shot: β = 1 − "
        rows = {name: self.main[name] for name in ("MAML", "BOIL")}
        rows |= {arm.results[0]["recipe"]["method"]: arm for arm in self.methods if arm.results}
        first = [
            (f"Table 1, 5-shot: CxGrad − {name}", 69.82, TABLE_1[name], whole, arm)
            for name, arm in rows.items()
            if name in TABLE_1
        ]
        fewer = zip(("one", "two", "three", "four"), (69.12, 69.33, 69.16, 69.53), self.steps)
        return [
            *first,
            ("Table 1, 1-shot: CxGrad − MAML", 51.80, 48.70, *self.one_shot),
            ("Table 2, miniImageNet → CIFAR-FS: CxGrad − MAML", 64.85, 55.82, *self.journeys[BACK]),
            ("Table 3: context by task − by step", 69.82, 68.83, whole, self.stepwise),
            *((five + word, 69.82, printed, whole, arm) for word, printed, arm in fewer),
            *((f"{beta}β = {b}", 69.82, printed, whole, self.betas[b]) for b, printed in ((0.01, 69.28), (0.1, 69.34))),
        ]
