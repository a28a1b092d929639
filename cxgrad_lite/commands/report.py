"""``sweep report``: the paper's tables and figures beside the runs that there are, as one Markdown page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from ..recipes import paper
from ..recipes.results import Arm, difference, mean_and_intervals, read_result, validation

NAMES = {"CxGrad": "CxGrad", "frozen": "CxGrad, context frozen", "constant": "CxGrad, γ constant"}
LAYERS = ("block 1", "block 2", "block 3", "block 4", "head")
Row = Sequence[object]


def table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def half(width: float) -> str:
    return "one seed" if math.isnan(width) else f"± {width:.1f}"


def accuracy_table(arms: Sequence[Arm]) -> str:
    rows: list[Row] = []
    for a in arms:
        if a.results:
            average, over_tasks, over_seeds = mean_and_intervals(a.accuracies)
            each = ", ".join(f"{value:.1f}" for value in a.accuracies.mean(1).tolist())
            rows.append([a.title, each, f"{average:.1f}", f"± {over_tasks:.1f}", half(over_seeds)])
        else:
            rows.append([a.title, "not run", "", "", ""])
    return table(["runs", "accuracy by seed, %", "mean", "over tasks", "over seeds"], rows)


def difference_table(pairs: Sequence[tuple[Arm, Arm]]) -> str:
    rows: list[Row] = []
    for one, other in pairs:
        values, seeds = difference(one, other)
        if not seeds:
            continue
        average, over_tasks, over_seeds = mean_and_intervals(values)
        rows.append(
            [
                f"{one.title} − {other.title}",
                len(seeds),
                signed(average, 1),
                f"± {over_tasks:.1f}",
                half(over_seeds),
                verdict(values),
            ]
        )
    if not rows:
        return "No two of these can be compared yet."
    return table(["difference, same tasks and seeds", "seeds", "points", "over tasks", "over seeds", "verdict"], rows)


def verdict(values: Tensor) -> str:
    """What (seeds, tasks) differences decide: the wider interval has to leave zero out."""
    average, over_tasks, over_seeds = mean_and_intervals(values)
    if math.isnan(over_seeds):
        return "one seed decides nothing"
    if abs(average) > max(over_tasks, over_seeds):
        return "ahead" if average > 0 else "behind"
    return f"undecided; at most {abs(average) + max(over_tasks, over_seeds):.1f} either way"


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
        cka = [mean(mean(result["cka"][layer]) for result in a.results) for layer in LAYERS]
        gamma = [torch.tensor(r["probes"][-1]["gamma"]) for r in a.results if "gamma" in r["probes"][-1]]
        rows.append([a.title, "gradient", *[f"{value:.2f}" for value in norms]])
        rows.append(["", "turn, %", *[f"{100 * value:.2g}" for value in moves]])
        rows.append(["", "CKA", *[f"{value:.2f}" for value in cka]])
        if gamma:
            rows.append(["", "γ", *[f"{value:.2f}" for value in torch.stack(gamma).mean(0).tolist()], ""])
    return table(["runs", "at the end", *LAYERS], rows)


def gamma_spread(a: Arm) -> list[float]:
    """By seed: the largest standard deviation of a γ over tasks, in per cent of that γ."""
    looks = [result["probes"][-1] for result in a.results]
    return [max(100 * s / g for s, g in zip(look["gamma_std"], look["gamma"])) for look in looks]


class Study:
    """The arms of the report, from the results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = {name: self.arm_of(name) for name in paper.CONTROLS}
        self.usual = [self.arm_of(name, inner_lr=0.01) for name in ("CxGrad", "MAML")]
        self.maps = {
            32 >> poolings: {name: self.arm_of(name, poolings) for name in ("CxGrad", "frozen", "MAML")}
            for poolings in (2, 4)
        }
        self.stepwise = self.arm_of("CxGrad", options={"context_update": "step"})
        self.steps = [self.arm_of("CxGrad", inner_steps=k) for k in (1, 2, 3, 4)]
        self.betas = [self.arm_of("CxGrad", options={"context_lr": beta}) for beta in (0.01, 0.1)]

    def arm_of(self, name: str, poolings: int = 3, **changes: Any) -> Arm:
        """The seeds of a variant that were run, at its chosen rate or another."""
        rate = changes.pop("inner_lr", None) or paper.chosen_rate(name, poolings, self.folder)
        base = paper.variant(name, inner_lr=rate, poolings=poolings, **changes)
        changed = {key: value for key, value in changes.items() if key != "options"} | changes.get("options", {})
        label = [NAMES.get(name, name), *(f"{key} = {value}" for key, value in changed.items())]
        label += [] if rate is None else [f"α = {rate:g}"]
        results = [read_result(replace(base, seed=seed), self.folder) for seed in (0, 1, 2)]
        return Arm(", ".join(label), tuple(result for result in results if result is not None))

    def beside_the_paper(self) -> str:
        """What the paper prints, and the same quantity here."""
        main, rows = self.main, list[Row]()
        for place, printed, one, other in (
            ("Table 1, miniImageNet, 5-shot: CxGrad − MAML", 69.82 - 63.11, main["CxGrad"], main["MAML"]),
            ("Table 1, miniImageNet, 5-shot: CxGrad − BOIL", 69.82 - 66.45, main["CxGrad"], main["BOIL"]),
            ("Table 3: context by task − by step", 69.82 - 68.83, main["CxGrad"], self.stepwise),
            ("Table 4: five inner steps − one", 69.82 - 69.12, main["CxGrad"], self.steps[0]),
            ("Table 5, 5-shot: β = 1 − β = 0.01", 69.82 - 69.28, main["CxGrad"], self.betas[0]),
        ):
            ours, judgement = "not run", "not run"
            values, seeds = difference(one, other)
            if seeds:
                average, over_tasks, over_seeds = mean_and_intervals(values)
                ours, judgement = (
                    f"{signed(average, 1)} ± {over_tasks:.1f} (tasks), {half(over_seeds)} (seeds)",
                    verdict(values),
                )
            rows.append([place, signed(printed, 2), ours, judgement])
        rows += self.figures()
        rows += [[place, "", "not run", "not run"] for place in ("Table 1, tieredImageNet", "Table 2", "Figure 4")]
        return table(["in the paper", "printed", "here", "verdict"], rows)

    def figures(self) -> list[Row]:
        """Figures 2 and 3 as statements that hold here or do not."""
        if not self.main["MAML"].results or not self.main["CxGrad"].results:
            return []
        maml, cxgrad = (self.main[name].mean_of("norms").tolist() for name in ("MAML", "CxGrad"))
        similar = {
            name: mean(mean(result["cka"]["block 4"]) for result in self.main[name].results)
            for name in ("MAML", "CxGrad")
        }
        ratio, deepest = maml[4] / max(maml[:4]), maml[3] / min(maml[:4])
        growth = cxgrad[3] / maml[3]
        return [
            ["Figure 2a: MAML's head has the largest gradient", "yes", f"{ratio:.1f} × the largest block's",
             "reproduced in shape" if ratio > 1 else "differs"],
            ["Figure 2a: its deepest block has the least of all blocks", "yes", f"{deepest:.1f} × the least",
             "reproduced in shape" if deepest == 1 else "differs"],
            ["Figure 2b: CxGrad's deepest block has more than MAML's", "yes", f"{growth:.1f} ×",
             "reproduced in shape" if growth > 1 else "differs"],
            ["Figure 3: CxGrad's block 4 changes more", "yes",
             f"CKA {similar['CxGrad']:.2f}, MAML's {similar['MAML']:.2f}",
             "reproduced in shape" if similar["CxGrad"] < similar["MAML"] else "differs"],
        ]  # fmt: skip


