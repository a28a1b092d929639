"""Datasets that the user has: where they are, so that they need to be named only once.

`remember` is what ``python -m cxgrad_lite data get NAME --from PATH`` does. After it, ``load(NAME, split)`` reads
PATH instead of downloading, and what was converted from it is opened even where PATH is no longer there.
The record is ``converted/NAME.json`` in the cache folder.
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..images import ImageClasses
from .reader import home, open_split
from .writer import cannot_write

Options = Mapping[str, Any]


def remember(dataset: str, path: Path, folders: Mapping[str, Path]) -> None:
    """Keep where the user's copy of a dataset is, in place of what was kept before.

    Args:
        dataset: its name.
        path: the user's file or folder.
        folders: for each `request`, the folder of the split converted from it.

    Raises:
        StoreError: if the record cannot be written.
    """
    record = {"path": str(path.absolute()), "folders": {name: folder.name for name, folder in folders.items()}}
    file = _file(dataset)
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(unfinished, file)
    except OSError as error:
        raise cannot_write(file.parent, error) from error


def forget(dataset: str) -> None:
    """Download the dataset again from now on."""
    _file(dataset).unlink(missing_ok=True)


def request(split: str, options: Options) -> str:
    """A split with its options, in one line."""
    return " ".join([split, *(f"{name}={options[name]!r}" for name in sorted(options))])


def remembered_path(dataset: str) -> Path | None:
    """The user's copy of a dataset; None if none is known."""
    record = _read(dataset)
    return None if record is None else Path(record["path"])


def open_remembered(dataset: str, split: str, options: Options) -> ImageClasses | None:
    """A split converted earlier from the user's copy; None if there is none, or it is damaged (a warning says so)."""
    record = _read(dataset)
    name = None if record is None else record["folders"].get(request(split, options))
    if name is None:
        return None
    try:
        return open_split(home() / name, {"dataset": dataset, "split": split})
    except (OSError, TypeError, ValueError) as error:
        warnings.warn(f"{home() / name} cannot be used ({error}); it is made anew", stacklevel=3)
        return None


def _file(dataset: str) -> Path:
    return home() / f"{dataset}.json"


def _read(dataset: str) -> dict[str, Any] | None:
    file = _file(dataset)
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(record["path"], str) and isinstance(record["folders"], dict):
            return dict(record)
        fault = "it is incomplete"
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = str(error)
    warnings.warn(f"{file} cannot be used ({fault}); name the path of your copy of {dataset} again", stacklevel=4)
    return None
