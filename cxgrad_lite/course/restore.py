"""A handed-in notebook with the instructor's cells as they were, and what had been done to them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

from .handout import Cell, Notebook, released

# Code that has no business in an answer. It costs no points: a person reads it.
ODD = re.compile(
    r"ast_transformers|input_transformers\w*|get_ipython|builtins|_getframe|\binspect\b|\bIn\[|\b_i+h?\[|\b_oh\b|globals\(\)"
    r"|__main__|sys\.modules|settrace|setprofile|\bctypes\b|\bsubprocess\b|\bgc\.|/proc\b|assignments/source|\bsignal\b"
    r"|os\.(?:kill|fork|system|popen|symlink|_exit|setsid|getppid)|__(?:eq|sub|rsub|lt|abs|class)__|torch(?:\.\w+)+\s*=(?!=)"
)


class GradingError(Exception):
    """Grading cannot go on; the message says why."""


def name_of(cell: Cell) -> str:
    """nbgrader's grade_id, "" for a cell that grading does not know."""
    return str(cell["metadata"].get("nbgrader", {}).get("grade_id", ""))


def is_test(cell: Cell) -> bool:
    facts = cell["metadata"].get("nbgrader", {})
    return bool(facts.get("grade")) and not facts.get("solution")


def is_locked(cell: Cell) -> bool:
    facts = cell["metadata"].get("nbgrader", {})
    return bool(facts.get("locked") or facts.get("grade")) and not facts.get("solution")


def source_of(cell: Cell) -> str:
    return "".join(cell["source"])


def read_hand_in(content: bytes) -> Notebook:
    """A notebook in format 4, with what is needed of each cell and nothing else.

    Raises:
        ValueError: if it is none.
    """
    try:
        cells = [_plain(cell) for cell in json.loads(content.decode("utf-8-sig"))["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"is no notebook that can be read ({type(error).__name__})") from error
    return {"cells": cells}


def _plain(cell: dict[str, Any]) -> Cell:
    """Text and pictures of an output are kept; a script in one would run where it is graded."""
    name = str(cell["metadata"].get("nbgrader", {}).get("grade_id", ""))
    kept: Cell = {"cell_type": str(cell["cell_type"]), "metadata": {}, "source": "".join(cell["source"]), "name": name}
    kept["id"] = str(cell.get("id", ""))
    if kept["cell_type"] == "code":
        outputs = [output["data"] for output in cell.get("outputs", []) if "data" in output]
        data = [{kind: d[kind] for kind in ("text/plain", "image/png") if kind in d} for d in outputs]
        kept |= {"execution_count": None, "outputs": [display(d) for d in data]}
    return kept


def display(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def restored(source: Notebook, handed_in: Notebook) -> tuple[Notebook, list[str]]:
    """Locked cells from ``source``, hidden tests among them; answers and own cells as handed in, in their places.

    Returns:
        the notebook, and one line for everything that was deleted, copied or changed.
    """
    cells = {name_of(cell): cell for cell in source["cells"] if name_of(cell)}
    stubs = {name_of(cell): cell for cell in released(source)["cells"] if name_of(cell)}
    by_id = {cell["id"]: name for name, cell in cells.items() if "id" in cell}  # some editors drop all metadata
    given: dict[str, list[str]] = defaultdict(list)
    own: dict[str, list[Cell]] = defaultdict(list)
    notes: list[str] = []
    place = next(iter(cells))
    for cell in handed_in["cells"]:
        name = cell["name"] if cell["name"] in cells else by_id.get(cell["id"], "")
        locked = name and not cells[name]["metadata"]["nbgrader"]["solution"]
        if name:
            given[name].append(source_of(cell))
        if name and not (given[name][1:] and not locked):
            place = name
        elif not locked:
            own[place].append({key: value for key, value in cell.items() if key not in ("name", "id")})
    whole = []
    for name, cell in cells.items():
        whole.append(_restored_cell(name, cell, stubs[name], given[name], notes))
        whole += own[name]
    return source | {"cells": whole}, notes


def _restored_cell(name: str, cell: Cell, stub: Cell, given: list[str], notes: list[str]) -> Cell:
    answer = cell["metadata"]["nbgrader"]["solution"]
    if not given:
        notes.append(f"cell {name} was deleted" + ("" if answer else " and is put back"))
    elif len(given) > 1:
        notes.append(f"cell {name} is there {len(given)} times")
    elif not answer and given[0].split() != source_of(stub).split():
        notes.append(f"cell {name} was changed; the original is used")
    empty: Cell = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
    missing = source_of(stub) if cell["cell_type"] == "markdown" else "# This answer was deleted."
    return (
        (stub if answer else cell) | empty | {"source": (given[0] if given else missing) if answer else source_of(cell)}
    )
