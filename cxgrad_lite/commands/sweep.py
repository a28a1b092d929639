"""The command ``sweep``: every run of a plan that has no result yet, several at a time, on one machine or on many."""

from __future__ import annotations

import argparse
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import joblib
import torch
from filelock import Timeout
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ..recipes.making import make
from ..recipes.plans import PLANS, Recipes, plan_named
from ..recipes.published import find_recipe
from ..recipes.recipe import Recipe
from ..recipes.results import read_result
from ..training.engines import Engine
from ..training.machine import keep_freed_memory
from .errors import FAILED, GOOD, CommandFailed, Stopped, sentence
from .options import choose_device, positive

ONE_RUN = threading.Lock()  # a run seeds the generators of its whole process
DONE, ELSEWHERE, STOPPED = "done", "under way elsewhere", "stopped; the same command goes on"
PATIENCE = 3


@dataclass(frozen=True)
class Sweep:
    """What to make, how and where.

    Attributes:
        plan: its name.
        recipes: from the folder of results to the recipes that can be named now.
        out: folder of the results; every worker must see it.
        engine, device: of each run.
    """

    plan: str
    recipes: Recipes
    out: Path
    engine: Engine
    device: str

    def missing(self, only: str) -> list[Recipe]:
        """Recipes that can be named now, match the pattern and have no result.

        Raises:
            ValueError: if nothing has that name, or a result there is that of other settings.
        """
        known = self.recipes(self.out)
        if not set(only) & set("*?["):
            known = [recipe for recipe in known if recipe.name == only] or [find_recipe(only)]
            return [recipe for recipe in known if read_result(recipe, self.out) is None]
        return [r for r in known if fnmatch(r.name, only) and read_result(r, self.out) is None]

    def command(self, recipe: Recipe) -> str:
        """The command that makes one run, but for the folder."""
        words = ["python", "-m", "cxgrad_lite", "sweep", self.plan, "--only", recipe.name]
        words += ["--engine", self.engine] if self.engine != "auto" else []
        return shlex.join(words + (["--device", self.device] if self.device != "cpu" else []))


def attempt(recipe: Recipe, out: Path, command: str, engine: Engine, device: str) -> tuple[str, str]:
    """Make one run in this process, on one thread: its name, and "done" or why not."""
    with ONE_RUN:
        torch.set_num_threads(1)
        keep_freed_memory()
        try:
            make(recipe, out, command, engine, device)
        except Timeout:
            return recipe.name, ELSEWHERE
        except Stopped:  # by the system: its signal is the exit code
            raise
        except KeyboardInterrupt:
            return recipe.name, STOPPED
        except Exception as error:  # one run that fails must not end the others
            return recipe.name, f"failed: {type(error).__name__}: {sentence(error)}"
    return recipe.name, DONE


@contextmanager
def workers(jobs: int, scheduler: str | None) -> Iterator[None]:
    """Inside, joblib's calls go to processes of this machine, or to the workers of a Dask scheduler."""
    if scheduler is None:
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            yield
        return
    from dask.distributed import Client

    with Client(scheduler) as client, joblib.parallel_config("dask", client=client):
        yield


def outcomes(sweep: Sweep, recipes: list[Recipe]) -> Iterator[tuple[str, str]]:
    """Each run's name and what came of it, as they end; those of a worker that died are left out."""
    parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    calls = (
        joblib.delayed(attempt)(recipe, sweep.out, sweep.command(recipe), sweep.engine, sweep.device)
        for recipe in recipes
    )
    try:
        yield from parallel(calls)
    except TerminatedWorkerError:
        print("a worker died, for instance for want of memory; its run goes on from its last state", flush=True)


def make_all(sweep: Sweep, only: str) -> list[str]:
    """Make runs until none is missing or none can be made; the names of those that failed.

    A run is tried again when its worker died, as long as other runs end meanwhile.

    Raises:
        CommandFailed: if workers die and no run ends.
        KeyboardInterrupt: if a run was stopped.
    """
    closed: dict[str, str] = {}  # failed, or under way elsewhere
    lost = 0
    while missing := [recipe for recipe in sweep.missing(only) if recipe.name not in closed]:
        print(f"{len(missing)} runs to make", flush=True)
        lost += 1
        for name, outcome in outcomes(sweep, missing):
            print(f"{name}: {outcome}", flush=True)
            lost = 0
            if outcome == STOPPED:
                raise KeyboardInterrupt(outcome)
            # A run that was made and left no result would be made again for ever.
            lacking = outcome == DONE and name in {recipe.name for recipe in sweep.missing(name)}
            if outcome != DONE or lacking:
                closed[name] = "left no result" if lacking else outcome
        if lost == PATIENCE:
            raise CommandFailed(f"{PATIENCE} times in a row a worker died before any run ended")
    return [name for name, outcome in closed.items() if outcome != ELSEWHERE]


def add_sweep_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``sweep``, and ``pretrain``, the name that shipped checkpoints have for ``sweep course``."""
    about = "make every run of a plan that has no result; resumes where it was stopped"
    named = commands.add_parser("sweep", help=about, description=f"{about}. Plans: {', '.join(PLANS)}.")
    named.add_argument("plan", metavar="PLAN", help="one of these, MODULE:FUNCTION of your own, or report")
    named.add_argument(
        "--page", type=Path, default=Path("results", "README.md"), help="what report writes (default: %(default)s)"
    )
    about = "the same as sweep course: make the checkpoints that the notebooks load; resumes where it was stopped"
    course = commands.add_parser("pretrain", help=about, description=about)
    course.set_defaults(plan="course")
    for parser in (named, course):
        parser.set_defaults(run=run_sweep)
        parser.add_argument("--only", default="*", help="name of one run, or a pattern such as 'glyphs-*'")
        parser.add_argument("--out", type=Path, help="folder of the results (default: results/ and the plan's name)")
        parser.add_argument("--jobs", type=positive, help="runs at a time (default: one per core, on a GPU one)")
        parser.add_argument("--scheduler", metavar="tcp://…", help="run on the workers of this Dask scheduler instead")
        parser.add_argument("--print", action="store_true", dest="only_print", help="one command per missing run")
        parser.add_argument("--engine", choices=get_args(Engine), help="default: the plan's")
        parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")


def run_sweep(options: argparse.Namespace) -> int:
    if options.plan == "report":
        from .report import report  # scipy takes a second to import

        template = options.page.with_name("template.md").read_text(encoding="utf-8")
        page = report(options.out or Path("results", "paper"), template)
        options.page.write_text(page, encoding="utf-8")
        print(f"{options.page}: {len(page.splitlines())} lines")
        return GOOD
    plan, device = plan_named(options.plan), str(choose_device(options.device))
    out = options.out or Path("results", re.split("[-:]", options.plan)[0])
    sweep = Sweep(options.plan, plan.recipes, out.absolute(), options.engine or plan.engine, device)
    if options.only_print:
        for recipe in sweep.missing(options.only):
            print(sweep.command(recipe), "--out", shlex.quote(str(out)))
        return GOOD
    out.mkdir(parents=True, exist_ok=True)
    jobs = options.jobs or (joblib.cpu_count() if device == "cpu" else 1)
    with workers(jobs, options.scheduler):
        failed = make_all(sweep, options.only)
    print(f"{out}: {f'{len(failed)} runs failed, see above' if failed else 'nothing is missing that could be made'}")
    return FAILED if failed else GOOD
