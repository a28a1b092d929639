"""The microscope of notebook 07, and the stored numbers of photographs that 06 and 07 show."""

from __future__ import annotations

import json

import pytest
import torch

from cxgrad_lite import CxGrad, evaluate
from cxgrad_lite.course.lesson import leak_microscope
from cxgrad_lite.course.lesson.leak import deviations
from cxgrad_lite.recipes import paper, pretrained
from cxgrad_lite.recipes.course import context_studies
from cxgrad_lite.recipes.recipe import PRETRAINED
from cxgrad_lite.recipes.results import gamma_spread, read_result


def test_the_microscope_shows_a_leak_that_is_proportional_to_eps() -> None:
    recipe = context_studies()[0]
    method, test = pretrained(recipe)[0], recipe.tasks("test")
    assert isinstance(method, CxGrad)
    panel = leak_microscope(method, test, count=3, eps=1e-7)
    usual = deviations(panel.gammas)
    own = evaluate(method, test, 3).per_task[0].item()
    assert panel.right[0].item() == pytest.approx(own, abs=1 / 75), "the first task with its own γ"
    panel.eps.value = 1e-9
    assert panel.wait(60) and panel.error is None
    assert torch.allclose(deviations(panel.gammas), usual / 100, rtol=0.02)
    panel.task.value = 2
    assert panel.wait(60) and "task 2 with" in panel.chart.contents["given"].title
    assert "1e-09" in panel.alt() and method.net.blocks[0].norm.eps == 1e-5, "it works on a copy"
    panel.close()


def test_the_stored_photographs_agree_with_the_runs() -> None:
    file = json.loads((PRETRAINED / "photographs.json").read_text())
    recipes = paper.shipped()
    assert [run["recipe"] for run in file["runs"]] == [recipe.name for recipe in recipes]
    for recipe, run in zip(recipes, file["runs"]):
        result = read_result(recipe, PRETRAINED)
        assert result is not None
        # Tasks drawn on a CPU are others than those drawn on a GPU, but of the same classes.
        here, there = (torch.tensor(counts) / 75 for counts in (run["right"]["both"], result["test"]["right"]))
        error = (here.var() / len(here) + there.var() / len(there)).sqrt()
        assert len(here) == 100 and abs(here.mean() - there.mean()) < 3 * error
        assert sum(run["right"]["neither"]) / 7500 < 0.3
        if "another task's" in run["right"]:  # the last probe of the run is of eight validation tasks
            assert 1 / 3 < max(run["spread"]) / gamma_spread(result["probes"][-1]) < 3
