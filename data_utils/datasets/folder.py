"""Your own images: a folder with one folder per class, image files of any size in it.

Which classes are for training, validation and testing is said by, in this order,

1. lists ``train.txt``, ``val.txt``, ``test.txt`` in the folder, or in another one (``lists=``): one class name a line;
2. folders ``train/``, ``val/``, ``test/`` that hold the class folders;
3. otherwise a draw by ``ratios`` and ``seed``.

No class may be in two splits. Classes may differ in size. The terms of use are those of your images.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from ..images import ImageClasses
from ..store.convert import NewSplit, open_or_convert
from . import class_folders
from .class_folders import existing, read_image

SPLITS = ("train", "val", "test")
SUFFIXES = (*class_folders.SUFFIXES, ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".tga", ".jp2")

Groups = dict[str, list[Path]]  # class name: image files


def load(
    split: str,
    path: str | Path | None = None,
    size: int = 84,
    mode: Literal["RGB", "L"] = "RGB",
    ratios: Sequence[float] = (0.64, 0.16, 0.20),
    seed: int = 0,
    lists: str | Path | None = None,
) -> ImageClasses:
    """One split of your own images; classes and images in the order of their names.

    Images are (C, size, size) uint8, resized by the rule in `class_folders`: bicubic, without keeping the aspect
    ratio. Of an animation the first picture is taken.

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
    if split not in (*SPLITS, "all"):
        raise ValueError(f"folder has no split {split!r}; it has {', '.join(SPLITS)}, all")
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
    rule = f"{class_folders.rule(size)}; mode {mode}"
    key = hashlib.sha256(f"{class_folders.key_of(place, groups)} {rule}".encode()).hexdigest()

    def convert(new_split: NewSplit) -> None:
        _convert(groups, size, mode, f"converting {place.name} {split}", new_split)

    provenance = {"source": str(place), "licence": "that of your own images"}
    return open_or_convert("folder", split, key, rule, tuple(groups), convert, provenance)


def _convert(groups: Groups, size: int, mode: Literal["RGB", "L"], doing: str, new_split: NewSplit) -> None:
    counts = [len(files) for files in groups.values()]
    channels = 3 if mode == "RGB" else 1
    with new_split(list(groups), counts, (channels, size, size)) as writer, tqdm(None, doing, sum(counts)) as bar:
        for label, files in enumerate(groups.values()):
            for file in files:
                writer.put(label, read_image(file, size, mode))
                bar.update()


def _splits(place: Path, ratios: Sequence[float], seed: int, lists: Path) -> dict[str, Groups]:
    if any((lists / f"{name}.txt").is_file() for name in SPLITS):
        return _by_lists(_class_folders(place), lists)
    if lists != place:
        raise FileNotFoundError(f"there is no train.txt, val.txt or test.txt in {lists}")
    by_folder = {name: groups for name in SPLITS if (groups := _class_folders(place / name))}
    return by_folder or _by_ratio(_class_folders(place), ratios, seed)


def _class_folders(place: Path) -> Groups:
    if not place.is_dir():
        return {}
    with os.scandir(place) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    found = {name: sorted(file for file in (place / name).iterdir() if _is_image(file.name)) for name in folders}
    return {name: files for name, files in found.items() if files}


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")  # a leading dot: other systems' litter


def _by_lists(groups: Groups, lists: Path) -> dict[str, Groups]:
    splits = {}
    for split in SPLITS:
        file = lists / f"{split}.txt"
        if not file.is_file():
            continue
        names = {line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
        missing = sorted(names - groups.keys())
        if missing:
            raise ValueError(f"{file} lists {missing[0]!r}, of which there are no images ({len(missing)} such classes)")
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
