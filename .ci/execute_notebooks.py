"""Runs notebooks from top to bottom and stores their outputs in the form in which they are committed.

Usage: python .ci/execute_notebooks.py [name ...]     (02_maml or notebooks/02_maml.ipynb; no name: all of them)
"""

from __future__ import annotations

import html
import sys
import time
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT_S = 300
MOST_GB = 1.5  # of the kernel; Binder gives 2 GB to all of a session

# These differ between machines or runs and would show up in every diff.
KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"}
PER_MACHINE = ("widgets", "signature", "vscode", "toc-showcode")
PER_RUN = ("execution", "ExecuteTime", "vscode", "collapsed", "scrolled")


def clean(notebook: NotebookNode) -> None:
    """Removes everything that depends on the machine."""
    for key in PER_MACHINE:
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = dict(KERNELSPEC)
    notebook.metadata["language_info"] = dict(LANGUAGE)
    for cell in notebook.cells:
        for key in PER_RUN:
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            # Without its state, a stored widget shows as an error in JupyterLab and as a long repr elsewhere.
            if output.get("data", {}).pop(WIDGET, None) is not None:
                output.data["text/plain"] = "[interactive: run this cell to use it]"
        if cell.cell_type == "code":
            cell.outputs = [each for output in cell.outputs for each in (output, *in_words(output))]


def in_words(output: NotebookNode) -> list[NotebookNode]:
    """The alternative text of a picture as an output of its own: nbconvert's default template drops it elsewhere."""
    alt = output.get("metadata", {}).get("image/png", {}).get("alt")
    if alt is None:
        return []
    told = f"<details><summary>This figure in words</summary>{html.escape(alt, quote=False)}</details>"
    return [nbformat.v4.new_output("display_data", {"text/html": told, "text/plain": alt})]


def peak_bytes(process: psutil.Process) -> int:
    """The most memory that the process has used so far or, where the system keeps no record, what it uses now."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


def execute(path: Path) -> tuple[float, float]:
    """Runs one notebook and stores it; returns its seconds and the peak memory of its kernel in GB."""
    notebook = nbformat.read(path, as_version=4)
    peak = 0

    def measure(**_: object) -> None:
        nonlocal peak
        peak = max(peak, peak_bytes(psutil.Process(client.km.provisioner.pid)))

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        # The kernel's warnings about its own sockets would drown the table; the cells' warnings are stored as outputs.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        on_cell_executed=measure,
    )
    start = time.monotonic()
    client.execute()
    clean(notebook)
    # Renamed into place: an interrupted run must not leave half a notebook.
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)
    return time.monotonic() - start, peak / 1e9


def find(names: list[str]) -> list[Path]:
    """The notebooks named, or all of them."""
    every = sorted(NOTEBOOKS.glob("*.ipynb")) + sorted(NOTEBOOKS.glob("solutions/*.ipynb"))
    if not names:
        return every
    by_stem = {path.stem: path for path in every}
    unknown = [name for name in names if Path(name).stem not in by_stem]
    if unknown:
        sys.exit(f"execute_notebooks: no notebook {', '.join(unknown)}; there are {', '.join(by_stem) or 'none'}")
    return [by_stem[Path(name).stem] for name in names]


def main(names: list[str]) -> int:
    """Runs the notebooks named; a notebook that fails is left as it was. Returns the exit status."""
    failed = 0
    for path in find(names):
        try:
            seconds, gigabytes = execute(path)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.stem:<24} FAILED\n{error}", flush=True)
        else:
            too_much = gigabytes > MOST_GB
            failed += too_much
            excess = f"  FAILED: more than {MOST_GB} GB" if too_much else ""
            print(f"{path.stem:<24} {seconds:6.1f} s {gigabytes:6.2f} GB{excess}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
