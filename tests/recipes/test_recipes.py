"""Recipes by name, the published settings, and the shipped runs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from cxgrad_lite import METHODS, CxGrad, evaluate, meta_train
from cxgrad_lite.recipes import course, paper
from cxgrad_lite.recipes.course import best_recipe
from cxgrad_lite.recipes.images import load_images
from cxgrad_lite.recipes.published import PUBLISHED, find_recipe
from cxgrad_lite.recipes.recipe import PRETRAINED, Recipe, pretrained
from cxgrad_lite.recipes.results import RATES_FILE


def test_the_shipped_runs_are_those_of_the_command() -> None:
    whole = [*course.whole_recipes(PRETRAINED), *paper.shipped()]
    expected = {f"{recipe.name}.safetensors" for recipe in whole}
    assert {path.name for path in PRETRAINED.glob("*.safetensors")} == expected
    runs = json.loads((PRETRAINED / RATES_FILE).read_text())
    assert [Recipe(**run["recipe"]) for run in runs] == course.search_recipes()
    for run in runs:
        assert run["validation"]["episodes"] == Recipe(**run["recipe"]).episodes
    for recipe in whole:
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
    mini = [recipe for recipe in PUBLISHED.values() if recipe.dataset == "mini_imagenet"]
    assert {(recipe.method, recipe.shots) for recipe in mini} == {(m, s) for m in METHODS for s in (1, 5)}
    cxgrad = PUBLISHED["mini_imagenet-5way-1shot-cxgrad"]
    assert (cxgrad.width, cxgrad.inner_lr, cxgrad.tasks_per_batch, cxgrad.iterations) == (48, 0.01, 4, 50_000)
    assert PUBLISHED["mini_imagenet-5way-5shot-cxgrad"].tasks_per_batch == 2
    assert PUBLISHED["mini_imagenet-5way-1shot-protonet"].train_ways == 30
    assert PUBLISHED["mini_imagenet-5way-5shot-cavia"].config().decay == 0.9


def test_the_other_half_of_table_1_and_the_lineage_maml() -> None:
    tiered = {recipe.method: recipe for recipe in PUBLISHED.values() if recipe.dataset == "tiered_imagenet"}
    assert set(tiered) == {"MAML", "BOIL", "ALFA", "L2F", "CxGrad"}, "the rows that have a cell there"
    assert (tiered["CxGrad"].width, tiered["CxGrad"].iterations) == (48, 125_000)
    assert tiered["MAML"].width == 64
    maml, cxgrad = (PUBLISHED[f"mini_imagenet-5way-1shot-{name}"] for name in ("lineage-maml", "cxgrad"))
    assert replace(maml, method="CxGrad") == cxgrad, "nothing but the method differs"
    assert PUBLISHED["mini_imagenet-5way-5shot-maml"].width == 32, "that of MAML's authors"


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


def test_every_shipped_run_is_found_by_its_name_and_soon() -> None:
    start = time.perf_counter()
    assert all(find_recipe(recipe.name) == recipe for recipe in course.gradient_studies())
    assert (time.perf_counter() - start) / 4 < 0.05, "one header is read, no list is built"
    for path in PRETRAINED.glob("*.safetensors"):
        assert find_recipe(path.stem).name == path.stem


def test_an_unknown_recipe_brings_similar_ones_to_mind() -> None:
    with pytest.raises(ValueError, match="did you mean .*mini_imagenet-5way-5shot-cxgrad"):
        find_recipe("mini_imagenet-5way-5shot-cxgrd")
    with pytest.raises(ValueError, match="python -m cxgrad_lite recipes"):
        find_recipe("?")


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("iterations", 0, "iterations must be a whole number of at least 1, not 0"),
        ("ways", -1, "ways must be a whole number from 1 to 10000, not -1"),
        ("width", 0, "width must be a whole number from 1 to 4096, not 0"),
        ("width", 30_000, "width must be a whole number from 1 to 4096, not 30000"),
        ("width", "4", "width must be a whole number .*, not '4'"),
        ("width", True, "not True"),
        ("train_ways", 0, "train_ways must be a whole number from 1 to 10000 or none, not 0"),
        ("inner_steps", 10**9, "inner_steps must be a whole number from 0 to 1000 or none"),
        ("episodes", 1, "episodes must be a whole number from 2"),
        ("clip_norm", -1.0, "clip_norm must be a number above 0 or none"),
        ("clip_value", -1.0, "clip_value must be a number above 0"),
        ("decay", float("nan"), "decay must be a number above 0, not nan"),
        ("decay", -1.0, "decay must be a number above 0"),
        ("decay_every", -1, "decay_every must be a whole number of at least 0"),
        ("eps", 0.0, "eps must be a number above 0"),
        ("meta_lr", float("inf"), "meta_lr must be a number above 0, not inf"),
        ("conv_bias", "false", "conv_bias must be true or false, not 'false'"),
        ("activation", "gelu", "activation must be one of leaky_relu, relu"),
        ("options", {"frozen_context": "yes"}, "frozen_context must be true or false"),
        ("options", {"x": 1}, "CxGrad has no setting 'x'; there are inner_lr"),
        ("options", [], "options must be a table"),
        ("dataset", "glyfs", "no dataset 'glyfs'; did you mean glyphs"),
        ("test_dataset", "cifar", "no dataset 'cifar'; did you mean cifar_fs"),
        ("method", "CXGrad", "no method 'CXGrad'; did you mean CxGrad"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(Recipe(), **{field: value})


def test_an_option_that_the_method_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="ProtoNet has no setting 'inner_lr'"):
        Recipe(method="ProtoNet", inner_lr=0.1)


def test_images_take_the_shape_that_a_network_wants() -> None:
    plain, large = load_images("glyphs", "val"), load_images("glyphs", "val", size=32, channels=3)
    assert large.images.shape == (len(plain), 3, 32, 32) and large.names == plain.names
    assert torch.equal(large.images[:, 0], large.images[:, 2])
    ink = [images.float().mean().item() for images in (plain.images, large.images)]
    assert ink[1] == pytest.approx(ink[0], rel=0.02), "resized, not cropped"
    recipe = Recipe(size=20, test_dataset="glyphs", queries=2)
    assert next(recipe.tasks("test").episodes(1))[0][0].shape[1:] == (1, 20, 20)
