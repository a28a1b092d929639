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
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from ..files.download import file_digest, take_lock
from ..images import ImageClasses
from .reader import FORMAT, MANIFEST, Manifest, fault, home, manifests, open_split, sampled_digest
from .writer import IMAGES, SplitWriter, StoreError, cannot_write

__all__ = ["Manifest", "NewSplit", "SplitWriter", "StoreError", "fault", "manifests", "noted", "open_or_convert"]

NewSplit = Callable[[Sequence[str], Sequence[int], tuple[int, int, int]], SplitWriter]  # names, counts, (C, H, W)

_noted: ContextVar[list[Path]] = ContextVar("_noted")


def open_or_convert(
    dataset: str,
    split: str,
    key: str,
    rule: str,
    expected: tuple[str, ...] | None,
    convert: Callable[[NewSplit], None],
    provenance: Mapping[str, Any],
) -> ImageClasses:
    """The images of a converted split, memory-mapped; they are converted first where that was not done yet.

    A split that is damaged, or was made by another rule or of other classes, is named in a warning and made anew.
    A second process that wants the same split waits for the first one and then uses its files. Changing the images
    in memory does not change the file.

    Args:
        dataset: its name.
        split: its name.
        key: in hexadecimal, at least 16 digits; stands for the source files and the options that shape the images,
            so that splits with different keys can lie side by side.
        rule: name and version of the conversion.
        expected: the class names, in order; None if any are right.
        convert: called with ``new_split``; puts all images into ``with new_split(names, counts, (C, H, W)) as writer``.
        provenance: kept in the manifest as it is after ``convert``: source, licence, citation and other facts. Licence
            and citation are printed when the first split of a dataset is converted.

    Raises:
        StoreError: if the cache folder cannot be written, or has no space.
        ValueError: if the images are not as announced, and whatever else ``convert`` raises.
    """
    folder = home() / f"{dataset}-{split}-{key[:16]}"
    _noted.get([]).append(folder)
    wanted = {"format": FORMAT, "dataset": dataset, "split": split, "key": key, "rule": rule}
    data = _open_if_sound(folder, wanted, expected, tell=True)
    if data is not None:
        return data
    with _alone(folder):
        data = _open_if_sound(folder, wanted, expected, tell=False)  # another process may have made it meanwhile
        if data is None:
            _make(folder, wanted, provenance, expected, convert)
            data = open_split(folder, wanted, expected)
    return data


@contextmanager
def noted() -> Iterator[list[Path]]:
    """A list that gets the folder of every split opened inside the ``with``."""
    folders: list[Path] = []
    token = _noted.set(folders)
    try:
        yield folders
    finally:
        _noted.reset(token)


def _open_if_sound(folder: Path, wanted: Manifest, expected: tuple[str, ...] | None, tell: bool) -> ImageClasses | None:
    if not folder.exists():
        return None
    try:
        return open_split(folder, wanted, expected)
    except (OSError, TypeError, ValueError) as error:
        if tell:
            warnings.warn(f"{folder} cannot be used ({error}); it is made anew", stacklevel=3)
    return None


def _make(
    folder: Path,
    wanted: Manifest,
    provenance: Mapping[str, Any],
    expected: tuple[str, ...] | None,
    convert: Callable[[NewSplit], None],
) -> None:
    _print_terms(wanted["dataset"], provenance)
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            unfinished.mkdir(parents=True)
        except OSError as error:
            raise cannot_write(unfinished, error) from error
        writer = _fill(unfinished, convert)
        if expected is not None and writer.names != expected:
            raise ValueError(f"{len(writer.names)} classes were made that are not the {len(expected)} expected")
        _publish(unfinished, folder, wanted | dict(provenance), writer)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(folder: Path, convert: Callable[[NewSplit], None]) -> SplitWriter:
    writers: list[SplitWriter] = []

    def new_split(names: Sequence[str], counts: Sequence[int], shape: tuple[int, int, int]) -> SplitWriter:
        writers.append(SplitWriter(folder, names, counts, shape))
        return writers[-1]

    convert(new_split)
    if len(writers) != 1 or not writers[0].complete:
        raise RuntimeError("a conversion has to fill exactly one split")
    return writers[0]


def _publish(unfinished: Path, folder: Path, facts: Manifest, writer: SplitWriter) -> None:
    """Write the manifest and give the folder its final name; a split that is there already is set aside first."""
    file = unfinished / IMAGES
    found = {"names": writer.names, "counts": writer.counts, "shape": writer.shape, "bytes": file.stat().st_size}
    sums = {"sha256": file_digest(file), "sampled_sha256": sampled_digest(file)}
    old = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(unfinished / MANIFEST, "w", encoding="utf-8") as stream:
            json.dump(facts | found | sums, stream, indent=1, ensure_ascii=False)
            stream.flush()
            os.fsync(stream.fileno())
        if folder.exists():
            os.rename(folder, old)
        os.rename(unfinished, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _print_terms(dataset: str, provenance: Mapping[str, Any]) -> None:
    """Licence and citation, once per dataset: the manifests of its splits show whether that was done."""
    known = any(manifest.get("dataset") == dataset for manifest in manifests().values())
    if not known and "citation" in provenance:
        told = f"{dataset}\n  licence: {provenance.get('licence')}\n  please cite: {provenance['citation']}"
        tqdm.write(told, file=sys.stderr)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold ``FOLDER.lock``, and clear away what a killed process left half-written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(folder.with_name(f"{folder.name}.lock"), "wb")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with lock:
        _wait_for(lock, folder)
        for left in folder.parent.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _wait_for(lock: BinaryIO, folder: Path) -> None:
    told = False
    try:
        while not take_lock(lock):
            if not told:
                tqdm.write(f"another process is converting {folder.name}: waiting for it")
            told = True
            time.sleep(0.2)
    except OSError as error:  # some network folders know no locks
        raise cannot_write(folder, error) from error
