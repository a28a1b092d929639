"""Grading: damaged notebooks, code that does not end well, and the whole way from handing in to the table."""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import pytest
from assignments import NAMES, SOURCES, build_course, hand_in, maximum, solutions

from cxgrad_lite.commands.grade import add_grade_command, run
from cxgrad_lite.course.grade_cells import Cell, GradingError, problems, read_cells, read_sources, restored
from cxgrad_lite.course.grade_kernel import Kernel
from cxgrad_lite.course.grading import Grade, grade_folder, write_csv


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_course(tmp_path_factory.mktemp("course"))


# --- deleted, copied and changed cells

CODE = Cell("code", "import torch", "setup", locked=True)
ANSWER = Cell("code", "def f(): ...", "answer", solution=True)
TEST = Cell(
    "code",
    "assert f()\n### BEGIN HIDDEN TESTS\nassert f() == 3\n### END HIDDEN TESTS",
    "test",
    2,
    grade=True,
    locked=True,
)
ESSAY = Cell("markdown", "because", "essay", 3, grade=True, solution=True)
SOURCE = [CODE, ANSWER, TEST, ESSAY]
RELEASED = [CODE, ANSWER, Cell("code", "assert f()", "test"), Cell("markdown", "I think", "essay")]  # fmt: skip


def test_nothing_is_said_of_a_whole_notebook() -> None:
    assert problems(SOURCE, RELEASED) == problems(SOURCE, [Cell("code", "1"), *RELEASED, Cell("markdown", "x")]) == []


@pytest.mark.parametrize(
    "cells, message",
    [
        ([c for c in RELEASED if c.name != "test"], "cell test was deleted and is put back"),
        ([c for c in RELEASED if c.name != "answer"], "cell answer was deleted"),
        ([*RELEASED, RELEASED[2]], "cell test is there 2 times"),
        ([CODE, Cell("markdown", "x", "answer"), *RELEASED[2:]], "cell answer is a markdown cell, not a code cell"),
        ([*RELEASED[:2], Cell("code", "pass", "test"), RELEASED[3]], "cell test was changed; the original is used"),
    ],
)  # fmt: skip
def test_what_was_done_to_a_cell_is_named(cells: list[Cell], message: str) -> None:
    assert problems(SOURCE, cells) == [message]


def test_any_damage_leaves_every_locked_cell_in_its_place_once() -> None:
    draw = random.Random(0)
    for _ in range(200):
        cells = [cell for cell in RELEASED for _ in range(draw.choice([0, 1, 1, 2]))]
        cells = [other for cell in cells for other in (cell, *[Cell("code", "own")] * draw.choice([0, 1]))]
        found = restored(SOURCE, cells)
        assert [cell for cell in found if cell.locked] == [CODE, TEST], cells
        names = [cell.name for cell in found if cell.name]
        assert names == [name for name in ("setup", "answer", "test", "essay") if name in names], cells
        assert sum(cell.source == "own" for cell in found) == sum(cell.source == "own" for cell in cells)


def test_a_copied_answer_is_still_run() -> None:
    again = Cell("code", "def f(): return 3", "answer")
    found = restored(SOURCE, [*RELEASED[:2], again, *RELEASED[2:]])
    assert [cell.source for cell in found].index("def f(): return 3") < found.index(TEST)


def test_a_test_comes_after_an_answer_that_lost_its_name() -> None:
    found = restored(SOURCE, [CODE, Cell("code", "def f(): return 3"), RELEASED[3]])
    assert [cell.source for cell in found].index("def f(): return 3") < found.index(TEST) < len(found) - 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "\xff", "[" * 100_000]
)
def test_what_is_no_notebook_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a1.ipynb").write_bytes(text.encode("latin-1"))
    with pytest.raises(GradingError, match="a1.ipynb is no notebook"):
        read_cells(tmp_path / "a1.ipynb")


def test_release_versions_do_not_grade(course: Path, tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="has no hidden tests"):
        read_sources(course / "assignments")
    with pytest.raises(GradingError, match="there are no source notebooks"):
        read_sources(tmp_path)


def test_a_formula_in_a_message_stays_text(tmp_path: Path) -> None:
    write_csv([Grade("ann", "a1", messages=["=HYPERLINK(1)"])], tmp_path / "t.csv")
    assert rows(tmp_path / "t.csv")["ann", "a1"]["messages"] == "'=HYPERLINK(1)"


# --- code that does not end well


def test_a_kernel_survives_what_can_be_survived() -> None:
    with Kernel() as kernel:
        assert kernel.run("x = 1", 20) == (None, False)
        assert kernel.run("1 / 0", 20) == ("ZeroDivisionError: division by zero", False)
        assert kernel.run("while True: print('a' * 1000)", 2) == ("stopped after 2 seconds", True)
        assert kernel.run("def f(): return f()\nf()", 20)[0].startswith("RecursionError")
        assert kernel.run("exit()", 20)[0] is not None
        assert kernel.run("input()", 20)[0].startswith("StdinNotImplementedError")
        assert kernel.run("assert x == 1", 20) == (None, False) and kernel.answers


