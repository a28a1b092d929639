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
from .errors import FAILED, GOOD, TRY_AGAIN, CommandFailed, Stopped, sentence
from .options import choose_device, positive

ONE_RUN = threading.Lock()  # a run seeds the generators of its whole process
DONE, ELSEWHERE, STOPPED = "done", "under way elsewhere", "stopped; the same command goes on"
PATIENCE = 3
LOCK_SECONDS = 60.0  # a worker that a scheduler retires may hold its run's lock for half a minute


@dataclass(frozen=True)
class Sweep:
    """What to make, how and where.

    Attributes:
        plan: its name.
        recipes: from the folder of results to the recipes that can be named now.
        out: folder of the results; every worker must see it.
        engine, device: of each run; "auto" is what the machine that makes it has.
        scheduler: address of a Dask scheduler; None: this machine.
    """

    plan: str
    recipes: Recipes
    out: Path
    engine: Engine
    device: str
    scheduler: str | None = None

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


def attempt(recipe: Recipe, command: str, out: Path, engine: Engine, device: str, wait: float) -> tuple[str, str]:
    """Make one run in this process, on one thread: its name, and "done" or why not."""
    with ONE_RUN:
        torch.set_num_threads(1)
        keep_freed_memory()
        try:
            make(recipe, out, command, engine, choose_device(device), wait)
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
        print(f"waiting for a worker of {scheduler}", flush=True)
        client.wait_for_workers(1)
        yield


def outcomes(sweep: Sweep, recipes: list[Recipe]) -> Iterator[tuple[str, str]]:
    """Each run's name and what came of it, as they end; those of a worker that died are left out."""
    # A scheduler gets all at once: it may find more workers than there are at the start.
    ahead, wait = ("all", LOCK_SECONDS) if sweep.scheduler else ("n_jobs", 0.0)
    parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=ahead)
    same = (sweep.out, sweep.engine, sweep.device, wait)
    try:
        yield from parallel(joblib.delayed(attempt)(recipe, sweep.command(recipe), *same) for recipe in recipes)
    except Exception as error:
        if not isinstance(error, TerminatedWorkerError) and type(error).__name__ != "KilledWorker":  # that is Dask's
            raise
        print("a worker died, for instance for want of memory; its run goes on from its last state", flush=True)


def make_all(sweep: Sweep, only: str) -> dict[str, str]:
    """Make runs until none is missing or none can be made; names and reasons of those that have no result.

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
    missing_still = {recipe.name for recipe in sweep.missing(only)}
    return {name: outcome for name, outcome in closed.items() if name in missing_still}


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
    plan, device = plan_named(options.plan), options.device
    if not options.only_print and not options.scheduler:  # else it is another machine's
        device = str(choose_device(device))
    out = options.out or Path("results", re.split("[-:]", options.plan)[0])
    engine = options.engine or plan.engine
    sweep = Sweep(options.plan, plan.recipes, out.absolute(), engine, device, options.scheduler)
    if options.only_print:
        for recipe in sweep.missing(options.only):
            print(sweep.command(recipe), "--jobs 1 --out", shlex.quote(str(out)))
        return GOOD
    out.mkdir(parents=True, exist_ok=True)
    jobs = options.jobs or (joblib.cpu_count() if device == "cpu" else 1)
    with workers(jobs, options.scheduler):
        left = make_all(sweep, options.only)
    return verdict(out, left)


def verdict(out: Path, left: dict[str, str]) -> int:
    """Say what was left without a result, and the exit code for it."""
    failed = [name for name, outcome in left.items() if outcome != ELSEWHERE]
    if failed:
        print(f"{out}: {len(failed)} runs failed, see above")
        return FAILED
    if left:
        print(f"{out}: {len(left)} runs are under way elsewhere and have no result yet; try again")
        return TRY_AGAIN
    print(f"{out}: nothing is missing that could be made")
    return GOOD
