"""Assignments as students hand them in, made from the source notebooks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cxgrad_lite.course.grade_cells import read_sources

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"
SOURCES = read_sources(ASSIGNMENTS / "source")
NAMES = ["a1_episodes", "a2_maml", "a3_scale", "a4_context"]


def solutions(name: str) -> dict[str, str]:
    """Answer cell → the source's answer."""
    return {cell.name: cell.source for cell in SOURCES[name] if cell.solution}


def maximum(name: str) -> float:
    return sum(cell.points for cell in SOURCES[name] if cell.is_test)


def build_course(folder: Path) -> Path:
    """What `make course` builds, in this folder."""
    subprocess.run([sys.executable, str(ROOT / ".ci" / "build_course.py"), str(folder)], check=True)
    return folder


def notebook(course: Path, name: str) -> dict[str, Any]:
    return json.loads((course / "assignments" / f"{name}.ipynb").read_text(encoding="utf-8"))


def grade_id(cell: dict[str, Any]) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def hand_in(course: Path, folder: Path, name: str, answers: dict[str, str], without: tuple[str, ...] = ()) -> None:
    """A student's notebook: the release version with these answers, and some cells deleted."""
    content = notebook(course, name)
    content["cells"] = [cell for cell in content["cells"] if grade_id(cell) not in without]
    for cell in content["cells"]:
        cell["source"] = answers.get(grade_id(cell), "".join(cell["source"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ipynb").write_text(json.dumps(content), encoding="utf-8")
