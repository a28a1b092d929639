"""The commands ``train`` and ``recipes``."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import shlex
import tempfile
import time
import typing
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from data_utils import TaskSampler

from ..core.maml import MAML
from ..core.method import Method
from ..recipes.making import Probes, run_folder
from ..recipes.provenance import provenance
from ..recipes.published import PUBLISHED, find_recipe, shipped_names
from ..recipes.recipe import Recipe
from ..training.checkpoints import save_checkpoint
from ..training.engines import Engine, Precision
from ..training.loop import TrainConfig, meta_steps, meta_train
from ..training.machine import keep_freed_memory, peak_memory
from ..training.parallel import rank, world_size
from ..training.resume import RunFolder
from ..training.settings import check_method, from_texts
from ..training.state import History, Run
from .errors import GOOD, INTERRUPTED, CommandFailed
from .options import choose_device, place, positive, whole

ENGINE_HELP = (
    "graph: a meta-step is one CUDA graph; fused: cheaper blocks; eager: as written; auto: what suits (default)"
)
PRECISION_HELP = "tf32: faster products on GPUs; bf16: products in bfloat16; default: float32"

PROBE_HELP = "every N meta-iterations write gradient norms, relative steps and γ of 8 tasks to DIR/probes.jsonl"


def add_train_commands(commands: argparse._SubParsersAction) -> None:
    about = "meta-train by a recipe; can be stopped or killed at any moment and resumed"
    train = commands.add_parser("train", help=about, description=about, epilog=field_help(),
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    train.add_argument("--recipe", required=True, metavar="NAME", help="see: python -m cxgrad_lite recipes")
    train.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe")
    train.add_argument("--out", type=place, required=True, metavar="DIR", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="go on from the state in DIR, if there is one")
    train.add_argument("--minutes", type=float, default=10, help="between two saved states (default: 10)")
    train.add_argument("--validate-every", type=whole, default=500, help="meta-iterations; 0: never (default: 500)")
    train.add_argument("--validation-episodes", type=positive, default=600, help="tasks of a validation (default: 600)")
    train.add_argument("--probe-every", type=whole, default=0, metavar="N", help=PROBE_HELP)
    train.add_argument("--probe-split", choices=["val", "train"], default="val", help="where these tasks come from")
    train.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    train.add_argument("--engine", choices=typing.get_args(Engine), default="auto", help=ENGINE_HELP)
    train.add_argument("--precision", choices=typing.get_args(Precision), default="float32", help=PRECISION_HELP)
    train.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events into DIR as well")
    train.set_defaults(run=run_train)

    about = "list the recipes by name, or show one"
    shown = commands.add_parser("recipes", help=about, description=about)
    shown.add_argument("name", nargs="?", help="show this one, with all fields")
    shown.set_defaults(run=run_recipes)


def field_help() -> str:
    fields = ", ".join(field.name for field in dataclasses.fields(Recipe) if field.name != "options")
    return f"fields of a recipe for --set: {fields};\noptions.NAME for a further argument of the method."


def changed(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with ``FIELD=VALUE`` changes; ``options.NAME=VALUE`` is a further argument of the method.

    Raises:
        ValueError: if there is no such field or option, or the value does not fit.
    """
    texts = {name: text for name, equals, text in (setting.partition("=") for setting in settings) if equals}
    without = [setting for setting in settings if "=" not in setting]
    if without:
        raise ValueError(f"--set {without[0]}: give it a value, FIELD=VALUE")
    plain = {name: text for name, text in texts.items() if not name.startswith("options.")}
    values = from_texts(Recipe, plain, besides="options")
    method = values.get("method", recipe.method)
    options = {} if method != recipe.method else dict(recipe.options)
    named = {name[len("options."):]: text for name, text in texts.items() if name not in plain}  # fmt: skip
    options |= from_texts(check_method(method, options), named, besides="net")
    return dataclasses.replace(recipe, **values, options=options)


