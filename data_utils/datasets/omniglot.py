"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum, Science 350 (2015), 1332-1338; terms in `catalogue`.

Images are (1, 28, 28) uint8 with ink 255 on paper 0. The rule: the 105 x 105 drawing is inverted, resized in float32
with ``torchvision.transforms.v2.functional.resize`` (bilinear, ``antialias=True``), and rounded to the nearest byte.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..files.download import fetch
from ..files.image_files import Pixels, decode, tiles
from ..files.sources import Source
from ..files.text_files import read_table
from ..images import ImageClasses
from ..store.convert import NewSplit, Split, open_or_convert
from .catalogue import terms
from .class_folders import (
    DEPTH,
    SPLITS,
    as_folder,
    check_classes,
    check_split,
    existing,
    folders_in,
    image_files,
    key_of,
    write_images,
)

SIDE = 28  # pixels
DRAWN_SIDE = 105  # pixels of a drawing
DRAWERS = 20
RULE = "inverted, bilinear with antialiasing in float32 to 28 x 28, rounded; version 1"
REPACK = "omniglot.zip"
SMALL_SPLITS = {
    "train": ("Balinese", "Early_Aramaic", "Greek", "Latin"),
    "val": ("Korean",),
    "test": ("Japanese_(katakana)", "Sanskrit", "Tagalog"),
}
EXPECTED = (
    "the official archives, their unpacked folder images_background/Alphabet/character01/*.png, or a zip file of it"
)

Drawings = npt.NDArray[np.uint8]  # (20, 105, 105), paper 255 and ink 0


