"""miniImageNet: 100 classes of ImageNet with 600 images each, in the split of Ravi and Larochelle: 64 / 16 / 20.

O. Vinyals et al., NeurIPS 2016; split by S. Ravi and H. Larochelle, ICLR 2017; terms in `catalogue`.

Images are (3, 84, 84) uint8. The download is that of learn2learn's record on Zenodo, which has them at this size; its
sizes and checksums are known from one source only, a public loader that says it read them from the record. Images of
other sizes are resized by the rule in `files.image_files`.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ..files.archives import check_no_page
from ..files.download import fetch
from ..files.image_files import Pixels, decode, fit, read_image, tiles
from ..files.pickles import load_plain
from ..files.sources import Source
from ..files.text_files import read_table
from ..images import ImageClasses
from ..store.convert import NewSplit, Split, open_or_convert
from . import class_folders
from .catalogue import terms
from .class_folders import (
    Groups,
    IncompleteDataset,
    as_folder,
    check_classes,
    check_files,
    check_split,
    existing,
    find_classes,
    write_images,
)

SIDE = 84  # pixels
IMAGES = 600  # per class
TILE, COLUMNS = 96, 25  # of a sheet of images: pixels from one to the next, and images in a row
EXPECTED = (
    "the pickles of the Zenodo record, class folders named as n01532829, or images/ with train.csv, val.csv, test.csv"
)

Images = Iterator[tuple[str, Pixels]]  # class name, image


def _source(name: str, size: int, md5: str) -> Source:
    file = f"mini-imagenet-cache-{name}.pkl"
    urls = tuple(f"https://zenodo.org/{word}/7978538/files/{file}?download=1" for word in ("records", "record"))
    return Source(file, urls, size, md5=md5)


SOURCES = {
    "train": _source("train", 1_145_461_190, "ee4e80dc7b716f3ceec891d199b5277a"),
    "val": _source("validation", 292_661_258, "c1145a80890b88d54a67d6e0022d53a5"),
    "test": _source("test", 353_647_539, "389b6c59d348b2e1ae9610f00a5e6724"),
}


def load(split: str, path: str | Path | None = None) -> ImageClasses:
    """One split of miniImageNet: 64, 16 or 20 classes of 600 images, named by WordNet number, in alphabetical order.

    Fewer than 600 images in a class, and images that were encoded a second time, are accepted with an
    `IncompleteDataset` warning when they are converted, and the manifest keeps the facts (``complete``, ``form``):
    results with them must be labelled so. Order within a class is that of the source.

    Args:
        split: "train", "val" or "test".
        path: where the data is, if it shall not be downloaded: a pickle of the Zenodo record; class folders of images
            of any size, all together or under train/, val/, test/ (the layout of CxGrad and its relatives); or
            images/ with Ravi and Larochelle's train.csv, val.csv, test.csv. A folder with any of these, or an archive
            of the latter two. Zip files mini_imagenet_{train,val,test}.zip with one sheet per class are understood.

    Raises: as `data_utils.load`.
    """
    check_split("mini_imagenet", split)
    place = None if path is None else find_place(existing(path), split)
    key = str(SOURCES[split].md5) if place is None else _key_of(place, split)
    provenance = {"source": SOURCES[split].urls[0] if place is None else str(place), **terms("mini_imagenet")}

    def convert(new_split: NewSplit) -> dict[str, Any]:
        return _convert(fetch(SOURCES[split]) if place is None else place, split, new_split)

    known = Split("mini_imagenet", split, key, class_folders.rule(SIDE), class_list(split))
    return open_or_convert(known, convert, provenance)


def class_list(split: str) -> tuple[str, ...]:
    """The classes of a split, in alphabetical order."""
    return class_folders.class_list("mini_imagenet", split)


def find_place(path: Path, split: str) -> Path:
    """The pickle, archive or folder to read, from what the user named."""
    names = [SOURCES[split].name, f"mini-imagenet-cache-{split}.pkl", f"mini_imagenet_{split}.zip"]
    return next((path / name for name in names if (path / name).is_file()), path)


def _key_of(place: Path, split: str) -> str:
    return class_folders.key_of(place, _groups(place, split) if place.is_dir() else None)


def _convert(place: Path, split: str, new_split: NewSplit) -> dict[str, Any]:
    """Facts for the manifest: the form of the source, and whether all images are there."""
    classes = class_list(split)
    if place.suffix == ".pkl":
        return {"form": "pickle", "complete": _write(*_from_pickle(place, classes), place, split, new_split)}

    def wanted(name: PurePosixPath) -> bool:
        return name.suffix == ".csv" or bool({name.stem, name.name[:9], *name.parts} & set(classes))

    with as_folder([place], wanted, new_split) as folder:
        if (folder / "index.csv").is_file():
            complete = _write(*_from_sheets(folder, classes), place, split, new_split)
            _warn(f"{place}: its images were encoded a second time, as JPEG sheets.")
            return {"form": "sheets, encoded a second time", "complete": complete}
        groups = _groups(folder, split)
        counts = {name: len(files) for name, files in groups.items()}
        images = ((name, read_image(file, SIDE)) for name in classes for file in groups[name])
        return {"form": "image files", "complete": _write(counts, images, place, split, new_split)}


def _write(counts: Mapping[str, int], images: Images, place: Path, split: str, new_split: NewSplit) -> bool:
    """Whether all images are there."""
    classes = class_list(split)
    check_classes(counts, classes, place, EXPECTED)
    counts = {name: counts[name] for name in classes}
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] > IMAGES:
        raise ValueError(
            f"{place}: class {most} has {counts[most]} images; miniImageNet has {IMAGES} chosen ones of each class, "
            f"named in Ravi and Larochelle's {split}.csv"
        )
    write_images(new_split, counts, images, (3, SIDE, SIDE), f"converting mini_imagenet {split}")
    if counts[least] < IMAGES:
        _warn(
            f"{place} is not the full miniImageNet: class {least} has {counts[least]} of {IMAGES} images, and "
            f"{sum(counts.values()):,} of {IMAGES * len(classes):,} are there in {split}."
        )
    return counts[least] == IMAGES


def _warn(fact: str) -> None:
    warnings.warn(f"{fact} Say so beside results.", IncompleteDataset, stacklevel=4)


def _groups(folder: Path, split: str) -> Groups:
    """The image files of each class, from class folders or from a list such as train.csv beside images/."""
    tables = [*folder.glob(f"{split}.csv"), *sorted(folder.glob(f"*/{split}.csv"))]
    table = next((table for table in tables if (table.parent / "images").is_dir()), None)
    if table is None:
        return find_classes(folder, class_list(split))
    groups = defaultdict(list)
    for row in read_table(table, "filename", "label"):
        if PurePosixPath(row["filename"]).name != row["filename"]:
            raise ValueError(f"{table} is not a list of files and labels")
        groups[row["label"]].append(table.parent / "images" / row["filename"])
    check_files(table, groups)
    return dict(groups)


def _from_pickle(place: Path, classes: tuple[str, ...]) -> tuple[dict[str, int], Images]:
    check_no_page(place)
    try:
        with open(place, "rb") as file:
            data = load_plain(file)
        images, rows = data["image_data"], {name: np.asarray(rows) for name, rows in data["class_dict"].items()}
        every = np.sort(np.concatenate(list(rows.values())))
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"its images are {images.dtype} of shape {images.shape}")
        if not np.array_equal(every, np.arange(len(images))):
            raise ValueError("its class_dict does not give every image one class")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{place} is not a pickle of miniImageNet: {error}") from error
    if set(rows) != set(classes):
        raise ValueError(f"{place} holds {len(rows)} classes that are not the {len(classes)} of this split")
    pixels = ((name, fit(Image.fromarray(images[row]), SIDE)) for name in classes for row in rows[name])
    return {name: len(rows[name]) for name in classes}, pixels


def _from_sheets(folder: Path, classes: tuple[str, ...]) -> tuple[dict[str, int], Images]:
    """Sheets ``n01532829.jpg``: rows of 25 tiles, each 96 x 96 pixels with the image in the upper left corner."""
    counts = Counter(row["class"] for row in read_table(folder / "index.csv", "class"))
    sheets = {name: folder / f"{name}.jpg" for name in classes if (folder / f"{name}.jpg").is_file()}
    images = (
        (name, image.transpose(2, 0, 1))
        for name, file in sheets.items()
        for image in tiles(decode(file), str(file), counts[name], COLUMNS, SIDE, TILE)
    )
    return {name: counts[name] for name in sheets if counts[name]}, images
