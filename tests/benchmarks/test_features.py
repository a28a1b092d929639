"""The features of photographs are measured by the functions of notebook 06, and agree with what else was measured."""

from __future__ import annotations

import json

import features
import pytest
import torch

from cxgrad_lite.recipes import best_recipe, pretrained
from cxgrad_lite.recipes.recipe import PRETRAINED


def stored(file: str) -> dict[str, dict]:
    return {run["recipe"]: run for run in json.loads((PRETRAINED / file).read_text())["runs"]}


def test_the_page_gives_its_functions_and_computes_nothing() -> None:
    names = features.page(features.NOTEBOOK)
    assert {"before_and_after", "controls", "course", "nearest_mean", "nearest_means", "turns"} <= names.keys()
    assert "nets" not in names and "adapted" not in names


def test_a_network_of_glyphs_is_measured_as_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "TASKS", 3)
    monkeypatch.setattr(features, "LONG", 2)
    monkeypatch.setitem(features.SETTINGS, 4, "glyphs")
    recipe = best_recipe("glyphs", "MAML")
    found = features.measure(recipe)
    method, _ = pretrained(recipe)
    support, query = next(recipe.tasks("test").episodes(1))
    right = int((method.logits(method.adapt(support), query[0]).argmax(-1) == query[1]).sum())
    assert found["right"][0][5] == right and len(found["right"][0]) == 11 and len(found["nearest"][0]) == 3
    assert found["cka"][0][0] == 1 and found["controls"]["MAML"]["block 4"][0] == pytest.approx(
        torch.tensor(found["cka"])[:2, 5].mean().item(), abs=2e-4
    )
    assert found["controls"]["random step"]["block 4"][0] > found["controls"]["MAML"]["block 4"][0]


def test_the_same_tasks_give_the_same_answers_in_both_files() -> None:
    """Answers after five steps, against those that benchmarks/photographs.py counted from the second task on."""
    halves = stored("photographs.json")
    for name, run in stored("features.json").items():
        after_five = [row[5] for row in run["right"]][1:]
        assert after_five == pytest.approx(halves[name]["right"]["both"][: len(after_five)], abs=1), name
