"""The command ``compare``: two checkpoints, or two files of results, on the same tasks."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from ..recipes.recipe import Recipe
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
    add_task_options(parser)
    parser.set_defaults(run=run_compare, protocol="tasks")


def run_compare(options: argparse.Namespace) -> None:
    judged = [
        numbers_in(path) if path.suffix == ".json" else evaluated(path, options)
        for path in (options.first, options.second)
    ]
    (one, tasks), (other, others) = judged
    differ = [f"{key}: {tasks[key]} and {others[key]}" for key in tasks if tasks[key] != others[key]]
    if differ:
        raise ValueError(f"these are not the same tasks: {', '.join(differ)}")
    count = min(len(one), len(other))
    for name, numbers in (("A", one), ("B", other)):
        print(f"{name}      {Evaluation.over_tasks(numbers[:count])}")
    print(f"A − B  {difference(one[:count], other[:count])}")
    print(
        "The interval is over tasks. Other training runs differ too: for a claim about a method, compare several seeds."
    )


def difference(one: torch.Tensor, other: torch.Tensor) -> str:
    """The mean difference of (tasks,) accuracies of the same tasks, with its 95 % interval, in points."""
    paired = Evaluation.over_tasks(one - other)
    return f"{100 * paired.mean:+.2f} ± {100 * paired.ci95:.2f} points (95 % interval over {len(one)} paired tasks)"


def evaluated(checkpoint: Path, options: argparse.Namespace) -> tuple[torch.Tensor, dict[str, Any]]:
    """(episodes,) accuracies of a checkpoint, and which tasks these are."""
    result, settings = judge([checkpoint], options)
    return result.per_task, dataclasses.asdict(settings)


def numbers_in(path: Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """(episodes,) accuracies in a result of ``sweep`` or a file of ``evaluate --per-task``, and which tasks these are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no numbers of tasks.
    """
    try:
        stored = json.loads(path.read_text())
        split = next(split for split in ("test", "val", "train") if split in stored)
        numbers = torch.tensor(stored[split]["per_task"], dtype=torch.float64)
        return numbers, stored["tasks"] if "tasks" in stored else tasks_of(Recipe.stored(stored["recipe"], path), split)
    except (StopIteration, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no accuracies of single tasks") from error


def tasks_of(recipe: Recipe, split: str) -> dict[str, Any]:
    """Which tasks a sweep judges a run by, in the words of `evaluate.TaskSettings`."""
    size = recipe.size or recipe.images("val").images.shape[-1]
    dataset = recipe.test_dataset if split == "test" and recipe.test_dataset else recipe.dataset
    same = {key: getattr(recipe, key) for key in ("ways", "shots", "queries", "normalisation")}
    return {"dataset": dataset, "split": split, "size": size, **same}