def test_a_kernel_that_is_lost_is_noticed() -> None:
    stubborn = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
    with Kernel() as kernel:
        assert kernel.run(stubborn, 1) == ("stopped after 1 seconds", True) and not kernel.answers
        kernel.restart()
        assert kernel.run("import os; os._exit(0)", 20) == ("the kernel died", False) and not kernel.answers
        kernel.restart()
        assert kernel.run("2", 20) == (None, False)


# --- the whole way


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {(row["student"], row["assignment"]): row for row in csv.DictReader(file)}


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_grade_command(parser.add_subparsers())
    return run(parser.parse_args(["grade", *arguments]))


@pytest.mark.filterwarnings("default::ResourceWarning")  # of Jupyter's own sockets
def test_perfect_partial_and_empty(course: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = tmp_path / "room"
    for name in NAMES:
        hand_in(course, room / "perfect", name, solutions(name))
    hand_in(course, room / "partial" / "a1_episodes", "a1_episodes", solutions("a1_episodes") | {
        "prototypes": "def prototypes(embeddings, labels):\n    return torch.tensor([[1.0, 0.0], [5.0, 5.0]])",
        "mean_and_interval": "def mean_and_interval(accuracies):\n    return 0.6, 0.2263",
    })  # fmt: skip
    hand_in(course, room / "empty", "a3_scale", {})
    assert command(str(room), "--out", str(tmp_path / "grades.csv")) == 0
    table = rows(tmp_path / "grades.csv")
    assert len(table) == 12 and "partial, a1_episodes: 9 of 19" in capsys.readouterr().out
    for name in NAMES:
        perfect = table["perfect", name]
        assert (float(perfect["total"]), perfect["messages"]) == (maximum(name), "")
    partial = table["partial", "a1_episodes"]
    assert "prototypes_test 0/3" in partial["points"] and "episode_shapes 3/3" in partial["points"]
    assert partial["messages"].startswith("prototypes_test: 5 classes, 5 features: shape (2, 2) | ")
    empty = table["empty", "a3_scale"]
    assert (empty["total"], empty["max"], empty["by hand, at most"]) == ("0", "16", "12")
    assert "scaling_test: not answered" in empty["messages"] and "a3_proof: not answered" in empty["messages"]
    assert table["empty", "a2_maml"]["messages"] == "not handed in"


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_broken(course: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = tmp_path / "room"
    broken = {"prototypes": "def prototypes(embeddings, labels:\n    return 1"}
    hand_in(course, room / "broken", "a1_episodes", solutions("a1_episodes") | broken, without=("interval_test",))
    endless = {"adapt": "def adapt(*args, **kwargs):\n    while True:\n        pass"}
    hand_in(course, room / "broken", "a2_maml", solutions("a2_maml") | endless)
    crash = {"radial_cosine": "import os\n\n\ndef radial_cosine(theta, grads):\n    os._exit(0)"}
    hand_in(course, room / "broken", "a3_scale", solutions("a3_scale") | crash)
    (room / "broken" / "a4_context.ipynb").write_text("<html>log in first</html>")
    (room / "broken" / "a4_context (1).ipynb").write_text("{}")

    assert command(str(room), "--check") == 0
    assert "broken, a1_episodes: cell interval_test was deleted and is put back\n" in capsys.readouterr().out
    assert command(str(room), "--seconds", "5", "--out", str(tmp_path / "grades.csv")) == 0
    table = {assignment: row for (_, assignment), row in rows(tmp_path / "grades.csv").items()}
    assert (table["a1_episodes"]["total"], table["a2_maml"]["total"], table["a3_scale"]["total"]) == ("12", "12", "14")
    assert "cell interval_test was deleted" in table["a1_episodes"]["messages"]
    assert "prototypes: SyntaxError" in table["a1_episodes"]["messages"]
    assert "interval_test 3/3" in table["a1_episodes"]["points"]
    assert "adapt_test: stopped after 5 seconds" in table["a2_maml"]["messages"]
    assert "radial_test: the kernel died" in table["a3_scale"]["messages"]
    assert table["a4_context"]["messages"].startswith("a4_context.ipynb is no notebook")
    assert "has the name of no assignment" in table["a4_context (1)"]["messages"]


def test_a_folder_that_is_not_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(str(tmp_path), "--out", str(tmp_path / "grades.csv")) == 1
    assert "has no folder for each student" in capsys.readouterr().err
    with pytest.raises(GradingError):
        list(grade_folder(tmp_path / "missing", SOURCES))
