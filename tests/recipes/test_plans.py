"""Which runs a plan names, given the results that there are."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cxgrad_lite.recipes import paper
from cxgrad_lite.recipes.course import course_recipes
from cxgrad_lite.recipes.plans import PLANS, plan_named
from cxgrad_lite.recipes.recipe import PRETRAINED, Recipe
from cxgrad_lite.recipes.results import STUDIES_FILE, read_result, write_json

PAPER = Path(__file__).parents[2] / "results" / "paper"

RUNS = {  # of each plan, once all rates are known; the rates are in each
    "paper-main": 5 + 2 * 4,
    "paper-usual-rate": 2,
    "paper-map": 2 * 3 + 2 + 2,
    "paper-crossdomain": 2 * 4,
    "paper-stepwise": 3,
    "paper-steps": 2 + 3,
    "paper-beta": 2,
    "paper-one-shot": 4,
    "paper-others": 10,
    "paper-norms": 4,
}


def add_result(recipe: Recipe, folder: Path, mean: float) -> None:
    numbers = {"mean": mean, "ci95": 0.01, "per_task": [mean] * 3}
    split = "val" if recipe.purpose == "search" else "test"
    write_json(folder / f"{recipe.name}.json", {"recipe": asdict(recipe), split: numbers})


def search_all(folder: Path, best: float) -> None:
    """Results of all searches, the better the nearer to one rate."""
    while missing := [r for r in paper.rates(folder) if not (folder / f"{r.name}.json").exists()]:
        for recipe in missing:
            add_result(recipe, folder, 0.5 - abs((recipe.inner_lr or 0) - best))


def test_the_names_of_the_first_searches_stay(tmp_path: Path) -> None:
    names = [recipe.name for recipe in paper.rates(tmp_path)]
    assert len(names) == 13
    assert names[0] == "cifar_fs-5way-5shot-maml-lr0.003-poolings3-episodes300-search-800it-seed0"
    assert names[-1] == "cifar_fs-5way-5shot-cxgrad-lr0.003-poolings2-episodes300-search-800it-seed0"


def test_a_rate_at_the_edge_gets_one_more_until_it_is_inside(tmp_path: Path) -> None:
    first = paper.searches("CxGrad", 2, tmp_path)
    assert [run.inner_lr for run in first] == [0.001, 0.003]
    for run, mean in zip(first, (0.3, 0.4)):
        add_result(run, tmp_path, mean)
    assert [run.inner_lr for run in paper.searches("CxGrad", 2, tmp_path)] == [0.001, 0.003, 0.01]
    assert paper.chosen_rate("CxGrad", 2, tmp_path) is None
    add_result(paper.searches("CxGrad", 2, tmp_path)[-1], tmp_path, 0.35)
    assert paper.chosen_rate("CxGrad", 2, tmp_path) == 0.003


def test_nothing_is_named_before_its_rate_is_known(tmp_path: Path) -> None:
    assert PLANS["paper-main"].recipes(tmp_path) == paper.rates(tmp_path)
    assert paper.main(tmp_path) == []


@pytest.mark.parametrize("name", RUNS)
def test_the_runs_of_the_paper(name: str, tmp_path: Path) -> None:
    search_all(tmp_path, 0.01)
    recipes = [recipe for recipe in PLANS[name].recipes(tmp_path) if recipe.purpose == "study"]
    assert len(recipes) == RUNS[name]
    for recipe in recipes:
        assert (recipe.dataset, recipe.iterations, recipe.episodes) in (
            ("cifar_fs", 3000, 600), ("mini_imagenet", 3000, 600)
        )  # fmt: skip
        assert recipe.inner_lr == 0.01 or recipe.method not in ("CxGrad", "MAML")
        narrow = replace(recipe, width=4, dataset="glyphs", size=32)
        assert narrow.build()


def test_main_adds_the_usual_rate_where_another_is_better(tmp_path: Path) -> None:
    search_all(tmp_path, 0.003)
    runs = [(r.method, r.inner_lr, r.seed) for r in paper.main(tmp_path) if not r.options]
    assert ("CxGrad", 0.003, 0) in runs and ("CxGrad", 0.01, 0) in runs and ("CxGrad", 0.01, 1) not in runs


def test_longer_runs_where_cxgrad_is_behind(tmp_path: Path) -> None:
    search_all(tmp_path, 0.01)
    first = [run for run in paper.feature_map(tmp_path) if run.poolings == 2 and run.seed == 0 and not run.options]
    for run in first:
        add_result(run, tmp_path, 0.5 if run.method == "MAML" else 0.4)
    assert [r.iterations for r in paper.feature_map(tmp_path)].count(6000) == 2
    for run in first:
        add_result(run, tmp_path, 0.4 if run.method == "MAML" else 0.5)
    assert [r.iterations for r in paper.feature_map(tmp_path)].count(6000) == 0


def test_transfer_waits_for_the_networks(tmp_path: Path) -> None:
    search_all(tmp_path, 0.01)
    runs = paper.cross_domain(tmp_path)
    assert all(run.test_dataset is None for run in runs)
    for run in runs:
        add_result(run, tmp_path, 0.5)
    tests = [run for run in paper.cross_domain(tmp_path) if run.test_dataset]
    assert {(run.dataset, run.test_dataset) for run in tests} == {
        ("cifar_fs", "mini_imagenet"), ("mini_imagenet", "cifar_fs")
    }  # fmt: skip
    assert len(tests) == 8


def test_only_runs_of_a_gpu_are_tested_again(tmp_path: Path) -> None:
    search_all(tmp_path, 0.01)
    assert paper.again(tmp_path) == []
    for run, device in zip(paper.at_best_rate(("CxGrad",), (0, 1), tmp_path), ("NVIDIA H200", "x86_64 CPU")):
        write_json(tmp_path / f"{run.name}.json", {"recipe": asdict(run), "device": device})
    (second,) = paper.again(tmp_path)
    assert (second.dataset, second.test_dataset, second.seed) == ("cifar_fs", "cifar_fs", 0)


def test_the_course_knows_all_its_runs_from_the_shipped_search() -> None:
    recipes = course_recipes(PRETRAINED)
    assert len(recipes) > 100 and len({recipe.name for recipe in recipes}) == len(recipes)


def test_plans_are_named_or_your_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own_plans.py").write_text("def two(folder):\n    return []\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plan_named("own_plans:two").recipes(tmp_path) == []
    for name, words in {
        "paper-mian": "did you mean paper-main",
        "own_plans:three": "three",
        "absent:a": "absent",
    }.items():
        with pytest.raises(ValueError, match=words):
            plan_named(name)


def test_the_shipped_studies_are_those_of_the_results() -> None:
    runs = json.loads((PRETRAINED / STUDIES_FILE).read_text())
    assert runs, "nothing is shipped"
    for run in runs:
        result = json.loads((PAPER / f"{Recipe(**run['recipe']).name}.json").read_text())
        assert run == paper.condensed(result)
        if "test" in run:
            shares = [right / 75 for right in run["test"]["right"]]
            assert shares == pytest.approx(result["test"]["per_task"], abs=1e-6)
            assert sum(shares) / len(shares) == pytest.approx(run["test"]["mean"], abs=1e-5)


def test_the_shipped_studies_name_the_same_runs_as_the_results() -> None:
    named = paper.main(PRETRAINED)
    assert named == paper.main(PAPER) and len(named) == 15
    for recipe in named:
        result = read_result(recipe, PRETRAINED)
        assert result is not None and len(result["test"]["right"]) == 600
