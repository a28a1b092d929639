"""One run from recipe to result: what is written, what a stopped run keeps, and what is never mixed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from cxgrad_lite import CxGrad, load_checkpoint
from cxgrad_lite.probes import LAYERS
from cxgrad_lite.recipes import making
from cxgrad_lite.recipes.making import Probes, make
from cxgrad_lite.recipes.recipe import Recipe
from cxgrad_lite.recipes.results import best, read_result, validation, write_json
from cxgrad_lite.training.checkpoints import read_header

TINY = Recipe(width=4, queries=2, iterations=4, episodes=3, purpose="study")
EARLIER = {  # of a run made before this code: every key that a reader of results relies on
    "recipe", "command", "commit", "engine", "precision", "device", "torch", "date", "seconds", "test", "cka",
    "validation", "probes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "PROBED_TASKS", 2)
    monkeypatch.setattr(making, "VALIDATION_TASKS", 2)


def test_a_study_leaves_a_result_and_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(making.VALIDATE_EVERY, "study", 2)
    monkeypatch.setitem(making.PROBE_EVERY, "study", 2)
    result = make(TINY, tmp_path, "the command")
    assert json.loads((tmp_path / f"{TINY.name}.json").read_text()) == result == read_result(TINY, tmp_path)
    assert EARLIER <= set(result) and result["engine"] == "fused", "the engine that ran, never 'auto'"
    assert len(result["test"]["per_task"]) == 3 and set(result["test"]) == {"mean", "ci95", "per_task"}
    assert [done for done, _, _ in result["validation"]] == [2, 4]
    assert [look["iteration"] for look in result["probes"]] == [1, 2, 4]
    assert set(result["probes"][0]) == {"iteration", "split", "norms", "relative", "gamma", "gamma_std"}
    assert all(len(values) == 3 for values in result["cka"].values())

    stored = read_header(tmp_path / f"{TINY.name}.safetensors")["provenance"]
    curves = stored["curves"]
    assert set(curves["norms"]) == set(LAYERS) and len(curves["norms"]["head"]) == len(curves["iteration"]) == 3
    assert len(curves["gamma"][0]) == len(curves["gamma_std"][0]) == 4
    assert Recipe(**stored["recipe"]) == TINY and stored["test"]["episodes"] == 3
    assert isinstance(load_checkpoint(tmp_path / f"{TINY.name}.safetensors"), CxGrad)


def test_a_search_leaves_numbers_of_validation_tasks_only(tmp_path: Path) -> None:
    recipe = replace(TINY, method="ProtoNet", iterations=1, purpose="search")
    result = make(recipe, tmp_path, "")
    assert len(result["val"]["per_task"]) == 3 and "test" not in result and result["probes"] == []
    assert list(tmp_path.glob("*.safetensors")) == []
    assert validation(result)["episodes"] == 3


def test_a_search_whose_rate_diverges_has_a_result_and_never_wins(tmp_path: Path) -> None:
    searches = [replace(TINY, method="MAML", inner_lr=rate, iterations=1, purpose="search") for rate in (1e30, 0.01)]
    assert best(searches, tmp_path) is None
    results = [make(recipe, tmp_path, "") for recipe in searches]
    assert "not finite" in results[0]["diverged"]
    assert best(searches, tmp_path) == searches[1]


def test_a_stopped_run_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "MINUTES", 0)
    whole = make(TINY, tmp_path / "whole", "")
    look, looks = Probes.__call__, []

    def stop(self: Probes, history: Any) -> None:
        look(self, history)
        looks.append(len(history.loss))
        if looks == [1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Probes, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        make(TINY, tmp_path / "parts", "")
    assert read_result(TINY, tmp_path / "parts") is None
    parts = make(TINY, tmp_path / "parts", "")
    assert looks in ([1, 2, 3, 4], [1, 2, 2, 3, 4]), "from the last state, not from the beginning"
    same = ("test", "cka", "probes", "validation")
    assert {key: parts[key] for key in same} == {key: whole[key] for key in same}


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / f"{TINY.name}.json", {"recipe": asdict(TINY)})
    monkeypatch.setattr(making, "train", lambda *arguments: pytest.fail("made again"))
    assert make(TINY, tmp_path, "") == {"recipe": asdict(TINY)}


def test_a_run_that_another_process_makes_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / TINY.name
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"), pytest.raises(Timeout):
        make(TINY, tmp_path, "")


def test_results_of_other_settings_and_halves_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / f"{TINY.name}.json"
    write_json(file, {"recipe": asdict(replace(TINY, width=8))})
    with pytest.raises(ValueError, match="was made with width=8, not 4"):
        read_result(TINY, tmp_path)
    older = {key: value for key, value in asdict(TINY).items() if key != "test_dataset"}
    write_json(file, {"recipe": older})
    assert read_result(TINY, tmp_path) is not None, "a field that the file is too old to know has its default"
    file.write_text(file.read_text()[:-20])
    with pytest.warns(UserWarning, match="is damaged"):
        assert read_result(TINY, tmp_path) is None


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    for name, value in {"shots": 1, "queries": 3, "tasks_per_batch": 4, "seed": 1, "dataset": "omniglot_small"}.items():
        folder = tmp_path / name
        making.run_folder(TINY, folder, 10, True, {})
        with pytest.raises(ValueError, match=f"was made with {name}={getattr(TINY, name)!r}, not {value!r}"):
            making.run_folder(replace(TINY, **{name: value}), folder, 10, True, {})
    with pytest.raises(ValueError, match="iterations=4; it can only be made longer"):
        making.run_folder(replace(TINY, iterations=2), folder, 10, True, {})
    making.run_folder(replace(TINY, iterations=8), folder, 10, True, {})


def test_a_trained_network_is_tested_on_another_dataset(tmp_path: Path) -> None:
    recipe = replace(TINY, method="ProtoNet", iterations=1, size=16)
    elsewhere = replace(recipe, test_dataset="glyphs")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        make(elsewhere, tmp_path, "")
    there = make(recipe, tmp_path, "")
    result = make(elsewhere, tmp_path, "")
    assert result["test"] == there["test"], "the same images under another name"
    assert result["recipe"]["test_dataset"] == "glyphs" and elsewhere.name != recipe.name
