"""Converted splits in the cache folder: one memory-mapped file of images each, and a manifest.

``cache_dir()/converted/DATASET-SPLIT-KEY/`` holds

- ``images.npy``: uint8 (N, C, H, W), images of one class next to each other;
- ``manifest.json``: what it is and where it is from, class names and counts, resize rule, licence, citation, checksums.

A split is written into a temporary folder, its manifest last, and the folder is renamed at the end: a folder under
its final name is complete. Opening checks the manifest, the exact size and a checksum of samples of the file;
`fault` checks every byte.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..files.locks import only_one
from ..files.sources import file_digest
from ..images import ImageClasses
from .reader import FORMAT, MANIFEST, Manifest, fault, home, manifests, open_split, sampled_digest
from .writer import IMAGES, SplitWriter, StoreError, cannot_write

__all__ = ["Manifest", "NewSplit", "Split", "StoreError", "fault", "manifests", "open_or_convert", "opened_folders"]

_opened: ContextVar[list[Path]] = ContextVar("_opened")


@dataclass(frozen=True)
class Split:
    """What identifies a converted split.

    Args:
        dataset: its name.
        split: its name.
        key: in hexadecimal, at least 16 digits; stands for the source files and the options that shape the images,
            so that splits with different keys can lie side by side.
        rule: name and version of the conversion.
        classes: the class names, in order; None if any are right.
    """

    dataset: str
    split: str
    key: str
    rule: str
    classes: tuple[str, ...] | None = None

    @property
    def folder(self) -> Path:
        return home() / f"{self.dataset}-{self.split}-{self.key[:16]}"

    def open(self) -> ImageClasses:
        facts = {name: value for name, value in asdict(self).items() if name != "classes"}
        return open_split(self.folder, facts, self.classes)


class NewSplit:
    """A split in the making: called with names, counts and (C, H, W), it gives the writer of the images.

    ``scratch`` is an empty folder for whatever the conversion has to unpack; it is removed at the end, and by the next
    conversion if the process is killed.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        self.writer: SplitWriter | None = None

    def __call__(self, names: Sequence[str], counts: Sequence[int], shape: tuple[int, int, int]) -> SplitWriter:
        if self.writer is not None:
            raise RuntimeError("a conversion has to fill exactly one split")
        self.writer = SplitWriter(self.folder, names, counts, shape)
        return self.writer


Convert = Callable[[NewSplit], Mapping[str, Any] | None]


def open_or_convert(split: Split, convert: Convert, provenance: Mapping[str, Any]) -> ImageClasses:
    """The images of a split, memory-mapped; converted on first use.

    A split that is damaged, or was made by another rule or of other classes, is named in a warning and made anew.
    A second process that wants the same split waits for the first one and then uses its files. Changing the images
    in memory does not change the file.

    Args:
        split: which one.
        convert: puts all images into ``with new_split(names, counts, (C, H, W)) as writer``; the facts it returns are
            kept in the manifest.
        provenance: kept in the manifest too: source, licence, citation. Licence and citation are printed when the
            first split of a dataset is converted.

    Raises:
        StoreError: if the cache folder cannot be written, or has no space.
        ValueError: if the images are not as announced, and whatever else ``convert`` raises.
    """
    _opened.get([]).append(split.folder)
    data = _open_if_sound(split, warn=True)
    if data is not None:
        return data
    with _alone(split.folder):
        data = _open_if_sound(split, warn=False)  # another process may have made it meanwhile
        if data is None:
            _print_terms(split.dataset, provenance)
            _make(split, provenance, convert)
            data = split.open()
    return data


@contextmanager
def opened_folders() -> Iterator[list[Path]]:
    """A list that gets the folder of every split opened inside the ``with``."""
    folders: list[Path] = []
    token = _opened.set(folders)
    try:
        yield folders
    finally:
        _opened.reset(token)


def _open_if_sound(split: Split, warn: bool) -> ImageClasses | None:
    if not split.folder.exists():
        return None
    try:
        return split.open()
    except (OSError, TypeError, ValueError) as error:
        if warn:
            warnings.warn(f"{split.folder} cannot be used ({error}); it is made anew", stacklevel=3)
    return None


def _make(split: Split, provenance: Mapping[str, Any], convert: Convert) -> None:
    with _temporary_folder(split.folder) as folder, _temporary_folder(split.folder) as scratch:
        new_split = NewSplit(folder, scratch)
        facts = convert(new_split) or {}
        writer = new_split.writer
        if writer is None or not writer.complete:
            raise RuntimeError("a conversion has to fill exactly one split")
        if split.classes is not None and writer.names != split.classes:
            raise ValueError(f"{len(writer.names)} classes were made that are not the {len(split.classes)} expected")
        _publish(split, writer, {**provenance, **facts})


def _publish(split: Split, writer: SplitWriter, facts: Manifest) -> None:
    """Write the manifest and give the folder its final name; a split that is there already is set aside first."""
    file = writer.folder / IMAGES
    known = {"format": FORMAT, **asdict(split), **facts}
    shapes = {"names": writer.names, "counts": writer.counts, "shape": writer.shape, "bytes": file.stat().st_size}
    sums = {"sha256": file_digest(file), "sampled_sha256": sampled_digest(file)}
    del known["classes"]  # they are the names
    try:
        with _temporary_folder(split.folder) as old:
            with open(writer.folder / MANIFEST, "w", encoding="utf-8") as stream:
                json.dump(known | shapes | sums, stream, indent=1, ensure_ascii=False)
                stream.flush()
                os.fsync(stream.fileno())
            if split.folder.exists():
                os.rename(split.folder, old / "old")
            os.rename(writer.folder, split.folder)
    except OSError as error:
        raise cannot_write(split.folder, error) from error


def _print_terms(dataset: str, provenance: Mapping[str, Any]) -> None:
    """Licence and citation, once per dataset: the manifests of its splits show whether that was done."""
    known = any(manifest.get("dataset") == dataset for manifest in manifests().values())
    if not known and "citation" in provenance:
        terms = f"{dataset}\n  licence: {provenance.get('licence')}\n  please cite: {provenance['citation']}"
        tqdm.write(terms, file=sys.stderr)


@contextmanager
def _temporary_folder(beside: Path) -> Iterator[Path]:
    folder = beside.with_name(f"{beside.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            folder.mkdir()
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from converting the same split, and remove what a killed one left half-written."""
    with ExitStack() as held:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(only_one(folder, "converting"))
        except OSError as error:  # no permission, or a network folder without locks
            raise cannot_write(folder, error) from error
        for unfinished in folder.parent.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield
