"""Every notebook runs in JupyterLab, in a browser, as a student would run it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, FLAGS, Lab, errors_in, jupyter_lab, open_notebook, picture, run_all

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian and Ubuntu: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # A copy: JupyterLab saves what it runs.
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(NOTEBOOKS, root, dirs_exist_ok=True)
    with jupyter_lab(root, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab of its own profile, which remembers in ``page.complaints`` what the console and the scripts reported."""
    tab = chromium.new_page(viewport={"width": 1280, "height": 900})
    tab.complaints = []
    # Badges come from the web; here they are empty pictures, so that the tests need none.
    empty = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    tab.route(re.compile("^https://"), lambda route: route.fulfill(content_type="image/svg+xml", body=empty))
    tab.on("console", lambda message: tab.complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    yield tab
    tab.close()


def screenshots(fallback: Path) -> Path:
    folder = Path(os.environ.get("CXGRAD_LITE_SCREENSHOTS", fallback))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_in_jupyterlab(path: Path, lab: Lab, page: Any, tmp_path: Path) -> None:
    open_notebook(page, lab, path.name)
    cells = run_all(page)
    picture(page, screenshots(tmp_path) / f"{path.stem}.png")
    assert errors_in(cells) == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert page.complaints == []
