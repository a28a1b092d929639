"""The table of a GPU report: milliseconds per meta-iteration."""

from __future__ import annotations

import re
from typing import Any

WHAT = re.compile(r"(?P<method>\w+), (?P<case>.*): (?P<engine>[a-z ]+), (?P<precision>\w+), ms per meta-iteration")


def table(report: dict[str, Any]) -> str:
    """Markdown: one row per method and setting, one column per engine and arithmetic; a dash where nothing ran."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    columns: list[str] = []
    for row in report["speed"]:
        seen = WHAT.fullmatch(row["what"])
        if seen is None:
            continue
        column = f"{seen['engine']}, {seen['precision']}"
        columns += [] if column in columns else [column]
        ran = row.get("pass", True) and "fell_back" not in row
        cells.setdefault((seen["case"], seen["method"]), {})[column] = f"{row['number']:.1f}" if ran else "–"
    lines = [["setting", "method", *columns], ["---"] * (2 + len(columns))]
    lines += [[case, method, *(part.get(c, "–") for c in columns)] for (case, method), part in cells.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
