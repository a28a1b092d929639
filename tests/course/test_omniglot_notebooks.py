"""The notebooks with their one switch set to real handwriting. Needs the two small archives of Omniglot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DATA = os.environ.get("CXGRAD_LITE_TEST_DATA")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ARCHIVES = ("images_background_small1.zip", "images_background_small2.zip")


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder in which the archives lie as if downloaded."""
    if not DATA or not all((Path(DATA) / name).is_file() for name in ARCHIVES):
        pytest.skip("set CXGRAD_LITE_TEST_DATA to a folder with Omniglot's two small archives")
    for name in ARCHIVES:
        shutil.copy(Path(DATA) / name, tmp_path)
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("02_maml", 'assert results["MAML, yours"].mean > results["nearest pixels"].mean'),
        ("05_cxgrad", 'assert results["CxGrad, yours"].mean > results["nearest pixels"].mean'),
    ],
)
def test_on_handwriting(name: str, claim: str, cache: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    switched = 0
    for cell in notebook.cells:
        if cell.cell_type == "code" and 'DATASET = "glyphs"' in cell.source:
            cell.source = cell.source.replace('DATASET = "glyphs"', 'DATASET = "omniglot_small"')
            switched += 1
    assert switched == 1
    notebook.cells.append(nbformat.v4.new_code_cell(claim))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}).execute()
