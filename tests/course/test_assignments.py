"""The assignments: what students get, what right and wrong answers get."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from assignments import (
    ASSIGNMENTS,
    NAMES,
    ROOT,
    SOURCES,
    SourceCell,
    build_course,
    grade_id,
    maximum,
    notebook,
    solutions,
    source_cells,
)
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


def failing(name: str, answers: dict[str, str], tests: list[str]) -> list[str]:
    """Which of these tests fail for a published assignment with these answers."""
    return failing_of(SOURCES[name], answers, tests)


def failing_of(cells: list[SourceCell], answers: dict[str, str], tests: list[str]) -> list[str]:
    """Which of these tests fail, run here and now: with named cells only, so no test may depend on another cell."""
    space: dict[str, Any] = {"__name__": "__main__"}
    failed = []
    for cell in cells:
        if cell.kind == "code" and cell.name and (cell.name in tests or not cell.is_test):
            code = answers.get(cell.name, cell.source).replace("%pip", "pass  #")
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


# --- a term of one's own


@pytest.fixture(scope="module")
def term(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private term: ``source`` holds its solutions, ``assignments`` what students get."""
    folder = tmp_path_factory.mktemp("term")
    build_course(folder, "--seed", "a text for this test", "--instructor", str(folder))
    return folder


@each_assignment
def test_a_terms_solutions_pass_and_published_answers_do_not(term: Path, name: str) -> None:
    cells = source_cells(term / "source" / name / f"{name}.ipynb")
    tests = [cell.name for cell in cells if cell.is_test]
    assert failing_of(cells, {}, tests) == []
    published = {cell: answer for cell, answer in solutions(name).items() if answer.startswith("def ")}
    assert failing_of(cells, published, tests) == tests


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_right_answers_pass_in_any_term(seed: int, tmp_path: Path) -> None:
    """Hidden tests draw at random; with an unlucky seed they must not cost a whole class its points."""
    build_course(tmp_path, "--seed", f"term {seed}", "--instructor", str(tmp_path))
    for name in NAMES:
        cells = source_cells(tmp_path / "source" / name / f"{name}.ipynb")
        assert failing_of(cells, {}, [cell.name for cell in cells if cell.is_test]) == [], name


def test_a_terms_release_holds_no_secret(term: Path) -> None:
    for name in NAMES:
        text = (term / "assignments" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert "SOLUTION" not in text and "HIDDEN" not in text
        assert text != (ASSIGNMENTS / "source" / name / f"{name}.ipynb").read_text(encoding="utf-8")


def test_terms_differ_and_a_term_can_be_built_again(term: Path, tmp_path: Path) -> None:
    source = Path("source", "a1_episodes", "a1_episodes.ipynb")
    for seed, same in (("a text for this test", True), ("another", False)):
        build_course(tmp_path / seed, "--seed", seed, "--instructor", str(tmp_path / seed))
        assert ((tmp_path / seed / source).read_text() == (term / source).read_text()) is same


def test_the_line_that_installs_the_course_names_this_package() -> None:
    text = (ASSIGNMENTS / "STUDENTS.md").read_text(encoding="utf-8")
    (line,) = re.findall(r'pip install "(.*?)"', text)
    (repository,) = re.findall(r'^Repository = "(.*?)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    requirement = pytest.importorskip("packaging.requirements").Requirement(line)
    assert (requirement.name, requirement.extras, requirement.url) == ("cxgrad-lite", {"lab"}, f"git+{repository}")
