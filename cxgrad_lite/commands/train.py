"""The commands ``train``, ``evaluate`` and ``recipes``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
import typing
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from data_utils import TaskSampler, load
from data_utils.transforms import preset

from ..core.method import Method
from ..core.outer import meta_gradient
from ..recipes.course import whole_recipes
from ..recipes.published import PUBLISHED
from ..recipes.recipe import PRETRAINED, SPLIT_SEEDS, Recipe
from ..training.checkpoints import load_checkpoint, read_header, save_checkpoint
from ..training.engines import Engine, Precision, arithmetic, choose_engine, device_of
from ..training.evaluation import evaluate
from ..training.folder import RunFolder
from ..training.fused import fused_blocks
from ..training.host import keep_freed_memory, peak_memory
from ..training.loop import TrainConfig, meta_train
from ..training.parallel import rank, world_size
from ..training.state import History

ENGINE_HELP = (
    "graph: a meta-step is one CUDA graph; fused: cheaper blocks; eager: as written; auto: what suits (default)"
)
PRECISION_HELP = "tf32: faster products on GPUs; bf16: products in bfloat16; default: float32"
GOOD, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130  # exit codes


def add_train_commands(commands: argparse._SubParsersAction) -> None:
    about = "meta-train by a recipe; can be stopped or killed at any moment and resumed"
    train = commands.add_parser("train", help=about, description=about, epilog=field_help(),
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    train.add_argument("--recipe", required=True, metavar="NAME", help="see: python -m cxgrad_lite recipes")
    train.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="go on from the state in DIR, if there is one")
    train.add_argument("--minutes", type=float, default=10, help="between two saved states (default: 10)")
    train.add_argument("--validate-every", type=int, default=500, help="meta-iterations; 0: never (default: 500)")
    train.add_argument("--validation-episodes", type=int, default=600, help="tasks of a validation (default: 600)")
    train.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    train.add_argument("--engine", choices=typing.get_args(Engine), default="auto", help=ENGINE_HELP)
    train.add_argument("--precision", choices=typing.get_args(Precision), default="float32", help=PRECISION_HELP)
    train.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events into DIR as well")

    about = "accuracy of one or several checkpoints on meta-test tasks"
    judge = commands.add_parser("evaluate", help=about, description=about)
    judge.add_argument("checkpoint", type=Path, nargs="+", help="several only with --protocol paper")
    judge.add_argument("--dataset", help="default: the one it was trained on")
    judge.add_argument("--split", default="test", choices=["train", "val", "test"])
    judge.add_argument("--ways", type=int, help="default: those of the head")
    judge.add_argument("--shots", type=int, default=None, help="default: as trained, else 5")
    judge.add_argument("--queries", type=int, default=15)
    judge.add_argument("--episodes", type=int, default=600)
    judge.add_argument("--protocol", choices=["tasks", "paper"], default="tasks")
    judge.add_argument("--device", default="auto")

    about = "list the recipes by name, or show one"
    shown = commands.add_parser("recipes", help=about, description=about)
    shown.add_argument("name", nargs="?", help="show this one, with all fields")


def known_recipes() -> dict[str, Recipe]:
    """The published ones and those of the shipped runs."""
    return PUBLISHED | {recipe.name: recipe for recipe in whole_recipes(PRETRAINED)}


def field_help() -> str:
    fields = ", ".join(field.name for field in dataclasses.fields(Recipe) if field.name != "options")
    return f"fields of a recipe for --set: {fields};\noptions.NAME for a further argument of the method."


def parse_value(text: str, kind: Any, name: str) -> Any:
    """Text as a value of a field's type.

    Raises:
        ValueError: naming the field, the text and what was expected.
    """
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    if choices:
        if text not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {text!r}")
        return text
    kinds = [k for k in (typing.get_args(kind) or (kind,)) if k is not type(None)]
    if text.lower() == "none" and type(None) in typing.get_args(kind):
        return None
    try:
        return kinds[0](text)
    except ValueError as error:
        raise ValueError(f"{name} needs {kinds[0].__name__}, not {text!r}") from error


def changed(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with ``FIELD=VALUE`` changes; ``options.NAME=VALUE`` takes JSON."""
    kinds = typing.get_type_hints(Recipe)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if name.startswith("options."):
            recipe = dataclasses.replace(recipe, options=recipe.options | {name[8:]: json.loads(text)})
        elif not equals or name not in kinds or name == "options":
            raise ValueError(f"--set {setting}: there is no such field; {field_help()}")
        else:
            recipe = dataclasses.replace(recipe, **{name: parse_value(text, kinds[name], name)})
    return recipe


def find_recipe(name: str) -> Recipe:
    known = known_recipes()
    if name not in known:
        raise ValueError(f"there is no recipe {name!r}; `python -m cxgrad_lite recipes` lists them")
    return known[name]


