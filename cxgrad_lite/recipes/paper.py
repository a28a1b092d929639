"""The runs that set the paper's claims on photographs beside its tables: CIFAR-FS at 32 pixels, several seeds.

Each plan is a function from the folder of results to the recipes that can be named now: the runs of a plan depend on
the rates that `rates` finds.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from .published import PUBLISHED
from .recipe import PRETRAINED, Recipe
from .results import STUDIES_FILE, best, on_cpu, read_result, summary, tested_again, validation, write_json

SETTING = Recipe("cifar_fs", inner_lr=0.01, poolings=3, iterations=3000, purpose="study")
CONTROLS: dict[str, dict[str, Any]] = {
    "CxGrad": {},
    "frozen": {"options": {"frozen_context": True}},
    "constant": {"options": {"constant_gamma": True}},
    "MAML": {"method": "MAML"},
    "BOIL": {"method": "BOIL"},
}
RATES = {  # by variant and poolings: which inner rates are compared at first
    ("MAML", 3): (0.003, 0.01, 0.03),
    ("CxGrad", 3): (0.003, 0.01, 0.03),
    ("constant", 3): (0.003, 0.01),
    ("BOIL", 3): (0.1, 0.3, 0.5),
    ("CxGrad", 2): (0.001, 0.003),
}
LADDER = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 3.0)  # where a grid goes on
OTHERS = (
    "ALFA", "L2F", "MAMLPlusPlus", "ANIL", "ProtoNet", "MatchingNet", "RelationNet", "MetaSGD", "CAVIA", "ModGrad"
)  # fmt: skip


def variant(name: str, **changes: Any) -> Recipe:
    """The main setting with another method or control, and further changes."""
    return replace(SETTING, **(CONTROLS[name] | changes))


def shipped() -> list[Recipe]:
    """Item 1's runs whose checkpoints come with the package: at the rates that `rates` chose, and at the paper's 0.01;
    the second seed of CxGrad, in which γ still differed between tasks at the end; runs on the other maps; and the one
    with three inner steps, in which γ differs most."""
    chosen = {"CxGrad": 0.003, "frozen": 0.003, "constant": 0.003, "MAML": 0.03}
    first = [variant(name, inner_lr=rate) for name, rate in chosen.items()]
    maps = [variant("CxGrad", inner_lr=0.001, poolings=2, seed=seed) for seed in (0, 1)]
    maps += [variant("MAML", inner_lr=0.03, poolings=2), variant("CxGrad", inner_lr=0.003, poolings=4)]
    usual = [variant(name, inner_lr=0.01) for name in ("CxGrad", "MAML")]
    three_steps = variant("CxGrad", inner_lr=0.003, inner_steps=3)
    return [*first, variant("CxGrad", inner_lr=0.003, seed=1), *usual, *maps, three_steps]


def searches(name: str, poolings: int, folder: Path) -> list[Recipe]:
    """Short runs on which an inner rate is chosen; while the best is at the edge of the grid, it gets one more."""
    short: dict[str, Any] = {"poolings": poolings, "iterations": 800, "episodes": 300, "purpose": "search"}
    runs = [variant(name, inner_lr=rate, **short) for rate in RATES[name, poolings]]
    while winner := best(runs, folder):
        rates = [run.inner_lr for run in runs]
        place = LADDER.index(winner.inner_lr or 0)
        beyond = [LADDER[i] for i in (place - 1, place + 1) if 0 <= i < len(LADDER) and LADDER[i] not in rates]
        if not beyond:
            break
        runs += [replace(winner, inner_lr=beyond[0])]
    return runs


def rates(folder: Path) -> list[Recipe]:
    """Item 0: the short runs on which inner rates are chosen."""
    return [run for name, poolings in RATES for run in searches(name, poolings, folder)]


def chosen_rate(name: str, poolings: int, folder: Path) -> float | None:
    """The rate of the search that concerns this variant; None while it has no winner in the middle of its grid."""
    kind = "CxGrad" if name == "frozen" else name
    grid = searches(kind, poolings if (kind, poolings) in RATES else 3, folder)
    winner = best(grid, folder)
    return winner.inner_lr if winner else None


def at_best_rate(names: tuple[str, ...], seeds: tuple[int, ...], folder: Path, **changes: Any) -> list[Recipe]:
    """Variants at their best rates, seed by seed; those whose rate is not known yet are left out."""
    poolings = changes.get("poolings", SETTING.poolings)
    known = {name: rate for name in names if (rate := chosen_rate(name, poolings, folder)) is not None}
    return [variant(name, inner_lr=rate, seed=s, **changes) for s in seeds for name, rate in known.items()]


def main(folder: Path) -> list[Recipe]:
    """Item 1: CxGrad and its controls; CxGrad and MAML also at 0.01, where that is not their best rate."""
    first = at_best_rate(tuple(CONTROLS), (0,), folder)
    usual = [replace(run, inner_lr=0.01) for run in first if run.method in ("CxGrad", "MAML") and not run.options]
    return unique(first + usual + at_best_rate(("CxGrad", "frozen", "constant", "MAML"), (1, 2), folder))


def usual_rate(folder: Path) -> list[Recipe]:
    """Beside item 1: a free and a frozen context at 0.01, where γ still differs between tasks; seed 1 for both."""
    return [variant(name, inner_lr=0.01, seed=1) for name in ("CxGrad", "frozen")] if main(folder) else []


def feature_map(folder: Path) -> list[Recipe]:
    """Item 2: a larger and a smaller map before the head; a longer run where CxGrad is behind on the larger one.

    On the larger map the context gets a third seed, since it was ahead in the first two.
    """
    large = at_best_rate(("CxGrad", "frozen", "MAML"), (0, 1), folder, poolings=2)
    large += at_best_rate(("CxGrad", "frozen"), (2,), folder, poolings=2)
    small = at_best_rate(("CxGrad", "MAML"), (0,), folder, poolings=4)
    rivals = [run for run in large if run.seed == 0 and not run.options]
    results = [read_result(run, folder) for run in rivals]
    means = {r["recipe"]["method"]: r["test"]["mean"] for r in results if r is not None}
    behind = len(means) == 2 and means["CxGrad"] < means["MAML"]
    return large + small + ([replace(run, iterations=6000) for run in rivals] if behind else [])


def cross_domain(folder: Path) -> list[Recipe]:
    """Item 3: from CIFAR-FS to miniImageNet, both at 32 pixels, and back."""
    there = at_best_rate(("CxGrad", "MAML"), (0, 1), folder)
    back = [replace(run, dataset="mini_imagenet", size=32) for run in there]
    tests = [replace(run, test_dataset="mini_imagenet") for run in there]
    tests += [replace(run, test_dataset="cifar_fs") for run in back]
    trained = [test for test in tests if read_result(replace(test, test_dataset=None), folder) is not None]
    return there + back + trained


def again(folder: Path) -> list[Recipe]:
    """Second tests of runs that a GPU made, on the tasks that a CPU draws, so that a CPU's runs can be paired."""
    runs = at_best_rate(("CxGrad",), (0, 1, 2), folder) + at_best_rate(("frozen", "MAML"), (0,), folder)
    runs += at_best_rate(("MAML",), (0,), folder, poolings=4)
    results = [(run, read_result(run, folder)) for run in runs]
    return [tested_again(run) for run, result in results if result is not None and not on_cpu(result)]


