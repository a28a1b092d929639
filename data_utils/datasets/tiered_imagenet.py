"""tieredImageNet: 608 classes of ImageNet whose splits come from different branches of WordNet: 351 / 97 / 160.

M. Ren et al., ICLR 2018; terms in `catalogue`.

Images are (3, 84, 84) uint8, 779,165 in all (16.5 GB converted), and classes differ in size. The download is that of
learn2learn's record on Zenodo, about 12 GB; neither sizes nor checksums are published for it, and a warning says so.
Its pickles are lists of PNG files and are read as a stream, one image at a time; they were made with OpenCV's bicubic
``resize``. Images of other sizes are resized by the rule in `files.image_files`. 58 classes are also miniImageNet's,
and 13 of the test classes here are train classes there.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from ..files.archives import check_no_page
from ..files.download import fetch
from ..files.image_files import Pixels, read_image
from ..files.pickles import load_plain, png_files
from ..files.sources import Source, set_aside_if_wrong
from ..files.text_files import read_lines, read_table
from ..images import ImageClasses
from ..store.convert import NewSplit, Split, open_or_convert
from . import class_folders
from .catalogue import terms
from .class_folders import IncompleteDataset, as_folder, check_classes, check_split, existing, write_files, write_images

SIDE = 84  # pixels
IMAGES = {"train": 448_695, "val": 124_261, "test": 206_209}
NAMES = ("class_names.txt", "synsets.txt")  # line by line the names and WordNet numbers of ImageNet's classes
EXPECTED = "SPLIT_images_png.pkl and SPLIT_labels.pkl of the Zenodo record, or class folders named as n01530575"


def load(split: str, path: str | Path | None = None) -> ImageClasses:
    """One split of tieredImageNet: 351, 97 or 160 classes, named by WordNet number, in alphabetical order.

    Conversion needs room for the converted images (9.5, 2.6 and 4.4 GB) beside the download, and little memory.

    Args:
        split: "train", "val" or "test".
        path: where the data is, if it shall not be downloaded: a folder with ``{split}_images_png.pkl`` and
            ``{split}_labels.pkl`` (names may begin with ``tiered-imagenet-``); class folders of images of any size,
            such as ImageNet's own train folder; or an archive of either, which is unpacked for the time being.

    Raises: as `data_utils.load`.
    """
    check_split("tiered_imagenet", split, IMAGES)
    place = None if path is None else existing(path)
    source = str(sources(split)[0].urls[0] if place is None else place)

    def convert(new_split: NewSplit) -> dict[str, bool]:
        count = _from_download(split, new_split) if place is None else _from_place(place, split, new_split)
        if count != IMAGES[split]:
            part = f"{place or source} is not the full tieredImageNet: {count:,} of {IMAGES[split]:,} images are there"
            warnings.warn(f"{part} in {split}. Say so beside results.", IncompleteDataset, stacklevel=2)
        return {"complete": count == IMAGES[split]}

    known = Split("tiered_imagenet", split, _key_of(place, split), class_folders.rule(SIDE), class_list(split))
    return open_or_convert(known, convert, {"source": source, **terms("tiered_imagenet")})


def sources(split: str) -> tuple[Source, Source]:
    """The images and the labels of a split. No size and no checksum is published for them."""
    return _source(f"{split}_images_png.pkl"), _source(f"{split}_labels.pkl")


def _source(name: str) -> Source:
    file = f"tiered-imagenet-{name}"
    return Source(
        file, tuple(f"https://zenodo.org/{word}/7978538/files/{file}?download=1" for word in ("record", "records"))
    )


def class_list(split: str) -> tuple[str, ...]:
    """The classes of a split, in alphabetical order."""
    return class_folders.class_list("tiered_imagenet", split)


def wordnet_numbers(names: Sequence[str], split: str, others: Iterable[tuple[str, str]] = ()) -> list[str]:
    """The WordNet number of each class name, which may be that number, ImageNet's list of synonyms, or its first one.

    Args:
        names: of the classes.
        split: whose classes they are.
        others: further names that are known, as (name, WordNet number).

    Raises:
        ValueError: if the names are not those of the split's classes, each one once.
    """
    known = {number: {number} for number in class_list(split)}
    table = read_table(Path(__file__).with_name("splits") / "tiered_imagenet_categories.csv", "wordnet_name", "wnid")
    for synonyms, number in [*((row["wordnet_name"], row["wnid"]) for row in table), *others]:
        if number in class_list(split):
            for name in (synonyms.lower(), synonyms.lower().split(",")[0]):
                known.setdefault(name, set()).add(number)
    meanings = [sorted(known.get(name.replace("_", " ").lower(), ())) for name in names]
    unclear = [name for name, numbers in zip(names, meanings) if len(numbers) != 1]
    numbers = [numbers[0] for numbers in meanings if len(numbers) == 1]
    if unclear or sorted(numbers) != list(class_list(split)):
        fault = f"the first unknown one is {unclear[0]!r}" if unclear else "one is missing or there twice"
        raise ValueError(f"{len(names)} class names are not the {len(class_list(split))} of {split}: {fault}")
    return numbers


def _pickles(folder: Path, split: str) -> tuple[Path, Path] | None:
    """Labels and images in a folder or just below it."""
    for start in ("", "tiered-imagenet-", "*/", "*/tiered-imagenet-"):
        for images in sorted(folder.glob(f"{start}{split}_images_png.pkl")):
            labels = images.with_name(images.name.replace("_images_png", "_labels"))
            if not labels.is_file():
                raise ValueError(f"{labels} is missing beside {images.name}")
            return labels, images
    return None


def _key_of(place: Path | None, split: str) -> str:
    if place is None:  # of files without a published checksum, the URL is all that is known beforehand
        return hashlib.sha256(str(sources(split)).encode()).hexdigest()
    if not place.is_dir():
        return class_folders.key_of(place)
    pickles = _pickles(place, split)
    groups = {"": pickles} if pickles else class_folders.find_classes(place, class_list(split))
    return class_folders.key_of(place, groups)


def _from_place(place: Path, split: str, new_split: NewSplit) -> int:
    """How many images were written."""
    classes = class_list(split)

    def wanted(name: PurePosixPath) -> bool:
        pickles = (f"{split}_images_png.pkl", f"{split}_labels.pkl", *NAMES)
        return name.name.endswith(pickles) or bool(set(name.parts) & set(classes))

    with as_folder([place], wanted, new_split) as folder:
        if pickles := _pickles(folder, split):
            return _from_pickles(*pickles, split, new_split)
        groups = class_folders.find_classes(folder, classes)
        check_classes(groups, classes, place, EXPECTED)
        write_files(new_split, groups, SIDE, f"converting tiered_imagenet {split}")
        return sum(len(files) for files in groups.values())


def _from_download(split: str, new_split: NewSplit) -> int:
    images, labels = sources(split)
    try:
        _read_labels(fetch(labels), split)
    except ValueError:  # perhaps for its class names, which these two small files explain
        for name in NAMES:
            fetch(_source(name))
        _read_labels(fetch(labels), split)
    with set_aside_if_wrong(images):
        return _from_pickles(fetch(labels), fetch(images), split, new_split)


def _from_pickles(labels: Path, images: Path, split: str, new_split: NewSplit) -> int:
    """How many images were written; each one is read, decoded and written before the next."""
    classes, numbers = class_list(split), _read_labels(labels, split)  # numbers (N,) int64, positions in classes
    check_no_page(images)

    def decoded(file: BinaryIO) -> Iterator[tuple[str, Pixels]]:
        index = -1
        for index, data in enumerate(png_files(file)):
            if index == len(numbers):
                raise ValueError(f"{images} holds more images than the {len(numbers):,} labels in {labels.name}")
            yield classes[numbers[index]], read_image(data, SIDE, where=f"{images}: image {index:,}")
        if index + 1 != len(numbers):
            raise ValueError(f"{images} holds {index + 1:,} images, and {labels.name} has {len(numbers):,} labels")

    counts = dict(zip(classes, np.bincount(numbers, minlength=len(classes)).tolist()))
    with open(images, "rb") as file:
        write_images(new_split, counts, decoded(file), (3, SIDE, SIDE), f"converting tiered_imagenet {split}")
    return len(numbers)


def _read_labels(file: Path, split: str) -> Any:
    check_no_page(file)
    try:
        with open(file, "rb") as stream:
            data = load_plain(stream)
        specific = np.asarray(data["label_specific"])
        numbers = wordnet_numbers(
            [str(name).strip() for name in data["label_specific_str"]], split, _names_beside(file)
        )
        if specific.ndim != 1 or specific.dtype.kind not in "iu" or set(specific.tolist()) != set(range(len(numbers))):
            raise ValueError(f"its labels are not one number from 0 to {len(numbers) - 1} per image")
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{file} does not hold the labels of tieredImageNet: {error}") from error
    return np.array([class_list(split).index(number) for number in numbers])[specific]


def _names_beside(labels: Path) -> list[tuple[str, str]]:
    start = "tiered-imagenet-" if labels.name.startswith("tiered-imagenet-") else ""
    names, numbers = (labels.with_name(start + name) for name in NAMES)
    if not (names.is_file() and numbers.is_file()):
        return []
    return list(zip(read_lines(names), read_lines(numbers)))
