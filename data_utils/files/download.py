"""Downloads into one cache folder: verified, resumed after a cut, tried again, and safe between processes."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm

CHUNK = 1 << 18  # bytes read at a time
TIMEOUT = 30.0  # seconds without a byte after which a connection counts as cut


class DownloadError(RuntimeError):
    """A file could not be had from any of its addresses."""


class _WrongFile(Exception):
    """What came is not the file that was asked for; the partial file is no good."""


class _WrongAnswer(_WrongFile):
    """The same, noticed before anything was written: a partial file from another address stays."""


@dataclass(frozen=True)
class Source:
    """A file to download, and how to tell that it is the right one.

    Args:
        name: its name in the cache folder.
        urls: where it can be had, tried in this order.
        size: in bytes; None where it is not published.
        sha256: in hexadecimal; None where it is not published.
        md5: in hexadecimal, for files of which only this older checksum is published.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


def cache_dir() -> Path:
    """The folder of downloads and converted images: ``CXGRAD_LITE_DATA``, else ``~/.cache/cxgrad_lite``."""
    return Path(os.environ.get("CXGRAD_LITE_DATA") or "~/.cache/cxgrad_lite").expanduser().absolute()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file in hexadecimal, read piece by piece."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(source: Source, attempts: int = 4, pause: float = 1.0) -> Path:
    """The path of a verified file in the cache folder, downloaded if it is not there yet.

    A file under its final name has passed the check of size and checksum. What arrived before a cut stays in
    ``NAME.part``, and the next attempt, or the next call, asks the server for the rest only. A second process that
    wants the same file waits for the first one (``NAME.lock``) and then uses its file.

    Args:
        source: what to download.
        attempts: tries per address; a wrong file is fetched anew only once.
        pause: seconds before the second try, doubled before each further one.

    Raises:
        DownloadError: if no address gave the right file; it says what happened and where to put the file by hand.
    """
    target = cache_dir() / source.name
    try:
        present = target.exists()
        fault = _fault(target, source) if present else None
        if present and fault is None:
            return target
        if present:
            warnings.warn(f"{target} is not the expected file ({fault}); it is downloaded anew", stacklevel=2)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not target.exists() or _fault(target, source):  # else another process brought it meanwhile
                _download(target, source, attempts, pause)
    except OSError as error:
        raise DownloadError(f"{target} cannot be used: {error}; CXGRAD_LITE_DATA may name another folder") from error
    return target


def _download(target: Path, source: Source, attempts: int, pause: float) -> None:
    part = target.with_name(f"{target.name}.part")
    faults = []
    for url in source.urls:
        fault = _try(url, part, source, attempts, pause)
        if fault is None:
            os.replace(part, target)
            return
        faults.append(f"  {url}: {fault}")
    raise DownloadError(
        f"{source.name} could not be downloaded:\n" + "\n".join(faults) + "\n"
        f"Try again later (a cut download goes on where it stopped), or get the file by other means and "
        f"put it at {target}, or pass path=… with the place where you have it."
    )


def _try(url: str, part: Path, source: Source, attempts: int, pause: float) -> str | None:
    """Fill ``part`` from one address; None after success, else what went wrong last."""
    fault, wrong = "not tried", 0
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _transfer(url, part, source)
            if found := _fault(part, source):
                raise _WrongFile(found)
        except _WrongFile as error:
            if not isinstance(error, _WrongAnswer):
                part.unlink(missing_ok=True)
            fault, wrong = str(error), wrong + 1
            if wrong == 2:
                return fault
        except urllib.error.HTTPError as error:
            error.close()
            fault = f"the server answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):  # these two may pass, as faults of the server do
                return fault
        except (OSError, http.client.HTTPException) as error:
            fault = str(getattr(error, "reason", None) or error) or type(error).__name__
        else:
            _tell_unchecked(source)
            return None
    return fault


def _transfer(url: str, part: Path, source: Source) -> None:
    """Append to ``part`` what it lacks, or begin anew where the server does not continue."""
    have = part.stat().st_size if part.exists() else 0
    if have and have == source.size:
        return  # complete, but not yet verified when an earlier process ended
    headers = {"User-Agent": "cxgrad_lite"} | ({"Range": f"bytes={have}-"} if have else {})
    with _open(urllib.request.Request(url, headers=headers), have) as answer:
        start = have if answer.status == 206 else 0
        if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise _WrongFile("the server sent another piece of the file than the one asked for")
        total = source.size if answer.length is None else start + answer.length
        first = answer.read1(CHUNK)
        _check_answer(first, start, total, source)
        with open(part, "ab" if start else "wb") as file:
            _copy(first, answer, file, total, source.name)
    have = part.stat().st_size
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _open(request: urllib.request.Request, have: int) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing lies beyond what is there: the partial file is of another file
            error.close()
            raise _WrongFile(f"the server's file is not longer than the {have:,} bytes already here") from error
        raise
    return answer


def _check_answer(first: bytes, start: int, total: int | None, source: Source) -> None:
    """Refuse what cannot be the file before it replaces a good partial file or fills the disk."""
    if not start and first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _WrongAnswer("the server sent a web page instead of the file")
    if total is not None and source.size is not None and total != source.size:
        wrong = _WrongFile if start else _WrongAnswer
        raise wrong(f"the server's file has {total:,} bytes, not {source.size:,}")


def _copy(first: bytes, answer: http.client.HTTPResponse, file: BinaryIO, total: int | None, name: str) -> None:
    with tqdm(desc=name, total=total, initial=file.tell(), unit="B", unit_scale=True) as bar:
        chunk = first
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            if total is not None and file.tell() > total:
                raise _WrongFile(f"the server sent more than {total:,} bytes")
            chunk = answer.read1(CHUNK)


def _fault(path: Path, source: Source) -> str | None:
    """What shows that a complete file is not the right one; None if nothing does."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes, not {source.size:,}"
    for algorithm in ("sha256", "md5"):
        expected = getattr(source, algorithm)
        if expected is not None and (found := file_digest(path, algorithm)) != expected:
            return f"its {algorithm} is {found}, not {expected}"
    return None


def _tell_unchecked(source: Source) -> None:
    if source.sha256 is None and source.md5 is None:
        warnings.warn(f"no checksum is published for {source.name}: its content was not verified", stacklevel=5)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold ``NAME.lock``; the system frees it when a process ends, so that none is ever left locked."""
    with open(target.with_name(f"{target.name}.lock"), "wb") as file:
        told = False
        while not take_lock(file):
            if not told:
                tqdm.write(f"another process is downloading {target.name}: waiting for it")
            told = True
            time.sleep(0.2)
        yield


def take_lock(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
