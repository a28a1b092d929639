"""Writing the images of one split into one file, image by image, in bounded memory."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

IMAGES = "images.npy"

Pixels = npt.NDArray[np.uint8]  # (C, H, W)


class StoreError(RuntimeError):
    """Converted images could not be written: no space, or no permission."""


def cannot_write(folder: Path, error: OSError) -> StoreError:
    """The error to raise when a file in a folder of converted images cannot be written."""
    return StoreError(
        f"the converted images could not be written to {folder} ({error.strerror or error}); "
        f"free some space there, or name another folder with the environment variable CXGRAD_LITE_DATA"
    )


class SplitWriter:
    """Writes ``images.npy``, uint8 of shape (N, C, H, W), classes one after the other; to be used in a ``with``.

    The file gets its full size at once and each image goes to the next free place of its class, so that images may
    come in any order of classes. They are written, not memory-mapped: on a full disk a mapped page would end the
    process without an error message.

    Args:
        folder: an existing folder to write into.
        names: one name per class, in the order of the labels.
        counts: how many images each class will get.
        shape: (C, H, W) of every image.

    Raises:
        ValueError: if there is no class, a class is named twice or has no images, or, when the ``with`` is left
            without another error, if a class has fewer images than announced.
        StoreError: if the file cannot be written.
    """

    def __init__(self, folder: Path, names: Sequence[str], counts: Sequence[int], shape: tuple[int, int, int]) -> None:
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if not names or twice or len(names) != len(counts) or min(shape) < 1:
            fault = f"class {twice[0]!r} is there twice" if twice else f"{len(names)} classes, {len(counts)} counts"
            raise ValueError(f"a split cannot be made of this: {fault}, images of shape {shape}")
        empty = [name for name, count in zip(names, counts) if count < 1]
        if empty:
            raise ValueError(f"class {empty[0]!r} has no images")
        self.folder, self.shape = folder, shape
        self.names, self.counts = tuple(names), tuple(int(count) for count in counts)
        self.complete = False
        self._first = [0, *accumulate(self.counts)]  # row of each class's first image
        self._written = [0] * len(self.names)
        self._file: BinaryIO | None = None
        self._start = 0  # bytes before the first image

    def __enter__(self) -> SplitWriter:
        size = self._first[-1] * math.prod(self.shape)
        try:
            if shutil.disk_usage(self.folder).free < size:
                raise OSError(errno.ENOSPC, f"{size:,} bytes are needed, more than are free")
            self._file = open(self.folder / IMAGES, "wb")
            header = {"descr": "|u1", "fortran_order": False, "shape": (self._first[-1], *self.shape)}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()
            self._file.truncate(self._start + size)
        except OSError as error:
            self._close()
            raise cannot_write(self.folder, error) from error
        return self

    def put(self, label: int, image: Pixels) -> None:
        """Write one image at the next free place of its class.

        Args:
            label: number of the class, 0 … classes - 1.
            image: (C, H, W) uint8.

        Raises:
            ValueError: if the image has another type or shape, or its class has all its images already.
            StoreError: if the disk is full.
        """
        if self._file is None:
            raise RuntimeError("images are put inside the with statement of their SplitWriter")
        if image.dtype != np.uint8 or image.shape != self.shape:
            raise ValueError(
                f"class {self.names[label]!r}: an image is {image.dtype} of shape {image.shape}, "
                f"not uint8 of shape {self.shape}"
            )
        if self._written[label] == self.counts[label]:
            raise ValueError(f"class {self.names[label]!r} has more than the {self.counts[label]} images announced")
        try:
            self._file.seek(self._start + (self._first[label] + self._written[label]) * math.prod(self.shape))
            self._file.write(image.tobytes())
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._written[label] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._close()
            return
        try:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())  # else a power cut could leave a manifest beside missing images
        except OSError as fault:
            raise cannot_write(self.folder, fault) from fault
        finally:
            self._close()
        for name, written, count in zip(self.names, self._written, self.counts):
            if written < count:
                raise ValueError(f"class {name!r} has {written} images, not {count}")
        self.complete = True

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:  # what is still buffered does not fit on the disk either
                raise cannot_write(self.folder, error) from error
