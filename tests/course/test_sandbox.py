"""What a student's code can reach: behind each wall that there is here, and with none."""

from __future__ import annotations

import json
import shutil
import socket
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from assignments import ROOT
from hand_ins import FORKS

pytest.importorskip("nbclient", reason="comes with nbgrader")
pytest.importorskip("psutil", reason="comes with ipykernel")

from cxgrad_lite.course import sandbox  # noqa: E402
from cxgrad_lite.course.restore import GradingError  # noqa: E402

LIMITS = sandbox.Limits(cell_seconds=2, patience=3)
EACH = ["", "bwrap", "docker", "podman"]
each_wall = pytest.mark.parametrize("wall", EACH)
PROBES = """
import os, socket

def works(attempt):
    try: return bool(attempt())
    except Exception: return False

def is_pytest(number):
    return number.isdigit() and works(lambda: b"pytest" in open(f"/proc/{{number}}/cmdline", "rb").read())

print(__import__("json").dumps({{
    "network": works(lambda: socket.create_connection(("127.0.0.1", {port}), 1)),
    "reading": works(lambda: open({secret!r}).read()),
    "checkout": works(lambda: os.listdir({root!r} + "/notebooks/assignments/source")),
    "writing": works(lambda: open({secret!r} + ".new", "w").write("x")),
    "system": works(lambda: open("/usr/new", "w").write("x") and os.remove("/usr/new") is None),
    "processes": works(lambda: list(filter(is_pytest, os.listdir("/proc")))),
    "own folder": works(lambda: open("mine", "w").write("x")),
}}))
"""


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ran(wall: str, *sources: str) -> list[list[dict[str, Any]]]:
    """Outputs of these cells."""
    if not sandbox.works(wall):
        pytest.skip(f"no {wall} here, or not the image {sandbox.IMAGE}")
    return sandbox.run([{"kind": "own", "source": source} for source in sources], wall, LIMITS)


@each_wall
def test_what_a_hand_in_reaches(wall: str, port: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the marks")
    code = PROBES.format(port=port, secret=str(tmp_path / "secret"), root=str(ROOT))
    (printed,) = ran(wall, code)[0]
    reached = {what for what, is_reached in json.loads(printed["text"]).items() if is_reached}
    outside = set() if wall else {"network", "reading", "checkout", "writing", "system", "processes"}
    assert reached - outside == {"own folder"}
    assert wall or {"network", "reading", "writing"} <= reached, "the probes find nothing, so they prove nothing"


@each_wall
def test_an_attack_costs_its_own_cell_only(wall: str) -> None:
    endless, dies, twice, fine = ran(wall, "while True: pass", "import os; os._exit(0)", FORKS, "print(1)")
    assert endless[0]["evalue"] == "stopped: out of time" and dies[0]["evalue"] == "the kernel died"
    if wall:
        assert fine[0]["text"] == "1\n"
    else:  # it ends the process that adopts it, and so its own hand-in
        assert twice[0]["evalue"] in (sandbox.KILLED, "the kernel died")


def test_code_that_waits_may_wait_longer_than_it_may_compute() -> None:
    short, long = ran("", "import time; time.sleep(3)", "import time; time.sleep(30)")
    assert short == [] and long[0]["evalue"] == "stopped: out of time"


def test_an_error_that_arrives_late_is_still_an_error() -> None:
    # nbclient gives up after four seconds, which a busy machine can need: the canary of a right answer "passed" then.
    late = """
        import sys, time
        sys.stdout.flush_timeout = sys.stderr.flush_timeout = 0.1
        get_ipython().kernel.iopub_thread.schedule(lambda: time.sleep(5))
        1 / 0
    """
    assert [output["ename"] for output in ran("", textwrap.dedent(late))[0]] == ["ZeroDivisionError"]


def test_a_kernel_that_does_not_start_stops_the_grading(monkeypatch: pytest.MonkeyPatch) -> None:
    # Or every student would get no points, because of a broken image.
    monkeypatch.setattr(sandbox, "_wall", lambda *args: [str(shutil.which("false"))])
    with pytest.raises(GradingError, match="no kernel started"):
        sandbox.run([{"kind": "own", "source": "1"}], "", replace(LIMITS))
