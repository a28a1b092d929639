"""The stored notebooks in JupyterLab, as a reader opens them: every picture and every formula is drawn.

Their cells run once, elsewhere (`make test`); what runs in a browser are the panels, in test_browser_panels.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Lab, errors_in, open_notebook, picture, run_all, screenshots, tab
from panel_page import write_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
STORED = sorted(NOTEBOOKS.glob("*.ipynb")) + sorted(NOTEBOOKS.glob("solutions/*.ipynb"))
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


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_notebook_can_be_read(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    formulas = any("$" in "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    open_notebook(page, lab, path.relative_to(NOTEBOOKS).as_posix())
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    widths = page.locator(".jp-Notebook img").evaluate_all(WIDTHS)
    assert len(widths) >= pictures and 0 not in widths
    assert (page.locator("mjx-container").count() > 0) == formulas
    assert page.locator("mjx-merror, .jp-mod-error").all_text_contents() == []
    assert page.complaints == []


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
