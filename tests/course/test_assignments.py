"""The assignments: what students get, what right and wrong answers get."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from assignments import NAMES, SOURCES, build_course, grade_id, maximum, notebook, solutions
from wrong_answers import WRONG

SOLUTION = re.compile(r"[^\n]*BEGIN SOLUTION.*?END SOLUTION", re.DOTALL)
HIDDEN = re.compile(r"[^\n]*BEGIN HIDDEN TESTS.*?END HIDDEN TESTS", re.DOTALL)


each_assignment = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_course(tmp_path_factory.mktemp("course"))


# --- what is handed out


def test_all_four_are_there() -> None:
    assert list(SOURCES) == NAMES


@each_assignment
def test_release_versions_hold_no_secret(course: Path, name: str) -> None:
    released = notebook(course, name)
    text = "\n".join("".join(cell["source"]) for cell in released["cells"])
    secrets = [
        line.strip() for cell in SOURCES[name] for part in SOLUTION.findall(cell.source) for line in part.split("\n")
    ]
    secrets += [
        line.strip() for cell in SOURCES[name] for part in HIDDEN.findall(cell.source) for line in part.split("\n")
    ]
    secrets += [line for cell in SOURCES[name] if cell.is_essay for line in cell.source.split("\n")]
    long = [line for line in secrets if len(line) > 25]
    assert len(long) > 20, "the test itself lost its way"
    assert [line for line in long if line in text] == []
    assert all(not cell.get("outputs") for cell in released["cells"])


@each_assignment
def test_every_question_can_be_answered_and_is_stubbed(course: Path, name: str) -> None:
    cells = {grade_id(cell): "".join(cell["source"]) for cell in notebook(course, name)["cells"] if grade_id(cell)}
    assert set(cells) == {cell.name for cell in SOURCES[name] if cell.name}
    for cell in SOURCES[name]:
        if cell.is_essay:
            assert cells[cell.name] == "YOUR ANSWER HERE"
        elif cell.solution:
            assert "raise NotImplementedError()" in cells[cell.name]
        elif cell.is_test:
            assert "assert" in cells[cell.name], "students have no test to try"
            assert "BEGIN HIDDEN TESTS" in cell.source and "manual_seed" in cell.source


@each_assignment
def test_points_in_the_text_are_those_that_are_given(name: str) -> None:
    text = "\n".join(cell.source for cell in SOURCES[name] if cell.kind == "markdown")
    by_hand = sum(cell.points for cell in SOURCES[name] if cell.is_essay)
    stated = re.search(r"\*Points:\* (\d+), of which (\d+) are graded by tests and (\d+) by a person", text)
    assert stated and [int(n) for n in stated.groups()] == [maximum(name) + by_hand, maximum(name), by_hand]
    assert sum(int(n) for n in re.findall(r"^## .*\((\d+) points", text, re.MULTILINE)) == maximum(name) + by_hand


def test_the_zip_is_whole_and_holds_no_secret(course: Path) -> None:
    with zipfile.ZipFile(course / "cxgrad-lite-course.zip") as archive:
        names = [name.removeprefix("cxgrad-lite-course/") for name in archive.namelist()]
        texts = [archive.read(name).decode() for name in archive.namelist()]
    assert {"README.md", "LICENSE", "notebooks/02_maml.ipynb", *(f"assignments/{n}.ipynb" for n in NAMES)} <= set(names)
    assert not any(word in text for text in texts for word in ("BEGIN SOLUTION", "HIDDEN TESTS"))
    # Worked solutions of exercises stay with the instructor, and the exercises say so.
    assert not any("solutions/" in name for name in names)
    told = [name for name, text in zip(names, texts, strict=True) if "_solutions.ipynb (your instructor has" in text]
    assert "notebooks/04_batch_norm_and_scale.ipynb" in told


# --- tests test properties: these answers pass what a student sees, or look right, and must lose their points

MUTANTS = [(name, cell, *change) for name in NAMES for cell in solutions(name) for change in WRONG.get(cell, [])]


def failing(name: str, answers: dict[str, str], tests: list[str], hidden: bool = True) -> list[str]:
    """Which of these tests fail, run here and now: with named cells only, so no test may depend on another cell."""
    space: dict[str, Any] = {"__name__": "__main__"}
    failed = []
    for cell in SOURCES[name]:
        if cell.kind == "code" and cell.name and (cell.name in tests or not cell.is_test):
            code = answers.get(cell.name, cell.source if hidden else cell.released).replace("%pip", "pass  #")
            try:
                exec(compile(code, cell.name, "exec"), space)
            except Exception:  # a wrong answer may fail in any way
                failed.append(cell.name)
    return failed


@each_assignment
def test_the_solutions_get_every_point(name: str) -> None:
    assert failing(name, solutions(name), [cell.name for cell in SOURCES[name] if cell.is_test]) == []


def test_every_answer_has_a_wrong_twin() -> None:
    assert set(WRONG) == {cell.name for name in NAMES for cell in SOURCES[name] if cell.solution and not cell.is_essay}


@pytest.mark.parametrize("name, cell, right, wrong, tests", MUTANTS, ids=[f"{m[1]}-{m[3][:25]}" for m in MUTANTS])
def test_wrong_answers_fail(name: str, cell: str, right: str, wrong: str, tests: list[str]) -> None:
    answer = solutions(name)[cell]
    assert right in answer
    assert failing(name, {cell: answer.replace(right, wrong)}, tests) == tests
