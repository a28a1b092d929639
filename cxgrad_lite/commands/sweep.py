"""Runs of a plan, one after the other: each can be killed and goes on, and leaves one JSON file when it is done.

``OUT/NAME.json`` is the result, with the accuracy of every task; ``OUT/NAME.safetensors`` the network of a study; and
``OUT/runs/NAME/`` the state of a run that is under way.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..core.maml import MAML
from ..core.method import Method
from ..probes import LAYERS, cka_before_after, layer_norms, traces
from ..recipes.paper import rate_recipes
from ..recipes.recipe import Recipe
from ..training.checkpoints import save_checkpoint
from ..training.evaluation import Evaluation, evaluate
from ..training.folder import RunFolder
from ..training.host import keep_freed_memory
from ..training.loop import History, TrainConfig, meta_train

PLANS: dict[str, Callable[[], list[Recipe]]] = {"paper-rates": rate_recipes}
VALIDATE_EVERY, VALIDATION_TASKS = {"search": 200, "study": 500}, 100
PROBE_EVERY, PROBED_TASKS = 100, 8
CKA_TASKS = 100


class Probe:
    """A callback that writes what it sees of the inner loop into ``probes.jsonl``, so that a resumed run keeps it."""

    def __init__(self, method: Method, recipe: Recipe, file: Path) -> None:
        self.method, self.tasks, self.file = method, recipe.tasks("val"), file

    def __call__(self, history: History) -> None:
        done = len(history.loss)
        if isinstance(self.method, MAML) and (done == 1 or done % PROBE_EVERY == 0):
            with open(self.file, "a") as lines:
                lines.write(json.dumps({"iteration": done, **self.look()}) + "\n")

    def look(self) -> dict[str, Any]:
        """Means over inner steps and tasks: gradient norms, and the move of a step relative to the weight."""
        seen = list(traces(self.method, self.tasks, PROBED_TASKS))  # type: ignore[arg-type]
        kinds = {kind: [layer_norms(trace, kind) for trace in seen] for kind in ("grad", "update", "weight")}  # type: ignore[arg-type]
        values: dict[str, Any] = {"norms": {}, "relative": {}}
        for layer in LAYERS:
            grads, updates, weights = (torch.tensor([n[layer] for n in kinds[kind]]) for kind in kinds)
            values["norms"][layer] = round(grads.mean().item(), 5)
            values["relative"][layer] = round((updates / weights).nan_to_num().mean().item(), 7)
        gammas = [trace[-1].scaling for trace in seen if trace[-1].scaling is not None]
        if gammas:
            values["gamma"], values["gamma_std"] = (
                [float(f"{g:.6g}") for g in row] for row in (torch.stack(gammas).mean(0), torch.stack(gammas).std(0))
            )
        return values


def probes_in(file: Path) -> list[dict[str, Any]]:
    """The last look of every meta-iteration; one that a kill has torn is left out."""
    looks: dict[int, dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            look = json.loads(line)
        except json.JSONDecodeError:
            continue
        looks[look["iteration"]] = look
    return [looks[i] for i in sorted(looks)]


def numbers(result: Evaluation) -> dict[str, Any]:
    tasks = [round(a, 6) for a in result.per_task.tolist()]
    return {"mean": round(result.mean, 6), "ci95": round(result.ci95, 6), "per_task": tasks}


def judge(recipe: Recipe, method: Method) -> dict[str, Any]:
    """What a finished run is measured by."""
    if recipe.purpose == "search":
        return {"val": numbers(evaluate(method, recipe.tasks("val"), recipe.episodes))}
    results: dict[str, Any] = {"test": numbers(evaluate(method, recipe.tasks("test"), recipe.episodes))}
    if isinstance(method, MAML):
        similar = cka_before_after(method, recipe.tasks("test"), CKA_TASKS)
        results["cka"] = {layer: [round(v, 5) for v in values.tolist()] for layer, values in similar.items()}
    return results


def commit() -> str:
    """The commit that the code is at, or "unknown" outside a repository."""
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def make(recipe: Recipe, plan: str, out: Path) -> None:
    """One run, from wherever it was stopped, to its result."""
    folder = out / "runs" / recipe.name
    provenance = {
        "recipe": asdict(recipe),
        "command": f"python -m cxgrad_lite.sweep {plan} --only {recipe.name}",
        "commit": commit(),
        "version": __version__,
        "engine": "fused",
        "precision": "float32",
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    state = RunFolder(folder, minutes=2, resume=True, provenance=provenance)
    method = recipe.build()
    every = VALIDATE_EVERY.get(recipe.purpose, 0)
    config: TrainConfig = replace(
        recipe.config(), engine="fused", validate_every=every, validation_episodes=VALIDATION_TASKS, progress=False
    )
    probe = Probe(method, recipe, folder / "probes.jsonl")
    history = meta_train(method, recipe.tasks("train"), config, recipe.tasks("val"), probe, state)
    if history.interrupted:
        raise KeyboardInterrupt
    start = time.perf_counter()
    result = provenance | {"seconds": round(history.seconds, 1), **judge(recipe, method)}
    result["judging_seconds"] = round(time.perf_counter() - start, 1)
    result["validation"] = [[done, round(v.mean, 6), round(v.ci95, 6)] for done, v in history.validation]
    result["probes"] = probes_in(folder / "probes.jsonl")
    if recipe.purpose == "study":
        save_checkpoint(out / f"{recipe.name}.safetensors", method, **provenance, seconds=history.seconds)
    unfinished = out / f"{recipe.name}.json.part"
    unfinished.write_text(json.dumps(result) + "\n")
    unfinished.replace(out / f"{recipe.name}.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--only", help="name of one run")
    parser.add_argument("--out", type=Path, default=Path("results/paper"))
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    for recipe in PLANS[options.plan]():
        if options.only in (None, recipe.name) and not (options.out / f"{recipe.name}.json").exists():
            print(f"{time.strftime('%H:%M')} {recipe.name}", flush=True)
            make(recipe, options.plan, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
