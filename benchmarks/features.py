"""How far adaptation moves the features of photographs: the functions of notebook 06, on networks that need the images.

Usage: python benchmarks/features.py                    (CIFAR-FS must be there; five minutes on one thread)

The functions are taken from the notebook's page as they stand there, so that glyphs and photographs are measured by
the same lines. The tasks are of the meta-test classes, drawn on a CPU. One file is written, for Figures 1, 3 and 5 of
the notebook and its two tables.
"""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxgrad_lite import MAML
from cxgrad_lite.probes import LAYERS, class_separation, embeddings, project
from cxgrad_lite.recipes import Recipe, paper, pretrained
from cxgrad_lite.recipes.recipe import PRETRAINED
from cxgrad_lite.recipes.results import write_json

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "06_representation_change.ipynb"
FILE = PRETRAINED / "features.json"
COMMAND = "python benchmarks/features.py"
TASKS, LONG = 100, 50  # tasks behind the tables; behind the controls and the longer adaptations
SETTINGS = {3: "photographs", 2: "photographs, 8 × 8"}  # poolings → as notebook 06 calls it
STEPS = 10  # twice as many as in training
NETWORKS = (  # method, inner rate, poolings
    ("MAML", 0.03, 3),
    ("CxGrad", 0.003, 3),
    ("MAML", 0.01, 3),
    ("CxGrad", 0.01, 3),
    ("MAML", 0.03, 2),
    ("CxGrad", 0.001, 2),
)


def page(notebook: Path) -> dict[str, Any]:
    """The functions, imports and constants of a notebook, without what its cells compute."""
    names: dict[str, Any] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and not text.startswith("try:"):  # that one installs the package in Colab
            body = [node for node in ast.parse(text).body if defines(node)]
            exec(compile(ast.Module(body, []), str(notebook), "exec"), names)
    return names


def defines(node: ast.stmt) -> bool:
    constant = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    simple = constant and isinstance(node.value, ast.Constant | ast.List | ast.ListComp | ast.BinOp)  # type: ignore[attr-defined]
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef) or simple


def rounded(values: Tensor, digits: int = 4) -> Any:
    return values.double().round(decimals=digits).tolist()


def counts(accuracies: Tensor) -> list[Any]:
    """Per cent of 75 images to images."""
    right: list[Any] = (accuracies * 0.75).round().int().tolist()
    return right


def measure(recipe: Recipe) -> dict[str, Any]:
    names = page(NOTEBOOK)
    method, _ = pretrained(recipe)
    assert isinstance(method, MAML)
    names |= {"test": recipe.tasks("test"), "TASKS": TASKS}
    tasks = list(islice(names["test"].episodes(TASKS), TASKS))
    adapted = names["before_and_after"](method)
    fresh = replace(recipe, seed=1).build()
    features, labels = embeddings(method, *tasks[0]), tasks[0][1][1]
    assert labels.equal(labels.sort().values), "a plane has the images class by class"
    controls = names["controls"](method, fresh, adapted[:LONG])  # what → layer → mean and half of its interval
    found: dict[str, Any] = {
        "recipe": recipe.name,
        "setting": SETTINGS[recipe.poolings],
        "name": f"{recipe.method}, α = {recipe.inner_lr:g}",
        "plane": rounded(project(features)[[0, -1]], 3),
        "separation": rounded(class_separation(features, labels)[[0, -1]]),
        "turns": rounded(names["turns"](method, adapted), 3),
        "nearest": counts(names["nearest_means"](method, tasks, adapted)),
        "nearest_fresh": counts(torch.stack([names["nearest_mean"](fresh, {}, *task) for task in tasks])),
        "controls": {
            what: {layer: rounded(torch.tensor(pair)) for layer, pair in by.items()} for what, by in controls.items()
        },
    }
    method.inner_steps = STEPS
    courses = torch.stack([names["course"](method, *task) for task in tasks[:LONG]])  # (tasks, 2, steps + 1)
    return found | {"cka": rounded(courses[:, 0]), "right": counts(courses[:, 1])}


def measure_shipped() -> None:
    """Write the numbers of the networks, one after the other; a stopped run goes on where it was."""
    about: dict[str, Any] = {"command": COMMAND, "date": str(date.today()), "torch": torch.__version__}
    about |= {"device": "cpu", "images": 75, "layers": LAYERS}
    recipes = [paper.variant(name, inner_lr=rate, poolings=poolings) for name, rate, poolings in NETWORKS]
    kept = json.loads(FILE.read_text())["runs"] if FILE.exists() else []
    runs = {run["recipe"]: run for run in kept}
    for recipe in recipes:
        if recipe.name not in runs:
            runs[recipe.name] = measure(recipe)
            write_json(FILE, about | {"runs": [runs[r.name] for r in recipes if r.name in runs]})


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure_shipped()
