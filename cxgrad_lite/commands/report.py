"""``sweep report``: the paper's tables and figures beside the runs that there are, as one Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from ..recipes import paper
from ..recipes.results import Arm, difference, gamma_spread, mean_and_intervals, read_result, read_study, validation
from .tables import Row, accuracy_table, difference_table, half, not_run, signed, table, verdict

NAMES = {"CxGrad": "CxGrad", "frozen": "CxGrad, context frozen", "constant": "CxGrad, γ constant"}
JOURNEYS: dict[str, tuple[dict[str, Any], str | None]] = {  # title: (trained on, tested on the meta-test classes of)
    "CIFAR-FS → miniImageNet": ({"dataset": "cifar_fs"}, "mini_imagenet"),
    "miniImageNet": ({"dataset": "mini_imagenet", "size": 32}, None),
    "miniImageNet → CIFAR-FS": ({"dataset": "mini_imagenet", "size": 32}, "cifar_fs"),
}
LAYERS = ("block 1", "block 2", "block 3", "block 4", "head")


def rate_table(folder: Path) -> str:
    rows: list[Row] = []
    for (name, poolings), _ in paper.RATES.items():
        for recipe in sorted(paper.searches(name, poolings, folder), key=lambda r: r.inner_lr or 0):
            result = read_result(recipe, folder)
            chosen = "chosen" if recipe.inner_lr == paper.chosen_rate(name, poolings, folder) else ""
            value = "not run" if result is None else "diverged" if "diverged" in result else None
            if result is not None and value is None:
                numbers = validation(result)
                value = f"{100 * numbers['mean']:.1f} ± {100 * numbers['ci95']:.1f}"
            rows.append([NAMES.get(name, name), 32 >> poolings, f"{recipe.inner_lr:g}", value, chosen])
    return table(["variant", "map", "α", "validation accuracy, %", ""], rows)


def layer_table(arms: Sequence[Arm]) -> str:
    """The last look at the inner loop of each arm, and what adaptation does to the representation."""
    rows: list[Row] = []
    for a in (a for a in arms if a.results and a.results[0]["probes"]):
        norms, moves = a.mean_of("norms").tolist(), a.mean_of("relative").tolist()
        cka = [a.mean_cka(layer) for layer in LAYERS]
        gamma = [torch.tensor(r["probes"][-1]["gamma"]) for r in a.results if "gamma" in r["probes"][-1]]
        rows.append([a.title, "gradient", *[f"{value:.2f}" for value in norms]])
        rows.append(["", "step, %", *[f"{100 * value:.2g}" for value in moves]])
        rows.append(["", "CKA", *[f"{value:.2f}" for value in cka]])
        if gamma:
            rows.append(["", "γ", *[f"{value:.2f}" for value in torch.stack(gamma).mean(0).tolist()], ""])
    return table(["runs", "at the end", *LAYERS], rows)


def gamma_table(arms: Sequence[Arm]) -> str:
    """By seed: the γ and their spread over tasks, two thirds of the way and at the end."""
    rows: list[Row] = []
    for a in arms:
        for result in (result for result in a.results if "gamma" in result["probes"][-1]):
            looks, recipe = result["probes"], result["recipe"]
            for look in (looks[2 * len(looks) // 3], looks[-1]):
                gamma = [f"{value:.2f}" for value in look["gamma"]]
                run = [a.title, 32 >> recipe["poolings"], recipe["seed"], look["iteration"]]
                rows.append([*run, *gamma, f"{gamma_spread(look):.2g} %"])
    return table(["runs", "map", "seed", "iteration", "γ₁", "γ₂", "γ₃", "γ₄", "largest spread over tasks"], rows)


def gap_table(one: Arm, other: Arm) -> str:
    """How far ahead one was of the other during training: validation accuracy, mean over the seeds of each."""
    curves = []
    for arm in (one, other):
        points = [{iteration: accuracy for iteration, accuracy, _ in result["validation"]} for result in arm.results]
        curves.append({n: 100 * mean(seed[n] for seed in points) for n in (points[0] if points else ())})
    shared = [n for n in curves[0] if n in curves[1]]
    if not shared:
        return "Not run."
    gaps = [signed(curves[0][n] - curves[1][n], 1) for n in shared]
    return table(["meta-iteration", *shared], [[f"{one.title} − {other.title}", *gaps]])


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
        self.betas = [self.arm_of("CxGrad", options={"context_lr": beta}) for beta in (0.01, 0.1)]
        self.journeys = {where: self.journey(where) for where in JOURNEYS}

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

    def beside_the_paper(self) -> str:
        """What the paper prints, and the same quantity here."""
        main, rows, missing, abroad = self.main, list[Row](), list[str](), self.journeys["miniImageNet → CIFAR-FS"]
        for place, printed, one, other in (
            ("Table 1, miniImageNet, 5-shot: CxGrad − MAML", 69.82 - 63.11, main["CxGrad"], main["MAML"]),
            ("Table 1, miniImageNet, 5-shot: CxGrad − BOIL", 69.82 - 66.45, main["CxGrad"], main["BOIL"]),
            ("Table 2, miniImageNet → CIFAR-FS, 5-shot: CxGrad − MAML", 64.85 - 55.82, *abroad),
            ("Table 3: context by task − by step", 69.82 - 68.83, main["CxGrad"], self.stepwise),
            ("Table 4: five inner steps − one", 69.82 - 69.12, main["CxGrad"], self.steps[0]),
            ("Table 5, 5-shot: β = 1 − β = 0.01", 69.82 - 69.28, main["CxGrad"], self.betas[0]),
        ):
            values, seeds = difference(one, other)
            if not seeds:
                missing.append(place)
                continue
            average, over_tasks, over_seeds = mean_and_intervals(values)
            ours = f"{signed(average, 1)} ± {over_tasks:.1f} (tasks), {half(over_seeds)} (seeds)"
            rows.append([place, signed(printed, 2), ours, verdict(values)])
        rows += self.figures()
        missing += ["Table 1, tieredImageNet", "Table 2, to CUB", "Table 5, 1-shot", "Figure 4"]
        made = table(["in the paper", "printed", "here", "verdict"], rows)
        return f"{made}\n\n{not_run(missing)}"

    def figures(self) -> list[Row]:
        """Figures 2 and 3 as statements that hold here, at the chosen rates and at the paper's, or do not."""
        pairs = {"chosen rates": (self.main["MAML"], self.main["CxGrad"]), "α = 0.01": tuple(reversed(self.usual))}
        seen = {where: pair for where, pair in pairs.items() if pair[0].results and pair[1].results}
        norms = {where: [arm.mean_of("norms").tolist() for arm in pair] for where, pair in seen.items()}
        similar = {where: [arm.mean_cka("block 4") for arm in pair] for where, pair in seen.items()}
        if not seen:
            return []

        def row(claim: str, holds: Sequence[bool], numbers: Sequence[str]) -> Row:
            shown = "; ".join(f"{number} ({where})" for number, where in zip(numbers, seen))
            places = [where for where, true in zip(seen, holds) if true]
            whole = "reproduced in shape" if all(holds) else f"at {places[0]} only" if places else "differs"
            return [claim, "yes", shown, whole]

        head = [maml[4] / max(maml[:4]) for maml, _ in norms.values()]
        least = [maml[3] / min(maml[:4]) for maml, _ in norms.values()]
        deepest = [cxgrad[3] / maml[3] for maml, cxgrad in norms.values()]
        constant = self.main["constant"].mean_cka("block 4") if self.main["constant"].results else None
        cka = [f"CKA {cxgrad:.2f}, MAML's {maml:.2f}" for maml, cxgrad in similar.values()]
        cka[0] += f", with constant γ {constant:.2f}" if constant else ""
        return [
            row("Figure 2a: MAML's head has the largest gradient", [x > 1 for x in head],
                [f"{x:.1f} × the largest block's" for x in head]),
            row("Figure 2a: its deepest block has the least of all blocks", [x == 1 for x in least],
                [f"{x:.1f} × the least" for x in least]),
            row("Figure 2b: CxGrad's deepest block has more than MAML's", [x > 1 for x in deepest],
                [f"{x:.1f} ×" for x in deepest]),
            row("Figure 3: CxGrad's block 4 changes more", [cxgrad < maml for maml, cxgrad in similar.values()], cka),
        ]  # fmt: skip


