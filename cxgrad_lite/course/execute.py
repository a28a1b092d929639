"""Runs one hand-in with nbclient, as nbgrader does, and prints the outputs of each cell as a line of JSON.

Runs by its path, in a process of its own: it imports nothing of the package and knows only the notebook that it is
given. Its kernel is the program inside the sandbox. If not all cells ran, the last line says why: ``{"lost": reason}``
where the others can run without the next one, ``{"over": reason}`` where they cannot.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import subprocess
import sys
import time
from typing import Any

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # seconds to import, for addresses in notebooks

import psutil  # noqa: E402
from jupyter_client.kernelspec import KernelSpec  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import DeadKernelError  # noqa: E402
from nbformat.v4 import new_code_cell, new_notebook, new_output  # noqa: E402

MOST_OUTPUT = 1_000_000  # characters that a cell may print
AFTER_A_STOP = 0.4  # of the limit: once one answer was endless, the tests that call it are too
SETUP_SECONDS = 120  # importing torch from a cold disk is slow, and not the student's doing
INTERRUPT_SECONDS = 6  # to react to an interrupt, before the kernel counts as lost
LIBRARIES = 1 << 29  # bytes, shared by all processes and counted in each
DIES_WITH_PARENT, DUMPABLE, SUBREAPER, SIGKILL = 1, 4, 36, 9


class Over(Exception):
    """A limit for the whole hand-in was passed; the message says which."""


def usage() -> tuple[float, int, int]:
    """Processor seconds, bytes of memory and number of processes of all that the hand-in has started."""
    seconds, memory, processes = 0.0, 0, psutil.Process().children(recursive=True)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            seconds, memory = seconds + sum(process.cpu_times()[:4]), memory + process.memory_info().rss
    return seconds, memory, len(processes)


def bytes_of_files() -> int:
    size = 0
    for path in (os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names):
        with contextlib.suppress(OSError):
            size += os.lstat(path).st_size
    return size


class Client(NotebookClient):
    """Stops a cell that runs or prints without end.

    Time is processor time of everything that the hand-in has started, so that a busy machine costs nobody points. What
    only waits may do so ``patience`` times as long.
    """

    limits: dict[str, Any]
    begin = time.monotonic()

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        self.printed += len(str(msg["content"]))
        if msg["msg_type"] == "status" or self.printed <= MOST_OUTPUT and not self.reason:
            return super().process_message(msg, cell, cell_index)
        return None

    async def outputs_of(self, source: str, seconds: float, history: bool) -> list[Any]:
        """Raises DeadKernelError if the kernel ends, or goes on after an interrupt."""
        self.printed, self.reason, cell = 0, "", new_code_cell(source)
        self.nb.cells = [cell]
        running = asyncio.ensure_future(self.async_execute_cell(cell, 0, store_history=history))
        self.reason = await self.excess(running, seconds)
        if not running.done():
            await self.km.interrupt_kernel()  # type: ignore[union-attr, misc]
            if await self.excess(running, INTERRUPT_SECONDS) and not running.done():
                raise DeadKernelError
        await running
        stopped = {"ename": "StoppedError", "evalue": self.reason, "traceback": [self.reason]}
        return [new_output("error", **stopped)] if self.reason else list(cell.outputs)

    async def excess(self, running: Any, seconds: float) -> str:
        """Wait for a cell; which limit it passed, "" if none."""
        start, before = time.monotonic(), usage()[0]
        while not (await asyncio.wait([running], timeout=0.2))[0]:
            used, memory, processes = usage()
            self.check(used, memory, processes)
            if max(used - before, (time.monotonic() - start) / self.limits["patience"]) > seconds:
                return "stopped: out of time"
            if self.printed > MOST_OUTPUT and not self.reason:
                break
        return f"stopped: more than {MOST_OUTPUT} characters printed" if self.printed > MOST_OUTPUT else ""

    def check(self, used: float, memory: int, processes: int) -> None:
        """Raises Over if the hand-in as a whole takes too much."""
        limits, waited = self.limits, (time.monotonic() - self.begin) / self.limits["patience"]
        for over, what in [
            (max(used, waited) > limits["seconds"], f"{limits['seconds']} seconds for the whole notebook"),
            (processes > limits["processes"], f"{limits['processes']} processes"),
            (memory > limits["memory"] + LIBRARIES, f"{limits['memory'] >> 20} MiB of memory"),
            (bytes_of_files() > limits["disk"], f"{limits['disk'] // 10**6} MB of files"),
        ]:
            if over:
                raise Over(f"stopped: more than {what}")


async def run(job: dict[str, Any]) -> None:
    """Print a list of outputs for each cell, or at last why there is none."""
    kernel = AsyncKernelManager(transport="ipc", connection_file=os.path.abspath("k.json"))
    kernel._kernel_spec = KernelSpec(argv=[*job["argv"], "-f", "{connection_file}"], interrupt_mode="message")
    client = Client(new_notebook(), kernel, startup_timeout=SETUP_SECONDS, allow_errors=True)
    client.raise_on_iopub_timeout, client.shutdown_kernel = False, "immediate"
    client.iopub_timeout = SETUP_SECONDS  # an error may arrive late on a busy machine; the limits end what never ends
    client.limits, seconds = job["limits"], job["limits"]["cell_seconds"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # else it could write between these lines
    try:
        async with client.async_setup_kernel(env=job["env"], cwd=os.getcwd(), **quiet):
            print(json.dumps("started"), flush=True)
            for cell in job["cells"]:
                limit = SETUP_SECONDS if cell["kind"] == "setup" else seconds
                # Outside the history, since In[-1] must not show a hidden test.
                outputs = await client.outputs_of(cell["source"], limit, history=cell["kind"] == "own")
                print(json.dumps(outputs), flush=True)
                if client.reason == "stopped: out of time":
                    seconds = AFTER_A_STOP * job["limits"]["cell_seconds"]
    except DeadKernelError:
        print(json.dumps({"lost": "stopped: it ignored the interrupt" if client.reason else "the kernel died"}))
    except Over as over:
        print(json.dumps({"over": str(over)}))


if __name__ == "__main__":
    if sys.platform == "linux":
        # It ends with the grader, a student's code cannot read its memory and files, and what detaches itself stays
        # below it.
        for option, value in ((DIES_WITH_PARENT, SIGKILL), (DUMPABLE, 0), (SUBREAPER, 1)):
            ctypes.CDLL(None).prctl(option, value)
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(run(json.load(sys.stdin)))
    finally:
        while strays := psutil.Process().children(recursive=True):
            for process in strays:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(strays, timeout=1)
