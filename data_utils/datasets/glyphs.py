"""Glyphs: a few-shot dataset of more than 500 printed characters, shipped with the package.

Each class is a letter or digit of one script, with 20 images of 28×28 pixels. Ink is 255 and paper 0, as in MNIST;
Omniglot has to be inverted to match. Training, validation and test classes share no script, and no two classes look
alike, in whatever script. `data_utils.rendering.render_glyphs` made the file and can make it again.

The characters are rendered from the typefaces that matplotlib ships: DejaVu (Bitstream Vera licence) and STIX (SIL
Open Font License). Both licences permit images of text without conditions; no font is part of this package.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch

from ..images import ImageClasses

FILE = Path(__file__).with_name("glyphs.npz")
SHA256 = "cb82b76fb25df0a1394f6b1a60b84fd30b7b02bdfceaaf7bf557d30971b2be71"

SCRIPTS = {
    "train": ("Latin", "Cyrillic", "Georgian", "Canadian syllabics"),
    "val": ("Armenian", "Hebrew", "NKo"),
    "test": ("Greek", "Arabic", "Lao", "Tifinagh"),
}


def scripts(split: str) -> tuple[str, ...]:
    """The scripts whose characters make up a split.

    Raises:
        ValueError: if split is none of "train", "val" and "test".
    """
    if split not in SCRIPTS:
        raise ValueError(f"split must be one of {', '.join(SCRIPTS)}, not {split!r}")
    return SCRIPTS[split]


def load(split: str) -> ImageClasses:
    """The classes of one split, 20 images each, named like "Greek/alpha" (small) and "Greek/Omega" (capital).

    Images are (N, 1, 28, 28) uint8, ink 255 on paper 0.

    Args:
        split: "train", "val" or "test".

    Raises:
        ValueError: if split is another word, or the shipped file is damaged.
    """
    members = scripts(split)
    with np.load(io.BytesIO(_checked(FILE)), allow_pickle=False) as archive:
        names, images = archive["names"].tolist(), torch.from_numpy(archive["images"])  # images (classes, 20, 28, 28)
    groups = zip(names, images.unsqueeze(2), strict=True)
    return ImageClasses.from_groups((name, stack) for name, stack in groups if name.partition("/")[0] in members)


def _checked(file: Path) -> bytes:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{file} is damaged: its SHA-256 is {digest}, not {SHA256}; install the package anew")
    return content
