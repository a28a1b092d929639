"""Notebook 10 with a folder of photographs: what nearest pixels, shipped networks and a little training reach on it.

Usage: python benchmarks/own_photographs.py FOLDER      (a folder for each class; a quarter of an hour)

The settings are the notebook's own, with `PHOTOGRAPHS = True`: 32 × 32 pixels in colour, networks that were
meta-trained on CIFAR-FS, 5-way 5-shot tasks with ten queries. Prints a table for `results/photographs.md`.
"""

from __future__ import annotations

import copy
import sys
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from cxgrad_lite import Conv4, CxGrad, Evaluation, NearestPixels, ProtoNet, TrainConfig, evaluate, meta_train
from cxgrad_lite.core.method import Method
from cxgrad_lite.recipes import paper, pretrained
from data_utils import ImageClasses, TaskSampler, load

TASKS = 300
PAIRS = (
    ("CxGrad, shipped", "nearest pixels"),
    ("CxGrad, shipped", "MAML, shipped"),
    ("CxGrad, shipped + 15", "CxGrad, shipped"),
    ("CxGrad, shipped + 300", "CxGrad, shipped"),
    ("ProtoNet, 80 from random weights", "CxGrad, 15 from random weights"),
    ("CxGrad, shipped", "ProtoNet, 800 from random weights"),
)


def tasks_of(data: ImageClasses, queries: int = 10, seed: int = 1) -> TaskSampler:
    return TaskSampler(data, 5, 5, queries, tasks_per_batch=2, seed=seed)


def network(norm: str = "batch") -> Conv4:
    torch.manual_seed(0)
    return Conv4(3, 32, 5, 32, poolings=3, norm=norm)


def trained(method: Method, data: ImageClasses, iterations: int) -> Method:
    method = copy.deepcopy(method)
    meta_train(method, tasks_of(data, queries=5, seed=0), TrainConfig(iterations=iterations, progress=False))
    return method


def candidates(train: ImageClasses) -> dict[str, Method]:
    shipped, other = (pretrained(paper.variant(n, inner_lr=r))[0] for n, r in (("CxGrad", 0.003), ("MAML", 0.03)))
    fresh, protonet = CxGrad(network(), inner_lr=0.003), ProtoNet(network("layer"))
    return {
        "nearest pixels": NearestPixels(),
        "CxGrad, untrained": fresh,
        "CxGrad, 15 from random weights": trained(fresh, train, 15),
        "ProtoNet, untrained": protonet,
        "ProtoNet, 80 from random weights": trained(protonet, train, 80),
        "ProtoNet, 800 from random weights": trained(protonet, train, 800),
        "MAML, shipped": other,
        "CxGrad, shipped": shipped,
        "CxGrad, shipped + 15": trained(shipped, train, 15),
        "CxGrad, shipped + 300": trained(shipped, train, 300),
    }


def table(right: dict[str, Tensor]) -> str:
    rows = ["| network, and meta-iterations here | accuracy, % |", "|---|---|"]
    for name, values in right.items():
        result = Evaluation.over_tasks(values)
        rows.append(f"| {name} | {result.mean:.1f} ± {result.ci95:.1f} |")
    rows += ["", "| difference, task by task | points |", "|---|---|"]
    for one, other in PAIRS:
        gain = Evaluation.over_tasks(right[one] - right[other])
        rows.append(f"| {one} − {other} | {gain.mean:+.1f} ± {gain.ci95:.1f} |".replace(" -", " −"))
    return "\n".join(rows)


def main(folder: Path) -> None:
    train, test = (load("folder", split, path=folder, size=32, mode="RGB") for split in ("train", "test"))
    right = {name: 100 * evaluate(m, tasks_of(test), TASKS).per_task for name, m in candidates(train).items()}
    print(table(right))
    sizes = [f"{len(data.names)} classes of {data.counts.min()} images" for data in (train, test)]
    about = f"{TASKS} tasks; seed 0; torch {torch.__version__}, CPU, {date.today()}"
    print(f"\nTraining: {sizes[0]}; test: {sizes[1]}, {about}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
