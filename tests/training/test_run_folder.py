"""What a folder of a run keeps when the run is stopped, killed or diverges at any moment, and whom it lets in."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cxgrad_lite import MAML, Conv4, History, TrainConfig, meta_train
from cxgrad_lite.training import checkpoints
from cxgrad_lite.training.resume import LAST, METRICS, PREVIOUS, RunFolder
from data_utils import ImageClasses, TaskSampler

ITERATIONS = 12
CONFIG = TrainConfig(ITERATIONS, validate_every=4, validation_episodes=3, progress=False, engine="eager")


class Killed(BaseException):
    """Nothing that the run does can catch it; like kill -9, it leaves things as they are."""


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of the time of a short run."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def train(stripes: ImageClasses) -> Callable[..., History]:
    def run(folder: Path | None, callback: Any = None, config: TrainConfig = CONFIG, **options: Any) -> History:
        torch.manual_seed(0)
        method = MAML(Conv4(1, 16, 3, width=4), inner_lr=0.3, inner_steps=1)
        tasks = options.pop("tasks", None) or TaskSampler(stripes, 3, 1, 2, tasks_per_batch=2, seed=1)
        keeper = RunFolder(folder, **{"every": 3, "keep": 2} | options) if folder else None
        return meta_train(method, tasks, config, TaskSampler(stripes, 3, 1, 5, seed=2), callback, keeper)

    return run


def killed_at(moment: int) -> Callable[[History], None]:
    def kill(history: History) -> None:
        if len(history.loss) == moment:
            raise Killed

    return kill


def test_a_signal_during_a_validation_is_not_kept_waiting(
    train: Callable[..., History], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation is left at once, and made when the run goes on."""
    whole, usual, drawn = train(tmp_path / "whole"), TaskSampler.episodes, []

    def episodes(tasks: TaskSampler, count: int) -> Any:
        for number, episode in enumerate(usual(tasks, count)):
            drawn.append(number)
            if len(drawn) == 5:  # the second of the second validation
                signal.raise_signal(signal.SIGINT)
            yield episode

    monkeypatch.setattr(TaskSampler, "episodes", episodes)
    first = train(tmp_path / "stopped")
    assert first.interrupted and len(first.loss) == 8 and len(first.validation) == 1 and len(drawn) == 5
    rest = train(tmp_path / "stopped", resume=True)
    assert [(done, result.mean) for done, result in rest.validation] == [
        (done, result.mean) for done, result in whole.validation
    ]
    assert rest.loss == whole.loss and best(tmp_path / "stopped") == best(tmp_path / "whole")


def best(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("best-*.safetensors")}


