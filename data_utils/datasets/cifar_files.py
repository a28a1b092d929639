"""Reading CIFAR-100's images from the forms in which people have them, without unpacking archives.

- the official ``cifar-100-python.tar.gz``, or its unpacked folder: Python batches ``train``, ``test`` and ``meta``;
- class folders, ``data/<class>/*.png`` as in the ready-made CIFAR-FS, or ``<class>/*.png``; as a zip file too;
- a lossless repack: zip files ``cifar_fs_{train,val,test}.zip`` with ``index.csv``, ``classes.csv`` and one sheet
  ``<class>.webp`` of 20 rows of 30 tiles, each 32 x 32 pixels.

Order within a class: the official train part, then its test part, each by file name; class folders, which do not tell
the parts apart, by file name.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..files.archives import check_no_page
from ..files.pickles import load_plain

SIDE = 32  # pixels
TAR, ZIP = "cifar-100-python.tar.gz", "cifar100.zip"
BATCHES = "cifar-100-python"
MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
COLUMNS = 30  # tiles in a row of a sheet
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

Stack = npt.NDArray[np.uint8]  # (n, 32, 32, 3)
Classes = Iterator[tuple[str, Stack]]


def find_place(path: Path, split: str) -> Path:
    """The file or folder to read, from what the user named.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if it is a file but no archive.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    if path.is_dir():
        inside = [path / f"cifar_fs_{split}.zip", path / TAR, path / BATCHES, path / ZIP]
        return next((place for place in inside if place.exists()), path)
    check_no_page(path)
    if not zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
        raise ValueError(f"{path} is neither a folder nor a whole zip or tar file")
    return path


def key_of(place: Path, classes: Sequence[str]) -> str:
    """Stands for a file, or for the images in a folder: place, sizes and times of change."""
    files = [place] if place.is_file() else [place / name for name in MD5 if (place / name).is_file()]
    if not files:
        files = [file for group in _folder_files(place, classes).values() for file in group]
    digest = hashlib.sha256(f"{place.absolute()}\n".encode())
    for file in files:
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_classes(place: Path, classes: Sequence[str]) -> Classes:
    """The classes that are found, as (class name, (n, 32, 32, 3) uint8); the number n is whatever is there.

    Raises:
        ValueError: if a file is damaged, is not the official one, or an image has another size; it is named.
    """
    if place.is_dir():
        if all((place / name).is_file() for name in MD5):
            return _read_batches(lambda name: (place / name).read_bytes(), classes, str(place))
        groups = _folder_files(place, classes)
        return _read_files({name: [(str(file), file.read_bytes) for file in groups[name]] for name in groups})
    return _read_zip(place, classes) if zipfile.is_zipfile(place) else _read_tar(place, classes)


def _read_tar(place: Path, classes: Sequence[str]) -> Classes:
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                stream = archive.extractfile(member) if name in MD5 and member.isfile() else None
                if stream is not None:
                    contents[name] = stream.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{place} is damaged: {error}") from error
    missing = [name for name in MD5 if name not in contents]
    if missing:
        raise ValueError(f"{place} holds no file {missing[0]}; expected is {BATCHES}/ with {', '.join(MD5)}")
    yield from _read_batches(contents.pop, classes, str(place))


def _read_batches(read: Callable[[str], bytes], classes: Sequence[str], where: str) -> Classes:
    names = _batch(read, "meta", where)["fine_label_names"]
    found: dict[str, list[Stack]] = defaultdict(list)
    for part in ("train", "test"):
        batch = _batch(read, part, where)
        images = np.asarray(batch["data"]).reshape(-1, 3, SIDE, SIDE)  # (n, 3, 32, 32)
        labels, files = np.asarray(batch["fine_labels"]), batch["filenames"]
        for name in classes:
            rows = sorted(np.flatnonzero(labels == names.index(name)) if name in names else [], key=files.__getitem__)
            found[name].append(images[rows].transpose(0, 2, 3, 1))
    for name in classes:
        if stacks := [stack for stack in found.pop(name) if len(stack)]:
            yield name, np.concatenate(stacks)


def _batch(read: Callable[[str], bytes], name: str, where: str) -> dict[str, Any]:
    content = read(name)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != MD5[name]:
        raise ValueError(f"{where}: {name} is not the official file: its md5 is {digest}, not {MD5[name]}")
    # Not torchvision's reader: it unpickles with Python's own, which runs whatever the file says.
    batch = load_plain(io.BytesIO(content))
    if not isinstance(batch, dict):
        raise ValueError(f"{where}: {name} holds no batch of images")
    return batch


def _folder_files(folder: Path, classes: Sequence[str]) -> dict[str, list[Path]]:
    roots = [
        folder,
        folder / "data",
        folder / "cifar100" / "data",
        *(folder / part for part in ("train", "val", "test")),
    ]
    found: dict[str, list[Path]] = defaultdict(list)
    for name in classes:
        for home in (root / name for root in roots):
            if home.is_dir():
                files = sorted(file for file in home.iterdir() if _is_image(file.name))
                found[name].extend(files)
    return dict(found)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")  # a leading dot: other systems' litter


def _read_zip(place: Path, classes: Sequence[str]) -> Classes:
    try:
        with zipfile.ZipFile(place) as archive:
            if "index.csv" in archive.namelist():
                yield from _read_sheets(archive, classes)
                return
            groups: dict[str, list[tuple[str, Callable[[], bytes]]]] = defaultdict(list)
            for member in sorted(archive.namelist()):
                name = PurePosixPath(member).parent.name
                if name in classes and _is_image(PurePosixPath(member).name):
                    groups[name].append((f"{place}: {member}", _reader(archive, member)))
            yield from _read_files(groups)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ValueError(f"{place} is damaged or laid out in another way: {error}") from error


def _reader(archive: zipfile.ZipFile, member: str) -> Callable[[], bytes]:
    return lambda: archive.read(member)


def _read_files(groups: dict[str, list[tuple[str, Callable[[], bytes]]]]) -> Classes:
    for name, files in groups.items():
        if files:
            yield name, np.stack([_decode(read(), where, (SIDE, SIDE)) for where, read in files])


def _decode(data: bytes, where: str, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))  # (height, width, 3)
    except (OSError, SyntaxError, ValueError) as error:  # all three come from Pillow for damaged files
        raise ValueError(f"{where} cannot be decoded: {error}") from error
    if pixels.shape[:2] != shape:
        raise ValueError(f"{where} has {pixels.shape[:2]} pixels, not {shape}")
    return pixels


def _read_sheets(archive: zipfile.ZipFile, classes: Sequence[str]) -> Classes:
    sums = {
        row["class"]: row["sha256_of_uint8_600x32x32x3"]
        for row in csv.DictReader(io.StringIO(archive.read("classes.csv").decode()))
    }
    counts: dict[str, int] = defaultdict(int)
    for row in csv.DictReader(io.StringIO(archive.read("index.csv").decode())):
        counts[row["class"]] += 1
    for name in classes:
        if name not in counts:
            continue
        where, rows = f"{archive.filename}: {name}.webp", -(-counts[name] // COLUMNS)
        sheet = _decode(archive.read(f"{name}.webp"), where, (rows * SIDE, COLUMNS * SIDE))
        tiles = sheet.reshape(rows, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
        images = np.ascontiguousarray(tiles[: counts[name]])  # (n, 32, 32, 3)
        if hashlib.sha256(images.tobytes()).hexdigest() != sums[name]:
            raise ValueError(f"{where} has other pixels than classes.csv says")
        yield name, images
