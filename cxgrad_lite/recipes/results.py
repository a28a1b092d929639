"""Results of runs: one JSON file each, read whole or not at all, and never for another recipe's.

``FOLDER/NAME.json`` is the result of the recipe of that name. ``FOLDER/inner_rates.json`` holds the searches of the
course together, as they are shipped, and ``FOLDER/studies.json`` the paper's runs.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from .recipe import Recipe, check_same

RATES_FILE, STUDIES_FILE = "inner_rates.json", "studies.json"


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write under another name, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "w") as file:
            file.write(json.dumps(value, indent=indent) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_result(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """The result of a recipe, None if there is none yet; a damaged file counts as none, with a warning.

    Raises:
        ValueError: if the file of that name is the result of other settings.
    """
    path = folder / f"{recipe.name}.json"
    if not path.exists():
        files = [path for path in (folder / RATES_FILE, folder / STUDIES_FILE) if path.exists()]
        found = (gathered(path, path.stat().st_mtime_ns).get(recipe.name) for path in files)
        result = next((result for result in found if result is not None), None)
    else:
        try:
            result = json.loads(path.read_text())
        except ValueError as error:
            warnings.warn(f"{path} is damaged ({error}); the run is made again", stacklevel=2)
            return None
    if result is not None:
        check_same(recipe, result["recipe"], path)
    return result


@lru_cache(maxsize=8)
def gathered(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    """Results in one file, by name; ``changed``, the time of the file's last change, keeps the memory honest."""
    return {Recipe.stored(result["recipe"], path).name: result for result in json.loads(path.read_text())}


def validation(result: dict[str, Any]) -> dict[str, float]:
    """{"mean", "ci95", "episodes"} of a search; a run that diverged is worse than any other."""
    if "diverged" in result:
        return {"mean": -math.inf, "ci95": math.nan, "episodes": 0}
    if "val" in result:
        return summary(result["val"])
    stored: dict[str, float] = result["validation"]
    return stored


def summary(numbers: dict[str, Any]) -> dict[str, float]:
    """Mean and interval in the precision that is shipped, and the number of tasks instead of the tasks."""
    return {
        "mean": round(numbers["mean"], 5),
        "ci95": round(numbers["ci95"], 5),
        "episodes": len(numbers["per_task"]),
    }


def best(searches: Sequence[Recipe], folder: Path) -> Recipe | None:
    """The search that did best on validation tasks, the first of equals; None while one has no result."""
    results = [read_result(recipe, folder) for recipe in searches]
    if not searches or None in results:
        return None
    means = [validation(result)["mean"] for result in results if result is not None]
    return searches[means.index(max(means))]
