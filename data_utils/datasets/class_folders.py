"""Images in class folders: one folder per class, image files of any size in it.

The rule for sizes, that of the released code of CxGrad: Pillow's bicubic ``resize`` to a square, without keeping the
aspect ratio, through ``torchvision.transforms.v2``; an image that has the size already is taken as it is.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..files.archives import check_no_page, is_archive, unpack
from ..files.download import cache_dir
from ..store.convert import NewSplit
from ..store.writer import Pixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
DEPTH = 4  # folders below the one named by the user in which class folders are looked for

Found = dict[str, tuple[int, Callable[[], Iterator[Pixels]]]]  # class name: how many images, and how to read them


class IncompleteDataset(UserWarning):
    """A dataset is not as published: images are missing or altered, and results with it must be labelled so."""


def rule(size: int) -> str:
    """Name and version of the conversion, as manifests keep it."""
    return f"Pillow's bicubic to {size} x {size} without keeping the aspect ratio; version 1"


def class_list(dataset: str, split: str) -> tuple[str, ...]:
    """The classes of a shipped list, in alphabetical order."""
    file = Path(__file__).with_name("splits") / f"{dataset}_{split}.txt"
    return tuple(sorted(file.read_text(encoding="utf-8").split()))


def is_image(name: str) -> bool:
    """Whether a file name is that of an image, and not of another system's litter (a leading dot)."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries if is_image(entry.name))]


def class_folders(path: Path) -> dict[str, list[Path]]:
    """The images of each folder in a folder, both sorted by name; folders without images are left out.

    Raises:
        NotADirectoryError, FileNotFoundError: if there is no such folder.
    """
    found = {folder.name: image_files(folder) for folder in sorted(_folders_in(path))}
    return {name: files for name, files in found.items() if files}


def find_classes(path: Path, classes: Sequence[str]) -> dict[str, list[Path]]:
    """The image files of certain classes, whose folders may lie up to four levels deep, all of them at the same level.

    Args:
        path: where to look: the parent of the class folders, or of train/, val/ and test/, or a folder above.
        classes: names of the folders.

    Returns:
        For each class that is found its files, sorted by name; classes in the order given.

    Raises:
        ValueError: if a class is in two folders.
    """
    level, found = [path], dict[str, Path]()
    for _ in range(DEPTH):
        level = sorted(folder for parent in level for folder in _folders_in(parent))
        for folder in level:
            if folder.name in classes and folder.name in found:
                raise ValueError(f"class {folder.name} is in two folders, {found[folder.name]} and {folder}")
            if folder.name in classes:
                found[folder.name] = folder
        if found:
            break
    return {name: image_files(found[name]) for name in classes if name in found}


def _folders_in(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return [path / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def read_image(source: Path | bytes, size: int, mode: Literal["RGB", "L"] = "RGB", where: str = "") -> Pixels:
    """One image as (C, size, size) uint8; C is 3 for mode "RGB" and 1 for "L".

    Args:
        source: a file, or the content of one.
        size: height and width to resize to, by the rule of this module.
        mode: colours to convert to before resizing.
        where: names the image in errors; the file's own path by default.

    Raises:
        ValueError: if the image cannot be decoded; it is named.
    """
    return fit(decode(source, mode, where), size)


def decode(source: Path | bytes, mode: Literal["RGB", "L"] = "RGB", where: str = "") -> Image.Image:
    """One image as Pillow has it; arguments and errors as for `read_image`."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all are Pillow's
        name = where or (source if isinstance(source, Path) else "an image")
        raise ValueError(f"{name} cannot be decoded: {error}") from error


def fit(image: Image.Image, size: int) -> Pixels:
    """A Pillow image as (C, size, size) uint8, resized by the rule of this module."""
    if image.size != (size, size):
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2.functional import resize  # takes seconds to import, and is not always needed

        image = resize(image, [size, size], InterpolationMode.BICUBIC)
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # (size, size, C)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def from_files(groups: Mapping[str, Sequence[Path]], size: int) -> Found:
    """What `write_classes` takes, from the image files of each class."""

    def images(files: Sequence[Path]) -> Iterator[Pixels]:
        return (read_image(file, size) for file in files)

    return {name: (len(files), partial(images, files)) for name, files in groups.items()}


def write_classes(found: Found, new_split: NewSplit, size: int, title: str) -> None:
    """Write all classes, one after the other, each in the order of its images."""
    counts = [count for count, _ in found.values()]
    with new_split(list(found), counts, (3, size, size)) as writer, tqdm(None, title, sum(counts), unit="img") as bar:
        for label, (_, images) in enumerate(found.values()):
            for image in images():
                writer.put(label, image)
                bar.update()


def check_classes(found: Mapping[str, object], classes: Sequence[str], place: Path | str, expected: str) -> None:
    """Refuse data that lack a class.

    Raises:
        ValueError: names the first missing class and says what is ``expected``.
    """
    missing = [name for name in classes if name not in found]
    if missing:
        raise ValueError(
            f"{place}: {len(classes) - len(missing)} of the {len(classes)} classes were found; the first one missing "
            f"is {missing[0]}. Expected is {expected}."
        )


def existing(path: str | Path) -> Path:
    """The absolute path of what the user named.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise FileNotFoundError(f"there is nothing at {place}")
    return place


@contextmanager
def as_folder(place: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Path]:
    """A folder as it is, or the wanted files of an archive, unpacked into the cache folder and removed at the end.

    Raises:
        ValueError: if it is neither a folder nor an archive, or the archive is damaged; a web page is said to be one.
    """
    if place.is_dir():
        yield place
        return
    check_no_page(place)
    if not is_archive(place):
        raise ValueError(f"{place} is neither a folder nor an archive (.zip, .tar, .tgz, .tar.gz)")
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f"{place.name}-") as folder:
        unpack(place, Path(folder), lambda name: wanted(PurePosixPath(name)))
        yield Path(folder)


def key_of(place: Path, groups: Mapping[str, Sequence[Path]] | None = None) -> str:
    """Stands for a file, or for the image files of a folder: places, sizes and times of change."""
    digest = hashlib.sha256(f"{place}\n".encode())
    for file in [place] if groups is None else [file for files in groups.values() for file in files]:
        state = file.stat()
        digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
