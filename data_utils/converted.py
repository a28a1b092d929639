"""Converted images kept in the cache folder, so that a dataset is decoded and resized only once."""

from __future__ import annotations

import json
import os
import uuid
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .download import cache_dir
from .images import ImageClasses

Manifest = dict[str, str | int]


def load_or_convert(
    name: str, source: str, rule: str, classes: tuple[str, ...], convert: Callable[[], ImageClasses]
) -> ImageClasses:
    """The converted images from the cache folder, or from ``convert()``, whose result is then kept there.

    The file is ``converted/NAME-SOURCE.npz``: plain numeric arrays, no pickles. It is written under another name
    and renamed at the end. A file that is damaged, or was made by another rule or of other classes, is named in a
    warning and made anew. If the folder cannot be written, a warning says so and the images are returned all the same.

    Args:
        name: dataset and split.
        source: checksum of what the images come from, in hexadecimal.
        rule: name and version of the conversion.
        classes: the class names expected, in order.
        convert: makes the images.
    """
    file = cache_dir() / "converted" / f"{name}-{source[:16]}.npz"
    manifest: Manifest = {"source": source, "rule": rule}
    if file.exists():
        try:
            return _read(file, manifest, classes)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            warnings.warn(f"{file} cannot be used ({error}); it is made anew", stacklevel=2)
    data = convert()
    try:
        _write(file, manifest, data)
    except OSError as error:
        warnings.warn(f"the converted images could not be kept at {file} ({error})", stacklevel=2)
    return data


def _read(file: Path, manifest: Manifest, classes: tuple[str, ...]) -> ImageClasses:
    # A changed byte fails the CRC-32 that the format keeps of each array.
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        found = json.loads(str(arrays["manifest"]))
        data = ImageClasses(
            torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]), tuple(arrays["names"].tolist())
        )
    expected = manifest | {"images": len(data), "classes": len(data.names)}
    if found != expected:
        raise ValueError(f"it was made as {found}, not {expected}")
    if data.names != classes:
        raise ValueError(f"it holds {len(data.names)} classes that are not the {len(classes)} expected")
    return data


def _write(file: Path, manifest: Manifest, data: ImageClasses) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")  # its own name for every writer
    found = manifest | {"images": len(data), "classes": len(data.names)}
    try:
        with open(unfinished, "wb") as stream:
            np.savez(
                stream,
                manifest=np.array(json.dumps(found)),
                images=data.images.numpy(),
                labels=data.labels.numpy(),
                names=np.array(data.names),
            )
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