# Sizes and checksums as TensorFlow Datasets lists them for the same files.
_ARCHIVES = {
    "images_background": (9_464_212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
    "images_evaluation": (6_462_886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
    "images_background_small1": (1_319_022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
    "images_background_small2": (1_580_917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
}
_HOMES = ("raw.githubusercontent.com/brendenlake/omniglot/master", "github.com/brendenlake/omniglot/raw/master")
SOURCES = {
    name: Source(f"{name}.zip", tuple(f"https://{home}/python/{name}.zip" for home in _HOMES), size, sha256)
    for name, (size, sha256) in _ARCHIVES.items()
}


def load(split: str, path: str | Path | None = None) -> ImageClasses:
    """All of Omniglot: 20 images of each class, classes in alphabetical order, named ``Alphabet/character01``.

    Splits "train", "val" and "test" have 1,028, 172 and 423 classes, as in O. Vinyals et al.: Matching networks for
    one shot learning (2016), with the class lists published in pytorch-meta. The alphabet Gurmukhi has characters in
    both train and test; no class is in two splits. The lists have no rotated classes: `ImageClasses.with_rotations`
    makes those. Splits "background" (964 classes) and "evaluation" (659) are the official parts.

    Args:
        split: one of the five above.
        path: where the data is, if it shall not be downloaded: a folder with the official archives, the unpacked
            folder (``images_background/Alphabet/character01/*.png``), or one zip file. A repack named ``omniglot.zip``
            with ``index.csv`` and one sheet per alphabet is understood too.

    Raises: as `data_utils.load`.
    """
    listed = {name: _listed(name) for name in SPLITS}
    everything = [member for members in listed.values() for member in members]
    for part in ("background", "evaluation"):
        listed[part] = [member for member in everything if member.startswith(f"images_{part}/")]
    check_split("omniglot", split, listed)
    parts = sorted({member.split("/")[0] for member in listed[split]})
    return _load("omniglot", split, [member.split("/", 1)[1] for member in listed[split]], parts, path)


def load_small(split: str, path: str | Path | None = None) -> ImageClasses:
    """Omniglot's two small archives of five alphabets each: 2.9 MB to download instead of 15.9 MB.

    Splits "train" (Balinese, Early Aramaic, Greek, Latin: 96 classes), "val" (Korean: 40) and "test" (katakana,
    Sanskrit, Tagalog: 106) share no alphabet. Greek and Latin are in both archives, with identical images, and are
    taken from the first one. So train and val need ``images_background_small1.zip`` only, and test needs
    ``images_background_small2.zip`` only.

    Args:
        split: one of the three above.
        path: as in `load`.

    Raises: as `data_utils.load`.
    """
    check_split("omniglot_small", split)
    everything = [member.split("/", 1)[1] for name in SPLITS for member in _listed(name)]
    classes = [name for name in everything if name.split("/")[0] in SMALL_SPLITS[split]]
    part = "images_background_small2" if split == "test" else "images_background_small1"
    return _load("omniglot_small", split, classes, [part], path)


def _listed(split: str) -> list[str]:
    """The lines ``part/Alphabet/characterNN`` of a shipped class list."""
    file = Path(__file__).with_name("splits") / f"omniglot_vinyals_{split}.txt"
    return file.read_text(encoding="utf-8").split()


def _load(dataset: str, split: str, names: list[str], parts: list[str], path: str | Path | None) -> ImageClasses:
    classes = tuple(sorted(names))
    sources = [SOURCES[part] for part in parts]
    places = [] if path is None else _find_places(existing(path), [source.name for source in sources])
    # The key of a download is that of its archives, which therefore need not be read, or be there, a second time.
    keys = [_key_of(place, classes) for place in places] or [str(source.sha256) for source in sources]
    key = hashlib.sha256("".join(f"{key}\n" for key in keys).encode()).hexdigest()
    origin = [str(place) for place in places] or [source.urls[0] for source in sources]

    def convert(new_split: NewSplit) -> None:
        archives = places or [fetch(source) for source in sources]
        with as_folder(archives, _wanted(classes), new_split) as folder:
            write_images(
                new_split,
                dict.fromkeys(classes, DRAWERS),
                _images(folder, classes, ", ".join(map(str, archives))),
                (1, SIDE, SIDE),
                f"converting {dataset} {split}",
            )

    return open_or_convert(Split(dataset, split, key, RULE, classes), convert, {"source": origin} | terms(dataset))


def _find_places(path: Path, archives: Sequence[str]) -> list[Path]:
    """What to read, from what the user named: archives, or one folder in the official layout."""
    return [path / name for name in (*archives, REPACK) if (path / name).is_file()] or [path]


def _key_of(place: Path, classes: Sequence[str]) -> str:
    return key_of(place, _character_folders(place, classes) if place.is_dir() else None)


def _wanted(classes: Sequence[str]) -> Callable[[PurePosixPath], bool]:
    alphabets = {name.split("/")[0] for name in classes}

    def wanted(name: PurePosixPath) -> bool:
        sheet = name.stem in alphabets or name.name == "index.csv"
        return not name.name.startswith(".") and (sheet or "/".join(name.parts[-3:-1]) in classes)

    return wanted


def _images(folder: Path, classes: Sequence[str], where: str) -> Iterator[tuple[str, Pixels]]:
    present = set()
    for name, drawings in read_drawings(folder, classes):
        present.add(name)
        yield from ((name, image) for image in _shrink(drawings))
    check_classes(present, classes, where, EXPECTED)


def read_drawings(folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, Drawings]]:
    """The characters in a folder, as (class name, (20, 105, 105) uint8); paper is 255, ink 0.

    Raises:
        ValueError: if a character has not exactly 20 drawings, or one is damaged or of another size; it is named.
    """
    groups = _character_folders(folder, classes)
    for name, files in groups.items():
        if len(files) != DRAWERS:
            raise ValueError(f"{name} has {len(files)} drawings, not {DRAWERS}")
        drawings = [tiles(decode(file, "L"), str(file), 1, 1, DRAWN_SIDE, DRAWN_SIDE) for file in files]
        yield name, np.concatenate(drawings)
    if (folder / "index.csv").is_file():
        yield from _read_sheets(folder, [name for name in classes if name not in groups])


def _character_folders(folder: Path, classes: Sequence[str]) -> dict[str, list[Path]]:
    """The drawings of each character; one that is in two places is taken from the first."""
    alphabets, homes, level = {name.split("/")[0] for name in classes}, list[Path](), [folder]
    for _ in range(DEPTH):
        level = sorted(inner for outer in level for inner in folders_in(outer))
        homes += [home for home in level if home.name in alphabets]
        level = [home for home in level if home.name not in alphabets]
    groups: dict[str, list[Path]] = {}
    for home in homes:
        for character in sorted(folders_in(home)):
            groups.setdefault(f"{home.name}/{character.name}", image_files(character))
    return {name: groups[name] for name in classes if groups.get(name)}


def _read_sheets(folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, Drawings]]:
    """Sheets ``part/Alphabet.png``: one character a row, one drawer a column; ``index.csv`` says which row is whose."""
    index = folder / "index.csv"
    sheets: dict[str, dict[str, str]] = defaultdict(dict)  # file: row: class
    for row in read_table(index, "part", "alphabet", "row", "character"):
        sheet = sheets[f"{row['part']}/{row['alphabet']}.png"]
        if row["row"] in sheet:
            raise ValueError(f"{index} has two characters in row {row['row']} of {row['alphabet']}")
        sheet[row["row"]] = f"{row['alphabet']}/{row['character']}"
    for file, names in sheets.items():
        if not set(names.values()).intersection(classes):
            continue
        if names.keys() != set(map(str, range(len(names)))):
            raise ValueError(f"{index} does not give each row of {file}, from 0 to {len(names) - 1}, one character")
        grid = tiles(decode(folder / file, "L"), file, len(names) * DRAWERS, DRAWERS, DRAWN_SIDE, DRAWN_SIDE)
        rows = grid.reshape(len(names), DRAWERS, DRAWN_SIDE, DRAWN_SIDE)
        yield from ((name, rows[int(row)]) for row, name in names.items() if name in classes)


def _shrink(drawings: Drawings) -> npt.NDArray[np.uint8]:
    """(20, 105, 105) uint8 with ink 0 to (20, 1, 28, 28) uint8 with ink 255."""
    from torchvision.transforms.v2.functional import resize  # takes seconds to import, and a second load needs none

    ink = 255 - torch.tensor(drawings).unsqueeze(1).float()  # (20, 1, 105, 105)
    small: Tensor = resize(ink, [SIDE, SIDE], antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).numpy()