def choose_device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def estimate(method: Method, tasks: TaskSampler, config: TrainConfig) -> str:
    """Time and memory of the run, from two meta-iterations that change nothing."""
    state, taken, iterations = tasks.state_dict(), 0.0, config.iterations
    fused = choose_engine(config.engine, config.precision, method, tasks) == "fused"
    for _ in range(2):
        episodes, start = tasks.sample(), time.perf_counter()
        with arithmetic(config.precision, device_of(method)), fused_blocks(method, fused):
            meta_gradient(method, episodes)
        taken = time.perf_counter() - start
    method.zero_grad()
    tasks.load_state_dict(state)
    hours = taken * iterations / 3600
    return f"about {taken:.2f} s per meta-iteration, {hours:.1f} h for {iterations}; memory so far {peak_memory()}"


class Metrics:
    """A callback that writes TensorBoard's events."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def __call__(self, history: Any) -> None:
        done = len(history.loss)
        self.writer.add_scalar("query loss", history.loss[-1], done)
        self.writer.add_scalar("query accuracy", history.accuracy[-1], done)
        if history.validation and history.validation[-1][0] == done:
            self.writer.add_scalar("validation accuracy", history.validation[-1][1].mean, done)


def run_train(options: argparse.Namespace) -> int:
    recipe = changed(find_recipe(options.recipe), options.set)
    device = choose_device(options.device)
    if "LOCAL_RANK" in os.environ:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    if device.type == "cpu":
        keep_freed_memory()
    same = ("validate_every", "validation_episodes", "engine", "precision")
    config = dataclasses.replace(recipe.config(), **{name: getattr(options, name) for name in same})
    about = provenance(options, recipe, device)
    folder = RunFolder(options.out, options.minutes, resume=options.resume, provenance=about)
    method, train, val = recipe.build().to(device), recipe.tasks("train", device), recipe.tasks("val", device)
    if rank() == 0:
        print(f"{recipe.name} on {device}, {world_size()} process(es), torch {torch.__version__}")
    if world_size() == 1:
        print(estimate(method, train, config), flush=True)
    metrics = Metrics(options.out) if options.tensorboard and rank() == 0 else None
    history = meta_train(method, train, config, val, metrics, folder)
    if rank() == 0:
        finish(options.out / "method.safetensors", method, config, history, about)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return INTERRUPTED if history.interrupted else GOOD


def provenance(options: argparse.Namespace, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Where the numbers of a run come from."""
    command = " ".join(["python -m cxgrad_lite train --recipe", options.recipe, *(f"--set {s}" for s in options.set)])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    how = {"engine": options.engine, "precision": options.precision, "processes": world_size()}
    where = {"device": name, "machine": platform.machine(), "torch": torch.__version__}
    return {"recipe": dataclasses.asdict(recipe), "command": command, **how, **where}


def finish(path: Path, method: Method, config: TrainConfig, history: History, about: dict[str, Any]) -> None:
    """The last checkpoint, with where it comes from."""
    done = len(history.loss)
    if history.interrupted:
        print(f"stopped after {done} of {config.iterations} meta-iterations; the same command with --resume goes on")
        return
    save_checkpoint(path, method, **about, seconds=history.seconds)
    print(f"{done} meta-iterations in {history.seconds:.0f} s; {path}")


def run_evaluate(options: argparse.Namespace) -> int:
    device = choose_device(options.device)
    methods = [load_checkpoint(path).to(device) for path in options.checkpoint]
    trained: dict[str, Any] = read_header(options.checkpoint[0])["provenance"].get("recipe", {})
    dataset = options.dataset or trained.get("dataset")
    if dataset is None:
        raise ValueError("the checkpoint does not say what it was trained on; give --dataset")
    ways, shots = options.ways or methods[0].net.ways, options.shots or trained.get("shots", 5)
    images, seed = load(dataset, options.split).to(device), SPLIT_SEEDS.get(options.split, 0)
    transform = preset(trained.get("normalisation", "none"))
    tasks = TaskSampler(images, ways, shots, options.queries, seed=seed, transform=transform)
    result = evaluate(methods, tasks, options.episodes, options.protocol, progress=sys.stderr.isatty())
    print(f"{dataset} {options.split}, {ways}-way {shots}-shot: {result}")
    numbers = {"mean": result.mean, "ci95": result.ci95, "episodes": options.episodes, "protocol": result.protocol}
    print(json.dumps(numbers))
    return GOOD


def run_recipes(options: argparse.Namespace) -> int:
    if options.name:
        for field in dataclasses.fields(Recipe):
            print(f"{field.name:17s} {getattr(find_recipe(options.name), field.name)}")
        return GOOD
    print("published settings (5-way miniImageNet):", *PUBLISHED, sep="\n  ")
    print("shipped runs:", *(recipe.name for recipe in whole_recipes(PRETRAINED)), sep="\n  ")
    return GOOD


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 good, 1 failed while running, 2 wrong input, 130 interrupted (resumable)."""
    command = {"train": run_train, "evaluate": run_evaluate, "recipes": run_recipes}[options.command]
    try:
        return command(options)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return WRONG_INPUT
    except FloatingPointError as error:
        print(f"{options.command}: process {rank()}: {error}", file=sys.stderr)
        return FAILED
