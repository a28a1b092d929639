"""The command that makes the shipped checkpoints, on runs of a few meta-iterations; and the shipped ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cxgrad_lite import CxGrad, evaluate, pretraining, recipes
from cxgrad_lite.recipes import PRETRAINED, Recipe, best_recipe, pretrained, rate_search


@pytest.fixture()
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two rates, one data set, short runs in this process; returns the names of the runs that are made."""
    made: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        name, folder = command[command.index("--only") + 1], command[command.index("--out") + 1]
        made.append(name)
        pretraining.pretrain(name, Path(folder), jobs=1)
        return subprocess.CompletedProcess(command, 0)

    def episodes(method: object, tasks: object, count: int) -> object:
        return evaluate(method, tasks, 4)  # type: ignore[arg-type]

    def train(self: Recipe, config: object = None) -> object:
        return original(replace(self, width=8), pretraining.TrainConfig(2, progress=False))

    original = Recipe.train
    monkeypatch.setattr(Recipe, "train", train)
    monkeypatch.setattr(pretraining, "evaluate", episodes)
    monkeypatch.setattr(pretraining.subprocess, "run", run)
    monkeypatch.setattr(pretraining, "DATASETS", ("glyphs",))
    monkeypatch.setattr(pretraining, "RATES", (0.01, 0.1))
    monkeypatch.setattr(pretraining, "SEEDS", (0,))
    return made


def test_pretraining_searches_then_trains_and_resumes(small: list[str], tmp_path: Path) -> None:
    pretraining.pretrain("*", tmp_path, jobs=1)
    searches = [name for name in small if "-150it-" in name]
    assert len(searches) == 4, "two methods at two rates"
    search = rate_search("glyphs", "MAML", tmp_path)
    assert set(search) == {0.01, 0.1} and all(result["episodes"] == 4 for result in search.values())
    best = best_recipe("glyphs", "CxGrad", tmp_path)
    assert (tmp_path / f"{best.name}.safetensors").is_file()
    header = recipes.read_header(tmp_path / f"{best.name}.safetensors")["provenance"]
    assert Recipe(**header["recipe"]).inner_lr == best.inner_lr
    assert header["command"].endswith(best.name) or header["recipe"]["width"] == 8
    assert {"curves", "test", "device", "date", "seconds", "torch"} <= set(header)

    before = len(small)
    (tmp_path / f"{best.name}.safetensors").unlink()
    pretraining.pretrain("*", tmp_path, jobs=1)
    assert small[before:] == [best.name], "only what is missing is made again"


def test_a_failed_run_is_named_and_the_others_are_finished(
    small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(pretraining.subprocess, "run", fail)
    with pytest.raises(SystemExit, match="makes just those again"):
        pretraining.pretrain("*", tmp_path, jobs=2)
    assert capsys.readouterr().out.count("failed, see") == 4


def test_the_shipped_runs_are_those_of_the_command() -> None:
    expected = {f"{recipe.name}.safetensors" for recipe in pretraining.whole_recipes(PRETRAINED)}
    assert {path.name for path in PRETRAINED.glob("*.safetensors")} == expected
    runs = json.loads((PRETRAINED / recipes.RATES_FILE).read_text())
    assert [Recipe(**run["recipe"]) for run in runs] == pretraining.search_recipes()


def test_a_shipped_checkpoint_reproduces_its_number() -> None:
    """The first 60 of its 600 meta-test tasks: within the spread of so few, and far above chance."""
    method, run = pretrained(best_recipe("glyphs", "CxGrad"))
    assert isinstance(method, CxGrad)
    recipe = Recipe(**run["recipe"])
    result = evaluate(method, recipe.tasks("test"), 60)
    assert abs(result.mean - run["test"]["mean"]) < 3 * result.ci95 / 1.96 + 1e-3


def test_the_same_recipe_gives_the_same_start() -> None:
    a, b = Recipe(seed=3).build(), Recipe(seed=3).build()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.net.head.weight, Recipe(seed=4).build().net.head.weight)
    assert torch.equal(
        next(Recipe(seed=3).tasks("test").episodes(1))[0][0], next(Recipe(seed=4).tasks("test").episodes(1))[0][0]
    ), "test tasks do not depend on the seed of a run"


def test_an_unknown_run_names_those_that_are_shipped() -> None:
    with pytest.raises(FileNotFoundError, match="there are .*cxgrad"):
        pretrained(Recipe(seed=99))


def test_the_command_line_explains_itself() -> None:
    command = [sys.executable, "-m", "cxgrad_lite", "pretrain", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--only" in shown and "resumes" in shown
