"""What CxGrad and its controls do inside one network, on photographs: the numbers of notebooks 05, 06 and 07.

Usage: python benchmarks/photographs.py                 (CIFAR-FS must be there; half an hour on one thread)
       python benchmarks/photographs.py CHECKPOINT ...  (prints the same for networks of your own)

On tasks of the meta-test classes (drawn on a CPU, and so others than those of the runs): accuracy with neither head
nor body adapted, with one of them and with both; for CxGrad, how much γ differs between tasks, and accuracy at other γ
than the task's own. The first form measures the shipped networks, and keeps what its file has of them already. It
swaps γ between tasks in 300 further ones, too, and asks what it would be worth to choose block 4's γ for each task by
labelled images, and adapts with the path of γ that is the mean over tasks. Of MAML's halves it also counts the answers
without their offset.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxgrad_lite import MAML, CxGrad
from cxgrad_lite.core.method import Batch, StepTrace, Theta
from cxgrad_lite.course.lesson.gammas import path_at
from cxgrad_lite.probes import states
from cxgrad_lite.recipes import Recipe, paper
from cxgrad_lite.recipes.recipe import PRETRAINED
from cxgrad_lite.recipes.results import write_json
from cxgrad_lite.training.checkpoints import load_checkpoint, read_header

TASKS, MORE = 100, 300
FILE = PRETRAINED / "photographs.json"
COMMAND = "python benchmarks/photographs.py"
SINGLE = (0.2, 0.4, 0.8, 1.6)  # norms tried for all blocks at once
TRIED, PER_CLASS = (0.5, 0.7, 1.0, 1.4, 2.0), 60  # factors of which each task gets its best; query images to judge by
WRONG = (1.02, 1.1, 1.3, 2.0)  # factors on block 4's own norm: how wrong must it be before that costs anything?


def from_checkpoint(checkpoint: Path) -> tuple[MAML, Recipe]:
    """The network of a checkpoint, and the recipe whose tasks it is measured on."""
    method = load_checkpoint(checkpoint)
    assert isinstance(method, MAML)
    return method, Recipe.stored(read_header(checkpoint)["provenance"]["recipe"], checkpoint)


def path_of(trace: Sequence[StepTrace]) -> Tensor:
    """(inner_steps, blocks) γ of CxGrad in an adaptation."""
    return torch.stack([step.scaling for step in trace])  # type: ignore[arg-type]


def in_block_4(own: Tensor, factor: float) -> Tensor:
    """(inner_steps, blocks) norms, that of block 4 multiplied by a factor in every step."""
    return own * torch.tensor([1, 1, 1, factor])


def part(theta: Theta, head: bool) -> Theta:
    return {name: tensor for name, tensor in theta.items() if name.startswith("head.") == head}


def halves(before: Theta, after: Theta) -> dict[str, Theta]:
    """Label → network: nothing adapted, everything, the head alone and the body alone."""
    mixed = {"head": before | part(after, True), "body": before | part(after, False)}
    return {"neither": before, "both": after} | mixed


def right(method: MAML, theta: Theta, query: Batch, centred: bool = False) -> int:
    """Images answered rightly, as the logits stand or with each class's mean over the images taken off."""
    logits = method.logits(theta, query[0])
    if centred:
        logits = logits - logits.mean(0)
    return int((logits.argmax(-1) == query[1]).sum())


def other_norms(method: CxGrad, own: Tensor, other: Tensor, single: tuple[float, ...]) -> dict[str, Tensor]:
    """Label → (inner_steps, blocks) norms to adapt with instead of the task's own."""
    norms = {"zero context": method.generator(method.zero_context()).expand_as(own), "another task's": other}
    norms |= {f"block 4 × {factor:g}": in_block_4(own, factor) for factor in WRONG}
    return norms | {f"{value:g} for all blocks": torch.full_like(own, value) for value in single}


@torch.no_grad()
def measure(checkpoint: Path, single: tuple[float, ...] = ()) -> dict[str, Any]:
    """ "right": images answered rightly, of 75, in each task; "spread": of γ over the tasks, in per cent by block."""
    method, recipe = from_checkpoint(checkpoint)
    counts: dict[str, list[int]] = {}
    paths: list[Tensor] = []  # γ, (inner_steps, blocks) for each task
    for number, (support, query) in enumerate(recipe.tasks("test").episodes(TASKS + 1)):
        thetas, trace = states(method, support)
        networks = halves(thetas[0], thetas[-1])
        if isinstance(method, CxGrad) and method.context_moves:
            paths.append(path_of(trace))
            norms = other_norms(method, paths[-1], paths[number - 1], single)
            networks |= {name: path_at(method, support, gammas)[0][-1] for name, gammas in norms.items()}
        if number:  # the first has no other task before it
            for name, theta in networks.items():
                counts.setdefault(name, []).append(right(method, theta, query))
    found: dict[str, Any] = {"recipe": recipe.name, "right": counts}
    if paths:
        last = torch.stack(paths)[1:, -1]  # (tasks, blocks)
        found["spread"] = [float(f"{s:.3g}") for s in 100 * last.std(0) / last.mean(0)]
    return found


