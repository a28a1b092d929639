"""Makes the checkpoints that the notebooks load: a search for each method's inner rate, then whole runs.

Every run is a process of its own, on one core. A run that has left its result is not made again, so the same command
resumes after an interruption.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from .checkpoints import save_checkpoint
from .evaluation import Evaluation, evaluate
from .recipes import RATES_FILE, Recipe, best_recipe
from .training import History, TrainConfig

DATASETS = ("glyphs", "omniglot_small")
METHODS = ("MAML", "CxGrad")
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SEARCH_ITERATIONS = 150
SEEDS = (0,)
CURVE_EVERY = 20  # meta-iterations averaged into one point of a stored curve


def search_recipes() -> list[Recipe]:
    """The short runs that inner rates are chosen by."""
    return [Recipe(d, m, inner_lr=r, iterations=SEARCH_ITERATIONS) for d in DATASETS for m in METHODS for r in RATES]


def whole_recipes(folder: Path) -> list[Recipe]:
    """Whole runs: at the best rate with every seed, and at the paper's 0.01."""
    runs = []
    for dataset in DATASETS:
        for method in METHODS:
            best = best_recipe(dataset, method, folder)
            runs += [replace(best, seed=seed) for seed in SEEDS]
            runs += [] if best.inner_lr == 0.01 else [replace(best, inner_lr=0.01)]
    return runs


def run_search(recipe: Recipe, target: Path) -> None:
    """A short run and its accuracy on 200 validation tasks."""
    method, history = recipe.train(TrainConfig(recipe.iterations, recipe.meta_lr))
    result = {**provenance(recipe, history), "validation": summary(evaluate(method, recipe.tasks("val"), 200))}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".part").write_text(json.dumps(result))
    target.with_suffix(".part").replace(target)


def run_whole(recipe: Recipe, target: Path) -> None:
    """A whole run: its checkpoint, with curves and the accuracy on 600 meta-test tasks."""
    method, history = recipe.train()
    save_checkpoint(
        target,
        method,
        **provenance(recipe, history),
        curves={"loss": every(history.loss), "accuracy": every(history.accuracy), "every": CURVE_EVERY},
        test=summary(evaluate(method, recipe.tasks("test"), 600)),
    )


def result_file(recipe: Recipe, folder: Path) -> Path:
    searching = recipe.iterations == SEARCH_ITERATIONS
    return folder / "search" / f"{recipe.name}.json" if searching else folder / f"{recipe.name}.safetensors"


def provenance(recipe: Recipe, history: History) -> dict[str, Any]:
    """Where a number comes from."""
    return {
        "recipe": asdict(recipe),
        "command": f"python -m cxgrad_lite pretrain --only {recipe.name}",
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "seconds": round(history.seconds, 1),
    }


def summary(result: Evaluation) -> dict[str, float]:
    return {"mean": round(result.mean, 5), "ci95": round(result.ci95, 5), "episodes": len(result.per_task)}


def every(values: list[float]) -> list[float]:
    """Means of consecutive groups of `CURVE_EVERY` values."""
    groups = [values[i : i + CURVE_EVERY] for i in range(0, len(values), CURVE_EVERY)]
    return [round(sum(group) / len(group), 4) for group in groups]


def run_one(recipe: Recipe, folder: Path) -> None:
    """One run in this process."""
    target = result_file(recipe, folder)
    (run_search if target.suffix == ".json" else run_whole)(recipe, target)


def run_all(recipes: list[Recipe], folder: Path, jobs: int) -> None:
    """Every run that has no result yet.

    Raises:
        SystemExit: if a run failed; the others are finished first.
    """
    missing = [recipe for recipe in recipes if not result_file(recipe, folder).exists()]
    print(f"{len(recipes)} runs, {len(recipes) - len(missing)} of them done, {jobs} at a time", flush=True)
    # Freed memory stays in the process: the large tensors of a meta-step are wanted again in the next one.
    tuning = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296", "OMP_NUM_THREADS": "1"}

    def start(recipe: Recipe) -> bool:
        log = folder / f"{recipe.name}.log"
        command = [sys.executable, "-m", "cxgrad_lite", "pretrain", "--only", recipe.name, "--out", str(folder)]
        with open(log, "w") as output:
            code = subprocess.run(command, env={**os.environ, **tuning}, stdout=output, stderr=output).returncode
        if code == 0:
            log.unlink()
        print(f"{recipe.name}: {'done' if code == 0 else f'failed, see {log}'}", flush=True)
        return code == 0

    with ThreadPoolExecutor(jobs) as pool:
        if not all(list(pool.map(start, missing))):
            raise SystemExit("some runs failed; the same command makes just those again")


def pretrain(only: str, folder: Path, jobs: int) -> None:
    """The runs whose names match the pattern; a full name runs in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = [Recipe(d, m, inner_lr=r, seed=s) for d in DATASETS for m in METHODS for r in RATES for s in SEEDS]
    for recipe in search_recipes() + whole:
        if recipe.name == only:
            return run_one(recipe, folder)
    run_all([recipe for recipe in search_recipes() if fnmatch(recipe.name, only)], folder, jobs)
    results = [result_file(recipe, folder) for recipe in search_recipes()]
    if not all(file.exists() for file in results):
        print("the whole runs wait for the rest of the search")
        return
    (folder / RATES_FILE).write_text(json.dumps([json.loads(file.read_text()) for file in results], indent=1))
    run_all([recipe for recipe in whole_recipes(folder) if fnmatch(recipe.name, only)], folder, jobs)
