"""Grading a class: marks, the list of what needs a look, walls between students, and a run that is killed.

Eleven students here. `make test-class` runs all kinds of hand-ins, sixty students, with a real assignment
(CXGRAD_CLASS=60).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from assignments import ASSIGNMENTS, ROOT, maximum, solutions
from hand_ins import CELLS, KINDS, MAYBE, small_source, write_hand_in

from cxgrad_lite.course.canaries import broken, canary
from cxgrad_lite.course.collect import collect
from cxgrad_lite.course.handout import read, released, text
from cxgrad_lite.course.restore import name_of, read_hand_in, restored

pytest.importorskip("nbgrader", reason="grading needs the extra [course]")
psutil = pytest.importorskip("psutil", reason="comes with ipykernel")

STUDENTS = int(os.environ.get("CXGRAD_CLASS", "0"))
FEW = ["correct", "endless", "dies", "kills_parent", "detached", "tampers", "solutions", "drops_assert", "equal_to_all"]
FEW += ["symlink", "nested"]
LABEL = re.compile(r"[^\w.-]+")


def small() -> SimpleNamespace:
    answers = {name: source for name, source in CELLS if "SOLUTION" in source}
    return SimpleNamespace(name="m1", source=small_source(), answers=answers, points=5, lost=3)


def real() -> SimpleNamespace:
    name = "a1_episodes"
    source = read(ASSIGNMENTS / "source" / name / f"{name}.ipynb")
    answers = {cell: answer for cell, answer in solutions(name).items() if answer.startswith("def ")}
    return SimpleNamespace(name=name, source=source, answers=answers, points=maximum(name), lost=3)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A class's hand-ins, graded by a command that was killed in the middle and run again."""
    base, task = tmp_path_factory.mktemp("class"), real() if STUDENTS else small()
    source = base / "source" / task.name / f"{task.name}.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text(text(task.source), encoding="utf-8")
    kinds = [f"{kind}+{i // len(KINDS)}" if i >= len(KINDS) else kind for i, kind in enumerate(list(KINDS) * 2)]
    kinds = kinds[:STUDENTS] if STUDENTS else FEW
    for kind in kinds:
        write_hand_in(kind, base / "room", released(task.source), task.name, task.answers, base / f"mark_{kind}")
    before = digests(base / "room")
    command = [sys.executable, "-m", "cxgrad_lite", "grade", str(base / "room"), "--assignment", task.name]
    command += ["--source", str(base / "source"), "--out", str(base / "out"), "--seconds", "10" if STUDENTS else "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    records = base / "out" / "course" / "records" / task.name
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    while first.poll() is None and len(list(records.glob("*.json"))) < 3:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in records.glob("*.json")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        base=base, task=task, kinds=kinds, before=before, kept=kept, records=records, output=done.stdout,
        grades=rows(base / "out" / "grades.csv"), look=rows(base / "out" / "needs_a_look.csv"),
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(kind: str) -> str:
    return LABEL.sub("_", kind).strip("._")


# --- the whole way


def test_marks(room: SimpleNamespace) -> None:
    lost = {False: room.task.points, True: room.task.points - room.task.lost, "all": 0}
    expected = {label(kind): lost[KINDS[kind.partition("+")[0]].lost] for kind in room.kinds}
    if "bwrap" in room.output:
        expected |= {label(k): room.task.points for k in room.kinds if KINDS[k.partition("+")[0]].contained}
    assert {row["student"]: float(row["tests"]) for row in room.grades} == expected


def test_the_list_names_who_needs_a_look_and_nobody_else(room: SimpleNamespace) -> None:
    for kind in room.kinds:
        spec, reasons = KINDS[kind.partition("+")[0]], [r["reason"] for r in room.look if r["student"] == label(kind)]
        if spec.reason in ("", MAYBE) or spec.contained and "bwrap" in room.output:
            assert spec.reason or not reasons, (kind, reasons)
        else:
            assert any(re.search(spec.reason, reason) for reason in reasons), (kind, reasons)


def test_nobody_touched_anothers_work(room: SimpleNamespace) -> None:
    assert digests(room.base / "room") == room.before


def test_nothing_outlives_its_hand_in(room: SimpleNamespace) -> None:
    marks = [int(path.read_text()) for path in room.base.glob("mark_*")]
    assert marks or "bwrap" in room.output, "no process detached itself, so nothing was tried"
    assert not [mark for mark in marks if psutil.pid_exists(mark)]


def test_what_was_graded_before_the_kill_is_not_graded_again(room: SimpleNamespace) -> None:
    assert len(room.kept) >= 3 and f"{len(room.kept)} of them graded before" in room.output
    assert {name: (room.records / name).stat().st_mtime_ns for name in room.kept} == room.kept


def test_feedback_shows_messages_and_no_hidden_test(room: SimpleNamespace) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (room.base / "out" / "feedback").rglob("*.html")}
    assert set(pages) == {label(kind) for kind in room.kinds}
    hidden = "secret" if room.task.name == "m1" else "_draws"
    assert not [name for name, page in pages.items() if hidden in page or "HIDDEN" in page]
    assert "an assertion that must fail passed" in pages["drops_assert"]
    assert "symbolic link" in pages["symlink"]


# --- hand-ins in the forms of learning platforms

NAMES = {"a1_episodes": {"sample_episode", "prototypes"}, "a2_maml": {"inner_step", "adapt"}}


