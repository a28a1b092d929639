"""Zip and tar archives from strangers: nothing is written outside the folder, and no links or devices are made.

The checks are made here, because ``tarfile`` makes them (``filter="data"``) only from Python 3.10.12 on.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

CHUNK = 1 << 20  # bytes copied at a time
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError)

Member = tuple[str, int, bool, Callable[[], IO[bytes]]]  # name, size in bytes, whether a plain file, how to open it


class ArchiveError(ValueError):
    """An archive is damaged, is no archive, or holds what it should not; the file is named."""


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name (.zip, .tar, .tgz, .tar.gz) or by its content."""
    named = path.name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz"))
    return named or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def check_no_page(path: Path) -> None:
    """Refuse a file that is empty, or is a web page saved under another name.

    Raises:
        ArchiveError: says which of the two it is.
    """
    with open(path, "rb") as file:
        first = file.read(512)
    if not first:
        raise ArchiveError(f"{path} is empty: the download probably failed, or was over a quota")
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise ArchiveError(f"{path} is an HTML page, not the file expected: probably a quota or login page")


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[Path]:
    """Write the files of an archive into a folder, and nothing anywhere else.

    All names are checked before the first file is written. Only plain files are made: no links, no devices, no owners
    and no permissions from the archive. A file that is there already is not overwritten.

    Args:
        archive: .zip, or .tar with or without gzip, bzip2 or xz; recognised by its content.
        folder: made if it is not there.
        wanted: which files to write, by their name in the archive; links and devices count only if wanted.

    Returns:
        The files written, in the archive's order.

    Raises:
        ArchiveError: if the archive is empty, a web page, cut off or damaged, or holds a wanted entry that is not a
            plain file or whose name leads out of the folder.
        FileExistsError: if a file is there already.
    """
    with _opened(archive, wanted) as members:
        files = []
        for name, size, _, open_member in list(members):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(target, "xb") as file:
                shutil.copyfileobj(source, file, CHUNK)
            if (written := target.stat().st_size) != size:
                raise ArchiveError(f"{archive} is cut off or damaged: {name} has {written:,} of {size:,} bytes")
            files.append(target)
    return files


def read_members(archive: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the plain files of an archive, one after the other, in the archive's order.

    Args:
        archive: as in `unpack`.
        wanted: as in `unpack`.

    Raises:
        ArchiveError: as in `unpack`.
    """
    with _opened(archive, wanted) as members:
        for name, size, _, open_member in members:
            with open_member() as source:
                data = source.read(size)
            if len(data) != size:
                raise ArchiveError(f"{archive} is cut off or damaged: {name} has {len(data):,} of {size:,} bytes")
            yield name, data


@contextmanager
def _opened(archive: Path, wanted: Callable[[str], bool]) -> Iterator[Iterator[Member]]:
    check_no_page(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield _checked(archive, _zip_members(zipped, wanted))
        else:
            with tarfile.open(archive) as tape:
                yield _checked(archive, _tar_members(archive, tape, wanted))
    except _DAMAGE as error:
        raise ArchiveError(f"{archive} is cut off, damaged, or no archive: {str(error).splitlines()[0]}") from error
    except (NotImplementedError, RuntimeError) as error:  # unusual compression, encryption
        raise ArchiveError(f"{archive} cannot be unpacked: {error}") from error


def _zip_members(zipped: zipfile.ZipFile, wanted: Callable[[str], bool]) -> Iterator[Member]:
    for entry in zipped.infolist():
        if not entry.is_dir() and wanted(entry.filename):
            kind = entry.external_attr >> 28  # of a file in Unix: 8 is a plain file, 0 is not said
            yield entry.filename, entry.file_size, kind in (0, 8), partial(zipped.open, entry)


def _tar_members(archive: Path, tape: tarfile.TarFile, wanted: Callable[[str], bool]) -> Iterator[Member]:
    for entry in tape:
        if not entry.isdir() and wanted(entry.name):
            yield entry.name, entry.size, entry.isreg(), partial(_open_in_tar, tape, entry)
    assert tape.fileobj is not None
    tape.fileobj.seek(tape.offset)
    if tape.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # Python takes any other end for a good one
        raise ArchiveError(f"{archive} is cut off or damaged: it has no end mark")
    while tape.fileobj.read(CHUNK):  # to the end, where gzip keeps its checksum
        pass


def _open_in_tar(tape: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = tape.extractfile(entry)
    assert file is not None  # it is None only for what is no plain file
    return file


def _checked(archive: Path, members: Iterator[Member]) -> Iterator[Member]:
    seen: set[str] = set()
    for member in members:
        name, _, plain, _ = member
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0].startswith("/") or ":" in name or "\0" in name:
            raise ArchiveError(f"{archive} was refused: its entry {name!r} leads out of the folder")
        if not plain:
            raise ArchiveError(f"{archive} was refused: its entry {name!r} is a link or a device, not a plain file")
        if name in seen:
            raise ArchiveError(f"{archive} was refused: it has two entries {name!r}")
        seen.add(name)
        yield member
