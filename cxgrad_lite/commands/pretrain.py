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
from dataclasses import asdict
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from ..core.maml import MAML
from ..core.method import Method
from ..core.outer import Tasks
from ..probes import LAYERS, mean_over_traces, traces
from ..recipes.course import recipe_named, search_recipes, whole_recipes
from ..recipes.recipe import RATES_FILE, Recipe
from ..training.checkpoints import save_checkpoint
from ..training.evaluation import Evaluation, evaluate
from ..training.host import keep_freed_memory
from ..training.loop import History, meta_train

CURVE_EVERY = 20  # meta-iterations averaged into one point of a stored curve, and between two probes
PROBED_TASKS = 8  # validation tasks of a probe


def run_search(recipe: Recipe, target: Path) -> None:
    """A short run and its accuracy on validation tasks."""
    method, history = recipe.train()
    judged = evaluate(method, recipe.tasks("val"), recipe.episodes)
    result = {**provenance(recipe, history), "validation": summary(judged)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".part").write_text(json.dumps(result))
    target.with_suffix(".part").replace(target)


def run_whole(recipe: Recipe, target: Path) -> None:
    """A whole run: its checkpoint, with curves and the accuracy on meta-test tasks."""
    method = recipe.build()
    probes = Probes(method, recipe.tasks("val"))
    history = meta_train(method, recipe.tasks("train"), recipe.config(), callback=probes)
    curves: dict[str, Any] = {"loss": every(history.loss), "accuracy": every(history.accuracy), "every": CURVE_EVERY}
    save_checkpoint(
        target,
        method,
        **provenance(recipe, history),
        curves=curves | probes.curves,
        test=summary(evaluate(method, recipe.tasks("test"), recipe.episodes)),
    )


class Probes:
    """A training callback that looks at the inner loop on fixed validation tasks.

    ``curves`` then has, one entry per probe: "iteration" (meta-iterations done); "norms", the mean gradient norm of
    each layer over inner steps and tasks; for CxGrad "gamma", the mean of each block's γ over tasks in the last inner
    step, and "gamma_std", its standard deviation over tasks.
    """

    def __init__(self, method: Method, tasks: Tasks) -> None:
        self.method, self.tasks = method, tasks
        self.curves: dict[str, Any] = {}

    def __call__(self, history: History) -> None:
        done = len(history.loss)
        if not isinstance(self.method, MAML) or done % CURVE_EVERY and done != 1:
            return
        found = list(traces(self.method, self.tasks, PROBED_TASKS))
        self.add("iteration", done)
        norms = self.curves.setdefault("norms", {layer: [] for layer in LAYERS})
        for layer, norm in mean_over_traces(found).items():
            norms[layer].append(float(f"{norm:.4g}"))
        gammas = [trace[-1].scaling for trace in found if trace[-1].scaling is not None]
        if gammas:
            self.add("gamma", torch.stack(gammas).mean(0).tolist())
            self.add("gamma_std", torch.stack(gammas).std(0).tolist())

    def add(self, key: str, value: Any) -> None:
        self.curves.setdefault(key, []).append(value)


def result_file(recipe: Recipe, folder: Path) -> Path:
    searching = recipe.purpose == "search"
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
    keep_freed_memory()
    target = result_file(recipe, folder)
    (run_search if target.suffix == ".json" else run_whole)(recipe, target)


def run_all(recipes: list[Recipe], folder: Path, jobs: int) -> None:
    """Every run that has no result yet.

    Raises:
        SystemExit: if a run failed; the others are finished first.
    """
    missing = [recipe for recipe in recipes if not result_file(recipe, folder).exists()]
    print(f"{len(recipes)} runs, {len(recipes) - len(missing)} of them done, {jobs} at a time", flush=True)

    def start(recipe: Recipe) -> bool:
        log = folder / f"{recipe.name}.log"
        command = [sys.executable, "-m", "cxgrad_lite", "pretrain", "--only", recipe.name, "--out", str(folder)]
        with open(log, "w") as output:
            code = subprocess.run(
                command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=output, stderr=output
            ).returncode
        if code == 0:
            log.unlink()
        print(f"{recipe.name}: {'done' if code == 0 else f'failed, see {log}'}", flush=True)
        return code == 0

    with ThreadPoolExecutor(jobs) as pool:
        if not all(list(pool.map(start, missing))):
            raise SystemExit("some runs failed; the same command makes just those again")


def gather_searches(folder: Path) -> list[Recipe]:
    """Write all results of the search into one file, once there are all of them; the runs that are missing."""
    file, stored = folder / RATES_FILE, {}
    if file.exists():
        stored = {Recipe(**run["recipe"]).name: run for run in json.loads(file.read_text())}
    for recipe in search_recipes():
        if result_file(recipe, folder).exists():
            stored[recipe.name] = json.loads(result_file(recipe, folder).read_text())
    missing = [recipe for recipe in search_recipes() if recipe.name not in stored]
    if not missing:
        file.write_text(json.dumps([stored[recipe.name] for recipe in search_recipes()], indent=1))
    return missing


def pretrain(only: str, folder: Path, jobs: int) -> None:
    """The runs whose names match the pattern; a full name runs in this process.

    Raises:
        SystemExit: if there is no run of that name, or a run failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    single = recipe_named(only)
    if single:
        return run_one(single, folder)
    if not set(only) & set("*?["):
        raise SystemExit(f"there is no run named {only!r}; a pattern such as 'glyphs-*' takes several")
    search = [recipe for recipe in gather_searches(folder) if fnmatch(recipe.name, only)]
    if search:
        run_all(search, folder, jobs)
    if gather_searches(folder):
        print("the whole runs wait for the rest of the search")
        return
    run_all([recipe for recipe in whole_recipes(folder) if fnmatch(recipe.name, only)], folder, jobs)
