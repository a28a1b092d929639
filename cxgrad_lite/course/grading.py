"""Grades assignments without a server: restores the tests, runs every notebook under a time limit, adds the points up.

A test cell gives all its points if it ends without an error, else none. Tests come from the source notebooks,
whatever a student did to them. This is no sandbox: handed-in code runs with the rights of whoever grades.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .grade_cells import Cell, GradingError, notebooks, problems, read_cells, restored
from .grade_kernel import Kernel

CELL_SECONDS = 10.0
NOTEBOOK_CELLS = 4  # a notebook may take as long as this many cells that run into the limit
AFTER_A_STOP = 0.4  # of the limit: once one answer was endless, the tests that call it are too
SETUP_SECONDS = 120.0  # importing torch from a cold disk is slow, and not the student's doing
STUB = "YOUR ANSWER HERE"


@dataclass
class Grade:
    """What one student gets for one assignment.

    Attributes:
        points: test cell → (points, maximum).
        by_hand: the most points that a person can add for the written answers.
        messages: one line for everything that went wrong.
    """

    student: str
    assignment: str
    points: dict[str, tuple[float, float]] = field(default_factory=dict)
    by_hand: float = 0.0
    messages: list[str] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(points for points, _ in self.points.values())

    @property
    def max(self) -> float:
        return sum(maximum for _, maximum in self.points.values())


def execute(cells: list[Cell], seconds: float = CELL_SECONDS) -> list[str | None]:
    """Run code cells up to the last test; for each cell None, or one line that says how it failed.

    If the kernel dies or does not let itself be interrupted, a new one runs the earlier cells again, tests left out.

    Args:
        cells: as `restored` gives them.
        seconds: limit for one cell; the whole notebook may take `NOTEBOOK_CELLS` times as long.
    """
    errors: list[str | None] = [None] * len(cells)
    last = max((i for i, cell in enumerate(cells) if cell.is_test), default=-1)
    limit, left = seconds, NOTEBOOK_CELLS * seconds
    with Kernel() as kernel:
        for i, cell in enumerate(cells[: last + 1]):
            if cell.kind != "code":
                continue
            if left <= 0 and not cell.is_setup:
                errors[i] = "not run, the time for the whole notebook was over"
                continue
            start = time.monotonic()
            errors[i], stopped = kernel.run(cell.source, SETUP_SECONDS if cell.is_setup else min(limit, left))
            if stopped:
                limit = AFTER_A_STOP * seconds
            if not kernel.answers:
                kernel.restart()
                _again(kernel, [c for c, error in zip(cells[:i], errors) if not error], limit)
            if not cell.is_setup:
                left -= time.monotonic() - start
    return errors


def _again(kernel: Kernel, cells: list[Cell], limit: float) -> None:
    """Bring a new kernel to where the old one was."""
    for cell in cells:
        if cell.kind == "code" and not cell.is_test and kernel.answers:
            kernel.run(cell.source, SETUP_SECONDS if cell.is_setup else limit)


def grade(student: str, assignment: str, source: list[Cell], handed_in: list[Cell], seconds: float) -> Grade:
    """Check, restore, run and count one notebook."""
    result = _nothing(student, assignment, source)
    result.messages += problems(source, handed_in)
    cells = restored(source, handed_in)
    for cell, error in zip(cells, execute(cells, seconds)):
        if cell.name and error:
            result.messages.append(f"{cell.name}: {error}")
        if cell.is_test and not error:
            result.points[cell.name] = (cell.points, cell.points)
        if cell.is_essay and cell.source.strip() in ("", STUB):
            result.messages.append(f"{cell.name}: not answered")
    return result


def _nothing(student: str, assignment: str, source: list[Cell]) -> Grade:
    points = {cell.name: (0.0, cell.points) for cell in source if cell.is_test}
    return Grade(student, assignment, points, sum(cell.points for cell in source if cell.is_essay))


def grade_folder(
    folder: Path, sources: dict[str, list[Cell]], seconds: float = CELL_SECONDS, check_only: bool = False
) -> Iterator[Grade]:
    """Grade ``folder/STUDENT/…/ASSIGNMENT.ipynb``: for each student every assignment, handed in or not.

    Args:
        folder: one folder for each student.
        sources: from `read_sources`.
        seconds: time limit of a cell.
        check_only: look for deleted, copied and changed cells, and run nothing.

    Raises:
        GradingError: if the folder has no folders.
    """
    students = sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))
    if not students:
        raise GradingError(f"{folder} has no folder for each student, as in {folder / 'STUDENT' / 'ASSIGNMENT.ipynb'}")
    for student in students:
        files = notebooks(student)
        for assignment, source in sources.items():
            yield _grade_files(student, assignment, source, files, seconds, check_only)
        for path in (path for path in files if path.stem not in sources):
            message = f"{path.relative_to(student)} has the name of no assignment ({', '.join(sources)})"
            yield Grade(student.name, path.stem, messages=[message])


def _grade_files(
    student: Path, assignment: str, source: list[Cell], files: list[Path], seconds: float, check_only: bool
) -> Grade:
    result = _nothing(student.name, assignment, source)
    mine = [path for path in files if path.stem == assignment]
    if len(mine) != 1:
        names = ", ".join(str(path.relative_to(student)) for path in mine)
        result.messages.append(f"handed in {len(mine)} times: {names}; leave one" if mine else "not handed in")
        return result
    try:
        handed_in = read_cells(mine[0])
    except GradingError as error:
        result.messages.append(str(error))
        return result
    if check_only:
        result.messages += problems(source, handed_in)
        return result
    return grade(student.name, assignment, source, handed_in, seconds)


def write_csv(grades: Iterable[Grade], path: Path) -> None:
    """One row for each student and assignment."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student", "assignment", "points", "total", "max", "by hand, at most", "messages"])
        for g in grades:
            points = "; ".join(f"{name} {got:g}/{most:g}" for name, (got, most) in g.points.items())
            row = [
                g.student,
                g.assignment,
                points,
                f"{g.total:g}",
                f"{g.max:g}",
                f"{g.by_hand:g}",
                " | ".join(g.messages),
            ]
            table.writerow([_as_text(entry) for entry in row])


def _as_text(entry: str) -> str:
    """A spreadsheet runs what begins like a formula, and students choose what their error messages say."""
    return f"'{entry}" if entry.startswith(("=", "+", "-", "@")) else entry
