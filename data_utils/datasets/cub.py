"""CUB-200-2011: 11,788 photographs of 200 kinds of birds, in the split of CxGrad: 100 / 50 / 50.

C. Wah, S. Branson, P. Welinder, P. Perona and S. Belongie, 2011; terms in `catalogue`.

The class lists are those of CxGrad's released code, which are pytorch-meta's too; easyfsl and learn2learn have another
split, 140 / 30 / 30. Images are (3, 84, 84) uint8, resized by the rule in `files.image_files`; grey ones become RGB.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ..files.download import fetch
from ..files.image_files import is_image
from ..files.sources import Source
from ..files.text_files import read_lines
from ..images import ImageClasses
from ..store.convert import NewSplit, Split, open_or_convert
from . import class_folders
from .catalogue import terms
from .class_folders import IncompleteDataset, as_folder, check_classes, check_files, check_split, existing, write_files

SIDE = 84  # pixels
IMAGES = 11_788  # in all splits together
ARCHIVE = "CUB_200_2011.tgz"
LIST = "images.txt"
# The md5 97eceeb196236b17998738112f37df78 is listed by pytorch-meta and others, size and sha256 by TensorFlow Datasets.
OFFICIAL = Source(
    ARCHIVE,
    (
        f"https://data.caltech.edu/records/65de6-vp158/files/{ARCHIVE}?download=1",
        f"https://zenodo.org/record/8000562/files/{ARCHIVE}?download=1",
    ),
    1_150_585_339,
    "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
)


def load(split: str, path: str | Path | None = None) -> ImageClasses:
    """One split of CUB-200-2011: 100, 50 or 50 classes of 41 to 60 images, named as 001.Black_footed_Albatross.

    Args:
        split: "train", "val" or "test".
        path: where the data is, if it shall not be downloaded: ``CUB_200_2011.tgz``, a folder that holds it, its
            unpacked folder, or class folders, also under train/, val/ and test/. Where ``images.txt`` is there, it
            says which images count, and in which order; elsewhere stray files ``*_rgb.jpg`` are left out.

    Raises: as `data_utils.load`.
    """
    check_split("cub", split)
    place = None if path is None else existing(path)
    if place is not None and (place / ARCHIVE).is_file() and _list_in(place) is None:
        place = place / ARCHIVE
    key = str(OFFICIAL.sha256) if place is None else _key_of(place, split)
    provenance = {"source": str(place or OFFICIAL.urls[0]), **terms("cub")}

    def convert(new_split: NewSplit) -> dict[str, bool | None]:
        return {"complete": _convert(fetch(OFFICIAL) if place is None else place, split, new_split)}

    return open_or_convert(Split("cub", split, key, class_folders.rule(SIDE), class_list(split)), convert, provenance)


def class_list(split: str) -> tuple[str, ...]:
    """The classes of a split, in the order of their numbers."""
    return class_folders.class_list("cub_cxgrad", split)


def _key_of(place: Path, split: str) -> str:
    if not place.is_dir():
        return class_folders.key_of(place)
    table = _list_in(place)
    return class_folders.key_of(place, _groups(place, split) | ({LIST: [table]} if table else {}))


def _convert(place: Path, split: str, new_split: NewSplit) -> bool | None:
    """Whether all images are there; None if there is no list to tell."""
    classes = class_list(split)

    def wanted(name: PurePosixPath) -> bool:
        return name.name == LIST or (name.parent.name in classes and is_image(name.name))

    with as_folder([place], wanted, new_split) as folder:
        groups = _groups(folder, split)
        check_classes(groups, classes, place, f"{ARCHIVE}, its unpacked folder, or its class folders")
        write_files(new_split, groups, SIDE, f"converting cub {split}")
        table = _list_in(folder)
        complete = len(_lines(table)) == IMAGES if table else None
    if not complete:
        doubt = f"its {LIST} does not list {IMAGES:,} images" if table else f"it has no {LIST}, so it cannot be checked"
        warnings.warn(f"{place} may not be the full CUB-200-2011: {doubt}", IncompleteDataset, stacklevel=2)
    return complete


def _list_in(folder: Path) -> Path | None:
    """CUB's ``images.txt``, in a folder or just below it, if its images are there too."""
    tables = [*folder.glob(LIST), *sorted(folder.glob(f"*/{LIST}"))]
    return next((table for table in tables if (table.parent / "images").is_dir()), None)


def _lines(table: Path) -> list[PurePosixPath]:
    """``images.txt`` has one image per line: its number, and its place below images/."""
    lines = [line.split(maxsplit=1) for line in read_lines(table)]
    names = [PurePosixPath(line[-1]) for line in lines]
    wrong = [
        str(name) for name, line in zip(names, lines) if len(line) != 2 or len(name.parts) != 2 or ".." in name.parts
    ]
    if wrong or len(set(names)) != len(names):
        raise ValueError(f"{table} is not CUB's list of images: {wrong[0] if wrong else 'an image is there twice'}")
    return names


def _groups(folder: Path, split: str) -> class_folders.Groups:
    table, classes = _list_in(folder), class_list(split)
    if table is None:
        groups = class_folders.find_classes(folder, classes)
        return {name: [file for file in files if not file.stem.endswith("_rgb")] for name, files in groups.items()}
    listed = defaultdict(list)
    for name in _lines(table):
        listed[name.parts[0]].append(table.parent / "images" / name)
    present = {name: listed[name] for name in classes if name in listed}
    check_files(table, present)
    return present
