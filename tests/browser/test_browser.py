"""The notebooks in JupyterLab: stored ones as a reader opens them, solutions as a student runs them.

Each notebook runs once: those of the course in `make test`, the solutions here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Lab, ask, errors_in, open_notebook, picture, run_all, screenshots, tab
from panel_page import write_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
COURSE, SOLUTIONS = sorted(NOTEBOOKS.glob("*.ipynb")), sorted(NOTEBOOKS.glob("solutions/*.ipynb"))
MOST_GB = 1.5  # of a kernel; Binder gives 2 GB to all of a session
PEAK_KB = "__import__('resource').getrusage(0).ru_maxrss"
# Badges come from the web; here they are empty.
WIDTHS = "images => images.filter(image => !image.src.startsWith('https:')).map(image => image.naturalWidth)"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: JupyterLab saves what it opens."""
    return Path(shutil.copytree(NOTEBOOKS, tmp_path_factory.mktemp("root"), dirs_exist_ok=True))


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with tab(browser) as opened:
        yield opened


def check_drawing(page: Any, path: Path, outputs: list[dict[str, Any]]) -> None:
    """Every picture among the outputs, and every formula of the notebook, is drawn, and nothing complained."""
    texts = [cell["source"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if "outputs" not in cell]
    widths = page.locator(".jp-Notebook img").evaluate_all(WIDTHS)
    assert len(widths) >= sum("image/png" in output.get("data", {}) for output in outputs) and 0 not in widths
    assert (page.locator("mjx-container").count() > 0) == any("$" in "".join(text) for text in texts)
    assert page.locator("mjx-merror, .jp-mod-error").all_text_contents() == []
    assert page.complaints == []


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_a_stored_notebook_can_be_read(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    open_notebook(page, lab, path.name)
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    check_drawing(page, path, [output for cell in stored for output in cell.get("outputs", [])])


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_solution_runs(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    open_notebook(page, lab, f"solutions/{path.name}")
    cells = run_all(page)
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    assert errors_in(cells) == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    check_drawing(page, path, [output for cell in cells for output in cell["outputs"]])
    assert ask(page, PEAK_KB) < MOST_GB * 1e6


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
