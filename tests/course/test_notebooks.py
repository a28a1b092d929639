"""What is committed in notebooks/ is what ran: whole, in order, without traces of the machine it ran on."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb")) + sorted(FOLDER.glob("solutions/*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"/(home|root|tmp|work|Users)/|[A-Z]:\\\\?Users")
LONGEST_CELL = 15

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    """The code cells that are not empty: Jupyter gives an empty one no execution count."""
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def test_the_notebooks_are_there() -> None:
    # Without this, an empty folder would pass every other test.
    stems = {path.stem for path in NOTEBOOKS}
    assert {"00_start_here", "02_maml", "05_cxgrad", "08_method_zoo", "08_solutions"} <= stems


@each_notebook
def test_every_cell_ran_once_and_in_order(path: Path) -> None:
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run it with: make notebooks"
    assert outputs(path), "no outputs are stored"


@each_notebook
def test_no_errors_are_stored(path: Path) -> None:
    assert [output["evalue"] for output in outputs(path) if output["output_type"] == "error"] == []
    assert [output["text"] for output in outputs(path) if output.get("name") == "stderr"] == []


@each_notebook
def test_no_widget_state_is_stored(path: Path) -> None:
    assert "widgets" not in read(path)["metadata"]
    # A widget without its state shows as an error when the notebook is opened.
    assert not any(WIDGET in output.get("data", {}) for output in outputs(path))


@each_notebook
def test_no_trace_of_the_machine(path: Path) -> None:
    # Pictures aside: in a megabyte of base64, any four letters may stand between two slashes.
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert MACHINE_PATH.findall(text) == []
    assert read(path)["metadata"]["kernelspec"]["name"] == "python3"


@each_notebook
def test_small_enough_to_read_on_the_web(path: Path) -> None:
    assert path.stat().st_size < 2e6


@each_notebook
def test_pictures_have_alt_text(path: Path) -> None:
    pictures = [output for output in outputs(path) if "image/png" in output.get("data", {})]
    silent = [p for p in pictures if not p["metadata"].get("image/png", p["metadata"]).get("alt")]
    assert not silent, f"{len(silent)} of {len(pictures)} pictures have no alt text"


@each_notebook
@pytest.mark.filterwarnings("default::UserWarning")
def test_cells_are_short(path: Path) -> None:
    # A warning only: a longer cell can be right, and whoever wrote it should see that it stands out.
    lines = {cell["execution_count"]: "".join(cell["source"]).splitlines() for cell in code_cells(path)}
    # Imports are not read.
    lengths = {count: sum(not line.startswith(("import ", "from ")) for line in cell) for count, cell in lines.items()}
    long = {f"[{count}]": length for count, length in lengths.items() if length > LONGEST_CELL}
    if long:
        warnings.warn(f"{path.name} has cells of more than {LONGEST_CELL} lines: {long}", UserWarning, stacklevel=1)
