"""The commands evaluate and compare, on networks that were never trained."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cxgrad_lite import evaluate, load_checkpoint, save_checkpoint
from cxgrad_lite.commands import main
from cxgrad_lite.recipes.images import load_images
from cxgrad_lite.recipes.recipe import SPLIT_SEEDS, Recipe
from cxgrad_lite.recipes.results import write_json
from data_utils import ImageClasses, TaskSampler
from data_utils.transforms import preset

TINY = Recipe(method="MAML", width=4, queries=2)


def checkpoint(folder: Path, recipe: Recipe) -> str:
    path = folder / f"{recipe.name}.safetensors"
    save_checkpoint(path, recipe.build(), recipe=asdict(recipe))
    return str(path)


def test_per_task_numbers_are_those_of_the_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, file = checkpoint(tmp_path, TINY), tmp_path / "tasks.json"
    few = ["--episodes", "5", "--queries", "2", "--device", "cpu"]
    assert main(["evaluate", path, *few, "--per-task", str(file)]) == 0
    mean = json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]
    stored = json.loads(file.read_text())
    assert sum(stored["test"]["per_task"]) / 5 == pytest.approx(mean, abs=1e-6)
    assert stored["tasks"] == {
        "dataset": "glyphs", "split": "test", "ways": 5, "shots": 5, "queries": 2, "size": 28, "normalisation": "none",
        "device": "cpu",
    }  # fmt: skip


def test_inner_steps_at_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path, replace(TINY, inner_lr=0.3))

    def mean(*more: str) -> float:
        assert main(["evaluate", path, "--episodes", "6", "--queries", "5", *more]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]

    assert mean("--inner-steps", "5") == mean() != mean("--inner-steps", "1")
    metric = checkpoint(tmp_path, replace(TINY, method="ProtoNet"))
    assert main(["evaluate", metric, "--inner-steps", "1"]) == 2
    assert "ProtoNet has no inner loop" in capsys.readouterr().err
    learned = checkpoint(tmp_path, replace(TINY, method="ALFA"))
    assert main(["evaluate", learned, "--inner-steps", "9"]) == 2
    assert "cannot take 9" in capsys.readouterr().err
    assert main(["evaluate", learned, "--inner-steps", "100000"]) == 2
    assert "--inner-steps: inner_steps must be a whole number from 0 to 1000, not 100000" in capsys.readouterr().err


def test_another_dataset_comes_at_the_networks_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path, replace(TINY, size=20))
    few = ["--episodes", "3", "--queries", "2"]
    assert main(["evaluate", path, "--dataset", "glyphs", "--size", "20", "--normalisation", "none", *few]) == 0
    assert main(["evaluate", path, "--size", "84", *few]) == 2
    assert "takes 20 pixels" in capsys.readouterr().err
    assert main(["evaluate", path, "--dataset", "glyfs", *few]) == 2
    assert "did you mean glyphs" in capsys.readouterr().err
    assert main(["evaluate", path, "--dataset", "", *few]) == 2
    assert "there is no dataset ''" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", path, "--shots", "0", *few])
    assert "--shots: must be a whole number from 1" in capsys.readouterr().err
    assert main(["evaluate", path, "--normalisation", "imagenet", *few]) == 2
    assert "channel" in capsys.readouterr().err


def test_the_tasks_are_those_that_were_asked_for(
    tmp_path: Path, cache: Path, stripes: ImageClasses, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another dataset, resized, and another normalisation: the number is that of the same tasks made by hand."""
    for i, (image, label) in enumerate(zip(stripes.images, stripes.labels.tolist())):
        split = ("val", "test", "train")[label // 5]  # five classes for tasks of five ways
        file = tmp_path / "own" / split / stripes.names[label] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(file)
    assert main(["data", "get", "folder", "--from", str(tmp_path / "own")]) == 0
    path = checkpoint(tmp_path, replace(TINY, dataset="folder", size=20, inner_lr=0.3))
    capsys.readouterr()
    tasks = {name: load_images(name, "test", 20, 3) for name in ("folder", "glyphs")}
    means: list[float] = []
    for dataset, images in tasks.items():
        for name in ("none", "imagenet"):
            sampler = TaskSampler(images, 5, 5, 2, seed=SPLIT_SEEDS["test"], transform=preset(name))
            by_hand = evaluate(load_checkpoint(Path(path)), sampler, 6)
            asked = ["--dataset", dataset, "--normalisation", name, "--episodes", "6", "--queries", "2"]
            asked += ["--device", "cpu"]
            assert main(["evaluate", path, *asked]) == 0
            assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean"] == by_hand.mean
            means.append(by_hand.mean)
    assert len(set(means)) > 2, "neither option may be without effect"


def test_two_checkpoints_and_their_numbers_compare_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [checkpoint(tmp_path, replace(TINY, seed=seed)) for seed in (0, 1)]
    few = ["--episodes", "4", "--queries", "3"]
    assert main(["compare", *paths, *few]) == 0
    said = capsys.readouterr().out
    files = [str(tmp_path / f"{number}.json") for number in (0, 1)]
    for path, file in zip(paths, files):
        assert main(["evaluate", path, *few, "--per-task", file]) == 0
    numbers = [json.loads(Path(file).read_text())["test"]["per_task"] for file in files]
    capsys.readouterr()
    assert main(["compare", *files]) == 0
    assert capsys.readouterr().out == said
    mean = sum(a - b for a, b in zip(*numbers)) / 4
    assert f"A − B  {100 * mean:+.2f} ± " in said and "4 paired tasks" in said and "several seeds" in said
    assert main(["compare", paths[0], files[1], *few]) == 0, "a checkpoint and a file"


def test_different_tasks_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"mean": 0.5, "ci95": 0.1, "per_task": [0.4, 0.6]}
    for name, shots, device in (("a", 5, "x86_64 CPU, 1 thread(s)"), ("b", 1, "arm64 CPU"), ("d", 5, "NVIDIA H200")):
        told = {"recipe": asdict(replace(TINY, shots=shots)), "device": device, "test": numbers}
        write_json(tmp_path / f"{name}.json", told)
    write_json(tmp_path / "c.json", {"mean": 0.5})
    a, b, c, d = (str(tmp_path / f"{name}.json") for name in "abcd")
    assert main(["compare", a, b]) == 2
    assert "not the same tasks: shots: 5 and 1" in capsys.readouterr().err
    assert main(["compare", a, c]) == 2
    assert "holds no accuracies of single tasks" in capsys.readouterr().err
    assert main(["compare", a, a]) == 0
    assert main(["compare", a, a, "--also", b, b]) == 2, "the pairs, too, must share their tasks"
    capsys.readouterr()
    assert main(["compare", a, d]) == 2, "a seed draws other tasks on a GPU"
    assert "device: cpu and cuda" in capsys.readouterr().err