def estimate(method: Method, tasks: TaskSampler, config: TrainConfig) -> str:
    """Time and memory of the run, from two meta-iterations of a copy."""
    state, iterations = tasks.state_dict(), config.iterations
    steps = meta_steps(Run(copy.deepcopy(method), tasks, dataclasses.replace(config, iterations=2)))
    next(steps)  # a graph is captured in the first
    start = time.perf_counter()
    next(steps)
    taken = time.perf_counter() - start
    tasks.load_state_dict(state)
    hours = taken * iterations / 3600
    return f"about {taken:.3g} s per meta-iteration, {hours:.1f} h for {iterations}; memory so far {peak_memory()}"


def observers(options: argparse.Namespace, method: Method, recipe: Recipe) -> Callable[[History], None]:
    """A callback for what is written beside a run, by its first process."""
    called: list[Callable[[History], None]] = []
    if options.tensorboard and rank() == 0:
        called.append(Metrics(options.out))
    if options.probe_every and rank() == 0:
        file = options.out / "probes.jsonl"
        called.append(Probes(method, recipe, file, options.probe_every, options.probe_split))

    def observe(history: History) -> None:
        for observer in called:
            observer(history)

    return observe


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
    method, train, val = recipe.build().to(device), recipe.tasks("train", device), recipe.tasks("val", device)
    next(val.episodes(1))  # what does not fit these images is told before there is a folder
    if options.tensorboard:
        import_module("torch.utils.tensorboard")
    if options.probe_every and not isinstance(method, MAML):
        raise ValueError(f"{recipe.method} has no inner loop, so --probe-every does not apply")
    command = ["python", "-m", "cxgrad_lite", "train", "--recipe", options.recipe]
    command += [word for setting in options.set for word in ("--set", setting)]
    about = provenance(recipe, method, train, config, shlex.join(command))
    folder = run_folder(recipe, options.out, options.minutes, options.resume, about)
    observe = observers(options, method, recipe)
    if rank() == 0:
        print(f"{recipe.name} on {device}, {world_size()} process(es), torch {torch.__version__}")
    if rank() == 0 and options.resume and not folder.states():
        print(f"{options.out} holds no state: the run begins anew")
    if world_size() == 1:
        print(estimate(method, train, config), flush=True)
    try:
        history = meta_train(method, train, config, val, observe, folder)
    except (FloatingPointError, KeyboardInterrupt):
        say_what_is_kept(folder, config)
        raise
    if history.interrupted:
        say_what_is_kept(folder, config)
    elif rank() == 0:
        save_last(options.out / "method.safetensors", method, history, about)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return INTERRUPTED if history.interrupted else GOOD


def say_what_is_kept(folder: RunFolder, config: TrainConfig) -> None:
    """What a run that ended early leaves behind."""
    if rank() == 0 and folder.kept:
        print(f"the state after {folder.kept} of {config.iterations} meta-iterations is kept;", end=" ")
        print("the same command with --resume goes on from it")
    elif rank() == 0:
        print(f"stopped before the first of {config.iterations} meta-iterations was saved; nothing is kept")


def save_last(path: Path, method: Method, history: History, about: dict[str, Any]) -> None:
    """The last checkpoint, with where it comes from; in another folder where this one cannot be written any more.

    Raises:
        CommandFailed: if it had to be another, or none could be written.
    """
    try:
        save_checkpoint(path, method, **about, seconds=history.seconds)
    except OSError as error:
        other = Path(tempfile.mkdtemp(prefix="cxgrad_lite-")) / path.name
        save_checkpoint(other, method, **about, seconds=history.seconds)
        raise CommandFailed(f"{path} could not be written ({error}); the learned weights are in {other}") from error
    print(f"{len(history.loss)} meta-iterations in {history.seconds:.0f} s; {path}")


def run_recipes(options: argparse.Namespace) -> None:
    if options.name:
        for name, value in vars(find_recipe(options.name)).items():
            print(f"{name:17s} {value}")
        return
    print("published settings:", *PUBLISHED, sep="\n  ")
    print("shipped runs:", *shipped_names(), sep="\n  ")
