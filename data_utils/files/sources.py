"""What may be downloaded: URLs, size and checksum of a file, and the folder it is kept in."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 18  # bytes read at a time


@dataclass(frozen=True)
class Source:
    """A file to download, and how to tell that it is the right one.

    Args:
        name: its name in the cache folder.
        urls: where it is offered, tried in this order.
        size: in bytes; None where it is not published.
        sha256: in hexadecimal; None where it is not published.
        md5: in hexadecimal, for files of which only this older checksum is published.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def verified(self) -> bool:
        return self.sha256 is not None or self.md5 is not None


def cache_dir() -> Path:
    """The folder of downloads and converted images: ``CXGRAD_LITE_DATA``, else ``~/.cache/cxgrad_lite``.

    Raises:
        FileNotFoundError: if there is no home folder.
    """
    try:
        return Path(os.environ.get("CXGRAD_LITE_DATA") or "~/.cache/cxgrad_lite").expanduser().absolute()
    except RuntimeError as error:
        raise FileNotFoundError("you have no home folder; name a folder for data in CXGRAD_LITE_DATA") from error


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file in hexadecimal, read piece by piece."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fault_of(path: Path, source: Source) -> str | None:
    """What shows that a complete file is not the right one; None if nothing does.

    Without a published checksum, an archive has to have its table, at the end of it, and a pickle its last instruction:
    a connection that broke without notice leaves neither.
    """
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes, not {source.size:,}"
    for algorithm in ("sha256", "md5"):
        expected = getattr(source, algorithm)
        if expected is not None and (digest := file_digest(path, algorithm)) != expected:
            return f"its {algorithm} is {digest}, not {expected}"
    if source.verified:
        return None
    if source.name.endswith(".zip") and not zipfile.is_zipfile(path):
        return f"it is no zip file, or only the beginning of one: {size:,} bytes"
    if source.name.endswith(".pkl"):
        with open(path, "rb") as file:
            first = file.read(1)
            file.seek(max(size - 1, 0))
            if (first, file.read(1)) != (b"\x80", b"."):
                return f"it is no pickle, or only the beginning of one: {size:,} bytes"
    return None if size else "it is empty"


@contextmanager
def set_aside_if_wrong(*sources: Source) -> Iterator[None]:
    """Around the use of downloads: one without a checksum whose content is wrong must not be taken a second time.

    Raises:
        ValueError: the one raised inside, with the names that the files have now.
    """
    try:
        yield
    except ValueError as error:
        files = [cache_dir() / source.name for source in sources if not source.verified]
        files = [file for file in files if file.is_file()]
        if not files:
            raise
        for file in files:
            os.replace(file, file.with_name(f"{file.name}.rejected"))
        names = ", ".join(f"{file.name}.rejected" for file in files)
        reason = "no checksum is published, so the download may be at fault"
        raise ValueError(f"{error} ({reason}: it is called {names} now, and the next call downloads anew)") from error