def placed(folder: Path, *names: str) -> list[tuple[str, str, str]]:
    """Student, assignment and refusal of files with these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return [(h.student, h.assignment, h.refusal) for h in collect(folder, NAMES)]


@pytest.mark.parametrize(
    "name, student",
    [
        ("ann/a1_episodes.ipynb", "ann"),
        ("ann/a1_episodes/a1_episodes.ipynb", "ann"),
        ("a1_episodes/ann/a1_episodes.ipynb", "ann"),
        ("ann_12345_a1_episodes-1.ipynb", "ann"),
        ("annsmith_LATE_12345_67890_a1_episodes (1).ipynb", "annsmith"),
        ("Ann Smith_12345_assignsubmission_file_/a1_episodes.ipynb", "Ann_Smith"),
        ("Ann Smith - a1_episodes.ipynb", "Ann_Smith"),
        ("Week 1/ann_12345_a1_episodes.ipynb", "ann"),
        ("Zoë Łuk/a1_episodes (2).ipynb", "Zoë_Łuk"),
    ],
)
def test_a_platforms_names(tmp_path: Path, name: str, student: str) -> None:
    assert placed(tmp_path, name) == [(student, "a1_episodes", "")]


def test_zips_of_platforms(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "submissions.zip", "w") as archive:
        archive.writestr("ann_1_2_a1_episodes.ipynb", "{}")
        archive.writestr("Bob Ray_77_assignsubmission_file/a2_maml.ipynb", "{}")
        archive.writestr("eve_5_6_a1_episodes.ipynb/../../../x.ipynb", "{}")
        archive.writestr("__MACOSX/._a1_episodes.ipynb", "{}")
    whole = [(h.student, h.assignment, h.refusal) for h in collect(tmp_path / "submissions.zip", NAMES)]
    assert ("ann", "a1_episodes", "") in whole and ("Bob_Ray", "a2_maml", "") in whole and len(whole) == 3
    assert [refusal for *_, refusal in whole if refusal] != []


def test_two_students_of_one_name_stay_two(tmp_path: Path) -> None:
    given = placed(tmp_path, "ann_1_a1_episodes.ipynb", "ann_2_a1_episodes.ipynb")
    assert [student for student, *_ in given] == ["ann_1", "ann_2"]


def test_a_file_that_names_another_student_counts_for_its_folder(tmp_path: Path) -> None:
    given = placed(tmp_path, "ann/a1_episodes.ipynb", "eve/ann_12345_a1_episodes.ipynb")
    assert [student for student, *_ in given] == ["ann", "eve"]


def test_a_folder_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no .*; name the folder"):
        collect(tmp_path / "missing", NAMES)
    with pytest.raises(ValueError, match="holds nothing that names a student"):
        collect(tmp_path, NAMES)


# --- deleted, copied and changed cells


@pytest.mark.parametrize(
    "content", ["", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "\xff", "[" * 100_000]
)
def test_what_is_no_notebook_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="is no notebook"):
        read_hand_in(content.encode("latin-1"))


def test_any_damage_leaves_every_cell_in_its_place_once() -> None:
    import random

    draw, source = random.Random(0), small_source()
    order = [name_of(cell) for cell in source["cells"]]
    own: dict[str, Any] = {"cell_type": "code", "metadata": {}, "source": "own", "outputs": []}
    for _ in range(200):
        cells = [c for cell in released(source)["cells"] for c in [cell, own] * draw.choice([0, 1, 1, 2])]
        whole, _ = restored(source, read_hand_in(json.dumps({"cells": cells}).encode()))
        assert [name_of(cell) for cell in whole["cells"] if name_of(cell)] == order
        assert sum(cell["source"] == "own" for cell in whole["cells"]) == sum(cell is own for cell in cells)


def test_an_answer_that_lost_its_name_comes_before_its_test() -> None:
    cells = [cell | {"metadata": {}, "id": "new"} for cell in released(small_source())["cells"]]
    whole, _ = restored(small_source(), read_hand_in(json.dumps({"cells": cells}).encode()))
    sources = ["".join(cell["source"]) for cell in whole["cells"]]
    assert next(i for i, s in enumerate(sources) if s.startswith("def mean")) < next(
        i for i, s in enumerate(sources) if "HIDDEN" in s
    )


# --- canaries

TEST = "given = answer()\nassert torch.allclose(given, torch.ones(2)), 'wrong'"


class Equal(float):
    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "names, reason",
    [
        ({}, ""),
        ({"given": Equal(1.0)}, "given is of a class that was made for it"),
        ({"given": [1.0, (Equal(1.0),)]}, "given is of a class that was made for it"),
        ({"abs": lambda *a: 0}, "a built-in function has another meaning"),
        ({"all": lambda *a: True}, "a built-in function has another meaning"),
    ],
)
def test_a_canary_ends_as_it_must_and_notices_forgeries(names: dict[str, Any], reason: str) -> None:
    import torch

    why = died({"torch": torch, "given": torch.ones(2)} | names)
    assert why.removeprefix("the canary: ") == reason


def test_a_canary_notices_a_torch_that_calls_everything_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for name in ("allclose", "equal"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, name, lambda *a, **k: True)
            assert "torch says that 0 and 1 are equal" in died({"given": 1.0})


def died(space: dict[str, Any]) -> str:
    """Why the canary of `TEST` distrusts these names, "" if it does not."""
    code, mark = canary(TEST)
    with pytest.raises(Exception) as death:
        exec(code, space | {"__name__": "__main__"})
    return broken(
        [{"output_type": "error", "ename": death.type.__name__, "evalue": str(death.value).split("\n")[0]}], mark
    )


def test_a_canary_that_survives_is_a_reason() -> None:
    assert broken([], "mark") == "an assertion that must fail passed"
