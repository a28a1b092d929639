"""CIFAR-FS: the 100 classes of CIFAR-100, split 64 / 16 / 20 for few-shot learning; 600 images of each.

L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi, ICLR 2019, whose class lists these are; images by
A. Krizhevsky, 2009; terms in `catalogue`.

Classes share no name across splits, but 15 images are pixel-identical across them (seal and otter, girl and baby, …):
CIFAR-100 itself has them under two labels.

Images are (3, 32, 32) uint8, as they are in CIFAR-100. With ``size=84``, the size in the paper on Contextual Gradient
Scaling, they are resized by the rule in `files.image_files`, Pillow's bicubic. Order within a class: the official train
part, then its test part, each by file name; class folders, which do not tell the parts apart, by file name.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..files.download import DownloadError, fetch
from ..files.image_files import Pixels, decode, fit, is_image, tiles
from ..files.pickles import load_plain
from ..files.sources import Source, set_aside_if_wrong
from ..files.text_files import read_table
from ..images import ImageClasses
from ..store.convert import NewSplit, Split, open_or_convert
from . import class_folders
from .catalogue import terms
from .class_folders import as_folder, check_classes, check_split, existing, find_classes, write_images

SIDE = 32  # pixels
IMAGES = 600  # per class
COLUMNS = 30  # images in a row of a sheet
TAR, ZIP = "cifar-100-python.tar.gz", "cifar100.zip"
OFFICIAL = Source(
    TAR, (f"https://www.cs.toronto.edu/~kriz/{TAR}",), 169_001_437, md5="eb9058c3a382ffc7106e4002c42a8d85"
)
READY_MADE = Source(ZIP, (f"https://zenodo.org/record/7978538/files/{ZIP}?download=1",))
MD5 = {  # of the official batches
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
# `content_digest` of each split, computed by us from a lossless copy whose channel means are the published ones.
CONTENT = {
    "train": "ed7770c724207bed8433ed75d03dc8a553b3d203bd82c890d2082cfe3b80dbec",
    "val": "783c3bf7f349048830db8c77035605019c53053735992962399e06ca36b4be22",
    "test": "fa0cf8093f2625d9bfe271c5d069eec976e60fd472f85ec7b7b9cb6767ab1f13",
}
EXPECTED = f"{TAR}, its unpacked folder, or class folders data/<class>/*.png"

Stack = npt.NDArray[np.uint8]  # (n, 32, 32, 3)


def load(split: str, path: str | Path | None = None, size: int = SIDE) -> ImageClasses:
    """One split of CIFAR-FS: 64, 16 or 20 classes of 600 images each, classes in alphabetical order.

    Without ``path``, the official archive of CIFAR-100 is downloaded (169 MB; its server can be slow). If that fails,
    the ready-made CIFAR-FS is, for which no checksum is published: a warning says so.

    Args:
        split: "train", "val" or "test".
        path: where the data is, if it shall not be downloaded: ``cifar-100-python.tar.gz`` or its unpacked folder;
            class folders (``data/<class>/*.png`` or ``<class>/*.png``), also as a zip file; or a folder with any of
            these. A repack as ``cifar_fs_train.zip`` with one lossless sheet per class is understood too.
        size: height and width in pixels, 32 (as they are) or another one to resize to, such as 84.

    Raises: as `data_utils.load`.
    """
    check_split("cifar_fs", split)
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")
    place = None if path is None else _find_place(existing(path), split)
    key = str(OFFICIAL.md5) if place is None else _key_of(place, split)
    key = hashlib.sha256(f"{key} {size}".encode()).hexdigest()

    def convert(new_split: NewSplit) -> dict[str, Any]:
        archive, source = _download() if place is None else (place, str(place))
        with set_aside_if_wrong(READY_MADE):
            return {"source": source, "same_images_as_cifar_100": _convert(archive, split, size, new_split)}

    return open_or_convert(Split("cifar_fs", split, key, rule(size), class_list(split)), convert, terms("cifar_fs"))


def class_list(split: str) -> tuple[str, ...]:
    """The classes of a split, in alphabetical order."""
    return class_folders.class_list("cifar_fs", split)


def rule(size: int) -> str:
    """How images are made ``size`` x ``size`` pixels large."""
    return "32 x 32 pixels as they are; version 1" if size == SIDE else class_folders.rule(size)


def content_digest(classes: Iterable[tuple[str, Stack]]) -> str:
    """SHA-256 of the images of each class, whatever the order of classes and images.

    Args:
        classes: (class name, (n, 32, 32, 3) uint8).
    """
    return _joined({name: _class_digest(stack) for name, stack in classes})


def _class_digest(stack: Stack) -> bytes:
    return b"".join(sorted(hashlib.sha256(image.tobytes()).digest() for image in stack))


def _joined(digests: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + digests[name] for name in sorted(digests))).hexdigest()


def _find_place(path: Path, split: str) -> Path:
    """The file or folder to read, from what the user named."""
    inside = [path / f"cifar_fs_{split}.zip", path / TAR, path / "cifar-100-python", path / ZIP]
    return next((place for place in inside if place.exists()), path)


def _key_of(place: Path, split: str) -> str:
    if not place.is_dir():
        return class_folders.key_of(place)
    batches = [place / name for name in MD5 if (place / name).is_file()]
    return class_folders.key_of(place, {"": batches} if batches else find_classes(place, class_list(split)))


def _download() -> tuple[Path, str]:
    try:
        return fetch(OFFICIAL), OFFICIAL.urls[0]
    except DownloadError as error:
        warnings.warn(f"{error}\nNow trying the ready-made {ZIP}", stacklevel=2)
        return fetch(READY_MADE), READY_MADE.urls[0]


def _convert(place: Path, split: str, size: int, new_split: NewSplit) -> bool:
    """Whether the images are exactly those of CIFAR-100; other ones are used too, with a warning."""
    classes, digests = class_list(split), dict[str, bytes]()

    def wanted(name: PurePosixPath) -> bool:
        known = name.name in (*MD5, "index.csv", "classes.csv")
        return known or (is_image(name.name) and bool({name.parent.name, name.stem} & set(classes)))

    def images(folder: Path) -> Iterator[tuple[str, Pixels]]:
        for name, stack in read_classes(folder, classes):
            if len(stack) != IMAGES:
                raise ValueError(f"{place}: class {name} has {len(stack)} images, not {IMAGES}")
            digests[name] = _class_digest(stack)
            yield from ((name, fit(Image.fromarray(image), size)) for image in stack)
        check_classes(digests, classes, place, EXPECTED)

    counts = dict.fromkeys(classes, IMAGES)
    with as_folder([place], wanted, new_split) as folder:
        write_images(new_split, counts, images(folder), (3, size, size), f"converting cifar_fs {split}")
    same = _joined(digests) == CONTENT[split]
    if not same:
        warnings.warn(f"{place}: the images of {split} are not exactly those of CIFAR-100", stacklevel=2)
    return same


def read_classes(folder: Path, classes: tuple[str, ...]) -> Iterator[tuple[str, Stack]]:
    """The classes in a folder, as (class name, (n, 32, 32, 3) uint8); the number n is whatever is there.

    Raises:
        ValueError: if a file is damaged, is not the official one, or an image has another size; it is named.
    """
    homes = [home for home in (folder, folder / "cifar-100-python") if all((home / name).is_file() for name in MD5)]
    if homes:
        return _read_batches(homes[0], classes)
    if (folder / "index.csv").is_file():
        return _read_sheets(folder, classes)
    groups = find_classes(folder, classes)
    return ((name, np.stack([_read_file(file) for file in files])) for name, files in groups.items())


def _read_file(file: Path) -> Stack:
    pixels = np.asarray(decode(file))  # (height, width, 3)
    if pixels.shape[:2] != (SIDE, SIDE):
        raise ValueError(f"{file} has {pixels.shape[:2]} pixels, not {(SIDE, SIDE)}")
    return pixels


def _read_batches(home: Path, classes: tuple[str, ...]) -> Iterator[tuple[str, Stack]]:
    names, parts = _read_batch(home / "meta")["fine_label_names"], []
    for batch in (_read_batch(home / "train"), _read_batch(home / "test")):
        images = np.asarray(batch["data"]).reshape(-1, 3, SIDE, SIDE)  # (n, 3, 32, 32)
        parts.append((images, np.asarray(batch["fine_labels"]), batch["filenames"]))
    for name in [name for name in classes if name in names]:
        rows = [
            sorted(np.flatnonzero(labels == names.index(name)), key=files.__getitem__) for _, labels, files in parts
        ]
        stack = np.concatenate([images[chosen] for (images, _, _), chosen in zip(parts, rows)])
        yield name, stack.transpose(0, 2, 3, 1)


def _read_batch(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != MD5[file.name]:
        raise ValueError(f"{file.name} is not the official file: its md5 is {digest}, not {MD5[file.name]}")
    # Not torchvision's reader: it unpickles with Python's own, which runs whatever the file says.
    batch = load_plain(io.BytesIO(content))
    if not isinstance(batch, dict):
        raise ValueError(f"{file.name} holds no batch of images")
    return batch


def _read_sheets(folder: Path, classes: tuple[str, ...]) -> Iterator[tuple[str, Stack]]:
    checksum = "sha256_of_uint8_600x32x32x3"
    sums = {row["class"]: row[checksum] for row in read_table(folder / "classes.csv", "class", checksum)}
    counts = Counter(row["class"] for row in read_table(folder / "index.csv", "class"))
    for name in [name for name in classes if name in counts]:
        file = folder / f"{name}.webp"
        images = np.ascontiguousarray(tiles(decode(file), str(file), counts[name], COLUMNS, SIDE, SIDE))
        if hashlib.sha256(images.tobytes()).hexdigest() != sums.get(name):
            raise ValueError(f"{file} has other pixels than classes.csv says")
        yield name, images
