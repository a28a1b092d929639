"""Hand-ins in whatever form a learning platform gives them, all read before any of them is run.

A folder per student, flat files (``ann_12345_a1_episodes-1.ipynb``), the zips of Moodle, Canvas and Google Classroom,
and zips inside these. Nothing is unpacked onto the disk, and no link is followed.
"""

from __future__ import annotations

import io
import re
import stat
import time
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

LARGEST = 10_000_000  # bytes of a notebook
LARGEST_ZIP = 20 * LARGEST  # of a zip inside another
DEEPEST = 4  # zips inside zips
LMS = re.compile(r"(?P<who>.+?)_(?:late_)?(?P<number>\d+)_.*", re.IGNORECASE)  # Moodle's folders, Canvas's files
NAMED = re.compile(r"(?P<who>.+?)(?: - |_| )(?:copy of )?(?P<assignment>a\d_\w+)", re.IGNORECASE)  # Google Classroom


@dataclass(frozen=True)
class HandIn:
    """One student's notebook for one assignment.

    Attributes:
        parts: where it was found: folders, zips, and the name of the file.
        when: seconds since 1970.
        refusal: why it is not run; "" if it is.
        note: what a person should know, for example that it is the newest of two.
    """

    parts: tuple[str, ...]
    when: float
    content: bytes = b""
    refusal: str = ""
    student: str = ""
    assignment: str = ""
    note: str = ""

    @property
    def origin(self) -> str:
        return "/".join(self.parts)


def collect(path: Path, names: dict[str, set[str]]) -> list[HandIn]:
    """The newest hand-in of each student and assignment, refused ones among them.

    Args:
        path: a folder or a zip.
        names: assignment → names of its cells, by which a notebook under another name is recognised.

    Raises:
        ValueError: if there is no such folder, or nothing in it belongs to a student.
    """
    if not path.exists():
        raise ValueError(f"there is no {path}; name the folder or the zip that your learning platform gave you")
    files = list(_walk(path, ()) if path.is_dir() else _unzip(path, (), 1))
    if (
        len({file.parts[0] for file in files if len(file.parts) > 1}) == 1
    ):  # a folder around everything, if not a student's
        inner = [replace(file, parts=file.parts[1:]) for file in files]
        files = inner if all(file.parts and _who(file.parts, names)[0] for file in inner) else files
    people = [_who(file.parts, names) for file in files]
    label, groups = _labels(people), defaultdict(list)
    for file, person in zip(files, people):
        if label[person] or file.parts[-1].endswith(".ipynb"):
            groups[label[person] or f"({file.parts[-1]})", _assignment(file, names)].append(file)
    if not any(label.values()):
        raise ValueError(f"{path} holds nothing that names a student, as STUDENT/{next(iter(names))}.ipynb does")
    # A file that is no notebook matters only where its student handed in nothing else.
    several = Counter(student for student, _ in groups)
    return [
        _newest(*key, group)
        for key, group in sorted(groups.items())
        if key[1] or several[key[0]] == 1 or any(file.parts[-1].endswith(".ipynb") for file in group)
    ]


def _newest(student: str, assignment: str, files: list[HandIn]) -> HandIn:
    files = sorted(files, key=lambda file: (not file.refusal, file.when, _number(file.parts[-1])))
    refusal, last = files[-1].refusal, files[-1]
    if student.startswith("("):
        refusal = "names no student"
    elif not assignment:
        refusal = refusal or "has the name and the cells of no assignment"
    others = ", ".join(file.origin for file in files[:-1])
    note = f"handed in {len(files)} times: {last.origin} is the newest and counts, not {others}" if others else ""
    return replace(last, student=student, assignment=assignment, refusal=refusal, note=note)


def _number(name: str) -> int:
    """1 of ``a1 (1).ipynb`` and ``a1-1.ipynb``: browsers and platforms number what came later."""
    match = re.search(r"(?:\((\d+)\)|-(\d+))\.ipynb$", name)
    return int(match[1] or match[2]) if match else 0


