"""Lists and tables as people have them: UTF-8 with or without a byte-order mark, UTF-16, Latin-1."""

from __future__ import annotations

import codecs
import csv
import os
from pathlib import Path


def read_text(file: Path) -> str:
    """A text file in whichever of these encodings it is: UTF-16 has a mark, and Latin-1 is what is no UTF-8."""
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_lines(file: Path) -> list[str]:
    """The lines that are not blank, without spaces around them."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def read_table(file: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a table with commas between its columns, whose first line names them.

    Raises:
        ValueError: if one of ``columns`` is missing or a row is too short.
    """
    rows = list(csv.DictReader(read_text(file).splitlines()))
    if not rows or any(row.get(column) is None for row in rows for column in columns):
        raise ValueError(f"{file} is not a table with the columns {', '.join(columns)}")
    return rows


def readable(name: str) -> str:
    """A file name that can be printed and stored: one that is not in the system's encoding is taken as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name
