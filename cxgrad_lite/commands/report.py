"""``sweep report``: the paper's tables and figures beside the runs that there are, as one Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..recipes import paper
from ..recipes.results import Arm, gamma_spread, mean_and_intervals, paired, read_result, validation
from ..recipes.study import NAMES, TABLE_1, Study
from .tables import Row, accuracy_table, difference_table, not_run, signed, table, verdict

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


def common_seeds(pair: tuple[Arm, Arm]) -> tuple[Arm, Arm]:
    """Both arms, with the seeds that both have."""
    one, other = pair
    return one.beside(other), other.beside(one)


def gap_table(pairs: Sequence[tuple[Arm, Arm]]) -> str:
    """How far ahead one was of the other during training: validation accuracy, mean over the seeds that both have."""
    rows: list[Row] = []
    shown: list[int] = []
    for pair in (pair for pair in map(common_seeds, pairs) if pair[0].results):
        one, other = (arm.validation() for arm in pair)
        shown = shown or [n for n in one if n in other]
        rows.append([f"{pair[0].title} − {pair[1].title}", *(signed(one[n] - other[n], 1) for n in shown)])
    return table(["meta-iteration", *shown], rows) if rows else "Not run."


def beside_the_paper(study: Study) -> str:
    """What the paper prints, and the same quantity here."""
    rows, missing = list[Row](), list[str]()
    for place, printed, its, one, other in study.claims():
        mine, theirs, seeds = paired(one, other)
        if not seeds:
            missing.append(place)
            continue
        values = mine - theirs
        average, over_tasks, over_seeds = mean_and_intervals(values)
        ours = f"{mine.mean():.2f} − {theirs.mean():.2f} = {signed(average, 2)} ± {over_tasks:.2f} (tasks)"
        ours += "" if len(seeds) == 1 else f", ± {over_seeds:.1f} (seeds)"
        said = f"{printed:.2f} − {its:.2f} = {signed(printed - its, 2)}"
        agrees = {"ahead": "reproduced in shape", "behind": "differs"}
        decided = verdict(values)
        rows.append([place, said, ours, len(seeds), agrees.get(decided, decided)])
    rows += figures(study)
    others = [name for arm in study.methods if not arm.results and (name := arm.title.split(",")[0]) in TABLE_1]
    missing += [f"Table 1, 5-shot: CxGrad − {', '.join(others)}"] if others else []
    missing += ["Table 1, tieredImageNet", "Table 2, to CUB and the other methods", "Table 5, 1-shot"]
    missing += ["Figures 1 and 4, which are drawings (notebook 06 has such planes, of glyphs and of photographs)"]
    made = table(["in the paper", "printed", "here", "seeds", "verdict"], rows)
    return f"{made}\n\n{not_run(missing)}"


def figures(study: Study) -> list[Row]:
    """Figures 2 and 3 as statements that hold here, or do not: at several rates and on several maps."""
    pairs = {"4×4 map": (study.main["MAML"], study.main["CxGrad"]), "4×4, α = 0.01": (study.usual[1], study.usual[0])}
    pairs |= {f"{size}×{size}": (arms["MAML"], arms["CxGrad"]) for size, arms in study.maps.items()}
    seen = {where: pair for where, both in pairs.items() if (pair := common_seeds(both))[0].results}
    norms = {where: [arm.mean_of("norms").tolist() for arm in pair] for where, pair in seen.items()}
    similar = {where: [arm.mean_cka("block 4") for arm in pair] for where, pair in seen.items()}
    seeds = ", ".join(str(len(pair[0].results)) for pair in seen.values())
    if not seen:
        return []

    def row(claim: str, holds: Sequence[bool], numbers: Sequence[str]) -> Row:
        shown = "; ".join(f"{number} ({where})" for number, where in zip(numbers, seen))
        count = f"in {sum(holds)} of {len(seen)} settings"
        return [
            claim,
            "yes",
            shown,
            seeds,
            f"reproduced in shape {count}" if any(holds) else "differs",
        ]

    head = [maml[4] / max(maml[:4]) for maml, _ in norms.values()]
    least = [maml[3] / min(maml[:4]) for maml, _ in norms.values()]
    deepest = [cxgrad[3] / maml[3] for maml, cxgrad in norms.values()]
    cka = [f"CKA {cxgrad:.2f}, MAML's {maml:.2f}" for maml, cxgrad in similar.values()]
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
    at_home = [run for run in runs if run.test_dataset is None and run.dataset == paper.SETTING.dataset]
    made = [result for run in at_home if (result := read_result(run, folder)) is not None]
    pairs = [("CxGrad", "MAML"), ("CxGrad", "frozen"), ("frozen", "constant"), ("constant", "MAML"), ("CxGrad", "BOIL")]
    ablations = [study.stepwise, *study.steps, *study.betas.values()]
    others = [arm.on_cpu_tasks() for arm in ablations]
    further = [study.one_shot, *study.norms]
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
        paper=beside_the_paper(study),
        main=accuracy_table([*main.values(), *study.usual, study.usual_frozen]),
        main_differences=difference_table(
            [
                *((main[one], main[other]) for one, other in pairs),
                *((study.usual[0], other) for other in (study.usual[1], study.usual_frozen)),
            ]
        ),
        gap=gap_table([(main[one], main[other]) for one, other in pairs[:4]]),
        layers=layer_table(list(main.values())),
        gamma=gamma_table(
            [main["CxGrad"], study.usual[0], main["frozen"], *(m["CxGrad"] for m in study.maps.values()), *ablations]
        ),
        others=accuracy_table([whole, frozen, *others]),
        others_differences=difference_table([(whole, other) for other in others]),
        journeys=accuracy_table([arm for pair in study.journeys.values() for arm in pair]),
        journeys_differences=difference_table(list(study.journeys.values())),
        further=accuracy_table([arm for pair in further for arm in pair]),
        further_differences=difference_table(further),
        methods=accuracy_table([*study.methods, whole, main["MAML"].on_cpu_tasks()]),
        rates=rate_table(folder),
        **maps,
    )
