"""Commands that are stopped at any moment, cannot write, or are started where something is missing."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxgrad_lite import TrainConfig, evaluate, load_checkpoint, meta_train, save_checkpoint
from cxgrad_lite.commands import main
from cxgrad_lite.recipes.recipe import Recipe
from cxgrad_lite.training import checkpoints
from cxgrad_lite.training.resume import LAST
from data_utils import TaskSampler

ROOT = Path(__file__).parents[2]
RECIPE = "glyphs-5way-5shot-cxgrad-lr0.01-600it-seed0"
TRAIN = ["train", "--recipe", RECIPE, "--set", "width=4", "--set", "queries=2", "--validate-every", "0"]


def train(folder: Path, iterations: int = 5, *more: str) -> int:
    return main([*TRAIN, "--set", f"iterations={iterations}", "--out", str(folder), *more])


def done(folder: Path) -> int:
    return len(torch.load(folder / LAST, weights_only=True)["state"]["history"]["loss"])


@pytest.fixture
def in_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """Do something while a meta-batch is drawn; two have been drawn for the estimate before the first."""
    usual, drawn = TaskSampler.sample, []

    def arrange(number: int, act: Callable[[], Any]) -> None:
        def sample(tasks: TaskSampler) -> Any:
            drawn.append(1)
            changed = act() if len(drawn) == number + 2 else None
            return changed or usual(tasks)

        monkeypatch.setattr(TaskSampler, "sample", sample)

    return arrange


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_keeps_the_state(
    name: str, code: int, tmp_path: Path, in_batch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(getattr(signal, each)) for each in ("SIGINT", "SIGTERM", "SIGHUP")]
    in_batch(3, lambda: signal.raise_signal(getattr(signal, name)))
    assert train(tmp_path) == code
    said = capsys.readouterr()
    assert "the state after 3 of 5 meta-iterations is kept; the same command with --resume goes on" in said.out
    assert "Traceback" not in said.err and done(tmp_path) == 3
    assert handlers == [signal.getsignal(getattr(signal, each)) for each in ("SIGINT", "SIGTERM", "SIGHUP")]
    assert train(tmp_path, 5, "--resume") == 0


@pytest.mark.parametrize("name, code, words", [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "stopped by SIGTERM")])
def test_a_signal_where_nothing_is_trained(
    name: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_checkpoint(tmp_path / "m.safetensors", Recipe(width=4).build(), recipe={"dataset": "glyphs"})
    monkeypatch.setattr(TaskSampler, "episodes", lambda *_: signal.raise_signal(getattr(signal, name)))
    assert main(["evaluate", str(tmp_path / "m.safetensors")]) == code
    assert capsys.readouterr().err == f"error: {words}\n"


def test_a_second_ctrl_c_does_not_promise_what_was_not_saved(
    tmp_path: Path, in_batch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    in_batch(3, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    assert train(tmp_path) == 130
    said = capsys.readouterr().out
    assert "nothing is kept" in said and "resume" not in said and not (tmp_path / LAST).exists()
    assert train(tmp_path) == 0, "the folder is free for a new run"


class Broken(io.StringIO):
    """A stream that has failed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("stream", [Broken(), None])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_goes_on_where_nobody_reads_its_words(
    stream: Any, stopped: bool, tmp_path: Path, in_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    in_batch(3, lambda: signal.raise_signal(signal.SIGINT) if stopped else None)
    assert train(tmp_path) == (130 if stopped else 0)
    assert done(tmp_path) == (3 if stopped else 5) and (tmp_path / "method.safetensors").exists() != stopped


def test_a_bar_that_cannot_be_drawn_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(width=4, queries=2)
    monkeypatch.setattr(sys, "stderr", Broken())
    assert len(meta_train(recipe.build(), recipe.tasks("train"), TrainConfig(2)).loss) == 2
    assert len(evaluate(recipe.build(), recipe.tasks("val"), 2, progress=True).per_task) == 2


def test_nohup_is_respected(tmp_path: Path, in_batch: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        in_batch(2, lambda: signal.raise_signal(signal.SIGHUP))
        assert train(tmp_path, 3) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def program(folder: Path) -> None:
    """A program of one's own, which handles no signals."""
    from cxgrad_lite.training import RunFolder

    recipe = Recipe(width=4, queries=2)
    stop = lambda history: signal.raise_signal(signal.SIGTERM) if len(history.loss) == 2 else None  # noqa: E731
    config = TrainConfig(600, progress=False)
    meta_train(recipe.build(), recipe.tasks("train"), config, callback=stop, folder=RunFolder(folder))


def test_a_program_of_ones_own_ends_by_the_signal_once_the_state_is_saved(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxgrad_lite.commands"])
    process = context.Process(target=program, args=(tmp_path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGTERM and done(tmp_path) == 2


@pytest.mark.parametrize("factor, where", [(1e30, "the meta-gradient of net."), (torch.nan, "images of a support set")])
def test_divergence_says_what_is_kept(
    factor: float, where: str, tmp_path: Path, in_batch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [((s[0] * factor, s[1]), q) for s, q in Recipe(queries=2).tasks("train").sample()]
    in_batch(4, lambda: broken)
    assert train(tmp_path) == 1
    said = capsys.readouterr()
    assert "the state after 3 of 5 meta-iterations is kept" in said.out and f"meta-iteration 4, {where}" in said.err


@pytest.mark.parametrize(
    "more, words",
    [
        (["--validation-episodes", "1"], "validation_episodes must be a whole number from 2"),
        (["--minutes", "nan"], "minutes must be a number of at least 0, not nan"),
        (["--minutes", "inf"], "minutes must be a number of at least 0, not inf"),
        (["--minutes", "-1"], "minutes must be a number of at least 0, not -1"),
    ],
)
def test_what_would_fail_later_fails_at_once(
    more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", 5, *more) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_resume_says_when_there_is_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "tpyo", 1, "--resume") == 0
    assert "tpyo holds no state: the run begins anew" in capsys.readouterr().out


def test_weights_that_cannot_be_written_at_the_end_are_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = checkpoints.save_file

    def full(tensors: Any, path: Path, **options: Any) -> None:
        if (tmp_path / "run") in path.parents:
            raise OSError(28, "No space left on device")
        usual(tensors, path, **options)

    monkeypatch.setattr(checkpoints, "save_file", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert train(tmp_path / "run", 1) == 1
    said = capsys.readouterr().err
    assert "method.safetensors could not be written" in said and "No space left on device" in said
    (kept,) = tmp_path.glob("cxgrad_lite-*/method.safetensors")
    assert str(kept) in said and load_checkpoint(kept).net.width == 4


# --- numbers that mean something


@pytest.mark.parametrize("inner_lr, weights", [(1e30, 1.0), (0.01, float("nan"))])
def test_no_number_where_the_logits_are_not_finite(
    inner_lr: float, weights: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(method="MAML", width=4, queries=2, inner_lr=inner_lr)
    method = recipe.build()
    method.net.head.weight.data.mul_(weights)
    save_checkpoint(tmp_path / "m.safetensors", method, recipe={"dataset": "glyphs", "shots": 5})
    code = main(["evaluate", str(tmp_path / "m.safetensors"), "--episodes", "3", "--queries", "2"])
    said = capsys.readouterr()
    if weights == 1:
        assert code == 1 and "no accuracy: the logits of 3 of 3 tasks are not finite" in said.err
    else:
        assert code == 2 and "numbers in net.head.weight are NaN" in said.err
    assert "%" not in said.out and "mean" not in said.out


# --- as a program


def start(folder: Path, words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    python = f"'{sys.executable}' -m cxgrad_lite"
    variables = {name: value for name, value in (os.environ | environment).items() if value} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(f"{python} {words}", shell=True, cwd=folder, env=variables, capture_output=True, text=True)


def test_ctrl_c_while_modules_are_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "cxgrad_lite", "recipes"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **streams) as process:
        for line in process.stderr:
            if " torch." in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert not [line for line in rest.splitlines() if line and not line.startswith("import time:")]


@pytest.mark.parametrize(
    "words, code, error",
    [
        ("recipes >&-", 0, ""),
        ("recipes > /dev/full", 1, "error: [Errno 28] No space left on device\n"),
        ("evaluate nothing.safetensors 2> /dev/full", 2, ""),
    ],
)
def test_output_that_goes_nowhere(words: str, code: int, error: str, tmp_path: Path) -> None:
    shown = start(tmp_path, words)
    assert (shown.returncode, shown.stderr) == (code, error)


def test_a_terminal_that_knows_few_letters(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.safetensors", Recipe(width=4).build(), recipe={"dataset": "glyphs"})
    words = "compare m.safetensors m.safetensors --episodes 2 --queries 1"
    shown = start(tmp_path, words, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert shown.returncode == 0 and shown.stderr == ""
    assert "+/-" in shown.stdout and "A - B" in shown.stdout


def test_files_that_hide_pythons_modules(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("x = 1\n")
    shown = start(tmp_path, "recipes")
    assert shown.returncode == 2 and shown.stderr.count("\n") == 1
    assert f"{tmp_path / 'random.py'} is found in place of Python's own module" in shown.stderr


def nowhere(path: Path) -> Path:
    """What `Path.expanduser` does where there is no home; Python 3.10 does not ask ``os.path`` for it."""
    raise RuntimeError("Could not determine home directory.")


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CXGRAD_LITE_DATA", raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert main(["data", "list"]) == 2
    assert "name a folder for data in CXGRAD_LITE_DATA" in capsys.readouterr().err
