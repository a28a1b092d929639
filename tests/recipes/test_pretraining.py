"""The command that makes the shipped checkpoints, on runs of a few meta-iterations; and the shipped ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cxgrad_lite import CAVIA, METHODS, CxGrad, ProtoNet, TrainConfig, evaluate, meta_train
from cxgrad_lite.commands import pretrain as pretraining
from cxgrad_lite.probes import LAYERS
from cxgrad_lite.recipes import course as plan
from cxgrad_lite.recipes import recipe as recipes
from cxgrad_lite.recipes.published import PUBLISHED
from cxgrad_lite.recipes.recipe import PRETRAINED, Recipe, best_recipe, pretrained, rate_search


@pytest.fixture()
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small plan, narrow networks, short runs in this process; returns the names of the runs that are made."""
    made: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        name, folder = command[command.index("--only") + 1], command[command.index("--out") + 1]
        made.append(name)
        pretraining.pretrain(name, Path(folder), jobs=1)
        return subprocess.CompletedProcess(command, 0)

    build = Recipe.build
    monkeypatch.setattr(Recipe, "build", lambda self: build(replace(self, width=8)))
    monkeypatch.setattr(Recipe, "config", lambda self: TrainConfig(2, progress=False))
    monkeypatch.setattr(pretraining, "PROBED_TASKS", 2)
    monkeypatch.setattr(pretraining, "evaluate", lambda method, tasks, episodes: evaluate(method, tasks, 4))
    monkeypatch.setattr(pretraining.subprocess, "run", run)
    monkeypatch.setattr(plan, "PAIRS", {"glyphs": ("MAML", "CxGrad")})
    monkeypatch.setattr(plan, "SEVEN", (0.01, 0.1))
    monkeypatch.setattr(plan, "ZOO", (("glyphs", 1),))
    monkeypatch.setattr(plan, "ZOO_RATES", {"CAVIA": (0.3, 1.0)})
    monkeypatch.setattr(plan, "METHODS", {"ProtoNet": ProtoNet, "CAVIA": CAVIA})
    monkeypatch.setattr(plan, "gradient_studies", lambda: [])
    monkeypatch.setattr(plan, "context_studies", lambda: [])
    return made


def test_pretraining_searches_then_trains_and_resumes(small: list[str], tmp_path: Path) -> None:
    pretraining.pretrain("*", tmp_path, jobs=1)
    searches = [name for name in small if "-150it-" in name or "-100it-" in name]
    assert len(searches) == 6, "three methods at two rates"
    whole = set(small) - set(searches)
    assert len(small) == len(set(small)) and len(whole) in (2 + 2, 3 + 2, 4 + 2), "pairs (also at 0.01), zoo"
    search = rate_search("glyphs", "MAML", tmp_path)
    assert set(search) == {0.01, 0.1} and all(result["episodes"] == 4 for result in search.values())
    assert set(rate_search("glyphs", "CAVIA", tmp_path, shots=1, iterations=100)) == {0.3, 1.0}
    best = best_recipe("glyphs", "CxGrad", tmp_path)
    header = recipes.read_header(tmp_path / f"{best.name}.safetensors")["provenance"]
    assert Recipe(**header["recipe"]) == best and header["command"].endswith(best.name)
    assert {"curves", "test", "device", "date", "seconds", "torch"} <= set(header)

    before = len(small)
    (tmp_path / f"{best.name}.safetensors").unlink()
    pretraining.pretrain("*", tmp_path, jobs=1)
    assert small[before:] == [best.name], "only what is missing is made again"

    shutil.rmtree(tmp_path / "search")
    pretraining.pretrain("*", tmp_path, jobs=1)
    assert len(small) == before + 1, "the gathered search is enough"


def test_an_unknown_name_starts_nothing(small: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no run named 'glyphs-5way'"):
        pretraining.pretrain("glyphs-5way", tmp_path, jobs=1)
    assert small == [] and list(tmp_path.iterdir()) == []


def test_the_probes_of_a_run(small: list[str], tmp_path: Path) -> None:
    pretraining.pretrain("glyphs-5way-5shot-cxgrad-lr0.1-600it-seed0", tmp_path, jobs=1)
    (file,) = tmp_path.glob("*.safetensors")
    curves = recipes.read_header(file)["provenance"]["curves"]
    assert curves["iteration"] == [1]
    assert set(curves["norms"]) == set(LAYERS) and all(len(values) == 1 for values in curves["norms"].values())
    assert len(curves["gamma"][0]) == len(curves["gamma_std"][0]) == 4
    method = recipes.load_checkpoint(file)
    assert isinstance(method, CxGrad)


def test_every_run_of_the_plan_is_found_by_its_name() -> None:
    """A process is told its run by name only."""
    for recipe in plan.search_recipes() + plan.whole_recipes(PRETRAINED):
        assert plan.recipe_named(recipe.name) == recipe, recipe.name


def test_a_failed_run_is_named_and_the_others_are_finished(
    small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(pretraining.subprocess, "run", fail)
    with pytest.raises(SystemExit, match="makes just those again"):
        pretraining.pretrain("*", tmp_path, jobs=2)
    assert capsys.readouterr().out.count("failed, see") == 6


def test_the_shipped_runs_are_those_of_the_command() -> None:
    expected = {f"{recipe.name}.safetensors" for recipe in pretraining.whole_recipes(PRETRAINED)}
    assert {path.name for path in PRETRAINED.glob("*.safetensors")} == expected
    runs = json.loads((PRETRAINED / recipes.RATES_FILE).read_text())
    assert [Recipe(**run["recipe"]) for run in runs] == pretraining.search_recipes()
    for run in runs:
        assert run["validation"]["episodes"] == Recipe(**run["recipe"]).episodes
    for recipe in pretraining.whole_recipes(PRETRAINED):
        assert pretrained(recipe)[1]["test"]["episodes"] == recipe.episodes


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


def test_every_method_has_its_published_settings() -> None:
    assert {(recipe.method, recipe.shots) for recipe in PUBLISHED.values()} == {(m, s) for m in METHODS for s in (1, 5)}
    cxgrad = PUBLISHED["mini_imagenet-5way-1shot-cxgrad"]
    assert (cxgrad.width, cxgrad.inner_lr, cxgrad.tasks_per_batch, cxgrad.iterations) == (48, 0.01, 4, 50_000)
    assert PUBLISHED["mini_imagenet-5way-5shot-cxgrad"].tasks_per_batch == 2
    assert PUBLISHED["mini_imagenet-5way-1shot-protonet"].train_ways == 30
    assert PUBLISHED["mini_imagenet-5way-5shot-cavia"].config().decay == 0.9


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_run(name: str) -> None:
    """One meta-iteration, narrow, on the images at hand."""
    small = {"dataset": "glyphs", "width": 4, "tasks_per_batch": 1, "queries": 3, "iterations": 1}
    recipe = replace(PUBLISHED[name], **small, normalisation="none")
    method = recipe.build()
    history = meta_train(method, recipe.tasks("train"), replace(recipe.config(), progress=False))
    assert len(history.loss) == 1
    assert len(recipe.tasks("train").sample()[0][0][1]) == (recipe.train_ways or 5) * recipe.shots


def test_an_unknown_run_names_those_that_are_shipped() -> None:
    with pytest.raises(FileNotFoundError, match="there are .*cxgrad"):
        pretrained(Recipe(seed=99))


def test_the_command_line_explains_itself() -> None:
    command = [sys.executable, "-m", "cxgrad_lite", "pretrain", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--only" in shown and "resumes" in shown
