"""Opening converted splits: quickly but not blindly, or with a check of every byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files.sources import cache_dir, file_digest
from ..images import ImageClasses
from .writer import IMAGES

MANIFEST = "manifest.json"
FORMAT = 1  # of the folder; splits of another format are made anew
WHOLE = 64 << 20  # bytes up to which the whole file is checked each time it is opened
BLOCKS, BLOCK = 64, 256 << 10  # of a larger file: so many blocks of so many bytes, evenly spaced

Manifest = dict[str, Any]
WORDS, NUMBERS = ("dataset", "split", "rule", "sha256", "sampled_sha256"), ("format", "bytes")
FIELDS: dict[str, Any] = dict.fromkeys(WORDS, str) | dict.fromkeys(NUMBERS, int)
FIELDS |= dict.fromkeys(("names", "counts", "shape"), list)


def manifests() -> dict[Path, Manifest]:
    """The manifest of every converted split in the cache folder; an empty one where it cannot be read."""
    contents: dict[Path, Manifest] = {}
    for folder in sorted(home().glob("*-*")):
        if folder.is_dir() and folder.suffix != ".tmp":  # beside them lie lock files
            try:
                contents[folder] = _manifest(folder)
            except (OSError, ValueError):
                contents[folder] = {}
    return contents


def fault(folder: Path) -> str | None:
    """What is wrong with a converted split, every byte being read; None if nothing is."""
    try:
        manifest = _manifest(folder)
        open_split(folder, {}, None)
        digest = file_digest(folder / IMAGES)
    except (OSError, TypeError, ValueError) as error:
        return str(error)
    return None if digest == manifest["sha256"] else f"{IMAGES} has SHA-256 {digest}, not {manifest['sha256']}"


def home() -> Path:
    """The folder of all converted splits."""
    return cache_dir() / "converted"


def _manifest(folder: Path) -> Manifest:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict):
        raise ValueError(f"its {MANIFEST} is not a table")
    for name, kind in FIELDS.items():
        value: Any = manifest.get(name)
        of = str if name == "names" else int  # what a list is of
        if type(value) is not kind or kind is list and any(type(item) is not of for item in value):
            raise ValueError(f"in its {MANIFEST}, {name} is {str(value)[:80]!r}, not {kind.__name__}")
    if len(manifest["names"]) != len(manifest["counts"]) or len(manifest["shape"]) != 3 or min(manifest["counts"]) < 1:
        raise ValueError(f"in its {MANIFEST}, names, counts and shape do not fit together")
    return manifest


def open_split(folder: Path, wanted: Manifest, expected: tuple[str, ...] | None = None) -> ImageClasses:
    """The images of a converted split, memory-mapped.

    Args:
        folder: where it is.
        wanted: facts that the manifest has to agree with.
        expected: the class names, in order; None if any are right.

    Raises:
        OSError, TypeError, ValueError: if the split is damaged, or is another one; it is not to be used then.
    """
    manifest, file = _manifest(folder), folder / IMAGES
    for name, value in ({"format": FORMAT} | wanted).items():
        if manifest.get(name) != value:
            raise ValueError(f"its {name} is {manifest.get(name)!r}, not {value!r}")
    names = tuple(manifest["names"])
    if expected is not None and names != expected:
        raise ValueError(f"it holds {len(names)} classes that are not the {len(expected)} expected")
    if (size := file.stat().st_size) != manifest["bytes"]:
        raise ValueError(f"{IMAGES} has {size:,} bytes, not {manifest['bytes']:,}")
    if sampled_digest(file) != manifest["sampled_sha256"]:
        raise ValueError(f"the content of {IMAGES} has changed")
    # A copy-on-write map: PyTorch has no tensors that cannot be written, and the file stays as it is.
    images = np.load(file, mmap_mode="c", allow_pickle=False)
    if list(images.shape) != [sum(manifest["counts"]), *manifest["shape"]]:
        raise ValueError(f"{IMAGES} has shape {images.shape}, which is not that of its {MANIFEST}")
    labels = torch.arange(len(names)).repeat_interleave(torch.tensor(manifest["counts"]))
    return ImageClasses(torch.from_numpy(images), labels, names, file)


def sampled_digest(file: Path) -> str:
    """SHA-256 of a file up to 64 MiB, and of 64 blocks of 256 KiB of a larger one."""
    size, digest = file.stat().st_size, hashlib.sha256()
    if size <= WHOLE:
        return file_digest(file)
    with open(file, "rb") as stream:
        for block in range(BLOCKS):  # the first one begins at byte 0, the last one ends with the file
            stream.seek((size - BLOCK) * block // (BLOCKS - 1))
            digest.update(stream.read(BLOCK))
    return digest.hexdigest()