def test_several_seeds_have_an_interval_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, values in {"a0": [0.5, 0.7], "b0": [0.4, 0.6], "a1": [0.8, 0.6], "b1": [0.5, 0.3]}.items():
        told = {"recipe": asdict(TINY), "device": "x86_64 CPU", "test": {"per_task": values}}
        write_json(tmp_path / f"{name}.json", told)
    a0, b0, a1, b1 = (str(tmp_path / f"{name}.json") for name in ("a0", "b0", "a1", "b1"))
    assert main(["compare", a0, b0, "--also", a1, b1]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "A − B  +10.00 ± " in said[2] and "A − B  +30.00 ± " in said[5]
    assert said[6].startswith("mean   +20.00 points; 95 % interval over tasks ± 0.00, over 2 seeds ± 127.06"), said
    assert main(["compare", a0, b0, "--also", a0, b1]) == 2
    assert "one file stands in two pairs" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # a seed without its partner
        main(["compare", a0, b0, "--also", a1])


@pytest.mark.parametrize(
    "recipe, words",
    [
        ({"shots": "five"}, "shots must be a whole number from 1 to 10000, not 'five'"),
        (
            {"normalisation": "mine"},
            "normalisation must be one of none, imagenet, cifar_cxgrad, relationnet, not 'mine'",
        ),
        ({"way": 5}, "Recipe has no setting 'way'; did you mean ways"),
        ([], "Recipe must be a table, not list"),
    ],
)
def test_what_a_checkpoint_says_of_its_training_is_checked(
    recipe: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "m.safetensors", TINY.build(), recipe=recipe)
    assert main(["evaluate", str(tmp_path / "m.safetensors"), "--dataset", "glyphs", "--episodes", "2"]) == 2
    said = capsys.readouterr().err
    assert "m.safetensors: " in said and words in said
