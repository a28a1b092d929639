"""What the datasets share: the user's copy or a download, classes in folders, and writing them as a converted split."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from ..files.archives import check_no_page, is_archive, unpack
from ..files.image_files import Mode, Pixels, is_image, read_image
from ..store.convert import NewSplit
from ..store.writer import cannot_write

SPLITS = ("train", "val", "test")
DEPTH = 4  # folders below the one named by the user in which class folders are looked for

Groups = dict[str, list[Path]]  # class name: image files


class IncompleteDataset(UserWarning):
    """A dataset is not as published: images are missing or altered, and results with it must be labelled so."""


def rule(size: int) -> str:
    """Name and version of the conversion, as manifests keep it; `files.image_files` describes it."""
    return f"Pillow's bicubic to {size} x {size} without keeping the aspect ratio; version 1"


def check_split(dataset: str, split: str, splits: Iterable[str] = SPLITS) -> None:
    if split not in splits:
        raise ValueError(f"{dataset} has no split {split!r}; it has {', '.join(splits)}")


def class_list(dataset: str, split: str) -> tuple[str, ...]:
    """The classes of a shipped list, in alphabetical order."""
    file = Path(__file__).with_name("splits") / f"{dataset}_{split}.txt"
    return tuple(sorted(file.read_text(encoding="utf-8").split()))


def existing(path: str | Path) -> Path:
    """The absolute path of what the user named.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise FileNotFoundError(f"there is nothing at {place}")
    return place


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries if _is_image_file(entry))]


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    return is_image(entry.name) and entry.is_file()


def class_folders(path: Path) -> Groups:
    """The images of each folder in a folder, both sorted by name; folders without images are left out.

    Raises:
        NotADirectoryError, FileNotFoundError: if there is no such folder.
    """
    groups = {folder.name: image_files(folder) for folder in sorted(folders_in(path))}
    return {name: files for name, files in groups.items() if files}


def find_classes(path: Path, classes: Collection[str]) -> Groups:
    """The image files of certain classes, whose folders may lie up to four levels deep, all of them at the same level.

    Args:
        path: where to look: the parent of the class folders, or of train/, val/ and test/, or a folder above.
        classes: names of the folders.

    Returns:
        The files of each class that is there, sorted by name; classes in the order given.

    Raises:
        ValueError: if a class is in two folders.
    """
    level, groups = [path], Groups()
    for _ in range(DEPTH):
        level = sorted(folder for parent in level for folder in folders_in(parent))
        for folder in level:
            files = image_files(folder) if folder.name in classes else []  # none in train/ of CIFAR's class train
            if files and folder.name in groups:
                raise ValueError(f"class {folder.name} is in two folders, {groups[folder.name][0].parent} and {folder}")
            if files:
                groups[folder.name] = files
        if groups:
            break
    return {name: groups[name] for name in classes if name in groups}


def folders_in(path: Path) -> list[Path]:
    """The folders directly in a folder, hidden ones left out."""
    with os.scandir(path) as entries:
        return [path / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def check_classes(present: Collection[str], classes: Sequence[str], place: Path | str, expected: str) -> None:
    """Refuse data that lack a class.

    Raises:
        ValueError: names the first missing class and says what is ``expected``.
    """
    missing = [name for name in classes if name not in present]
    if missing:
        raise ValueError(
            f"{place}: {len(classes) - len(missing)} of the {len(classes)} classes were found; the first one missing "
            f"is {missing[0]}. Expected is {expected}."
        )


def check_files(table: Path, groups: Groups) -> None:
    """Refuse a list that names image files which are not there."""
    absent = [file for files in groups.values() for file in files if not file.is_file()]
    if absent:
        raise ValueError(f"{table} lists {absent[0].name}, and {len(absent) - 1} more, which are not there")


def write_files(
    new_split: NewSplit, groups: Groups, size: int, title: str, mode: Mode = "RGB", own: bool = False
) -> None:
    """Write the images of files; ``own``: turn photographs as their EXIF data say, which published datasets do not."""
    counts = {name: len(files) for name, files in groups.items()}
    images = ((name, read_image(file, size, mode, upright=own)) for name, files in groups.items() for file in files)
    write_images(new_split, counts, images, (3 if mode == "RGB" else 1, size, size), title)


def write_images(
    new_split: NewSplit,
    counts: Mapping[str, int],
    images: Iterable[tuple[str, Pixels]],
    shape: tuple[int, int, int],
    title: str,
) -> None:
    """Write all images of a split.

    Args:
        new_split: where to.
        counts: how many images each class has, in the order of the labels.
        images: class name and pixels of each one; classes may come in any order.
        shape: (C, H, W) of all of them.
        title: of the progress bar.
    """
    labels = {name: label for label, name in enumerate(counts)}
    with new_split(list(counts), list(counts.values()), shape) as writer:
        for name, pixels in tqdm(images, title, sum(counts.values()), unit=" images"):
            writer.put(labels[name], pixels)


@contextmanager
def as_folder(places: Sequence[Path], wanted: Callable[[PurePosixPath], bool], new_split: NewSplit) -> Iterator[Path]:
    """A folder as it is, or the wanted files of archives, unpacked for the time being.

    Raises:
        ValueError: if a place is neither a folder nor a whole archive; it is named.
    """
    if len(places) == 1 and places[0].is_dir():
        yield places[0]
        return
    with tempfile.TemporaryDirectory(dir=new_split.scratch) as folder:
        for place in places:
            check_no_page(place)
            if not is_archive(place):  # by its name, or by its content
                raise ValueError(f"{place} is neither a folder nor a whole archive (.zip, .tar, .tgz, .tar.gz)")
            try:
                unpack(place, Path(folder), lambda name: wanted(PurePosixPath(name)))
            except OSError as error:  # no space
                raise cannot_write(Path(folder), error) from error
        try:
            yield Path(folder)
        except ValueError as error:  # name the archive, not the temporary folder
            archives = ", ".join(map(str, places))
            raise ValueError(str(error).replace(f"{folder}{os.sep}", f"{archives}: ")) from error


def key_of(place: Path, groups: Mapping[str, Sequence[Path]] | None = None) -> str:
    """Stands for a file, or for the image files of a folder: places, sizes and times of change."""
    digest = hashlib.sha256(os.fsencode(f"{place}\n"))
    for file in [place] if groups is None else [file for files in groups.values() for file in files]:
        state = file.stat()
        digest.update(os.fsencode(f"{file} {state.st_size} {state.st_mtime_ns}\n"))
    return digest.hexdigest()
