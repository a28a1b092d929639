"""What readers get: notebooks without outputs, and assignments without solutions and hidden tests.

Assignments come out as from nbgrader, without nbgrader: a wheel is built where there is only setuptools. So this file
imports the standard library and nothing of its package; setup.py runs it by its path.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]

SECRETS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "MARK SCHEME")
CODE_STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")
TEXT_STUB = ("YOUR ANSWER HERE",)
TO_SOLUTIONS = re.compile(r"\[([^\[\]]+)\]\(solutions/[^()]*\)")


def course(notebooks: Path) -> dict[str, str]:
    """All files of a course, from the ``notebooks`` folder of a checkout.

    Returns:
        name → text, the notebooks in the order of their names: ``00_start_here.ipynb``,
        ``solutions/04_solutions.ipynb`` (of exercises), ``assignments/a1_episodes.ipynb``.

    Raises:
        ValueError: if an assignment would be handed out with a solution or a hidden test.
    """
    files = {}
    for path in sorted([*notebooks.glob("*.ipynb"), *notebooks.glob("solutions/*.ipynb")]):
        files[path.relative_to(notebooks).as_posix()] = text(without_outputs(read(path)))
    for path in sorted(notebooks.glob("assignments/source/*/*.ipynb")):
        files[f"assignments/{path.name}"] = text(released(read(path)))
    return files


def for_class(files: dict[str, str]) -> dict[str, str]:
    """The course without the worked solutions of its exercises; a link to them becomes text that says who has them.

    Args:
        files: name → text, as from `course`.
    """
    kept = [name for name in files if not name.startswith("solutions/")]
    return {name: TO_SOLUTIONS.sub(r"\1 (your instructor has this file)", files[name]) for name in kept}


def read(path: Path) -> Notebook:
    """A notebook in format 4."""
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def text(notebook: Notebook) -> str:
    """A notebook in the one form in which it is committed."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def without_outputs(notebook: Notebook) -> Notebook:
    """The notebook as a reader should meet it: the questions come before the answers."""
    return notebook | {"cells": [_cleared(cell) for cell in notebook["cells"]]}


def released(notebook: Notebook) -> Notebook:
    """The release version of an assignment in nbgrader's format.

    Raises:
        ValueError: if a solution or a hidden test would be left in it.
    """
    notebook = notebook | {"cells": [_released(_cleared(cell)) for cell in notebook["cells"]]}
    left = [secret for secret in SECRETS if secret in text(notebook)]
    if left:
        raise ValueError(f"an assignment would be handed out with {', '.join(left)}")
    return notebook


def _cleared(cell: Cell) -> Cell:
    return cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell


def _released(cell: Cell) -> Cell:
    facts = cell["metadata"].get("nbgrader", {})
    grade, solution = facts.get("grade", False), facts.get("solution", False)
    locked = not solution and (grade or facts.get("locked", False))
    lines = "".join(cell["source"]).split("\n")
    if solution:
        lines = _stubbed(lines, CODE_STUB if cell["cell_type"] == "code" else TEXT_STUB)
    lines = _without(_without(lines, "HIDDEN TESTS"), "MARK SCHEME")
    if not (grade or solution or locked):
        return cell | {"source": _source(lines)}
    frozen = {"deletable": False, "editable": False} if locked else {"deletable": False}
    marks = [str(bool(mark)) for mark in (grade, solution, locked)] + [facts["grade_id"]]
    marks += [str(float(facts["points"]))] if grade else []
    parts = "".join(["\n".join(lines), cell["cell_type"], *marks])
    checksum = hashlib.md5(parts.encode("utf-8"), usedforsecurity=False).hexdigest()  # nbgrader's, to detect edits
    facts = facts | {"cell_type": cell["cell_type"], "checksum": checksum}
    return cell | {"source": _source(lines), "metadata": cell["metadata"] | frozen | {"nbgrader": facts}}


def _source(lines: list[str]) -> list[str]:
    return "\n".join(lines).splitlines(keepends=True)


def _stubbed(lines: list[str], stub: tuple[str, ...]) -> list[str]:
    """The stub in place of each marked solution, or of everything if none is marked."""
    starts = [i for i, line in enumerate(lines) if "BEGIN SOLUTION" in line]
    if not starts:
        return list(stub)
    with_stubs = []
    for line in lines:
        if "BEGIN SOLUTION" in line:
            indent = line[: len(line) - len(line.lstrip())]
            with_stubs += [indent + part for part in stub]
        with_stubs.append(line)
    return _without(with_stubs, "SOLUTION")


def _without(lines: list[str], what: str) -> list[str]:
    """The lines outside the regions from ``BEGIN what`` to ``END what``."""
    kept, inside = [], False
    for line in lines:
        inside = inside or f"BEGIN {what}" in line
        if not inside:
            kept.append(line)
        inside = inside and f"END {what}" not in line
    if inside:
        raise ValueError(f"BEGIN {what} without END {what}")
    return kept