def report(folder: Path, template: str) -> str:
    """The page, with the results in a folder at the places that the template names; what was not run is named."""
    study = Study(folder)
    main, runs = study.main, paper.unique(paper.everything(folder))
    made = [result for run in runs if (result := read_result(run, folder)) is not None]
    pairs = [("CxGrad", "MAML"), ("CxGrad", "frozen"), ("frozen", "constant"), ("constant", "MAML"), ("CxGrad", "BOIL")]
    others = [study.stepwise, *study.steps, *study.betas]
    maps = {}
    for size, arms in study.maps.items():
        maps[f"map{size}"] = accuracy_table(list(arms.values()))
        rivals = [(arms["CxGrad"], arms["MAML"]), (arms["CxGrad"], arms["frozen"])]
        maps[f"map{size}_differences"] = difference_table(rivals)
    return template.format(
        runs=len(made),
        devices="; ".join(sorted({result["device"] for result in made})) or "none",
        paper=study.beside_the_paper(),
        main=accuracy_table([*main.values(), *study.usual]),
        main_differences=difference_table([(main[one], main[other]) for one, other in pairs]),
        layers=layer_table(list(main.values())),
        spread=", ".join(f"{value:.2g} %" for value in gamma_spread(main["CxGrad"])) or "not run",
        others=accuracy_table([main["CxGrad"], *others]),
        others_differences=difference_table([(main["CxGrad"], other) for other in others]),
        rates=rate_table(folder),
        **maps,
    )
