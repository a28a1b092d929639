"""Your own images: a folder with one folder per class, image files of any size in it.

Which classes are for training, validation and testing is said by, in this order,

1. lists ``train.txt``, ``val.txt``, ``test.txt`` in the folder, or in another one (``lists=``): one class name a line;
2. folders ``train/``, ``val/``, ``test/`` that hold the class folders;
3. otherwise a draw by ``ratios`` and ``seed``.

No class may be in two splits. Classes may differ in size. The terms of use are those of your images.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

from ..files.image_files import SUFFIXES, Mode
from ..files.text_files import read_lines, readable
from ..images import ImageClasses
from ..store.convert import NewSplit, Split, open_or_convert
from . import class_folders
from .class_folders import SPLITS, Groups, check_split, existing, write_files


def load(
    split: str,
    path: str | Path | None = None,
    size: int = 84,
    mode: Mode = "RGB",
    ratios: Sequence[float] = (0.64, 0.16, 0.20),
    seed: int = 0,
    lists: str | Path | None = None,
) -> ImageClasses:
    """One split of your own images; classes and images in the order of their names.

    Images are (C, size, size) uint8, resized by the rule in `files.image_files`: bicubic, without keeping the aspect
    ratio. Photographs are turned as their EXIF data say, transparent ground becomes white paper, 16 bits are scaled to
    8, and of an animation the first frame is taken, with a warning.

    Args:
        split: "train", "val", "test", or "all" for every class.
        path: the folder.
        size: height and width in pixels.
        mode: "RGB" for three channels, "L" for one (greyscale).
        ratios: shares of classes for train, val and test; they count if there are neither lists nor folders of splits.
        seed: of the draw; the same one gives the same classes as long as no class is added or taken away.
        lists: a folder with ``train.txt``, ``val.txt`` and ``test.txt``, if they are not in ``path``.

    Raises:
        ValueError: if there is no such split, no class with images, a class in two splits, a listed class that is not
            there, an image that cannot be decoded, or an option that makes no sense.
        FileNotFoundError: if there is nothing at ``path`` or ``lists``.
        StoreError: if the converted images cannot be written.
    """
    check_split("folder", split, (*SPLITS, "all"))
    if path is None:
        raise ValueError(
            "a folder of your own images needs path=…, or once: python -m cxgrad_lite data get folder --from DIR"
        )
    if size < 1 or mode not in ("RGB", "L"):
        raise ValueError(f"size must be at least 1 and mode 'RGB' or 'L', not {size} and {mode!r}")
    place = existing(path)
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder of class folders")
    groups = _choose(_splits(place, ratios, seed, place if lists is None else existing(lists)), split, place)
    rule = f"{class_folders.rule(size)}; mode {mode}; turned by EXIF data, transparent ground white; version 2"
    key = hashlib.sha256(f"{class_folders.key_of(place, groups)} {rule}".encode()).hexdigest()

    def convert(new_split: NewSplit) -> None:
        write_files(new_split, groups, size, f"converting {place.name} {split}", mode, own=True)

    provenance = {"source": readable(str(place)), "licence": "that of your own images"}
    return open_or_convert(Split("folder", split, key, rule, tuple(groups)), convert, provenance)


def _splits(place: Path, ratios: Sequence[float], seed: int, lists: Path) -> dict[str, Groups]:
    if any((lists / f"{name}.txt").is_file() for name in SPLITS):
        return _by_lists(_class_folders(place), lists)
    if lists != place:
        raise FileNotFoundError(f"there is no train.txt, val.txt or test.txt in {lists}")
    by_folder = {name: _class_folders(place / name) for name in SPLITS if (place / name).is_dir()}
    by_folder = {name: groups for name, groups in by_folder.items() if groups}
    return by_folder or _by_ratio(_class_folders(place), ratios, seed)


def _class_folders(place: Path) -> Groups:
    return {readable(name): files for name, files in class_folders.class_folders(place).items()}


def _by_lists(groups: Groups, lists: Path) -> dict[str, Groups]:
    splits = {}
    for split in [split for split in SPLITS if (lists / f"{split}.txt").is_file()]:
        names = set(read_lines(lists / f"{split}.txt"))
        missing = sorted(names - groups.keys())
        if missing:
            raise ValueError(
                f"{lists / split}.txt lists {missing[0]!r}, of which there are no images ({len(missing)} such classes)"
            )
        splits[split] = {name: groups[name] for name in sorted(names)}
    return splits


def _by_ratio(groups: Groups, ratios: Sequence[float], seed: int) -> dict[str, Groups]:
    if len(ratios) != len(SPLITS) or min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise ValueError(f"ratios are three shares for train, val and test that add up to 1, not {tuple(ratios)}")
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    first = round(len(names) * ratios[0])
    second = first + round(len(names) * ratios[1])
    chosen = {"train": names[:first], "val": names[first:second], "test": names[second:]}
    return {split: {name: groups[name] for name in sorted(members)} for split, members in chosen.items()}


def _choose(splits: dict[str, Groups], split: str, place: Path) -> Groups:
    homes: dict[str, str] = {}
    for home, groups in splits.items():
        for name in groups:
            if name in homes:
                raise ValueError(f"class {name!r} is in both {homes[name]} and {home}; few-shot splits share no class")
            homes[name] = home
    if not homes:
        raise ValueError(
            f"{place} holds no folders with images; expected is {place.name}/<class>/<image>, "
            f"images being {', '.join(SUFFIXES)}"
        )
    if split == "all":
        everything = {name: files for groups in splits.values() for name, files in groups.items()}
        return {name: everything[name] for name in sorted(everything)}
    if not splits.get(split):
        raise ValueError(f"{place} has no classes for {split}: {len(homes)} classes in all")
    return splits[split]
