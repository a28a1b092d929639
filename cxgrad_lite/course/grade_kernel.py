"""A Jupyter kernel for code that cannot be trusted to end."""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client.manager import KernelManager

LONGEST_MESSAGE = 200
INTERRUPT_SECONDS = 3.0  # to react to an interrupt, before the kernel counts as lost
START_SECONDS = 120.0
# Jupyter's exit() ends the kernel some time later, in the middle of another answer. The long form of a traceback takes
# many seconds after an endless recursion, and nobody reads it.
PRELUDE = "del exit, quit\nget_ipython().run_line_magic('xmode', 'Minimal')"
POLL_SECONDS = 0.5  # until a dead kernel is noticed
PACKAGE_ROOT = str(Path(__file__).parent.parent.parent)


class Kernel:
    """Runs pieces of code one after the other, each under a time limit, in an empty folder; outputs are dropped.

    The kernel is the ``python3`` of the environment it is called from, and finds this package as the caller does.
    """

    def __enter__(self) -> Kernel:
        # Students' folders stay as they were handed in. On some systems a dying kernel still holds its folder.
        self._folder = tempfile.TemporaryDirectory(prefix="cxgrad_lite_", ignore_cleanup_errors=True)
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        path = os.pathsep.join(filter(None, [PACKAGE_ROOT, os.environ.get("PYTHONPATH")]))
        # One thread: sums do not depend on the number of cores, and small networks are not slower.
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self._manager = KernelManager(kernel_name="python3")
        # What a student prints must not end up between the lines of the grading command.
        self._manager.start_kernel(cwd=self._folder.name, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_SECONDS)
        self.answers = True
        self._reply(PRELUDE, START_SECONDS)

    def _stop(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def restart(self) -> None:
        """A new kernel that knows nothing."""
        self._stop()
        self._start()

    def run(self, code: str, seconds: float) -> tuple[str | None, bool]:
        """Run one piece of code.

        Returns:
            None or one line that says how it failed, and whether it ran out of time. If ``answers`` is False
            afterwards, nothing more can be run before a `restart`.
        """
        reply = self._reply(code, seconds)
        if reply is not None:
            return _failure(reply), False
        if not self._manager.is_alive():
            self.answers = False
            return "the kernel died", False
        self._manager.interrupt_kernel()
        self.answers = self._reply("", INTERRUPT_SECONDS) is not None
        return f"stopped after {seconds:.0f} seconds", True

    def _reply(self, code: str, seconds: float) -> dict[str, Any] | None:
        """What the kernel answers, or None if it does not within this time, or dies."""
        # Only the answer is waited for: nobody reads what the code prints, so an endless print fills no memory.
        wanted = self._client.execute(code, allow_stdin=False, stop_on_error=False)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._manager.is_alive():
            try:
                message = self._client.get_shell_msg(timeout=min(POLL_SECONDS, max(0.0, end - time.monotonic())))
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") == wanted:
                content: dict[str, Any] = message["content"]
                return content
        return None


def _failure(reply: dict[str, Any]) -> str | None:
    if reply["status"] == "ok":
        return None
    name, message = reply.get("ename", reply["status"]), " ".join(str(reply.get("evalue", "")).split())
    if name == "NotImplementedError":
        return "not answered"
    text = message if name == "AssertionError" and message else f"{name}: {message}"
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