def stepwise(folder: Path) -> list[Recipe]:
    """Item 4, Table 3: the context starts anew in every inner step."""
    return at_best_rate(("CxGrad",), (0, 1, 2), folder, options={"context_update": "step"})


def steps(folder: Path) -> list[Recipe]:
    """Item 5: fewer inner steps than five."""
    one = at_best_rate(("CxGrad",), (0, 1), folder, inner_steps=1)
    return one + [run for k in (2, 3, 4) for run in at_best_rate(("CxGrad",), (0,), folder, inner_steps=k)]


def beta(folder: Path) -> list[Recipe]:
    """Item 6: a smaller rate of the context than 1; β = 0 is the frozen one."""
    return [run for b in (0.01, 0.1) for run in at_best_rate(("CxGrad",), (0,), folder, options={"context_lr": b})]


def one_shot(folder: Path) -> list[Recipe]:
    """Item 7."""
    return at_best_rate(("CxGrad", "MAML"), (0, 1), folder, shots=1, tasks_per_batch=4)


def others(folder: Path) -> list[Recipe]:
    """Item 8: the other methods, with their published inner loops."""
    published = [PUBLISHED[f"mini_imagenet-5way-5shot-{method.lower()}"] for method in OTHERS]
    return [
        replace(SETTING, method=p.method, inner_lr=p.inner_lr, inner_steps=p.inner_steps, options=p.options)
        for p in published
    ]


def norms(folder: Path) -> list[Recipe]:
    """Item 9: layer norm and group norm instead of batch norm."""
    return [run for norm in ("layer", "group") for run in at_best_rate(("CxGrad", "MAML"), (0,), folder, norm=norm)]


def everything(folder: Path) -> list[Recipe]:
    """Items 1 to 9, the most important first; cross-domain tests last."""
    items = (main, feature_map, usual_rate, again, stepwise, steps, beta, one_shot, others, norms, cross_domain)
    return unique([run for item in items for run in item(folder)])


def unique(recipes: list[Recipe]) -> list[Recipe]:
    return list({recipe.name: recipe for recipe in recipes}.values())


def gather(results: Path, out: Path = PRETRAINED) -> None:
    """Write the runs that there are into the one file that is shipped: ``gather(Path("results/paper"))``."""
    runs = [condensed(json.loads(path.read_text())) for path in sorted(results.glob("*.json"))]
    write_json(out / STUDIES_FILE, runs)


def condensed(result: dict[str, Any]) -> dict[str, Any]:
    """What is shipped of a result: of a search its mean, of a whole run also what figures and paired tests need.

    "right" is the number of images answered rightly in each test task, of ways · queries; "validation" is of a whole
    run a list of meta-iteration, mean and half of the 95 % interval over tasks.
    """
    about = ("recipe", "command", "commit", "engine", "device", "torch", "date", "note", "diverged")
    short: dict[str, Any] = {key: result[key] for key in about if key in result}
    if "val" in result:
        short["validation"] = validation(result)
    if "test" in result:
        images = result["recipe"]["ways"] * result["recipe"]["queries"]
        right = [round(images * share) for share in result["test"]["per_task"]]
        short["test"] = summary(result["test"]) | {"right": right}
    if "cka" in result:
        short["validation"] = [[done, round(mean, 4), round(ci95, 4)] for done, mean, ci95 in result["validation"]]
        short["cka"] = {layer: [round(value, 3) for value in values] for layer, values in result["cka"].items()}
        short["probes"] = [rounded(look) for look in result["probes"]]
    return short


def rounded(value: Any) -> Any:
    """Numbers with three digits that count."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
