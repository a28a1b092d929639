"""Every notebook runs in JupyterLab, in a browser, as a student would run it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Lab, errors_in, open_notebook, picture, run_all, screenshots, tab

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: JupyterLab saves what it runs."""
    return Path(shutil.copytree(NOTEBOOKS, tmp_path_factory.mktemp("root"), dirs_exist_ok=True))


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with tab(browser) as opened:
        yield opened


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_in_jupyterlab(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    open_notebook(page, lab, path.name)
    cells = run_all(page)
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    assert errors_in(cells) == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert page.complaints == []
