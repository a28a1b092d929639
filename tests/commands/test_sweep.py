"""The command sweep: a plan of twelve tiny runs with a worker killed in the middle, and the course's own plan."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cxgrad_lite import CAVIA, ProtoNet, TrainConfig, evaluate
from cxgrad_lite.commands import main
from cxgrad_lite.commands import sweep as sweeping
from cxgrad_lite.recipes import course, making
from cxgrad_lite.recipes.course import best_recipe, rate_search
from cxgrad_lite.recipes.recipe import Recipe
from cxgrad_lite.recipes.results import RATES_FILE
from cxgrad_lite.training.checkpoints import read_header

PLAN = """
from cxgrad_lite.recipes import Recipe

def twelve(folder):
    usual = dict(width=4, queries=2, train_queries=2, episodes=2, purpose="search")
    runs = [Recipe(method=m, iterations=n, seed=s, **usual)
            for m, n in (("ProtoNet", 20), ("MatchingNet", 20)) for s in range(5)]
    return runs + [Recipe(method="MAML", inner_steps=1, iterations=20, seed=s, **usual) for s in range(2)]
"""
SWEEP = [sys.executable, "-m", "cxgrad_lite", "sweep", "tiny_plan:twelve", "--out", "out"]


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny_plan.py").write_text(PLAN)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, str(folder)]), "OMP_NUM_THREADS": "1"}


def results(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → identity of each result, which changes if it is written again."""
    stats = {file.name: file.stat() for file in (folder / "out").glob("*.json")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "the sweep ended, or hangs"
        time.sleep(0.02)


def check_all_made_once(folder: Path, process: subprocess.Popen, before: dict[str, tuple[int, int]]) -> None:
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
    after = results(folder)
    assert len(after) == 12 and all(json.loads((folder / "out" / name).read_text())["val"] for name in after)
    assert len(before) < 12, "the kill came in the middle"
    assert before.items() <= after.items(), "what had a result was not made again"
    done = [line for line in said.splitlines() if line.endswith(": done")]
    assert len(done) == len(set(done)) <= 12
    again = subprocess.run(SWEEP, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True)
    assert "runs to make" not in again.stdout and results(folder) == after


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers are found in /proc, which only Linux has")
def test_a_killed_process_loses_nothing(folder: Path) -> None:
    sweep = subprocess.Popen(
        [*SWEEP, "--jobs", "2"], cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(results(folder)) >= 3, sweep)
    os.kill(loky_workers(sweep.pid)[0], signal.SIGKILL)
    check_all_made_once(folder, sweep, results(folder))


def loky_workers(parent: int) -> list[int]:
    """Process numbers of joblib's workers."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [number for number in numbers if is_worker(number, parent)]


def is_worker(number: int, parent: int) -> bool:
    try:
        ours = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1]) == parent
        return ours and b"popen_loky" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask and distributed are not installed")
def test_a_killed_dask_worker_loses_nothing(folder: Path) -> None:
    with dask_cluster(folder) as (address, workers):
        sweep = subprocess.Popen(
            [*SWEEP, "--scheduler", address], cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(results(folder)) >= 3, sweep)
        workers[0].kill()
        check_all_made_once(folder, sweep, results(folder))


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler's address and two workers of one thread each."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    commands = [[*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]]
    commands += 2 * [
        [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, cwd=folder, env=environment(folder), **quiet) for command in commands]
    try:
        wait_for(file.exists, processes[0])
        yield json.loads(file.read_text())["address"], processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_one_command_for_each_run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.syspath_prepend(folder)
    arguments = ["sweep", "tiny_plan:twelve", "--only", "*-maml-*", "--out", str(folder / "out"), "--print"]
    assert main(arguments) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 2 and not (folder / "out").exists()
    assert main(commands[0].split()[3:]) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1:] == commands[1:]


def test_a_changed_plan_does_not_mix_with_old_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same plan with another setting is made anew; an old result under a new name is refused."""
    plan = (
        "import os\nfrom cxgrad_lite.recipes import Recipe\n\ndef runs(folder):\n    return [Recipe(method='ProtoNet', "
    )
    plan += (
        "width=4, queries=2, train_queries=2, episodes=2, purpose='search', iterations=int(os.environ['LENGTH']))]\n"
    )
    (tmp_path / "changing_plan.py").write_text(plan)
    monkeypatch.syspath_prepend(tmp_path)
    out, command = tmp_path / "out", ["sweep", "changing_plan:runs", "--jobs", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setenv("LENGTH", "2")
    assert main(command) == 0
    (old,), before = out.glob("*.json"), results(tmp_path)
    monkeypatch.setenv("LENGTH", "3")
    assert main(command) == 0
    (new,) = set(out.glob("*.json")) - {old}
    assert [json.loads(path.read_text())["recipe"]["iterations"] for path in (old, new)] == [2, 3]
    assert results(tmp_path)[old.name] == before[old.name], "the old result is not written again"
    old.replace(new)
    capsys.readouterr()
    assert main(command) == 2
    assert "was made with iterations=2, not 3" in capsys.readouterr().err


def test_a_run_under_way_elsewhere_is_no_success(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    tiny: dict[str, Any] = {"width": 4, "queries": 2, "train_queries": 2, "episodes": 2, "purpose": "search"}
    name, out = Recipe(method="ProtoNet", iterations=20, **tiny).name, folder / "out"
    command = ["sweep", "tiny_plan:twelve", "--only", name, "--jobs", "1"]
    (out / "runs" / name).mkdir(parents=True)
    with FileLock(out / "runs" / name / "lock"):
        assert main([*command, "--out", str(out)]) == 75
    assert "1 runs are under way elsewhere" in capsys.readouterr().out
    assert main([*command, "--out", str(out)]) == 0 and (out / f"{name}.json").exists()


def test_another_machines_device_need_not_be_here(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    command = ["sweep", "tiny_plan:twelve", "--device", "mps", "--out", str(folder / "out")]
    assert main([*command, "--print"]) == 0, "the node that prints may have no accelerator"
    assert capsys.readouterr().out.count("--device mps --jobs 1") == 12
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert main(command) == 2, "the one that runs must"


def test_wrong_names_make_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["sweep", "corse", *out]) == 2
    assert "did you mean course?" in capsys.readouterr().err
    assert main(["sweep", "course", "--only", "glyphs-5way", *out]) == 2
    assert "no recipe 'glyphs-5way'" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


@pytest.fixture()
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small course, narrow networks, short runs in this process; returns the names of the runs that are made."""
    made: list[str] = []

    def record(recipe: Recipe, *arguments) -> None:
        made.append(recipe.name)
        making.make(recipe, *arguments)

    build = Recipe.build
    monkeypatch.setattr(sweeping, "make", record)
    monkeypatch.setattr(Recipe, "build", lambda self: build(replace(self, width=8)))
    monkeypatch.setattr(Recipe, "config", lambda self: TrainConfig(2, progress=False))
    monkeypatch.setattr(making, "PROBED_TASKS", 2)
    monkeypatch.setattr(making, "evaluate", lambda method, tasks, episodes: evaluate(method, tasks, 4))
    monkeypatch.setattr(course, "PAIRS", {"glyphs": ("MAML", "CxGrad")})
    monkeypatch.setattr(course, "SEVEN", (0.01, 0.1))
    monkeypatch.setattr(course, "ZOO", (("glyphs", 1),))
    monkeypatch.setattr(course, "ZOO_RATES", {"CAVIA": (0.3, 1.0)})
    monkeypatch.setattr(course, "METHODS", {"ProtoNet": ProtoNet, "CAVIA": CAVIA})
    monkeypatch.setattr(course, "gradient_studies", lambda: [])
    monkeypatch.setattr(course, "context_studies", lambda: [])
    return made


def test_the_course_searches_then_trains_and_resumes(small: list[str], tmp_path: Path) -> None:
    arguments = ["sweep", "course", "--jobs", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    searches = [name for name in small if "-search-" in name]
    whole = set(small) - set(searches)
    assert len(searches) == 6 and small[:6] == searches, "three methods at two rates come first"
    assert len(small) == len(set(small)) and len(whole) in (2 + 2, 3 + 2, 4 + 2), "pairs (also at 0.01), zoo"
    search = rate_search("glyphs", "MAML", tmp_path)
    assert set(search) == {0.01, 0.1} and all(result["episodes"] == 4 for result in search.values())
    assert set(rate_search("glyphs", "CAVIA", tmp_path, shots=1, iterations=100)) == {0.3, 1.0}
    best = best_recipe("glyphs", "CxGrad", tmp_path)
    header = read_header(tmp_path / f"{best.name}.safetensors")["provenance"]
    assert Recipe(**header["recipe"]) == best and header["command"].endswith(f"--only {best.name} --engine eager")
    assert {"curves", "test", "device", "date", "seconds", "torch"} <= set(header) and header["engine"] == "eager"

    before = len(small)
    (tmp_path / f"{best.name}.json").unlink()
    for name in searches:  # what is shipped is all of them in one file
        (tmp_path / f"{name}.json").unlink()
    assert "per_task" not in (tmp_path / RATES_FILE).read_text()
    assert main(arguments) == 0
    assert small[before:] == [best.name], "only what is missing is made again"


def test_a_failed_run_is_named_and_the_others_are_finished(
    small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(recipe: Recipe, *arguments) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(sweeping, "make", fail)
    assert main(["pretrain", "--jobs", "1", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.count("failed: MemoryError: no room") == 6 and "6 runs failed" in said


def test_a_run_that_leaves_no_result_is_not_made_for_ever(
    small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweeping, "make", lambda recipe, *arguments: small.append(recipe.name))
    assert main(["pretrain", "--jobs", "1", "--out", str(tmp_path)]) == 1
    assert len(small) == 6 and "6 runs failed" in capsys.readouterr().out


@pytest.mark.parametrize("name, code, words", [("SIGINT", 130, "same command goes on"), ("SIGTERM", 143, "by SIGTERM")])
def test_a_stop_ends_the_sweep(
    name: str, code: int, words: str, small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    def stop(recipe: Recipe, *arguments) -> None:
        small.append(recipe.name)
        signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(sweeping, "make", stop)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job of the background
    try:
        assert main(["sweep", "course", "--jobs", "1", "--out", str(tmp_path)]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(small) == 1 and words in capsys.readouterr().err


def test_the_command_line_explains_itself() -> None:
    command = [sys.executable, "-m", "cxgrad_lite", "sweep", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--only" in shown and "resumes" in shown and "paper-main" in shown
