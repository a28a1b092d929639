"""Runs one hand-in with nbclient, as nbgrader does, and prints the outputs cell by cell as lines of JSON.

Runs by its path, in a process of its own: it imports nothing of the package and knows only the notebook that it is
given. Its kernel is the program inside the walls.
"""

import asyncio
import ctypes
import json
import logging
import subprocess
import sys
from typing import Any

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # seconds to import, for addresses in notebooks

from jupyter_client.kernelspec import KernelSpec  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import DeadKernelError  # noqa: E402
from nbformat.v4 import new_code_cell, new_notebook, new_output  # noqa: E402

MOST_OUTPUT = 1_000_000  # characters that a cell may print
AFTER_A_STOP = 0.4  # of the limit: once one answer was endless, the tests that call it are too
SETUP_SECONDS = 120  # importing torch from a cold disk is slow, and not the student's doing
INTERRUPT_SECONDS = 3  # to react to an interrupt, before the kernel counts as lost
DIES_WITH_PARENT, DUMPABLE, SIGKILL = 1, 4, 9
TIMEOUT = {"ename": "CellTimeoutError", "evalue": "", "traceback": []}


class Client(NotebookClient):
    """Stops a cell that runs or prints without end."""

    def outputs_of(self, source: str, seconds: int, history: bool = False) -> list[Any]:
        self.printed, self.timeout, cell = 0, seconds, new_code_cell(source)
        self.nb.cells = [cell]
        self.execute_cell(cell, 0, store_history=history)
        return list(cell.outputs)

    async def _async_handle_timeout(self, timeout: int, cell: Any = None) -> Any:
        cell.outputs = [new_output("error", **TIMEOUT)]
        self.printed = MOST_OUTPUT + 1  # what it prints from now on is dropped
        return await super()._async_handle_timeout(timeout, cell)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        below, self.printed = self.printed <= MOST_OUTPUT, self.printed + len(str(msg["content"]))
        if msg["msg_type"] == "status" or self.printed <= MOST_OUTPUT:
            return super().process_message(msg, cell, cell_index)
        if below:
            asyncio.get_running_loop().create_task(self.km.interrupt_kernel())  # type: ignore[union-attr, arg-type]
            cell.outputs = [
                new_output("error", ename="OutputError", evalue=f"more than {MOST_OUTPUT} characters printed")
            ]
        return None


def run(job: dict[str, Any]) -> None:
    """Print ``{"index": i, "outputs": […]}`` for each cell, and ``{"index": i}`` if the kernel is lost at one."""
    kernel = AsyncKernelManager(transport="ipc", connection_file=job["folder"] + "/k.json")
    kernel._kernel_spec = KernelSpec(argv=[*job["argv"], "-f", "{connection_file}"], interrupt_mode="message")
    client = Client(
        new_notebook(), kernel, startup_timeout=SETUP_SECONDS, allow_errors=True, raise_on_iopub_timeout=False,
        interrupt_on_timeout=True, error_on_timeout=TIMEOUT,
    )  # fmt: skip
    index, seconds = 0, job["seconds"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # else it could write between these lines
    try:
        with client.setup_kernel(env=job["env"], cwd=job["folder"], **quiet):
            for index, cell in enumerate(job["cells"]):
                limit = SETUP_SECONDS if cell["kind"] == "setup" else seconds
                # Outside the history, since In[-1] must not show a hidden test.
                outputs = client.outputs_of(cell["source"], limit, history=cell["kind"] == "own")
                print(json.dumps({"index": index, "outputs": outputs}), flush=True)
                if any(output.get("ename") == "CellTimeoutError" for output in outputs):
                    seconds = max(1, round(AFTER_A_STOP * job["seconds"]))
                    if client.outputs_of("0", INTERRUPT_SECONDS)[:1] == [new_output("error", **TIMEOUT)]:
                        raise DeadKernelError
    except DeadKernelError:
        print(json.dumps({"index": index}), flush=True)


if __name__ == "__main__":
    if sys.platform == "linux":  # ends with the grader, and keeps a student's code out of its memory and files
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, SIGKILL)
        ctypes.CDLL(None).prctl(DUMPABLE, 0)
    logging.disable(logging.CRITICAL)
    run(json.load(sys.stdin))
