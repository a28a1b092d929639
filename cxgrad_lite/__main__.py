"""Command line: ``python -m cxgrad_lite pretrain``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from .recipes import PRETRAINED, Recipe, pretrain, search_rate

DATASETS = ("glyphs", "omniglot_small")
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
SEARCH_ITERATIONS = 150
SEEDS = (0, 1)


def search_recipes(dataset: str, method: str) -> list[Recipe]:
    """The short runs that choose a method's inner rate."""
    return [Recipe(dataset, method, inner_lr=rate, iterations=SEARCH_ITERATIONS) for rate in RATES]


def best_rate(folder: Path, dataset: str, method: str) -> float:
    """The inner rate with the highest validation accuracy."""
    results = {r.inner_lr: json.loads(result_file(folder, r).read_text()) for r in search_recipes(dataset, method)}
    return max(results, key=lambda rate: results[rate]["validation"]["mean"])


def final_recipes(folder: Path, dataset: str, method: str) -> list[Recipe]:
    """Whole runs: at the best rate with every seed, and at the paper's 0.01."""
    best = Recipe(dataset, method, inner_lr=best_rate(folder, dataset, method))
    runs = [replace(best, seed=seed) for seed in SEEDS]
    return runs + ([] if best.inner_lr == 0.01 else [Recipe(dataset, method, inner_lr=0.01)])


def result_file(folder: Path, recipe: Recipe) -> Path:
    if recipe.iterations == SEARCH_ITERATIONS:
        return folder / "search" / f"{recipe.name}.json"
    return folder / f"{recipe.name}.safetensors"


def run_one(recipe: Recipe, folder: Path) -> None:
    """One run in this process; its result is written when it is complete."""
    target = result_file(folder, recipe)
    if target.suffix == ".safetensors":
        pretrain(recipe, folder, progress=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".part").write_text(json.dumps(search_rate(recipe, progress=True), indent=1))
    target.with_suffix(".part").replace(target)


def run_all(recipes: list[Recipe], folder: Path, jobs: int) -> None:
    """Every run that has no result yet, each in a process and on a core of its own."""
    missing = [recipe for recipe in recipes if not result_file(folder, recipe).exists()]
    print(f"{len(recipes)} runs, {len(recipes) - len(missing)} of them done, {jobs} at a time", flush=True)
    # Freed memory stays in the process: the large tensors of a meta-step are wanted again in the next one.
    keep = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296", "OMP_NUM_THREADS": "1"}

    def start(recipe: Recipe) -> int:
        command = [sys.executable, "-m", "cxgrad_lite", "pretrain", "--only", recipe.name, "--out", str(folder)]
        with open(folder / f"{recipe.name}.log", "w") as log:
            code = subprocess.run(command, env={**os.environ, **keep}, stdout=log, stderr=log).returncode
        if code == 0:
            (folder / f"{recipe.name}.log").unlink()
        print(f"{recipe.name}: {'done' if code == 0 else f'failed, see its log in {folder}'}", flush=True)
        return code

    with ThreadPoolExecutor(jobs) as pool:
        if any(list(pool.map(start, missing))):
            raise SystemExit("some runs failed; the same command runs just those again")


def pretrain_command(only: str, folder: Path, jobs: int) -> None:
    """Search the rates, then make the whole runs; what is there already is not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(dataset, method) for dataset in DATASETS for method in ("MAML", "CxGrad")]
    searches = [recipe for pair in pairs for recipe in search_recipes(*pair)]
    candidates = [Recipe(d, m, inner_lr=rate, seed=s) for d, m in pairs for rate in RATES for s in SEEDS]
    exact = [recipe for recipe in searches + candidates if recipe.name == only]
    if exact:
        run_one(exact[0], folder)
        return
    run_all([recipe for recipe in searches if fnmatch(recipe.name, only)], folder, jobs)
    finals = [
        recipe
        for pair in pairs
        if fnmatch(pair[0], f"{only.split('-')[0]}*")
        for recipe in final_recipes(folder, *pair)
    ]
    run_all([recipe for recipe in finals if fnmatch(recipe.name, only)], folder, jobs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cxgrad_lite", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    remake = commands.add_parser("pretrain", help="make the checkpoints that the notebooks load; resumes")
    remake.add_argument("--only", default="*", help="name of one run, or a pattern such as 'glyphs-*'")
    remake.add_argument("--out", type=Path, default=PRETRAINED, help="folder to write to")
    remake.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: all cores)")
    options = parser.parse_args()
    pretrain_command(options.only, options.out, options.jobs)


if __name__ == "__main__":
    main()
