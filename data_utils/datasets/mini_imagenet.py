"""miniImageNet: 100 classes of ImageNet with 600 images each, in the split of Ravi and Larochelle: 64 / 16 / 20.

O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu and D. Wierstra: Matching networks for one shot learning.
NeurIPS 2016. Split: S. Ravi and H. Larochelle: Optimization as a model for few-shot learning. ICLR 2017. Images:
O. Russakovsky et al.: ImageNet large scale visual recognition challenge. IJCV 115 (2015), 211-252; ImageNet's terms
allow non-commercial research and education only.

Images are (3, 84, 84) uint8. The download is that of learn2learn's record on Zenodo, which has them at this size; its
sizes and checksums are known from one source only, a public loader that says it read them from the record. Images of
other sizes are resized by the rule in `class_folders`.
"""

from __future__ import annotations

import csv
import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ..files.archives import check_no_page
from ..files.download import Source, fetch
from ..files.pickles import load_plain
from ..images import ImageClasses
from ..store.convert import NewSplit, open_or_convert
from ..store.writer import Pixels
from . import class_folders
from .catalogue import terms
from .class_folders import Found, IncompleteDataset, check_classes, decode, existing, fit, from_files, write_classes

SIDE = 84  # pixels
IMAGES = 600  # per class
TILE, COLUMNS = 96, 25  # of a sheet of images: pixels from one to the next, and images in a row
EXPECTED = (
    "the pickles of the Zenodo record, class folders named as n01532829, or images/ with train.csv, val.csv, test.csv"
)


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

    Raises:
        ValueError: if there is no such split, or the data at ``path`` is incomplete or damaged.
        FileNotFoundError: if there is nothing at ``path``.
        DownloadError: if the data cannot be downloaded.
        StoreError: if the converted images cannot be written.
    """
    if split not in SOURCES:
        raise ValueError(f"mini_imagenet has no split {split!r}; it has {', '.join(SOURCES)}")
    classes = class_list(split)
    place = None if path is None else find_place(existing(path), split)
    key = str(SOURCES[split].md5) if place is None else _key_of(place, split)
    provenance: dict[str, Any] = {
        "source": SOURCES[split].urls[0] if place is None else str(place),
        **terms("mini_imagenet"),
    }

    def convert(new_split: NewSplit) -> None:
        provenance.update(_convert(fetch(SOURCES[split]) if place is None else place, split, new_split))

    return open_or_convert("mini_imagenet", split, key, class_folders.rule(SIDE), classes, convert, provenance)


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
        return _write(_from_pickle(place, classes), place, split, new_split) | {"form": "pickle"}

    def wanted(name: PurePosixPath) -> bool:
        return name.suffix == ".csv" or bool({name.stem, name.name[:9], *name.parts} & set(classes))

    with class_folders.as_folder(place, wanted) as folder:
        if (folder / "index.csv").is_file():
            facts = _write(_from_sheets(folder, classes), place, split, new_split)
            _tell(f"{place}: its images were encoded a second time, as JPEG sheets.")
            return facts | {"form": "sheets, encoded a second time"}
        return _write(from_files(_groups(folder, split), SIDE), place, split, new_split) | {"form": "image files"}


def _write(found: Found, place: Path, split: str, new_split: NewSplit) -> dict[str, Any]:
    classes = class_list(split)
    check_classes(found, classes, place, EXPECTED)
    counts = {name: found[name][0] for name in classes}
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] > IMAGES:
        raise ValueError(
            f"{place}: class {most} has {counts[most]} images; miniImageNet has {IMAGES} chosen ones of each class, "
            f"named in Ravi and Larochelle's {split}.csv"
        )
    write_classes({name: found[name] for name in classes}, new_split, SIDE, f"converting mini_imagenet {split}")
    if counts[least] < IMAGES:
        _tell(
            f"{place} is not the full miniImageNet: class {least} has {counts[least]} of {IMAGES} images, and "
            f"{sum(counts.values()):,} of {IMAGES * len(classes):,} are there in {split}."
        )
    return {"complete": counts[least] == IMAGES}


def _tell(fact: str) -> None:
    warnings.warn(f"{fact} Say so beside results.", IncompleteDataset, stacklevel=4)


def _groups(folder: Path, split: str) -> dict[str, list[Path]]:
    """The image files of each class, from class folders or from a list such as train.csv beside images/."""
    table = next((file for pattern in ("", "*/") for file in sorted(folder.glob(f"{pattern}{split}.csv"))), None)
    if table is None or not (table.parent / "images").is_dir():
        return class_folders.find_classes(folder, class_list(split))
    groups = defaultdict(list)
    with open(table, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not {"filename", "label"} <= row.keys() or PurePosixPath(row["filename"]).name != row["filename"]:
                raise ValueError(f"{table} is not a list of files and labels")
            groups[row["label"]].append(table.parent / "images" / row["filename"])
    absent = [file for files in groups.values() for file in files if not file.is_file()]
    if absent:
        raise ValueError(f"{table} lists {absent[0].name}, and {len(absent) - 1} more, which are not in images/")
    return dict(groups)


def _from_pickle(place: Path, classes: tuple[str, ...]) -> Found:
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

    def pixels(chosen: Any) -> Iterator[Pixels]:
        return (fit(Image.fromarray(images[row]), SIDE) for row in chosen)

    return {name: (len(rows[name]), partial(pixels, rows[name])) for name in classes}


def _from_sheets(folder: Path, classes: tuple[str, ...]) -> Found:
    """Sheets ``n01532829.jpg``: rows of 25 tiles, each 96 x 96 pixels with the image in the upper left corner."""
    counts: dict[str, int] = defaultdict(int)
    with open(folder / "index.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts[row.get("class", "")] += 1

    def tiles(name: str) -> Iterator[Pixels]:
        image, size = decode(folder / f"{name}.jpg"), (COLUMNS * TILE, -(-counts[name] // COLUMNS) * TILE)
        if image.size != size:
            raise ValueError(f"{name}.jpg has {image.size} pixels, not {size}")
        sheet = np.asarray(image).transpose(2, 0, 1)  # (3, rows * 96, 25 * 96)
        for index in range(counts[name]):
            top, left = index // COLUMNS * TILE, index % COLUMNS * TILE
            yield sheet[:, top : top + SIDE, left : left + SIDE]

    present = [name for name in classes if name in counts and (folder / f"{name}.jpg").is_file()]
    return {name: (counts[name], partial(tiles, name)) for name in present}
