"""One run from its recipe to its result, from wherever it was stopped before.

``OUT/NAME.json`` is the result; ``OUT/NAME.safetensors`` the network, of a search none; ``OUT/runs/NAME/`` the state
of a run that is under way.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ..core.maml import MAML
from ..core.method import Method
from ..probes import LAYERS, cka_before_after, layer_norms, traces
from ..training.checkpoints import load_checkpoint, read_header, save_checkpoint
from ..training.engines import Engine, device_of
from ..training.evaluation import Evaluation, evaluate
from ..training.loop import History, TrainConfig, meta_train
from ..training.resume import RunFolder
from .provenance import provenance
from .recipe import Recipe, check_same
from .results import read_result, summary, write_json

RECIPE_FILE = "recipe.json"  # in the folder of a run
MINUTES = 2  # between two states
VALIDATE_EVERY, VALIDATION_TASKS = {"search": 200, "study": 500}, 100
PROBE_EVERY, PROBED_TASKS = {"whole": 20, "study": 100, "search": 100}, 8
CURVE_EVERY = 20  # meta-iterations averaged into one point of a stored curve
CKA_TASKS = 100


def make(
    recipe: Recipe,
    out: Path,
    command: str,
    engine: Engine = "auto",
    device: torch.device | str = "cpu",
    wait: float = 0.0,
) -> dict[str, Any]:
    """Make one run, unless its result is there; ``wait`` so many seconds for another process that is making it.

    Raises:
        filelock.Timeout: if another process is making it.
        KeyboardInterrupt: if it was stopped; its state is kept.
        ValueError: if the result or the state there belongs to other settings.
        FileNotFoundError: if a test on another dataset has no checkpoint to test.
    """
    folder = out / "runs" / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock", timeout=wait):
        done = read_result(recipe, out)
        if done is not None:
            return done
        result = transfer(recipe, out, command, device) if recipe.test_dataset else train(
            recipe, out, command, engine, device
        )  # fmt: skip
        write_json(out / f"{recipe.name}.json", result)
    return result


def train(recipe: Recipe, out: Path, command: str, engine: Engine, device: torch.device | str) -> dict[str, Any]:
    """Meta-train, measure, and keep the checkpoint."""
    folder, method, tasks = out / "runs" / recipe.name, recipe.build().to(device), recipe.tasks("train", device)
    every = VALIDATE_EVERY.get(recipe.purpose, 0)
    config: TrainConfig = replace(
        recipe.config(), engine=engine, validate_every=every, validation_episodes=VALIDATION_TASKS, progress=False
    )
    about = provenance(recipe, method, tasks, config, command)
    state, probes = run_folder(recipe, folder, MINUTES, True, about), Probes(method, recipe, folder / "probes.jsonl")
    try:
        history = meta_train(method, tasks, config, recipe.tasks("val", device), probes, state)
        if history.interrupted:
            raise KeyboardInterrupt
        start = time.perf_counter()
        result = about | {"seconds": round(history.seconds, 1), **measured(recipe, method)}
    except FloatingPointError as error:
        if recipe.purpose != "search":
            raise
        return about | {"diverged": str(error)}  # which is what the search wanted to know of this rate
    result["judging_seconds"] = round(time.perf_counter() - start, 1)
    result["validation"] = [[done, round(v.mean, 6), round(v.ci95, 6)] for done, v in history.validation]
    result["probes"] = probes.seen()
    if recipe.purpose != "search":
        kept = {"seconds": result["seconds"], "curves": curves(history, result["probes"])}
        save_checkpoint(out / f"{recipe.name}.safetensors", method, **about, **kept, test=summary(result["test"]))
    return result


def transfer(recipe: Recipe, out: Path, command: str, device: torch.device | str) -> dict[str, Any]:
    """Measure the checkpoint of the same recipe on meta-test tasks of another dataset."""
    trained = replace(recipe, test_dataset=None)
    checkpoint = out / f"{trained.name}.safetensors"
    method, tasks = load_checkpoint(checkpoint).to(device), recipe.tasks("test", device)
    check_same(trained, read_header(checkpoint)["provenance"]["recipe"], checkpoint)
    about = provenance(recipe, method, tasks, recipe.config(), command)
    start = time.perf_counter()
    numbers = numbers_of(evaluate(method, tasks, recipe.episodes))
    return about | {"checkpoint": checkpoint.name, "test": numbers, "seconds": round(time.perf_counter() - start, 1)}


def run_folder(recipe: Recipe, folder: Path, minutes: float, resume: bool, about: dict[str, Any]) -> RunFolder:
    """The folder of a run, which goes on with the recipe that it was begun with; only longer is allowed.

    Raises:
        ValueError: naming the field that differs.
        FileExistsError: if there is a run and ``resume`` is false.
    """
    file = folder / RECIPE_FILE
    state = RunFolder(folder, minutes, resume=resume, provenance=about)
    if resume and file.exists():
        try:
            stored = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}); delete it to go on with the recipe asked for") from error
        check_same(recipe, stored, folder, free=("iterations", "episodes", "purpose", "test_dataset"))
        if recipe.iterations < stored["iterations"]:
            raise ValueError(f"{folder} was made with iterations={stored['iterations']}; it can only be made longer")
    write_json(file, asdict(recipe))
    return state


class Probes:
    """A training callback that looks at the inner loop on tasks that stay the same.

    Each look is a line of a file, so that a resumed run keeps what it saw before.

    Args:
        file: where the looks go, one line of JSON each (see `look`).
        every: meta-iterations between two looks; the first is after the first.
        split: "val", or "train" for the tasks that the training begins with.
    """

    def __init__(
        self, method: Method, recipe: Recipe, file: Path, every: int | None = None, split: str = "val"
    ) -> None:
        self.method, self.file, self.every = method, file, every or PROBE_EVERY[recipe.purpose]
        self.split, self.tasks = split, recipe.tasks(split, device_of(method))

    def __call__(self, history: History) -> None:
        done = len(history.loss)
        if isinstance(self.method, MAML) and (done == 1 or done % self.every == 0):
            with open(self.file, "a") as lines:
                # The newline comes first: a line that a kill has torn then spoils no other.
                lines.write(
                    "\n" + json.dumps({"iteration": done, "split": self.split, **self.look(self.method)}) + "\n"
                )

    def look(self, method: MAML) -> dict[str, Any]:
        """By layer, means over inner steps and tasks: "norms" of the gradient, and "relative", the move of a step over
        the norm of the weight. For CxGrad also "gamma", each block's γ in the last inner step: its mean over tasks, and
        "gamma_std", its standard deviation over them."""
        paths = list(traces(method, self.tasks, PROBED_TASKS))
        grads, updates, weights = (
            {layer: torch.tensor([layer_norms(trace, kind)[layer] for trace in paths]) for layer in LAYERS}
            for kind in ("grad", "update", "weight")
        )  # each (tasks, steps)
        relative = {layer: (updates[layer] / weights[layer]).nan_to_num().mean().item() for layer in LAYERS}
        look: dict[str, Any] = {
            "norms": {layer: round(grads[layer].mean().item(), 5) for layer in LAYERS},
            "relative": {layer: round(moved, 7) for layer, moved in relative.items()},
        }
        gammas = [trace[-1].scaling for trace in paths if trace[-1].scaling is not None]
        if gammas:
            stacked = torch.stack(gammas)  # (tasks, blocks)
            look["gamma"] = [float(f"{g:.6g}") for g in stacked.mean(0)]
            look["gamma_std"] = [float(f"{g:.6g}") for g in stacked.std(0)]
        return look

    def seen(self) -> list[dict[str, Any]]:
        """The last look of every meta-iteration; a line that a kill has torn is left out."""
        looks: dict[int, dict[str, Any]] = {}
        for line in self.file.read_text().splitlines() if self.file.exists() else []:
            try:
                look = json.loads(line)
                looks[look["iteration"]] = look
            except json.JSONDecodeError:
                continue
        return [looks[iteration] for iteration in sorted(looks)]


def measured(recipe: Recipe, method: Method) -> dict[str, Any]:
    """What a finished run is judged by: validation tasks for a search, else meta-test tasks."""
    split = "val" if recipe.purpose == "search" else "test"
    tasks = recipe.tasks(split, device_of(method))
    results: dict[str, Any] = {split: numbers_of(evaluate(method, tasks, recipe.episodes))}
    if recipe.purpose == "study" and isinstance(method, MAML):
        similar = cka_before_after(method, tasks, min(CKA_TASKS, recipe.episodes))
        results["cka"] = {layer: [round(v, 5) for v in values.tolist()] for layer, values in similar.items()}
    return results


def numbers_of(result: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON, with the accuracy of every task.

    Raises:
        FloatingPointError: if it has none.
    """
    tasks = [round(a, 6) for a in result.checked().per_task.tolist()]
    return {"mean": round(result.mean, 6), "ci95": round(result.ci95, 6), "per_task": tasks}


def curves(history: History, probes: list[dict[str, Any]]) -> dict[str, Any]:
    """What a checkpoint keeps of its training: one list per quantity."""
    drawn: dict[str, Any] = {"loss": every(history.loss), "accuracy": every(history.accuracy), "every": CURVE_EVERY}
    if probes:
        drawn["iteration"] = [look["iteration"] for look in probes]
        drawn["norms"] = {layer: [look["norms"][layer] for look in probes] for layer in LAYERS}
    for key in ("gamma", "gamma_std"):
        if probes and key in probes[0]:
            drawn[key] = [look[key] for look in probes]
    return drawn


def every(values: list[float]) -> list[float]:
    """Means of consecutive groups of `CURVE_EVERY` values."""
    groups = [values[i : i + CURVE_EVERY] for i in range(0, len(values), CURVE_EVERY)]
    return [round(sum(group) / len(group), 4) for group in groups]