def report(folder: Path, template: str) -> str:
    """The page, with the results in a folder at the places that the template names; what was not run is named."""
    study = Study(folder)
    main, runs = study.main, paper.unique(paper.everything(folder))
    made = [r for run in runs if run.test_dataset is None and (r := read_result(run, folder)) is not None]
    pairs = [("CxGrad", "MAML"), ("CxGrad", "frozen"), ("frozen", "constant"), ("constant", "MAML"), ("CxGrad", "BOIL")]
    others = [arm.on_cpu_tasks() for arm in (study.stepwise, *study.steps, *study.betas)]
    whole, frozen = (main[name].on_cpu_tasks() for name in ("CxGrad", "frozen"))
    maps = {}
    for size, arms in study.maps.items():
        arms = {name: arm.on_cpu_tasks() for name, arm in arms.items()}
        maps[f"map{size}"] = accuracy_table(list(arms.values()))
        rivals = [(arms["CxGrad"], arms["MAML"]), (arms["CxGrad"], arms["frozen"])]
        maps[f"map{size}_differences"] = difference_table(rivals)
    return template.format(
        runs=len(made),
        devices="; ".join(sorted({result["device"] for result in made})) or "none",
        paper=study.beside_the_paper(),
        main=accuracy_table([*main.values(), *study.usual, study.usual_frozen]),
        main_differences=difference_table(
            [
                *((main[one], main[other]) for one, other in pairs),
                *((study.usual[0], other) for other in (study.usual[1], study.usual_frozen)),
            ]
        ),
        gap=gap_table(main["CxGrad"], main["MAML"]),
        layers=layer_table(list(main.values())),
        gamma=gamma_table([main["CxGrad"], study.usual[0], main["frozen"], study.maps[8]["CxGrad"]]),
        others=accuracy_table([whole, frozen, *others]),
        others_differences=difference_table([(whole, other) for other in others]),
        journeys=accuracy_table([arm for pair in study.journeys.values() for arm in pair]),
        journeys_differences=difference_table(list(study.journeys.values())),
        methods=accuracy_table([*study.other_methods(), whole, main["MAML"].on_cpu_tasks()]),
        rates=rate_table(folder),
        **maps,
    )
