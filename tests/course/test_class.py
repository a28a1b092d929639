"""A term, by the commands of the instructor's guide: hand-out, hand-ins, marks, walls, a run that is killed, feedback.

Six students here. `make test-class` runs all kinds of hand-ins, sixty students (CXGRAD_CLASS=60).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from assignments import ROOT, maximum, solutions, source_cells
from hand_ins import KINDS, MAYBE, write_hand_in

pytest.importorskip("nbgrader", reason="grading needs the extra [course]")
psutil = pytest.importorskip("psutil", reason="comes with ipykernel")

STUDENTS = int(os.environ.get("CXGRAD_CLASS", "0"))
FEW = ["correct", "endless", "detached", "drops_assert", "symlink", "corrupt"]
NAME = "a1_episodes"
POINTS, ESSAYS = maximum(NAME), 6
GUIDE = re.findall(r"^ *```\n(.*?)^ *```", (ROOT / "docs" / "instructors.md").read_text("utf-8"), re.DOTALL | re.M)


def block(word: str) -> str:
    """The one block of commands of the guide that has this word in it."""
    (found,) = [text for text in GUIDE if word in text]
    return found


def shell(block: str, room: SimpleNamespace, folder: str = "cxgrad_lite") -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(["bash", "-euc", block], cwd=room.base / folder, env=room.environment, **pipes)


def done(block: str, room: SimpleNamespace, folder: str = "cxgrad_lite") -> str:
    process = shell(block, room, folder)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def kinds() -> list[str]:
    every = [*KINDS, *(f"{kind}+1" for kind in KINDS)]
    return every[:STUDENTS] if STUDENTS else FEW


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A class's hand-ins, graded by a command that was killed in the middle and run again."""
    if not (ROOT / ".git").exists():
        pytest.skip("git lists the files, and this is no git checkout")
    base = tmp_path_factory.mktemp("class")
    room = SimpleNamespace(base=base, environment=environment(base))
    publish(base / "public")
    done(block("git clone"), room, ".")
    done(block("mv build"), room)
    checkout = base / "cxgrad_lite"
    room.hand_ins, room.grades = checkout / "submitted", checkout / "grades"
    hand_in(room)
    room.before, room.records = digests(room.hand_ins), room.grades / "course" / "records" / NAME
    room.installed = done(block("pip install"), room)
    first = shell(block("grade submitted"), room)
    while first.poll() is None and len(list(room.records.glob("*.json"))) < 3:
        time.sleep(0.1)
    assert first.poll() is None, first.communicate()[0]
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    room.kept = times(room)
    room.output = done(block("grade submitted"), room)
    room.again = times(room)
    room.rows, room.look = rows(room.grades / "grades.csv"), rows(room.grades / "needs_a_look.csv")
    return room


