"""The stored notebooks in JupyterLab, as a reader opens them; their cells run in `make test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Lab, check_drawing, errors_in, open_notebook, picture, run_all, screenshots
from panel_page import write_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_stored_notebook_can_be_read(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    open_notebook(page, lab, path.name)
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    check_drawing(page, path, [output for cell in stored for output in cell.get("outputs", [])])


def test_curves_replace_each_other(root: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    cell = """
from cxgrad_lite import MAML, Conv4, TrainConfig, meta_train
from cxgrad_lite.live import LiveCurves
from data_utils import TaskSampler, load

tasks = TaskSampler(load("glyphs", "test"), ways=3, shots=1, queries=4, tasks_per_batch=1)
method, curves = MAML(Conv4(1, 28, 3, width=8), inner_steps=1), LiveCurves("MAML", every=0.0)
history = meta_train(method, tasks, TrainConfig(iterations=4), callback=curves)
"""
    write_notebook(root / "curves.ipynb", [cell])
    open_notebook(page, lab, "curves.ipynb")
    assert errors_in(run_all(page)) == []
    picture(page, screenshots(tmp_path) / "curves.png")
    assert page.locator(".jp-RenderedImage img").count() == 1
    assert page.complaints == []
