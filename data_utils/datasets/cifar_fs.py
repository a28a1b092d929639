"""CIFAR-FS: the 100 classes of CIFAR-100, split 64 / 16 / 20 for few-shot learning; 600 images of each.

L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi: Meta-learning with differentiable closed-form solvers.
ICLR 2019. Images: A. Krizhevsky: Learning multiple layers of features from tiny images. University of Toronto, 2009.
No licence is stated. Class lists as published by the first authors.

Classes share no name across splits, but 15 images are pixel-identical across them (seal and otter, girl and baby, …):
CIFAR-100 itself has them under two labels.

Images are (3, 32, 32) uint8, as they are in CIFAR-100. With ``size=84``, the size in the paper on Contextual Gradient
Scaling, they are resized by the rule in `class_folders`, Pillow's bicubic.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from ..files.download import DownloadError, Source, fetch
from ..images import ImageClasses
from ..store.convert import NewSplit, open_or_convert
from . import class_folders
from .catalogue import terms
from .cifar_files import SIDE, TAR, ZIP, Stack, find_place, key_of, read_classes
from .class_folders import fit

SPLITS = ("train", "val", "test")
IMAGES = 600  # per class
OFFICIAL = Source(
    TAR, (f"https://www.cs.toronto.edu/~kriz/{TAR}",), 169_001_437, md5="eb9058c3a382ffc7106e4002c42a8d85"
)
READY_MADE = Source(ZIP, (f"https://zenodo.org/record/7978538/files/{ZIP}?download=1",))
# `content_digest` of each split, computed by us from a lossless copy whose channel means are the published ones.
CONTENT = {
    "train": "ed7770c724207bed8433ed75d03dc8a553b3d203bd82c890d2082cfe3b80dbec",
    "val": "783c3bf7f349048830db8c77035605019c53053735992962399e06ca36b4be22",
    "test": "fa0cf8093f2625d9bfe271c5d069eec976e60fd472f85ec7b7b9cb6767ab1f13",
}


def load(split: str, path: str | Path | None = None, size: int = SIDE) -> ImageClasses:
    """One split of CIFAR-FS: 64, 16 or 20 classes of 600 images each, classes in alphabetical order.

    Without ``path``, the official archive of CIFAR-100 is downloaded (169 MB; its server can be slow). If that fails,
    the ready-made CIFAR-FS is, for which no checksum is published: a warning says so.

    Args:
        split: "train", "val" or "test".
        path: where the data is, if it shall not be downloaded: ``cifar-100-python.tar.gz`` or its unpacked folder;
            class folders (``data/<class>/*.png`` or ``<class>/*.png``), also as a zip file; or a folder with any of
            these. A repack as ``cifar_fs_train.zip`` with one sheet per class is understood too.
        size: height and width in pixels, 32 (as they are) or another one to resize to, such as 84.

    Raises:
        ValueError: if there is no such split, the size is below 1, or the data at ``path`` is incomplete or damaged.
        FileNotFoundError: if there is nothing at ``path``.
        DownloadError: if neither archive can be downloaded.
        StoreError: if the converted images cannot be written.
    """
    if split not in SPLITS:
        raise ValueError(f"cifar_fs has no split {split!r}; it has {', '.join(SPLITS)}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")
    place = None if path is None else find_place(Path(path).expanduser(), split)
    classes = class_list(split)
    key = str(OFFICIAL.md5) if place is None else key_of(place, classes)
    provenance: dict[str, Any] = {"source": str(place), **terms("cifar_fs")}

    def convert(new_split: NewSplit) -> None:
        found, provenance["source"] = _download() if place is None else (place, str(place.absolute()))
        provenance["same_images_as_cifar_100"] = _convert(found, split, size, new_split)

    return open_or_convert("cifar_fs", split, _with_size(key, size), rule(size), classes, convert, provenance)


def class_list(split: str) -> tuple[str, ...]:
    """The classes of a split, in alphabetical order."""
    return class_folders.class_list("cifar_fs", split)


def rule(size: int) -> str:
    """How images are made ``size`` x ``size`` pixels large."""
    return "32 x 32 pixels as they are; version 1" if size == SIDE else class_folders.rule(size)


def _with_size(key: str, size: int) -> str:
    return hashlib.sha256(f"{key} {size}".encode()).hexdigest()


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


def _download() -> tuple[Path, str]:
    try:
        return fetch(OFFICIAL), OFFICIAL.urls[0]
    except DownloadError as error:
        warnings.warn(f"{error}\nNow trying the ready-made {ZIP}", stacklevel=2)
        return fetch(READY_MADE), READY_MADE.urls[0]


def _convert(place: Path, split: str, size: int, new_split: NewSplit) -> bool:
    """Whether the images are exactly those of CIFAR-100; other ones are used too, with a warning."""
    classes = class_list(split)
    digests = {}
    with new_split(classes, [IMAGES] * len(classes), (3, size, size)) as writer:
        bar = tqdm(read_classes(place, classes), f"converting cifar_fs {split}", len(classes), unit=" classes")
        for name, stack in bar:
            if len(stack) != IMAGES:
                raise ValueError(f"{place}: class {name} has {len(stack)} images, not {IMAGES}")
            for image in stack:
                writer.put(classes.index(name), fit(Image.fromarray(image), size))
            digests[name] = _class_digest(stack)
        missing = [name for name in classes if name not in digests]
        if missing:
            raise ValueError(
                f"{place}: {len(digests)} of the {len(classes)} classes of {split} were found; the first one missing "
                f"is {missing[0]}. Expected is {TAR}, its unpacked folder, or class folders data/<class>/*.png."
            )
    same = _joined(digests) == CONTENT[split]
    if not same:
        warnings.warn(f"{place}: the images of {split} are not exactly those of CIFAR-100", stacklevel=2)
    return same
