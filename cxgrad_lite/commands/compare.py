"""The command ``compare``: checkpoints, or files of results, by pairs on the same tasks."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..recipes.recipe import Recipe
from ..recipes.results import device_kind, mean_and_intervals
from ..training.evaluation import Evaluation
from .evaluate import add_task_options, judge
from .options import place


def add_compare_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "difference of two checkpoints, or of two result files, task by task"
    parser = commands.add_parser("compare", help=about, description=about)
    parser.add_argument(
        "first", type=place, metavar="A", help="a checkpoint (.safetensors), or a JSON file with numbers"
    )
    parser.add_argument(
        "second", type=place, metavar="B", help="the same of the other; the options are for checkpoints"
    )
    parser.add_argument(
        "--also", type=place, nargs=2, action="append", default=[], metavar=("A", "B"),
        help="the same two methods, trained with another seed; may be given several times",
    )  # fmt: skip
    add_task_options(parser)
    parser.set_defaults(run=run_compare, protocol="tasks")


def run_compare(options: argparse.Namespace) -> None:
    files = [options.first, options.second, *(file for pair in options.also for file in pair)]
    for side in (files[::2], files[1::2]):
        if len({path.resolve() for path in side}) < len(side):
            raise ValueError("one file stands in two pairs; each pair must be of another training run")
    numbers = on_same_tasks(files, options)
    pairs = list(zip(numbers[::2], numbers[1::2]))
    for one, other in pairs:
        print(f"A      {Evaluation.over_tasks(one)}")
        print(f"B      {Evaluation.over_tasks(other)}")
        print(f"A − B  {difference(one, other)}")
    if len(pairs) > 1:
        print(over_seeds(100 * torch.stack([one - other for one, other in pairs])))
        return
    print(
        "The interval is over tasks. Other training runs differ too: for a claim about a method, compare several seeds."
    )


def on_same_tasks(files: list[Path], options: argparse.Namespace) -> list[Tensor]:
    """For each file the (tasks,) accuracies, as many as all of them have.

    Raises:
        ValueError: naming in what the tasks differ.
    """
    judged = [numbers_in(path) if path.suffix == ".json" else evaluated(path, options) for path in files]
    (_, first), *others = judged
    for path, (_, tasks) in zip(files[1:], others):
        told = [(key, first.get(key, "not said"), tasks.get(key, "not said")) for key in first | tasks]
        differ = [f"{key}: {its} and {mine}" for key, its, mine in told if its != mine]
        if differ:
            raise ValueError(f"{files[0].name} and {path.name}: these are not the same tasks: {', '.join(differ)}")
    count = min(len(numbers) for numbers, _ in judged)
    return [numbers[:count] for numbers, _ in judged]


def difference(one: Tensor, other: Tensor) -> str:
    """The mean difference of (tasks,) accuracies of the same tasks, with its 95 % interval, in points."""
    numbers = Evaluation.over_tasks(one - other)
    return f"{100 * numbers.mean:+.2f} ± {100 * numbers.ci95:.2f} points (95 % interval over {len(one)} paired tasks)"


def over_seeds(values: Tensor) -> str:
    """The mean of (seeds, tasks) differences in points, with both intervals."""
    mean, tasks, seeds = mean_and_intervals(values)
    return f"mean   {mean:+.2f} points; 95 % interval over tasks ± {tasks:.2f}, over {len(values)} seeds ± {seeds:.2f}"


def evaluated(checkpoint: Path, options: argparse.Namespace) -> tuple[Tensor, dict[str, Any]]:
    """(episodes,) accuracies of a checkpoint, and which tasks these are."""
    result, settings = judge([checkpoint], options)
    return result.per_task, dataclasses.asdict(settings)


def numbers_in(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """(episodes,) accuracies in a result of ``sweep`` or a file of ``evaluate --per-task``, and which tasks these are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no numbers of tasks.
    """
    try:
        stored = json.loads(path.read_text())
        split = next(split for split in ("test", "val", "train") if split in stored)
        numbers = torch.tensor(stored[split]["per_task"], dtype=torch.float64)
        return numbers, stored["tasks"] if "tasks" in stored else tasks_of(stored, split, path)
    except (StopIteration, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no accuracies of single tasks") from error


def tasks_of(stored: dict[str, Any], split: str, path: Path) -> dict[str, Any]:
    """Which tasks a sweep judges a run by, in the words of `evaluate.TaskSettings`."""
    recipe = Recipe.stored(stored["recipe"], path)
    size = recipe.size or recipe.images("val").images.shape[-1]
    dataset = recipe.test_dataset if split == "test" and recipe.test_dataset else recipe.dataset
    same = {key: getattr(recipe, key) for key in ("ways", "shots", "queries", "normalisation")}
    return {"dataset": dataset, "split": split, "size": size, **same, "device": device_kind(stored)}