@torch.no_grad()
def centred(checkpoint: Path) -> dict[str, list[int]]:
    """As "right" of `measure`, but each class's mean logit over the query images is taken off first.

    A network that gives one answer to every image may still order the images rightly; its offset hides that.
    """
    method, recipe = from_checkpoint(checkpoint)
    counts: dict[str, list[int]] = {}
    for support, query in islice(recipe.tasks("test").episodes(TASKS + 1), 1, None):
        thetas, _ = states(method, support)
        for name, theta in halves(thetas[0], thetas[-1]).items():
            counts.setdefault(name, []).append(right(method, theta, query, centred=True))
    return counts


@torch.no_grad()
def swap_again(checkpoint: Path) -> dict[str, list[int]]:
    """Images answered rightly with the task's own γ and with another task's, in `MORE` further tasks."""
    method, recipe = from_checkpoint(checkpoint)
    assert isinstance(method, CxGrad)
    counts: dict[str, list[int]] = {"both": [], "another task's": []}
    other: Tensor | None = None
    for support, query in islice(recipe.tasks("test").episodes(TASKS + MORE + 1), TASKS, None):
        thetas, trace = states(method, support)
        if other is not None:
            counts["both"].append(right(method, thetas[-1], query))
            counts["another task's"].append(right(method, path_at(method, support, other)[0][-1], query))
        other = path_of(trace)
    return counts


@torch.no_grad()
def shared_path(checkpoint: Path) -> list[int]:
    """Images answered rightly when every task adapts with the same γ in each step, their mean over the tasks."""
    method, recipe = from_checkpoint(checkpoint)
    assert isinstance(method, CxGrad)
    tasks = list(islice(recipe.tasks("test").episodes(TASKS + 1), 1, None))
    mean = torch.stack([path_of(states(method, support)[1]) for support, _ in tasks]).mean(0)
    return [right(method, path_at(method, support, mean)[0][-1], query) for support, query in tasks]


@torch.no_grad()
def factors_by_task(checkpoint: Path) -> dict[str, list[list[int]]]:
    """Factor on block 4's own γ → for each task, images answered rightly in each of four batches of queries.

    The batches are like those of a test task, 15 images per class. Two can choose the factor, and two judge the choice.
    """
    method, recipe = from_checkpoint(checkpoint)
    assert isinstance(method, CxGrad)
    counts: dict[str, list[list[int]]] = {f"{factor:g}": [] for factor in TRIED}
    for support, (images, labels) in replace(recipe, queries=PER_CLASS).tasks("test").episodes(TASKS):
        own = path_of(states(method, support)[1])
        rows = torch.arange(len(labels)).reshape(recipe.ways, 4, -1).transpose(0, 1).flatten(1)  # (4, ways · 15)
        for factor in TRIED:
            theta = path_at(method, support, in_block_4(own, factor))[0][-1]
            counts[f"{factor:g}"].append([right(method, theta, (images[batch], labels[batch])) for batch in rows])
    return counts


def change(counts: dict[str, list[int]], name: str) -> tuple[float, float]:
    """Mean difference to the whole adaptation, in points, and half of its 95 % interval over tasks."""
    difference = (torch.tensor(counts[name]) - torch.tensor(counts["both"])) * 100 / 75
    return difference.mean().item(), 1.96 * difference.std().item() / len(difference) ** 0.5


OF_CONTEXTS: dict[str, Callable[[Path], Any]] = {
    "again": swap_again,
    "shared": shared_path,
    "factors": factors_by_task,
}


def measure_shipped() -> None:
    """Write the numbers of the shipped networks, one after the other; a stopped run goes on where it was."""
    recipes = paper.shipped()
    about: dict[str, Any] = {"command": COMMAND, "date": str(date.today()), "torch": torch.__version__}
    about |= {"device": "cpu", "images": 75, "first_task": 1}
    kept = json.loads(FILE.read_text())["runs"] if FILE.exists() else []
    runs = {run["recipe"]: run for run in kept}
    for recipe in recipes:
        checkpoint = PRETRAINED / f"{recipe.name}.safetensors"
        if recipe.name not in runs:
            runs[recipe.name] = measure(checkpoint, SINGLE if recipe == recipes[0] else ())
        run = runs[recipe.name]
        further = {"centred": centred} if recipe.method == "MAML" else OF_CONTEXTS if "spread" in run else {}
        for what, measurement in further.items():
            if what not in run:
                run[what] = measurement(checkpoint)
        write_json(FILE, about | {"runs": [runs[r.name] for r in recipes if r.name in runs]})


def summary(found: dict[str, Any]) -> str:
    """What is printed of a network: means in per cent and their difference to the whole adaptation, and the spread."""
    lines = [f"{found['recipe']}, {TASKS} tasks"]
    for name, counts in found["right"].items():
        mean, half = change(found["right"], name)
        lines.append(f"  {name:18s} {sum(counts) / len(counts) / 0.75:5.1f} %, {mean:+.2f} ± {half:.2f} against both")
    return "\n".join([*lines, f"  spread of γ by block, %: {found.get('spread', 'none')}"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for path in sys.argv[1:]:
        print(summary(measure(Path(path))), flush=True)
    if len(sys.argv) == 1:
        measure_shipped()
