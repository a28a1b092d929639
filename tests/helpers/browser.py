"""Drives a real JupyterLab with a real browser: a server of its own, a page, and the few verbs a test needs."""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    # A container has no user namespaces to sandbox with, little shared memory and no graphics card.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # The browser itself must not look for a network.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

# Through the command API and only after kernel.info: the menus are there before the kernel is.
# Not awaited here but in ``window.ran``, so that playwright's time limit holds.
RUN = """([command, cell]) => {
    const app = window.jupyterapp;
    const {content, sessionContext} = app.shell.currentWidget;
    const run = async () => {
        await sessionContext.ready;
        await sessionContext.session.kernel.info;
        content.activeCellIndex = cell;
        await app.commands.execute(command);
    };
    window.ran = false;
    run().finally(() => { window.ran = true; });
}"""
FINISHED = "() => window.ran && window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"

CELLS = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    return Array.from(panel.content.model.cells)
        .filter(cell => cell.type === 'code' && cell.sharedModel.getSource().trim())
        .map(cell => ({count: cell.executionCount, outputs: cell.outputs.toJSON()}));
}"""

ASK = """async expression => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const user_expressions = {value: `__import__("json").dumps(${expression})`};
    const reply = await kernel.requestExecute({code: '', store_history: false, user_expressions}).done;
    const value = reply.content.user_expressions.value;
    if (value.status !== 'ok') throw new Error(`${value.ename}: ${value.evalue}`);
    return value.data['text/plain'];
}"""

# The lower edge of the last cell, scrolled to the top.
BOTTOM = """() => {
    const notebook = window.jupyterapp.shell.currentWidget.node;
    notebook.querySelector('.jp-WindowedPanel-outer').scrollTop = 0;
    return Math.max(...Array.from(notebook.querySelectorAll('.jp-Cell'), cell => cell.getBoundingClientRect().bottom));
}"""
TALLEST = 12_000

# Badges come from the web; here they are empty.
WIDTHS = "images => images.filter(image => !image.src.startsWith('https:')).map(image => image.naturalWidth)"

SETTINGS: dict[str, dict[str, Any]] = {
    # Otherwise Lab covers the page with the question whether it may fetch its news.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Every cell is drawn, not only those in sight.
    "notebook-extension/tracker": {"windowingMode": "none"},
}

SHUT_DOWN = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown()"


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: where it listens, and what lets one in."""

    port: int
    token: str

    def address(self, notebook: str) -> str:
        """Of a notebook, in a workspace of its own, so that no test sees the tabs of another."""
        workspace = f"auto-{secrets.token_hex(4)}"
        return f"http://127.0.0.1:{self.port}/lab/workspaces/{workspace}/tree/{notebook}?token={self.token}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_up(server: subprocess.Popen[bytes], lab: Lab, log: Path, timeout_s: float = 180.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{lab.port}/api?token={lab.token}", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start in {timeout_s:.0f} s:\n{log.read_text()[-2000:]}")


@contextmanager
def jupyter_lab(root: Path, private: Path) -> Iterator[Lab]:
    """Serves ``root`` with this Python as its only kernel; settings are kept in ``private``, not in the user's home."""
    lab = Lab(free_port(), secrets.token_hex(16))
    kinds = ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_SETTINGS", "JUPYTERLAB_WORKSPACES")
    folders = {f"{kind}_DIR": str(private / kind.lower()) for kind in kinds} | {"IPYTHONDIR": str(private / "ipython")}
    settings = private / "jupyterlab_settings/@jupyterlab"
    for name, content in SETTINGS.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / name).with_suffix(".jupyterlab-settings").write_text(json.dumps(content))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={lab.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
    command += [f"--IdentityProvider.token={lab.token}", "--LabApp.expose_app_in_browser=True"]
    log = private / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=os.environ | folders, stdout=output, stderr=output)
    try:
        wait_until_up(server, lab, log)
        yield lab
    finally:
        # SIGTERM makes the server shut its kernels down.
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def tab(browser: Any) -> Iterator[Any]:
    """A tab of its own profile, which remembers in ``page.complaints`` what the console and the scripts reported."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.complaints = []
    # Badges come from the web; here they are empty pictures, so that the tests need none.
    empty = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    page.route(re.compile("^https://"), lambda route: route.fulfill(content_type="image/svg+xml", body=empty))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.evaluate(SHUT_DOWN)  # a kernel outlives its tab
    page.close()


def screenshots(fallback: Path) -> Path:
    """Where pictures are kept."""
    folder = Path(os.environ.get("CXGRAD_LITE_SCREENSHOTS", fallback))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_notebook(page: Any, lab: Lab, notebook: str) -> None:
    """Opens a notebook with its stored outputs, and waits until JupyterLab is ready."""
    page.goto(lab.address(notebook))
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)
    page.evaluate("() => window.jupyterapp.restored.then(() => null)")


def run_all(page: Any, timeout_s: float = 600.0) -> list[dict[str, Any]]:
    """Runs every cell of the open notebook; returns each code cell's ``count`` and ``outputs``.

    Raises:
        TimeoutError: of playwright, if the kernel is still busy after ``timeout_s``.
    """
    page.evaluate(RUN, ["notebook:run-all-cells", 0])
    page.wait_for_function(FINISHED, timeout=timeout_s * 1000)
    cells: list[dict[str, Any]] = page.evaluate(CELLS)
    return cells


def run_cell(page: Any, cell: int, timeout_s: float = 60.0) -> dict[str, Any]:
    """Runs one cell, counted from 0, of a notebook that has code cells only; returns its ``count`` and ``outputs``."""
    page.evaluate(RUN, ["notebook:run-cell", cell])
    page.wait_for_function(FINISHED, timeout=timeout_s * 1000)
    result: dict[str, Any] = page.evaluate(CELLS)[cell]
    return result


def ask(page: Any, expression: str) -> Any:
    """The value of an expression, which must be as JSON has them, in the kernel of the open notebook."""
    return json.loads(ast.literal_eval(page.evaluate(ASK, expression)))


def errors_in(cells: list[dict[str, Any]]) -> list[str]:
    """Every error that the cells show, as ``name: message``."""
    every = [output for cell in cells for output in cell["outputs"]]
    return [f"{output['ename']}: {output['evalue']}" for output in every if output["output_type"] == "error"]


def check_drawing(page: Any, path: Path, outputs: list[dict[str, Any]]) -> None:
    """Asserts that all pictures of these outputs and all formulas of the notebook are drawn, without complaint."""
    texts = [cell["source"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if "outputs" not in cell]
    widths = page.locator(".jp-Notebook img").evaluate_all(WIDTHS)
    assert len(widths) >= sum("image/png" in output.get("data", {}) for output in outputs) and 0 not in widths
    assert (page.locator("mjx-container").count() > 0) == any("$" in "".join(text) for text in texts)
    assert page.locator("mjx-merror, .jp-mod-error").all_text_contents() == []
    assert page.complaints == []


def picture(page: Any, path: Path) -> None:
    """Saves a screenshot of the whole notebook, or of its first 12 000 pixels."""
    # JupyterLab scrolls inside the page and draws only what is in sight: the window must be as tall as the notebook.
    page.set_viewport_size({"width": 1280, "height": TALLEST})
    page.wait_for_timeout(1000)
    page.set_viewport_size({"width": 1280, "height": min(int(page.evaluate(BOTTOM)) + 60, TALLEST)})
    page.wait_for_timeout(1000)
    page.screenshot(path=path)
