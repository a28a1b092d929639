"""Reading Omniglot's drawings from the forms in which people have them, without unpacking archives.

- zip files in the official layout: ``…/Alphabet/characterNN/*.png``, 105 x 105 pixels, 20 drawings a character;
- a folder with the same layout;
- a lossless repack: ``index.csv`` (columns part, alphabet, row, character) and one sheet ``part/Alphabet.png`` per
  alphabet, a grid of 105 x 105 tiles with one character a row and one drawer a column.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..files.download import file_digest

SIDE = 105  # pixels
DRAWERS = 20
PARTS = ("images_background", "images_evaluation", "images_background_small1", "images_background_small2")
REPACK = "omniglot.zip"

Drawings = npt.NDArray[np.uint8]  # (20, 105, 105), paper 255 and ink 0
_MEMBER = re.compile(r"(?:^|/)([^/]+/character\d\d)/[^/.][^/]*\.png$")  # a leading dot marks other systems' litter


def find_places(path: Path, archives: Sequence[str]) -> list[Path]:
    """What to read, from what the user named: zip files, or one folder in the official layout.

    Args:
        path: a zip file, a folder that holds some of ``archives`` or ``omniglot.zip``, or an unpacked folder.
        archives: file names of the official archives, in order of preference.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if it is a file but no zip file.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    if path.is_dir():
        zips = [path / name for name in (*archives, REPACK) if (path / name).is_file()]
        return zips or [path]
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither a folder nor a zip file")
    return [path]


def digest_of(places: Sequence[Path], classes: Sequence[str]) -> str:
    """Checksum of the archives, or of names, sizes and times of change of a folder's images."""
    digest = hashlib.sha256()
    for place in places:
        if place.is_file():
            digest.update(f"{file_digest(place)}\n".encode())
            continue
        for name, files in _folder_files(place, classes).items():
            facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
            digest.update(f"{place.absolute()} {name} {facts}\n".encode())
    return digest.hexdigest()


def read_drawings(places: Sequence[Path], classes: Sequence[str]) -> Iterator[tuple[str, Drawings]]:
    """The drawings of the classes that are found, as (class name, (20, 105, 105) uint8); paper is 255, ink 0.

    A class that is in two places comes from the first one.

    Raises:
        ValueError: if a class has not exactly 20 drawings, or one is damaged or of another size; the class and the
            file are named.
    """
    missing = list(classes)
    for place in places:
        for name, drawings in _read_place(place, missing):
            missing = [other for other in missing if other != name]
            yield name, drawings


def _read_place(place: Path, classes: Sequence[str]) -> Iterator[tuple[str, Drawings]]:
    if place.is_dir():
        for name, files in _folder_files(place, classes).items():
            yield name, _stack(name, [(str(file), file.read_bytes) for file in files])
        return
    try:
        with zipfile.ZipFile(place) as archive:
            read = _read_sheets if "index.csv" in archive.namelist() else _read_members
            yield from read(archive, set(classes))
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ValueError(f"{place} is damaged or laid out in another way: {error}") from error


def _folder_files(folder: Path, classes: Sequence[str]) -> dict[str, list[Path]]:
    found = {}
    roots = [root for root in (folder, *(folder / part for part in PARTS)) if root.is_dir()]
    for name in classes:
        home = next((root / name for root in roots if (root / name).is_dir()), None)
        if home is not None:
            found[name] = sorted(file for file in home.glob("*.png") if not file.name.startswith("."))
    return found


def _read_members(archive: zipfile.ZipFile, classes: set[str]) -> Iterator[tuple[str, Drawings]]:
    members = defaultdict(list)
    for member in sorted(archive.namelist()):
        match = _MEMBER.search(member)
        if match and match[1] in classes:
            members[match[1]].append(member)
    for name, files in members.items():
        yield name, _stack(name, [(f"{archive.filename}: {file}", _reader(archive, file)) for file in files])


def _reader(archive: zipfile.ZipFile, member: str) -> Callable[[], bytes]:
    return lambda: archive.read(member)


def _stack(name: str, files: list[tuple[str, Callable[[], bytes]]]) -> Drawings:
    if len(files) != DRAWERS:
        raise ValueError(f"{name} has {len(files)} drawings, not {DRAWERS}")
    return np.stack([_decode(read(), where, (SIDE, SIDE)) for where, read in files])


def _decode(data: bytes, where: str, shape: tuple[int, int]) -> Drawings:
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L"))  # (height, width)
    except (OSError, SyntaxError, ValueError) as error:  # all three come from Pillow for damaged files
        raise ValueError(f"{where} cannot be decoded: {error}") from error
    if pixels.shape != shape:
        raise ValueError(f"{where} has {pixels.shape} pixels, not {shape}")
    return pixels


def _read_sheets(archive: zipfile.ZipFile, classes: set[str]) -> Iterator[tuple[str, Drawings]]:
    sheets = defaultdict(list)
    for row in csv.DictReader(io.StringIO(archive.read("index.csv").decode())):
        name = f"{row['alphabet']}/{row['character']}"
        sheets[f"{row['part']}/{row['alphabet']}.png"].append((int(row["row"]), name))
    for sheet, rows in sheets.items():
        if not classes.intersection(name for _, name in rows):
            continue
        where = f"{archive.filename}: {sheet}"
        pixels = _decode(archive.read(sheet), where, (SIDE * len(rows), SIDE * DRAWERS))
        tiles = pixels.reshape(len(rows), SIDE, DRAWERS, SIDE).swapaxes(1, 2)  # (characters, 20, 105, 105)
        yield from ((name, tiles[row]) for row, name in rows if name in classes)
