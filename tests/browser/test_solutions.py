"""The solutions run in JupyterLab, in a browser, as a student would run them; they run nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Lab, ask, check_drawing, errors_in, open_notebook, picture, run_all, screenshots

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MOST_GB = 1.5  # of a kernel; Binder gives 2 GB to all of a session
PEAK_KB = "__import__('resource').getrusage(0).ru_maxrss"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("solutions/*.ipynb")), ids=lambda path: path.stem)
def test_a_solution_runs(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    open_notebook(page, lab, f"solutions/{path.name}")
    cells = run_all(page)
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    assert errors_in(cells) == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    check_drawing(page, path, [output for cell in cells for output in cell["outputs"]])
    assert ask(page, PEAK_KB) < MOST_GB * 1e6
