"""A JupyterLab that shows a copy of the course, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, chromium, jupyter_lab, tab
from pages import LOOKS, served

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that JupyterLab shows: a copy, because it saves what it opens."""
    return Path(shutil.copytree(NOTEBOOKS, tmp_path_factory.mktemp("root"), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def lab(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with jupyter_lab(root, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with tab(browser) as opened:
        yield opened


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, made without a network."""
    pytest.importorskip("myst_nb", reason="the site's builder is not installed (pip install -e '.[site]')")
    out = tmp_path_factory.mktemp("site") / "html"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    command = [sys.executable, str(ROOT / ".ci" / "build_site.py"), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stderr == "", done.stderr[-3000:]
    return out


@pytest.fixture
def visit(site: Path, browser: Any) -> Iterator[Any]:
    """Opens a page in a look; in the end nothing may have been asked of another host, and nothing complained."""
    complaints, requests, opened = [], [], []
    with served(site) as address:

        def visit(page: str, look: str = "desk, light", **options: Any) -> Any:
            width, scheme = LOOKS[look]
            opened.append(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options))
            opened[-1].on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
            opened[-1].on("pageerror", lambda error: complaints.append(str(error)))
            opened[-1].sizes = sizes = {}  # bytes, by address
            opened[-1].on("response", lambda r: sizes.update({r.url: int(r.headers.get("content-length", 0))}))
            opened[-1].on("request", lambda request: requests.append(request.url))
            opened[-1].goto(f"{address}/{page}.html")
            return opened[-1]

        yield visit
        for page in opened:
            page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
