"""Assignments as students hand them in, made from the source notebooks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"
NAMES = ["a1_episodes", "a2_maml", "a3_scale", "a4_context"]
HIDDEN = re.compile(r"[^\n]*BEGIN HIDDEN TESTS.*?END HIDDEN TESTS[^\n]*\n?", re.DOTALL)


@dataclass(frozen=True)
class SourceCell:
    """A cell of a source notebook; ``name`` is nbgrader's grade_id, "" for a cell that grading does not know."""

    kind: str
    source: str
    name: str = ""
    points: float = 0.0
    grade: bool = False
    solution: bool = False

    @property
    def is_test(self) -> bool:
        return self.grade and not self.solution

    @property
    def is_essay(self) -> bool:
        return self.grade and self.solution

    @property
    def released(self) -> str:
        return HIDDEN.sub("", self.source)


def source_cells(path: Path) -> list[SourceCell]:
    cells = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        facts = cell["metadata"].get("nbgrader", {})
        marks = bool(facts.get("grade")), bool(facts.get("solution"))
        cells.append(
            SourceCell(cell["cell_type"], "".join(cell["source"]), grade_id(cell), facts.get("points", 0), *marks)
        )
    return cells


def grade_id(cell: dict[str, Any]) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


SOURCES = {path.stem: source_cells(path) for path in sorted(ASSIGNMENTS.glob("source/*/*.ipynb"))}


def solutions(name: str) -> dict[str, str]:
    """Answer cell → the source's answer."""
    return {cell.name: cell.source for cell in SOURCES[name] if cell.solution}


def maximum(name: str) -> float:
    return sum(cell.points for cell in SOURCES[name] if cell.is_test)


def build_course(folder: Path, *options: str) -> Path:
    """What `make course` builds, in this folder."""
    subprocess.run([sys.executable, str(ROOT / ".ci" / "build_course.py"), str(folder), *options], check=True)
    return folder


def notebook(course: Path, name: str) -> dict[str, Any]:
    return json.loads((course / "assignments" / f"{name}.ipynb").read_text(encoding="utf-8"))


def hand_in(course: Path, folder: Path, name: str, answers: dict[str, str], without: tuple[str, ...] = ()) -> Path:
    """A student's notebook: the release version with these answers, and some cells deleted."""
    content = notebook(course, name)
    content["cells"] = [cell for cell in content["cells"] if grade_id(cell) not in without]
    for cell in content["cells"]:
        cell["source"] = answers.get(grade_id(cell), "".join(cell["source"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ipynb").write_text(json.dumps(content), encoding="utf-8")
    return folder / f"{name}.ipynb"
