"""No traceback: what goes wrong outside the code is one sentence and an exit code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cxgrad_lite.commands import main
from cxgrad_lite.commands.errors import exit_code
from data_utils.files.download import DownloadError

ROOT = Path(__file__).parents[2]
RECIPE = "glyphs-5way-5shot-cxgrad-lr0.01-600it-seed0"
TRAIN = ["train", "--recipe", RECIPE, "--set", "width=4", "--set", "iterations=1", "--validate-every", "0"]


@pytest.mark.parametrize(
    "more, words",
    [
        (["--set", "width=0"], "width must be a whole number from 1 to 4096, not 0"),
        (["--set", "ways=-1"], "ways must be a whole number from 1 to 10000, not -1"),
        (["--set", "options.x=1"], "CxGrad has no setting 'x'"),
        (["--set", "method=ProtoNet"], "ProtoNet has no setting 'inner_lr'"),
        (["--set", "normalisation=imagenet"], "3 channels"),
        (["--device", "tpu9"], "no device 'tpu9'"),
        (["--device", "cuda:99"], "finds no device"),
        (["--recipe", "glyphs-5way-5shot-cxgrad-lr0.01-60it-seed0"], f"did you mean {RECIPE}"),
    ],
)
def test_wrong_input(more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--out", str(tmp_path / "run"), *more]) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "run").exists(), "nothing was begun"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--out", str(tmp_path / "run"), "--device", "cuda"]) == 2
    assert "--device cpu always works" in capsys.readouterr().err


def test_a_folder_below_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([*TRAIN, "--out", str(tmp_path / "file" / "run")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        ([*TRAIN, "--out", ""], "argument --out: must name a file or folder, not ''"),
        (["evaluate", "m.safetensors", "--ways", "0"], "argument --ways: must be a whole number from 1"),
    ],
)
def test_options_that_cannot_be(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert said in capsys.readouterr().err


def test_a_name_of_300_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--out", str(tmp_path / ("x" * 300))]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / ('x' * 300)}: File name too long\n"


def test_a_terminal_of_latin_1(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    assert exit_code(lambda: print("A − B: 0.5 ± 0.1 … 中")) == 0
    assert shown.getvalue().decode("latin-1") == "A - B: 0.5 ± 0.1 ... ?\n"


def test_a_missing_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    assert main([*TRAIN, "--out", str(tmp_path / "run"), "--tensorboard"]) == 2
    assert "pip install 'cxgrad-lite[tensorboard]'" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error, code, words",
    [
        (DownloadError("no address answered"), 1, "no address answered"),
        (OSError(28, "No space left on device", "x.run"), 1, "x.run: No space left on device"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), 1, "CUDA out of memory. Fewer filters"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ModuleNotFoundError("No module named 'distributed.x'", name="distributed.x"), 2, "cxgrad-lite[cluster]"),
    ],
)
def test_the_table(error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert exit_code(fail) == code
    assert words in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)


def start(folder: Path, words: str) -> subprocess.CompletedProcess:
    python = f"'{sys.executable}' -m cxgrad_lite"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(f"{python} {words}", shell=True, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_reader_that_has_had_enough(tmp_path: Path) -> None:
    shown = start(tmp_path, "recipes | head -1")
    assert (shown.stdout, shown.stderr) == ("published settings:\n", "")


def test_a_file_that_hides_data_utils(tmp_path: Path) -> None:
    (tmp_path / "data_utils.py").write_text("raise SystemExit('it was run')\n")
    shown = start(tmp_path, "recipes")
    assert shown.returncode == 2 and shown.stderr.count("\n") == 1
    assert f"{tmp_path / 'data_utils.py'} is found in place of the package data_utils" in shown.stderr
