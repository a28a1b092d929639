"""Zip and tar archives from strangers: nothing is written outside the folder, and no links or devices are made.

The checks are made here, because ``tarfile`` makes them (``filter="data"``) only from Python 3.10.12 on.
"""

from __future__ import annotations

import errno
import gzip
import lzma
import os
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
RATIO, SPARE = 100, 64 << 20  # what is unpacked may have 100 times the bytes of the archive, and 64 MiB more
LONGEST = 240  # bytes in the name of a file or folder; file systems allow 255
HEADER = 1 << 20  # bytes of a tar header that names its entry; Python reads it into memory whole
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
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

    All names and sizes are checked before the first file is written. Only plain files are made: no links, no devices,
    no owners and no permissions from the archive. A file that is there already is not overwritten.

    Args:
        archive: .zip, or .tar with or without gzip, bzip2 or xz; recognised by its content.
        folder: made if it is not there.
        wanted: which files to write, by their name in the archive; links and devices count only if wanted.

    Returns:
        The files written, in the archive's order.

    Raises:
        ArchiveError: if the archive is empty, a web page, cut off or damaged, or holds a wanted entry that is not a
            plain file, leads out of the folder, is encrypted, or would fill the disk; the entry is named.
        FileExistsError: if a file is there already.
    """
    with _opened(archive, wanted) as members:
        files, entries = [], list(members)
        _check_sizes(archive, folder, entries)
        for name, size, _, open_member in entries:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(target, "xb") as file:
                shutil.copyfileobj(source, file, CHUNK)
            if (written := target.stat().st_size) != size:
                raise ArchiveError(f"{archive} is cut off or damaged: {name} has {written:,} of {size:,} bytes")
            files.append(target)
    return files


@contextmanager
def _opened(archive: Path, wanted: Callable[[str], bool]) -> Iterator[Iterator[Member]]:
    check_no_page(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield _checked(archive, _zip_members(zipped, wanted))
        else:
            with tarfile.open(archive, tarinfo=_Entry) as tape:
                yield _checked(archive, _tar_members(archive, tape, wanted))
    except _DAMAGE as error:
        raise ArchiveError(f"{archive} is cut off, damaged, or no archive: {str(error).splitlines()[0]}") from error
    except (NotImplementedError, RuntimeError) as error:  # of zip files in a later version of the format
        raise ArchiveError(f"{archive} cannot be unpacked: {error}") from error


class _Entry(tarfile.TarInfo):
    def _proc_member(self, tape: tarfile.TarFile) -> tarfile.TarInfo | None:
        if self.type in _HEADERS and self.size > HEADER:
            raise ArchiveError(f"{tape.name!s} was refused: its header {self.name!r} claims {self.size:,} bytes")
        return super()._proc_member(tape)  # type: ignore[misc, no-any-return]


def _check_sizes(archive: Path, folder: Path, entries: list[Member]) -> None:
    """Refuse an archive made to fill the disk, and one for which there is no room."""
    total, packed = sum(size for _, size, _, _ in entries), archive.stat().st_size
    if total > RATIO * packed + SPARE:
        name, largest, *_ = max(entries, key=lambda entry: entry[1])
        sizes = f"{total:,} bytes would come out of {packed:,}, {largest:,} of them from {name!r}"
        raise ArchiveError(f"{archive} was refused: {sizes}")
    home = next(home for home in (folder, *folder.parents) if home.exists())
    if total > shutil.disk_usage(home).free:
        raise OSError(errno.ENOSPC, f"{total:,} bytes are needed to unpack {archive}, more than are free", str(home))


def _zip_members(zipped: zipfile.ZipFile, wanted: Callable[[str], bool]) -> Iterator[Member]:
    for entry in zipped.infolist():
        if not entry.is_dir() and wanted(entry.filename):
            if entry.flag_bits & 1 or entry.compress_type not in _COMPRESSIONS:
                how = "encrypted" if entry.flag_bits & 1 else f"compressed by the unknown method {entry.compress_type}"
                raise ArchiveError(f"{zipped.filename} was refused: its entry {entry.filename!r} is {how}")
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
    names: set[str] = set()
    for member in members:
        name, _, plain, _ = member
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0].startswith("/") or ":" in name or "\0" in name:
            raise ArchiveError(f"{archive} was refused: its entry {name!r} leads out of the folder")
        if any(len(os.fsencode(part)) > LONGEST for part in parts):
            raise ArchiveError(f"{archive} was refused: its entry {name[:80] + '…'!r} has a name that is too long")
        if not plain:
            raise ArchiveError(f"{archive} was refused: its entry {name!r} is a link or a device, not a plain file")
        if name in names:
            raise ArchiveError(f"{archive} was refused: it has two entries {name!r}")
        names.add(name)
        yield member