def _assignment(file: HandIn, names: dict[str, set[str]]) -> str:
    stem = file.parts[-1].lower()
    by_name = [name for name in names if name.lower() in stem and stem.endswith(".ipynb")]
    shared = {name: sum(cell.encode() in file.content for cell in cells) for name, cells in names.items()}
    best = max(shared, key=lambda name: shared[name])
    return by_name[0] if by_name else best if 2 * shared[best] > len(names[best]) else ""


def _who(parts: tuple[str, ...], names: dict[str, set[str]]) -> tuple[str, str]:
    """A student and the platform's number for them, "" where there is none. A folder counts before a file's name."""
    folders = [part.removesuffix(".zip") for part in parts[:-1] if part.removesuffix(".zip") not in names]
    if folders:
        match = LMS.fullmatch(folders[0])
        return (match["who"], match["number"]) if match else (folders[0], "")
    if match := LMS.fullmatch(parts[-1]):
        return match["who"], match["number"]
    match = NAMED.match(parts[-1])
    return (match["who"], "") if match and match["assignment"].lower().startswith(tuple(names)) else ("", "")


def _labels(people: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Names as nbgrader and a file system can hold them; two students of one name keep their numbers."""
    numbers, label = Counter(who for who, _ in set(people)), dict[tuple[str, str], str]()
    for who, number in sorted(set(people)):
        text = re.sub(r"[^\w.-]+", "_", f"{who}_{number}" if numbers[who] > 1 and number else who).strip("._")
        text = text or ("student" if who else "")
        while text and text.casefold() in {other.casefold() for other in label.values()}:
            text += "_2"
        label[who, number] = text
    return label


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[HandIn]:
    entries = [entry for entry in sorted(folder.iterdir()) if not _hidden(entry.name)]
    if not entries and parts:
        yield HandIn((*parts, ""), folder.stat().st_mtime, refusal="is an empty folder")
    for entry in entries:
        inside, when = (*parts, unicodedata.normalize("NFC", entry.name)), entry.lstat().st_mtime
        if entry.is_symlink():
            yield HandIn(inside, when, refusal="is a symbolic link")
        elif entry.is_dir():
            yield from _walk(entry, inside)
        elif entry.suffix.lower() == ".zip":  # a zip alone is the class's, several are one for each student
            yield from _unzip(entry, parts if len(entries) == 1 and not parts else inside, 1)
        elif not entry.is_file():
            yield HandIn(inside, when, refusal="is no ordinary file")
        else:
            yield _file(inside, when, entry.stat().st_size, entry.read_bytes)


def _unzip(file: Path | io.BytesIO, parts: tuple[str, ...], depth: int) -> Iterator[HandIn]:
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                yield from _member(archive, info, parts, depth)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        yield HandIn((*parts, ""), 0.0, refusal=f"is a zip that cannot be read ({error})")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, parts: tuple[str, ...], depth: int) -> Iterator[HandIn]:
    path = PurePosixPath(unicodedata.normalize("NFC", info.filename.replace("\\", "/")))
    inside, when = (*parts, *path.parts), time.mktime((*info.date_time, 0, 0, -1))
    if info.is_dir() or any(_hidden(part) for part in path.parts if part != ".."):
        return
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        yield HandIn((*parts, path.name), when, refusal="has a path that leads outside")
    elif stat.S_ISLNK(info.external_attr >> 16):
        yield HandIn(inside, when, refusal="is a symbolic link")
    elif path.suffix.lower() == ".zip" and depth < DEEPEST and info.file_size <= LARGEST_ZIP:
        yield from _unzip(io.BytesIO(archive.read(info)), inside, depth + 1)
    else:
        yield _file(inside, when, info.file_size, lambda: archive.read(info))


def _file(parts: tuple[str, ...], when: float, size: int, read: Callable[[], bytes]) -> HandIn:
    if not parts[-1].lower().endswith(".ipynb"):
        return HandIn(parts, when, refusal="is not a notebook")
    if size > LARGEST:
        return HandIn(parts, when, refusal=f"has {size / 1e6:.0f} MB; the most is {LARGEST / 1e6:.0f}")
    return HandIn(parts, when, read())


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
