"""The commands train and recipes, as a user calls them, on runs of a few meta-iterations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cxgrad_lite import load_checkpoint
from cxgrad_lite.commands import main
from cxgrad_lite.commands.train import changed
from cxgrad_lite.recipes.published import PUBLISHED
from cxgrad_lite.training.checkpoints import read_header

RECIPE = "glyphs-5way-5shot-cxgrad-lr0.01-600it-seed0"
SMALL = ["--set", "width=4", "--set", "queries=2", "--set", "iterations=3", "--validation-episodes", "3"]


def train(folder: Path, *more: str) -> int:
    return main(["train", "--recipe", RECIPE, *SMALL, "--validate-every", "2", "--out", str(folder), *more])


def test_train_then_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "s per meta-iteration" in said and "GB" in said, "an estimate comes first"
    path = tmp_path / "run" / "method.safetensors"
    stored = read_header(path)["provenance"]
    assert (stored["engine"], stored["precision"]) == ("fused", "float32"), "what ran, not 'auto'"
    assert {"commit", "version", "device", "torch", "date", "command", "recipe"} <= set(stored)
    assert load_checkpoint(path).net.width == 4
    assert main(["evaluate", str(path), "--episodes", "4"]) == 0
    said = capsys.readouterr().out
    assert "glyphs test, 5-way 5-shot" in said
    numbers = json.loads(said.splitlines()[-1])
    assert numbers["episodes"] == 4 and 0 <= numbers["mean"] <= 1
    best = [str(p) for p in (tmp_path / "run").glob("best-*.safetensors")]
    assert main(["evaluate", *best, str(path), "--episodes", "3", "--protocol", "paper"]) == 0
    assert "glyphs test, 5-way 5-shot" in capsys.readouterr().out, "the best checkpoints know their recipe, too"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["iteration"] == 3 and any("validation" in line for line in lines)


def test_a_second_start_needs_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path) == 0
    assert train(tmp_path) == 2
    assert "resume it" in capsys.readouterr().err
    for setting, words in {
        "shots=1": "shots=5, not 1",
        "seed=1": "seed=0, not 1",
        "iterations=2": "made longer",
    }.items():
        assert train(tmp_path, "--resume", "--set", setting) == 2
        assert words in capsys.readouterr().err
    assert train(tmp_path, "--resume", "--set", "iterations=5") == 0
    assert "5 meta-iterations" in capsys.readouterr().out


def test_probes_look_and_do_not_touch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "plain") == 0
    assert train(tmp_path / "val", "--probe-every", "2") == 0
    assert train(tmp_path / "train", "--probe-every", "2", "--probe-split", "train") == 0
    weights = [load_checkpoint(tmp_path / run / "method.safetensors").state_dict() for run in ("plain", "val", "train")]
    assert all(torch.equal(value, other[name]) for name, value in weights[0].items() for other in weights[1:])
    val, its_own = (
        [json.loads(line) for line in (tmp_path / run / "probes.jsonl").read_text().splitlines() if line]
        for run in ("val", "train")
    )
    assert [look["iteration"] for look in val] == [1, 2]
    assert set(val[0]) == {"iteration", "split", "norms", "relative", "gamma", "gamma_std"}
    assert (val[0]["split"], its_own[0]["split"], len(val[0]["norms"])) == ("val", "train", 5)
    assert val[0]["norms"] != its_own[0]["norms"], "other tasks"
    state = tmp_path / "val" / "probes.jsonl"
    state.write_text(state.read_text() + json.dumps({"iteration": 4}) + "\n")  # a look that a killed process left
    assert train(tmp_path / "val", "--resume", "--set", "iterations=4", "--probe-every", "2") == 0
    looks = [json.loads(line) for line in state.read_text().splitlines() if line]
    assert [look["iteration"] for look in looks] == [1, 2, 4] and "norms" in looks[-1], "each iteration once"
    capsys.readouterr()
    assert train(tmp_path / "none", "--set", "method=ProtoNet", "--set", "inner_lr=none", "--probe-every", "2") == 2
    assert "has no inner loop" in capsys.readouterr().err


def test_a_loss_that_overflows_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--set", "inner_lr=1e30") == 1
    said = capsys.readouterr().err
    assert "task 1 of 2: the support loss is not finite in inner step" in said and "smaller inner_lr" in said


def test_fields_are_typed() -> None:
    recipe = PUBLISHED["mini_imagenet-5way-5shot-cxgrad"]
    new = changed(
        recipe, ["inner_lr=0.02", "width=32", "train_ways=none", "options.frozen_context=true", "activation=relu"]
    )
    assert (new.inner_lr, new.width, new.train_ways, new.activation) == (0.02, 32, None, "relu")
    assert new.options == {"frozen_context": True}
    stepwise = changed(recipe, ["options.context_update=step", "options.context_lr=0.1", "conv_bias=false"])
    assert stepwise.options == {"context_update": "step", "context_lr": 0.1} and not stepwise.conv_bias
    assert "context_update_step" in stepwise.name
    assert replace(stepwise, dataset="glyphs", width=4).build().context_update == "step"
    assert changed(stepwise, ["method=MAML"]).options == {}, "they were CxGrad's"
    for setting, words in {
        "wide=3": "no setting 'wide'",
        "width": "--set width: give it a value",
        "width=wide": "width must be a whole number from 1 to 4096, not 'wide'",
        "activation=gelu": "activation must be one of leaky_relu, relu, not 'gelu'",
        "normalisation=mine": "normalisation must be one of none, imagenet",
        "inner_rl=1": "did you mean inner_lr",
        "conv_bias=maybe": "conv_bias must be true or false",
        "options.x=1": "CxGrad has no setting 'x'",
        "options.context_update=never": "must be one of task, step, not 'never'",
        "options.frozen_context=yes": "frozen_context must be true or false",
        "method=CxGard": "did you mean CxGrad",
    }.items():
        with pytest.raises(ValueError, match=words):
            changed(recipe, [setting])


def test_recipes_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in PUBLISHED) and RECIPE in said
    assert main(["recipes", "mini_imagenet-5way-1shot-cxgrad"]) == 0
    assert "tasks_per_batch   4" in capsys.readouterr().out
    assert main(["recipes", "mine"]) == 2


def test_wrong_input_has_its_own_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "mine", "--out", str(tmp_path)]) == 2
    assert "no recipe 'mine'" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "none.safetensors")]) == 2


@pytest.mark.slow
def test_two_processes_by_torchrun(tmp_path: Path) -> None:
    """One run by two processes, and one failing process that ends both."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "cxgrad_lite",
    ]
    command = [*launcher, "train", "--recipe", RECIPE, *SMALL, "--validate-every", "0", "--device", "cpu", "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path / "a")], env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 meta-iterations in") == 1 and "2 process(es)" in done.stdout
    assert (tmp_path / "a" / "method.safetensors").is_file()
    failing = [*command, str(tmp_path / "b"), "--set", "inner_lr=1e30"]
    failed = subprocess.run(failing, env=environment, capture_output=True, text=True, timeout=150)
    assert failed.returncode != 0 and "not finite" in failed.stderr
