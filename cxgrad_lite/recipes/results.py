"""Results of runs: one JSON file each, read whole or not at all, and never for another recipe's.

``FOLDER/NAME.json`` is the result of the recipe of that name. ``FOLDER/inner_rates.json`` holds the searches of the
course together, as they are shipped, and ``FOLDER/studies.json`` the paper's runs.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from ..training.evaluation import Evaluation
from .recipe import Recipe, check_same

RATES_FILE, STUDIES_FILE = "inner_rates.json", "studies.json"


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write under another name, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "w") as file:
            file.write(json.dumps(value, indent=indent) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_result(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """The result of a recipe, None if there is none yet; a damaged file counts as none, with a warning.

    Raises:
        ValueError: if the file of that name is the result of other settings.
    """
    path = folder / f"{recipe.name}.json"
    if not path.exists():
        files = [path for path in (folder / RATES_FILE, folder / STUDIES_FILE) if path.exists()]
        found = (gathered(path, path.stat().st_mtime_ns).get(recipe.name) for path in files)
        result = next((result for result in found if result is not None), None)
    else:
        try:
            result = json.loads(path.read_text())
        except ValueError as error:
            warnings.warn(f"{path} is damaged ({error}); the run is made again", stacklevel=2)
            return None
    if result is not None:
        check_same(recipe, result["recipe"], path)
    return result


@lru_cache(maxsize=8)
def gathered(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    """Results in one file, by name; ``changed``, the time of the file's last change, keeps the memory honest."""
    return {Recipe.stored(result["recipe"], path).name: result for result in json.loads(path.read_text())}


def validation(result: dict[str, Any]) -> dict[str, float]:
    """{"mean", "ci95", "episodes"} of a search; a run that diverged is worse than any other."""
    if "diverged" in result:
        return {"mean": -math.inf, "ci95": math.nan, "episodes": 0}
    if "val" in result:
        return summary(result["val"])
    stored: dict[str, float] = result["validation"]
    return stored


def summary(numbers: dict[str, Any]) -> dict[str, float]:
    """Mean and interval in the precision that is shipped, and the number of tasks instead of the tasks."""
    return {
        "mean": round(numbers["mean"], 5),
        "ci95": round(numbers["ci95"], 5),
        "episodes": len(numbers["per_task"]),
    }


def best(searches: Sequence[Recipe], folder: Path) -> Recipe | None:
    """The search that did best on validation tasks, the first of equals; None while one has no result."""
    results = [read_result(recipe, folder) for recipe in searches]
    if not searches or None in results:
        return None
    means = [validation(result)["mean"] for result in results if result is not None]
    return searches[means.index(max(means))]


def device_kind(result: dict[str, Any]) -> str:
    """ "cpu", "mps" or "cuda", from the name that `provenance` gave the device."""
    return next((kind for mark, kind in (("CPU", "cpu"), ("mps", "mps")) if mark in result["device"]), "cuda")


def on_cpu(result: dict[str, Any]) -> bool:
    return device_kind(result) == "cpu"


def tested_again(recipe: Recipe) -> Recipe:
    """The test of a run's checkpoint on this machine's meta-test tasks of the same classes."""
    return replace(recipe, test_dataset=recipe.dataset)


def read_study(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """The result of a recipe, with that of its second test as "again", where it has one."""
    result, again = read_result(recipe, folder), read_result(tested_again(recipe), folder)
    return result if result is None or again is None else result | {"again": again}


def percent(result: dict[str, Any]) -> Tensor:
    """(tasks,) accuracies."""
    return 100 * torch.tensor(result["test"]["per_task"], dtype=torch.float64)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed only.

    Attributes:
        title: what they are called in a table.
        results: one of `making.make` for each seed.
    """

    title: str
    results: tuple[dict[str, Any], ...]

    def on_cpu_tasks(self) -> Arm:
        """The runs as tested on the tasks that a CPU draws, without those that have no such test."""
        tests = (result if on_cpu(result) else result.get("again") for result in self.results)
        return replace(self, results=tuple(test for test in tests if test is not None))

    @property
    def accuracies(self) -> Tensor:
        """(seeds, tasks) in per cent."""
        return torch.stack([percent(result) for result in self.results])

    @property
    def seeds(self) -> list[int]:
        return [result["recipe"]["seed"] for result in self.results]

    def beside(self, other: Arm) -> Arm:
        """The runs whose seeds the other has, too."""
        return replace(self, results=tuple(r for r in self.results if r["recipe"]["seed"] in other.seeds))

    def mean_of(self, kind: str) -> Tensor:
        """(layers,) the mean over seeds of "norms" or "relative" in each result's last look at the inner loop."""
        looks = [torch.tensor(list(result["probes"][-1][kind].values())) for result in self.results]
        return torch.stack(looks).mean(0)

    def validation(self) -> dict[int, float]:
        """By meta-iteration the mean over seeds of the accuracy on validation tasks, in per cent."""
        points = [{done: accuracy for done, accuracy, _ in result["validation"]} for result in self.results]
        return {done: 100 * mean(seed[done] for seed in points) for done in points[0]}

    def mean_cka(self, layer: str) -> float:
        """The mean over seeds and tasks of the CKA of a layer's answers before and after adaptation."""
        return mean(mean(result["cka"][layer]) for result in self.results)


def gamma_spread(look: dict[str, Any]) -> float:
    """In a look at the inner loop, the standard deviation over tasks of the γ that varies most, in per cent of it."""
    return max(100 * std / gamma for std, gamma in zip(look["gamma_std"], look["gamma"]))


def mean_and_intervals(values: Tensor) -> tuple[float, float, float]:
    """Mean of (seeds, tasks) values, and half the 95 % interval over tasks and over seeds (NaN for one seed).

    Over tasks: of each task's mean over the seeds, so it says nothing about other seeds; over seeds: Student's t.
    """
    from scipy.stats import t as student  # which takes a second

    by_task, by_seed, n = values.mean(0), values.mean(1), len(values)
    over_tasks = Evaluation.over_tasks(by_task).ci95
    over_seeds = student.ppf(0.975, n - 1) * by_seed.std().item() / math.sqrt(n) if n > 1 else math.nan
    return values.mean().item(), over_tasks, over_seeds


def paired(one: Arm, other: Arm) -> tuple[Tensor, Tensor, list[int]]:
    """(seeds, tasks) accuracies of both on the same tasks, and the seeds, which are those that both have."""
    both = {
        seed: on_same_tasks(a, b)
        for a, seed in zip(one.results, one.seeds)
        for b, its in zip(other.results, other.seeds)
        if its == seed
    }
    pairs = {seed: pair for seed, pair in both.items() if pair is not None}
    if not pairs:
        return torch.empty(0, 1), torch.empty(0, 1), []
    mine, theirs = (torch.stack(values) for values in zip(*pairs.values()))
    return mine, theirs, list(pairs)


def difference(one: Arm, other: Arm) -> tuple[Tensor, list[int]]:
    """(seeds, tasks) accuracy of one minus the other, on the same tasks, for the seeds that both have."""
    mine, theirs, seeds = paired(one, other)
    return mine - theirs, seeds


def on_same_tasks(one: dict[str, Any], other: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """(tasks,) accuracies of both, if they can be paired.

    A seed draws other tasks on a GPU than on a CPU: of two kinds of device, the GPU's run needs a second test.
    """
    if on_cpu(one) != on_cpu(other):
        one, other = (run if on_cpu(run) else run.get("again", run) for run in (one, other))
    return (percent(one), percent(other)) if device_kind(one) == device_kind(other) else None
