"""What CxGrad and its controls do inside one network, on photographs: the numbers of notebooks 06 and 07.

Usage: python benchmarks/photographs.py     (CIFAR-FS must be there; some minutes on one thread)

For each of the shipped networks, on tasks of the meta-test classes (drawn on a CPU, and so others than those of the
runs): accuracy with neither head nor body adapted, with one of them and with both; for CxGrad, accuracy at other γ
than the task's own.
"""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import torch
from torch import Tensor

from cxgrad_lite import MAML, CxGrad
from cxgrad_lite.core.method import Batch, Theta
from cxgrad_lite.course.lesson.gammas import path_at
from cxgrad_lite.probes import states
from cxgrad_lite.recipes import Recipe, paper, pretrained
from cxgrad_lite.recipes.recipe import PRETRAINED
from cxgrad_lite.recipes.results import write_json

TASKS = 100
FILE = PRETRAINED / "photographs.json"
COMMAND = "python benchmarks/photographs.py"


def part(theta: Theta, head: bool) -> Theta:
    return {name: tensor for name, tensor in theta.items() if name.startswith("head.") == head}


def right(method: MAML, theta: Theta, query: Batch) -> int:
    return int((method.logits(theta, query[0]).argmax(-1) == query[1]).sum())


@torch.no_grad()
def measure(recipe: Recipe) -> dict[str, Any]:
    """Images answered rightly, of 75, in each task."""
    method, _ = pretrained(recipe)
    assert isinstance(method, MAML)
    counts: dict[str, list[int]] = {}
    other: Tensor | None = None
    for number, (support, query) in enumerate(recipe.tasks("test").episodes(TASKS + 1)):
        thetas, trace = states(method, support)
        before, after = thetas[0], thetas[-1]
        networks = {"neither": before, "both": after}
        networks |= {"head": before | part(after, True), "body": before | part(after, False)}
        if isinstance(method, CxGrad) and method.context_moves:
            own = torch.stack([step.scaling for step in trace])  # type: ignore[arg-type]
            zero = method.generator(method.zero_context()).expand(len(own), -1)
            norms = {"zero context": zero, "another task's": own if other is None else other}
            norms["one γ for all blocks"] = own.log().mean(1, keepdim=True).exp().expand_as(own)
            networks |= {name: path_at(method, support, gammas)[0][-1] for name, gammas in norms.items()}
            other = own
        if number:  # the first has no other task before it
            for name, theta in networks.items():
                counts.setdefault(name, []).append(right(method, theta, query))
    return {"recipe": recipe.name, "right": counts}


if __name__ == "__main__":
    torch.set_num_threads(1)
    start = time.perf_counter()
    runs = [measure(recipe) for recipe in paper.shipped()]
    about: dict[str, Any] = {"command": COMMAND, "date": str(date.today())}
    about |= {"torch": torch.__version__, "device": "cpu"}
    write_json(
        FILE, about | {"images": 75, "first_task": 1, "seconds": round(time.perf_counter() - start), "runs": runs}
    )
