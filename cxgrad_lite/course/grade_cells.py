"""The cells of an assignment in nbgrader's format: what was handed in, and what it should have been."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HIDDEN = ("BEGIN HIDDEN TESTS", "END HIDDEN TESTS")


class GradingError(Exception):
    """A notebook cannot be read, or a folder is not what it should be; the message says why."""


@dataclass(frozen=True)
class Cell:
    """One cell. ``name`` is nbgrader's grade_id, "" for a cell that grading does not know."""

    kind: str
    source: str
    name: str = ""
    points: float = 0.0
    grade: bool = False
    solution: bool = False
    locked: bool = False

    @property
    def is_test(self) -> bool:
        return self.grade and not self.solution

    @property
    def is_setup(self) -> bool:
        """Whether it is the instructor's, and no test."""
        return self.locked and not self.is_test

    @property
    def is_essay(self) -> bool:
        """Whether a person grades it."""
        return self.grade and self.solution

    @property
    def released(self) -> str:
        """The source without hidden tests."""
        lines, hidden = [], False
        for line in self.source.splitlines():
            hidden = hidden or HIDDEN[0] in line
            if not hidden:
                lines.append(line)
            hidden = hidden and HIDDEN[1] not in line
        return "\n".join(lines)


def read_cells(path: Path) -> list[Cell]:
    """The cells of a notebook in format 4.

    Raises:
        GradingError: if the file is not such a notebook.
    """
    try:
        return [_cell(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GradingError(f"{path.name} is no notebook that can be read ({type(error).__name__})") from error


def _cell(cell: dict[str, Any]) -> Cell:
    facts = cell.get("metadata", {}).get("nbgrader", {})
    grade, solution = bool(facts.get("grade")), bool(facts.get("solution"))
    locked = bool(facts.get("locked")) or grade and not solution
    name, points = str(facts.get("grade_id", "")), float(facts.get("points") or 0)
    return Cell(str(cell["cell_type"]), "".join(cell["source"]), name, points, grade, solution, locked and not solution)


def read_sources(folder: Path) -> dict[str, list[Cell]]:
    """Assignment → cells, of all source notebooks below a folder.

    Raises:
        GradingError: if there are none, or these are release versions, which have no hidden tests.
    """
    sources = {path.stem: read_cells(path) for path in notebooks(folder)}
    if not sources:
        raise GradingError(f"there are no source notebooks in {folder}; name their folder with --source")
    for name, cells in sources.items():
        if not any(HIDDEN[0] in cell.source for cell in cells):
            raise GradingError(f"{name} in {folder} has no hidden tests: a release version cannot grade")
    return sources


def notebooks(folder: Path) -> list[Path]:
    """All notebooks below a folder, without Jupyter's checkpoints and other hidden files."""
    found = (path for path in folder.rglob("*.ipynb") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def problems(source: list[Cell], handed_in: list[Cell]) -> list[str]:
    """What was done to the named cells: deleted, duplicated, turned into text, tests changed. One line for each."""
    count = Counter(cell.name for cell in handed_in)
    found = []
    for cell in (cell for cell in source if cell.name):
        same = [other for other in handed_in if other.name == cell.name]
        if not same:
            found.append(f"cell {cell.name} was deleted" + (" and is put back" if cell.locked else ""))
        elif count[cell.name] > 1:
            found.append(f"cell {cell.name} is there {count[cell.name]} times")
        elif same[0].kind != cell.kind:
            found.append(f"cell {cell.name} is a {same[0].kind} cell, not a {cell.kind} cell")
        elif cell.locked and same[0].source.split() not in (cell.source.split(), cell.released.split()):
            found.append(f"cell {cell.name} was changed; the original is used")
    return found


def restored(source: list[Cell], handed_in: list[Cell]) -> list[Cell]:
    """The handed-in cells, with locked cells as in the source: edits undone, copies dropped, deleted ones put back."""
    originals = {cell.name: cell for cell in source if cell.name}
    cells, seen = [], set()
    for cell in handed_in:
        original = originals.get(cell.name)
        if original is None or cell.name in seen:
            if original is None or not original.locked:
                cells.append(Cell(cell.kind, cell.source))
            continue
        seen.add(cell.name)
        cells.append(original if original.locked else replace(original, kind=cell.kind, source=cell.source))
    for cell in originals.values():
        if cell.locked and cell.name not in seen:
            cells.insert(_place(list(originals), cells, cell), cell)
    return cells


def _place(order: list[str], cells: list[Cell], missing: Cell) -> int:
    """Where a deleted cell belongs. A test goes as far down as it can: its answer may stand in a cell without name."""
    rank = order.index(missing.name)
    if missing.is_test:
        later = (i for i, cell in enumerate(cells) if cell.name and order.index(cell.name) > rank)
        return next(later, len(cells))
    earlier = (i + 1 for i, cell in enumerate(cells) if cell.name and order.index(cell.name) < rank)
    return max(earlier, default=0)