def environment(base: Path) -> dict[str, str]:
    """A home of its own, this Python, a clone in place of the repository's address, a pip that installs nothing."""
    (url,) = re.findall(r'^Repository = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    own = {"HOME": str(base), "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    own |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{base}/public.insteadOf", "GIT_CONFIG_VALUE_0": url}
    own |= {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "OMP_NUM_THREADS": "1"}
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | own


def publish(folder: Path) -> None:
    """A repository that holds the files of this checkout as they are now."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [name for name in tracked.split("\0") if name and (ROOT / name).is_file()]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    who = "-c user.name=test -c user.email=test@example.org"
    subprocess.run(f"git init -q && git add --all && git {who} commit -qm all", cwd=folder, shell=True, check=True)


def hand_in(room: SimpleNamespace) -> None:
    """What students make of the hand-out."""
    release = json.loads((room.base / "cxgrad_lite" / "build" / "course" / "assignments" / f"{NAME}.ipynb").read_text())
    cells = source_cells(room.base / "cxgrad-term" / "source" / NAME / f"{NAME}.ipynb")
    right = {cell.name: cell.source for cell in cells if cell.solution}
    answers: dict[str, dict[str, str]] = {"right": right, "none": {}, "published": solutions(NAME)}
    for kind in kinds():
        write_hand_in(kind, room.hand_ins, release, answers, room.base / f"mark_{kind}")


def digests(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def times(room: SimpleNamespace) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in room.records.glob("*.json")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(kind: str) -> str:
    return re.sub(r"[^\w.-]+", "_", kind).strip("._")


# --- the whole way


def test_the_line_that_installs_names_what_there_is(room: SimpleNamespace) -> None:
    assert "Would install cxgrad-lite" in room.installed and "WARNING: cxgrad" not in room.installed


def test_marks(room: SimpleNamespace) -> None:
    lost = {False: POINTS, True: POINTS - 3, "all": 0}
    expected = {label(kind): lost[KINDS[kind.partition("+")[0]].lost] for kind in kinds()}
    if "bwrap" in room.output:
        expected |= {label(kind): POINTS for kind in kinds() if KINDS[kind.partition("+")[0]].contained}
    assert {row["student"]: float(row["tests"]) for row in room.rows} == expected


def test_the_list_names_who_needs_a_look_and_nobody_else(room: SimpleNamespace) -> None:
    for kind in kinds():
        spec, reasons = KINDS[kind.partition("+")[0]], [r["reason"] for r in room.look if r["student"] == label(kind)]
        if spec.reason in ("", MAYBE) or spec.contained and "bwrap" in room.output:
            assert spec.reason or not reasons, (kind, reasons)
        else:
            assert any(re.search(spec.reason, reason) for reason in reasons), (kind, reasons)


def test_nobody_touched_anothers_work(room: SimpleNamespace) -> None:
    assert digests(room.hand_ins) == room.before


def test_nothing_outlives_its_hand_in(room: SimpleNamespace) -> None:
    marks = [int(path.read_text()) for path in room.base.glob("mark_*")]
    assert marks or "bwrap" in room.output, "no process detached itself, so nothing was tried"
    assert not [mark for mark in marks if psutil.pid_exists(mark)]


def test_what_was_graded_before_the_kill_is_not_graded_again(room: SimpleNamespace) -> None:
    assert len(room.kept) >= 3 and f"{len(room.kept)} of them graded before" in room.output
    assert {name: room.again[name] for name in room.kept} == room.kept


def test_feedback_shows_messages_and_no_hidden_test(room: SimpleNamespace) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (room.grades / "feedback").rglob("*.html")}
    assert set(pages) == {label(kind) for kind in kinds()}
    assert not [name for name, page in pages.items() if "_draws" in page or "HIDDEN" in page]
    assert "an assertion that must fail passed" in pages["drops_assert"]
    assert "symbolic link" in pages["symlink"]


def test_written_answers_get_their_points_in_the_formgrader(room: SimpleNamespace) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = (
        f" --no-browser --allow-root --port {port} --IdentityProvider.token=word --ServerApp.disable_check_xsrf=True"
    )
    server = shell(block("jupyter lab").rstrip() + options, room)
    try:
        form = Form(f"http://127.0.0.1:{port}/formgrader", server)
        assert "Formgrader" in form.page("") or "nbgrader" in form.page("")
        (notebook,) = [n for n in form.get(f"/api/submitted_notebooks/{NAME}/{NAME}") if n["student"] == "correct"]
        grades = [g for g in form.get(f"/api/grades?submission_id={notebook['id']}") if g["needs_manual_grade"]]
        for grade in grades:
            form.put(f"/api/grade/{grade['id']}", {"manual_score": grade["max_score"], "extra_credit": None})
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate()
    assert grades
    done(block("grade submitted"), room)
    (row,) = [row for row in rows(room.grades / "grades.csv") if row["student"] == "correct"]
    assert (float(row["tests"]), float(row["all"]), row[f"{NAME} to grade"]) == (POINTS, POINTS + ESSAYS, "")
    assert times(room) == room.again, "giving points runs no notebook again"


class Form:
    """nbgrader's form, asked as its page asks it."""

    def __init__(self, address: str, server: subprocess.Popen[str]) -> None:
        self.address = address
        for _ in range(300):
            try:
                self.page("")
                return
            except OSError:
                assert server.poll() is None, server.communicate()[0]
                time.sleep(0.2)

    def page(self, path: str, **options: Any) -> str:
        headers = {"Authorization": "token word", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, headers=headers, **options)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def get(self, path: str) -> Any:
        return json.loads(self.page(path))

    def put(self, path: str, content: dict[str, Any]) -> None:
        self.page(path, method="PUT", data=json.dumps(content).encode())
