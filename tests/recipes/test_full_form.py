"""Notebook 09 as it runs on a GPU, with a tiny recipe in place of the paper's and a CPU in place of the GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cxgrad_lite.recipes.published import PUBLISHED
from cxgrad_lite.recipes.recipe import Recipe

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "09_full_gpu_training.ipynb"
CHANGES = {
    "FULL = False": "FULL = True",
    "(500, 600) if FULL": "(1, 2) if FULL",
    "EPISODES = 600 if FULL": "EPISODES = 3 if FULL",
    "    assert mixed.ci95 < averaged.ci95\n": "",  # not with nine images, answered by chance
}


@pytest.mark.slow
def test_the_full_form_runs_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Recipe(inner_lr=0.01, shots=1, queries=3, width=4, iterations=2)
    for method, ending in (("CxGrad", "cxgrad"), ("MAML", "lineage-maml")):
        published = f"mini_imagenet-5way-5shot-{ending}"
        assert PUBLISHED[published].method == method
        monkeypatch.setitem(PUBLISHED, published, replace(tiny, method=method))
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = "\n".join(cell for cell in code if "%pip" not in cell)
    for usual, changed in CHANGES.items():
        assert program.count(usual) == 1
        program = program.replace(usual, changed)
    names: dict[str, object] = {"__name__": "notebook"}
    exec(compile(program, NOTEBOOK.name, "exec"), names)
    first = capsys.readouterr().out
    assert "largest difference between two weights: 0" in first
    states = {path.parent.name: path.read_bytes() for path in Path("runs").glob("*/last.run")}
    assert {tiny.name, "in one go", "in two parts"} < set(states) and len(states) == 4
    exec(compile(program, NOTEBOOK.name, "exec"), names)  # as after a disconnect: all runs are at their end
    assert states == {path.parent.name: path.read_bytes() for path in Path("runs").glob("*/last.run")}
