"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum: Human-level concept learning through probabilistic program
induction. Science 350 (2015), 1332-1338. Data: https://github.com/brendenlake/omniglot, MIT licence,
Copyright (c) 2015 Brenden Lake.

Images are (1, 28, 28) uint8 with ink 255 on paper 0. The rule: the 105 x 105 drawing is inverted, resized in float32
with ``torchvision.transforms.v2.functional.resize`` (bilinear, ``antialias=True``), and rounded to the nearest byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..files.download import Source, fetch
from ..images import ImageClasses
from ..store.convert import NewSplit, open_or_convert
from .catalogue import terms
from .omniglot_files import DRAWERS, Drawings, digest_of, find_places, read_drawings

SIDE = 28  # pixels
RULE = "inverted, bilinear with antialiasing in float32 to 28 x 28, rounded; version 1"
SMALL_SPLITS = {
    "train": ("Balinese", "Early_Aramaic", "Greek", "Latin"),
    "val": ("Korean",),
    "test": ("Japanese_(katakana)", "Sanskrit", "Tagalog"),
}


def _source(name: str, size: int, sha256: str) -> Source:
    repository = "brendenlake/omniglot"
    urls = (
        f"https://raw.githubusercontent.com/{repository}/master/python/{name}.zip",
        f"https://github.com/{repository}/raw/master/python/{name}.zip",
    )
    return Source(f"{name}.zip", urls, size, sha256)


# Sizes and checksums as TensorFlow Datasets lists them for the same files.
SOURCES = {
    "images_background": _source(
        "images_background", 9_464_212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"
    ),
    "images_evaluation": _source(
        "images_evaluation", 6_462_886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"
    ),
    "images_background_small1": _source(
        "images_background_small1", 1_319_022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"
    ),
    "images_background_small2": _source(
        "images_background_small2", 1_580_917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"
    ),
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

    Raises:
        ValueError: if there is no such split, or the data at ``path`` is incomplete or damaged.
        FileNotFoundError: if there is nothing at ``path``.
        DownloadError: if the archives cannot be downloaded.
        StoreError: if the converted images cannot be written.
    """
    listed = {name: _listed(name) for name in ("train", "val", "test")}
    everything = [member for members in listed.values() for member in members]
    for part in ("background", "evaluation"):
        listed[part] = [member for member in everything if member.startswith(f"images_{part}/")]
    _check_split("omniglot", split, listed)
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

    Raises:
        ValueError, FileNotFoundError, DownloadError, StoreError: as in `load`.
    """
    _check_split("omniglot_small", split, SMALL_SPLITS)
    everything = [member.split("/", 1)[1] for name in ("train", "val", "test") for member in _listed(name)]
    classes = [name for name in everything if name.split("/")[0] in SMALL_SPLITS[split]]
    part = "images_background_small2" if split == "test" else "images_background_small1"
    return _load("omniglot_small", split, classes, [part], path)


def _listed(split: str) -> list[str]:
    """The lines ``part/Alphabet/characterNN`` of a shipped class list."""
    file = Path(__file__).with_name("splits") / f"omniglot_vinyals_{split}.txt"
    return file.read_text(encoding="utf-8").split()


def _check_split(dataset: str, split: str, known: dict[str, list[str]] | dict[str, tuple[str, ...]]) -> None:
    if split not in known:
        raise ValueError(f"{dataset} has no split {split!r}; it has {', '.join(known)}")


def _load(dataset: str, split: str, classes: list[str], parts: list[str], path: str | Path | None) -> ImageClasses:
    expected = tuple(sorted(classes))
    sources = [SOURCES[part] for part in parts]
    places: list[Path] = []
    if path is None:
        # The key is that of the archives themselves, which therefore need not be read, or be there, a second time.
        key = hashlib.sha256("".join(f"{source.sha256}\n" for source in sources).encode()).hexdigest()
        origin = [source.urls[0] for source in sources]
    else:
        places = find_places(Path(path).expanduser(), [source.name for source in sources])
        key = digest_of(places, expected)
        origin = [str(place.absolute()) for place in places]

    def convert(new_split: NewSplit) -> None:
        found = places or [fetch(source) for source in sources]
        _convert(found, expected, f"converting {dataset} {split}", new_split)

    return open_or_convert(dataset, split, key, RULE, expected, convert, {"source": origin} | terms(dataset))


def _convert(places: Sequence[Path], expected: tuple[str, ...], doing: str, new_split: NewSplit) -> None:
    found = set()
    with new_split(expected, [DRAWERS] * len(expected), (1, SIDE, SIDE)) as writer:
        for name, drawings in tqdm(read_drawings(places, expected), doing, len(expected), unit=" classes"):
            found.add(name)
            for image in _shrink(drawings):
                writer.put(expected.index(name), image)
        missing = [name for name in expected if name not in found]
        if missing:
            raise ValueError(
                f"{', '.join(map(str, places))}: {len(found)} of the {len(expected)} expected characters were found; "
                f"the first one missing is {missing[0]}. Expected are the official archives, the unpacked folder "
                f"images_background/Alphabet/character01/*.png, or a zip file of it."
            )


def _shrink(drawings: Drawings) -> npt.NDArray[np.uint8]:
    """(20, 105, 105) uint8 with ink 0 to (20, 1, 28, 28) uint8 with ink 255."""
    from torchvision.transforms.v2.functional import resize  # takes seconds to import, and a second load needs none

    ink = 255 - torch.tensor(drawings).unsqueeze(1).float()  # (20, 1, 105, 105)
    small: Tensor = resize(ink, [SIDE, SIDE], antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).numpy()
