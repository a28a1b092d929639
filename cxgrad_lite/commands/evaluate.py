"""The command ``evaluate``: accuracy of checkpoints on tasks of a dataset."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_utils import LOADERS, TaskSampler
from data_utils.transforms import NORMALISATIONS, preset

from ..core.maml import MAML
from ..core.method import Method
from ..recipes.images import load_images
from ..recipes.making import numbers_of
from ..recipes.recipe import SPLIT_SEEDS, Recipe
from ..recipes.results import write_json
from ..training.checkpoints import load_checkpoint, read_header
from ..training.evaluation import Evaluation, evaluate
from ..training.settings import check, suggestion
from .options import choose_device, place, positive, whole


@dataclass(frozen=True)
class TaskSettings:
    """Which tasks a checkpoint is judged by. Equal settings and numbers of episodes are the same tasks.

    A seed draws other tasks on a GPU than on a CPU, so the kind of device belongs to them.
    """

    dataset: str
    split: str
    ways: int
    shots: int
    queries: int
    size: int
    normalisation: str
    device: str  # its kind: "cpu", "cuda" or "mps"

    def sampler(self, channels: int, device: torch.device) -> TaskSampler:
        """The tasks, as images that a network with these channels takes."""
        images = load_images(self.dataset, self.split, self.size, channels).to(device)
        seed, transform = SPLIT_SEEDS.get(self.split, 0), preset(self.normalisation)
        return TaskSampler(images, self.ways, self.shots, self.queries, seed=seed, transform=transform)


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which tasks, for ``evaluate`` and ``compare``."""
    parser.add_argument("--dataset", help="default: the one it was trained on")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--size", type=positive, help="of the images, in pixels (default: the network's)")
    parser.add_argument("--normalisation", choices=NORMALISATIONS, help="of the images (default: as trained)")
    parser.add_argument("--ways", type=positive, help="default: those of the head")
    parser.add_argument("--shots", type=positive, help="default: as trained, else 5")
    parser.add_argument("--queries", type=positive, default=15, help="per class (default: 15)")
    parser.add_argument("--episodes", type=positive, default=600, help="tasks (default: 600)")
    parser.add_argument("--inner-steps", type=whole, help="at test (default: as trained)")
    parser.add_argument("--device", default="auto")


def add_evaluate_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "accuracy of one or several checkpoints on meta-test tasks"
    parser = commands.add_parser("evaluate", help=about, description=about)
    parser.add_argument("checkpoint", type=place, nargs="+", help="several only with --protocol paper")
    add_task_options(parser)
    parser.add_argument("--protocol", choices=["tasks", "paper"], default="tasks")
    parser.add_argument("--per-task", type=place, metavar="FILE", help="write the accuracy of every task as JSON")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> None:
    result, settings = judge(options.checkpoint, options)
    print(f"{settings.dataset} {settings.split}, {settings.ways}-way {settings.shots}-shot: {result}")
    numbers = {"mean": result.mean, "ci95": result.ci95, "episodes": options.episodes, "protocol": result.protocol}
    print(json.dumps(numbers))
    if options.per_task:
        about = {"checkpoints": [path.name for path in options.checkpoint], "inner_steps": options.inner_steps}
        write_json(options.per_task, about | {"tasks": dataclasses.asdict(settings), options.split: numbers_of(result)})


def judge(checkpoints: Sequence[Path], options: argparse.Namespace) -> tuple[Evaluation, TaskSettings]:
    """Accuracy on the tasks that the options ask for.

    Raises:
        ValueError: if the options do not fit the checkpoints.
        FloatingPointError: if the logits of a task are not finite.
        FileNotFoundError: if there is no such checkpoint.
    """
    device = choose_device(options.device)
    methods = [load_checkpoint(path).to(device) for path in checkpoints]
    settings = task_settings(checkpoints[0], methods[0], options, device.type)
    for method in methods if options.inner_steps is not None else []:
        set_inner_steps(method, options.inner_steps)
    tasks = settings.sampler(methods[0].net.in_channels, device)
    result = evaluate(methods, tasks, options.episodes, options.protocol, progress=sys.stderr.isatty())
    return result.checked(), settings


def task_settings(checkpoint: Path, method: Method, options: argparse.Namespace, device: str) -> TaskSettings:
    """What the options say; where they are silent, what the checkpoint was trained on."""
    trained: dict[str, Any] = read_header(checkpoint)["provenance"].get("recipe", {})
    check(Recipe, trained, checkpoint)
    dataset = trained.get("dataset") if options.dataset is None else options.dataset
    size = options.size or method.net.image_size
    if dataset is None:
        raise ValueError(f"{checkpoint} does not say what it was trained on; give --dataset")
    if dataset not in LOADERS:
        raise ValueError(f"there is no dataset {dataset!r}{suggestion(dataset, LOADERS)}")
    if size != method.net.image_size:
        raise ValueError(
            f"--size {size} does not fit: the network of {checkpoint} takes {method.net.image_size} pixels"
        )
    ways, shots = options.ways or method.net.ways, options.shots or trained.get("shots", 5)
    normalisation = options.normalisation or trained.get("normalisation", "none")
    return TaskSettings(dataset, options.split, ways, shots, options.queries, size, normalisation, device)


def set_inner_steps(method: Method, steps: int) -> None:
    """Let a gradient-based method take another number of steps than in training.

    Raises:
        ValueError: if it has no inner loop, what it learned belongs to single steps, or there are too many.
    """
    check(MAML, {"inner_steps": steps}, "--inner-steps")
    name = type(method).__name__
    if not isinstance(method, MAML):
        raise ValueError(f"{name} has no inner loop, so --inner-steps does not apply")
    if name in ("MAMLPlusPlus", "ALFA") and steps > method.inner_steps:
        raise ValueError(f"{name} has learned the rates of {method.inner_steps} steps, so it cannot take {steps}")
    method.inner_steps = steps