@pytest.mark.parametrize(
    "moment, during",
    [(4, "iteration"), (8, "iteration"), (11, "iteration"), (8, "unlink"), (2, "metrics"), (3, "metrics")],
)
def test_the_best_survive_a_kill_after_a_validation(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, during: str
) -> None:
    """A validation is made again, if no state was written since; its checkpoint was deleted then."""
    train(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if during != "iteration":
            owner, name = {"unlink": (Path, "unlink"), "metrics": (RunFolder, "_write_metrics")}[during]
            usual, armed = getattr(owner, name), []

            def kill(self: Any, *arguments: Any, **options: Any) -> None:
                if armed and (during == "metrics" or self.name.startswith("best-")):
                    raise Killed
                usual(self, *arguments, **options)

            patch.setattr(owner, name, kill)
            train(tmp_path / "run", lambda history: armed.append(1) if len(history.loss) == moment else None)
        train(tmp_path / "run", killed_at(moment), resume=True)
    train(tmp_path / "run", resume=True)
    assert len(best(tmp_path / "whole")) == 2 and best(tmp_path / "run") == best(tmp_path / "whole")
    lines = (tmp_path / "run" / METRICS).read_text()
    assert lines == (tmp_path / "whole" / METRICS).read_text(), "no line is torn, twice or missing"


def test_torn_metrics_and_unfinished_files_are_cleared(train: Any, tmp_path: Path) -> None:
    train(tmp_path, config=TrainConfig(6, progress=False, engine="eager"))
    whole = (tmp_path / METRICS).read_text()
    with open(tmp_path / METRICS, "a") as metrics:
        metrics.write('{"iteration": 9, "loss"')
    for name in (".new.run.0a", ".best-0000004-0.50000.safetensors.1b"):
        (tmp_path / name).write_bytes(b"torn")
    (tmp_path / "best-of-all.safetensors").write_bytes(b"mine")
    train(tmp_path, config=TrainConfig(9, progress=False, engine="eager"), resume=True)
    lines = (tmp_path / METRICS).read_text()
    assert lines.startswith(whole) and [json.loads(line)["iteration"] for line in lines.splitlines()] == [3, 6, 9]
    assert not list(tmp_path.glob(".*run.*")) and not list(tmp_path.glob(".best-*"))
    assert (tmp_path / "best-of-all.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("trace", [LAST, PREVIOUS, METRICS, "best-0000004-0.50000.safetensors", "method.safetensors"])
def test_a_new_run_is_refused_where_anothers_files_lie(tmp_path: Path, trace: str) -> None:
    (tmp_path / trace).write_bytes(b"")
    with pytest.raises(FileExistsError, match=rf"holds a run already \({trace}\)"):
        RunFolder(tmp_path)
    RunFolder(tmp_path, resume=True)


def test_a_run_goes_on_with_its_own_tasks_only(train: Any, tmp_path: Path, stripes: ImageClasses) -> None:
    train(tmp_path)
    usual: dict[str, Any] = {"ways": 3, "shots": 1, "queries": 2, "tasks_per_batch": 2, "seed": 1}
    longer = TrainConfig(14, validate_every=4, validation_episodes=3, progress=False, engine="eager")
    for name, value in {"shots": 2, "queries": 1, "tasks_per_batch": 1, "seed": 0}.items():
        with pytest.raises(ValueError, match=f"belongs to another run: its tasks {name} is {usual[name]}, not {value}"):
            train(tmp_path, config=longer, tasks=TaskSampler(stripes, **usual | {name: value}), resume=True)
    half = stripes.select(stripes.names[:6])
    with pytest.raises(ValueError, match="its tasks classes is"):
        train(tmp_path, config=longer, tasks=TaskSampler(half, **usual), resume=True)
    inverted = ImageClasses(255 - stripes.images, stripes.labels, stripes.names)
    with pytest.raises(ValueError, match="its tasks images is"):
        train(tmp_path, config=longer, tasks=TaskSampler(inverted, **usual), resume=True)
    assert len(train(tmp_path, config=longer, tasks=TaskSampler(stripes, **usual), resume=True).loss) == 14


def rewrite(path: Path, header: dict[str, Any]) -> None:
    torch.save(torch.load(path, weights_only=True) | {"header": json.dumps(header)}, path)


def test_a_state_says_all_of_its_settings_and_is_not_longer_than_the_run(train: Any, tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ValueError, match="last.run has 12 meta-iterations already, more than 8"):
        train(tmp_path, config=replace(CONFIG, iterations=8), resume=True)
    header = json.loads(torch.load(tmp_path / LAST, weights_only=True)["header"])
    for silent, stored in {"recipe, config, tasks": {}, "tasks": header | {"tasks": {}}}.items():
        rewrite(tmp_path / LAST, stored)
        with pytest.raises(ValueError, match=f"last.run does not say its {silent}; only the version that wrote it"):
            train(tmp_path, resume=True)


def test_a_run_that_begins_anew_mixes_with_nothing(train: Any, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, killed_at(5), every=0)
    (checkpoint,) = tmp_path.glob("best-*")
    other = replace(CONFIG, meta_lr=0.1)
    with pytest.raises(ValueError, match="begun.json belongs to another run: its config meta_lr is 0.001, not 0.1"):
        train(tmp_path, config=other, resume=True)
    stray = checkpoint.rename(tmp_path / "best-0000005-1.00000.safetensors")
    assert len(train(tmp_path, resume=True).loss) == ITERATIONS and not stray.exists() and best(tmp_path)
    (tmp_path / LAST).write_bytes(b"")
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.warns(UserWarning) as told, pytest.raises(ValueError, match="; delete last.run and previous.run to"):
        train(tmp_path, resume=True)
    assert ["the state before it" in str(warning.message) for warning in told] == [True, False]
    for name in (LAST, PREVIOUS, "begun.json"):
        (tmp_path / name).unlink()
    with pytest.raises(FileExistsError, match="holds metrics.jsonl, but no state to go on from; choose another"):
        train(tmp_path, resume=True)


def test_divergence_keeps_the_last_good_state(train: Any, tmp_path: Path, stripes: ImageClasses) -> None:
    class Broken(TaskSampler):
        calls = 0

        def sample(self) -> Any:
            Broken.calls += 1
            return [((s[0] * (torch.nan if Broken.calls == 5 else 1), s[1]), q) for s, q in super().sample()]

    with pytest.raises(FloatingPointError, match="meta-iteration 5"):
        train(tmp_path, tasks=Broken(stripes, 3, 1, 2, tasks_per_batch=2, seed=1), every=0)
    history = train(tmp_path, tasks=Broken(stripes, 3, 1, 2, tasks_per_batch=2, seed=1), every=0, resume=True)
    assert len(history.loss) == ITERATIONS and Broken.calls == 4 + 1 + 8, "it went on after the fourth"


@pytest.mark.parametrize("name, value", [("minutes", -1), ("minutes", float("nan")), ("every", -1), ("keep", 0)])
def test_numbers_of_a_folder(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, not {value}"):
        RunFolder(tmp_path / "run", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_disk_that_is_too_small_is_told_at_the_start(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, seen = namedtuple("usage", "total used free"), []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match=r"No space left|will need about .* MB here, and 0 MB are free"):
        train(tmp_path / "run", seen.append)
    assert seen == []


@pytest.mark.skipif(os.name == "nt", reason="no such rights")
def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError) as refused:
            RunFolder(tmp_path / "run")
    finally:
        if root:
            os.seteuid(0)
    assert str(refused.value.filename) == str(tmp_path / "run")


def test_a_full_disk_during_a_validation_costs_a_checkpoint_only(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    monkeypatch.setattr(RunFolder, "_write_metrics", full)
    with pytest.warns(UserWarning, match="No space left on device.*training goes on"):
        assert train(tmp_path).loss == train(None).loss
