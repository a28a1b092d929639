"""Renders the glyph dataset from the typefaces that matplotlib ships.

::

    python -m data_utils.rendering.render_glyphs           # writes glyphs.npz and prints its SHA-256
    python -m data_utils.rendering.render_glyphs --check   # renders anew and compares with the shipped file

Every image starts from a glyph 160 pixels per em in size, in one of the typefaces that have the character. The stroke
is made thicker or thinner, the shape is turned, sheared, stretched and bent, and the result is placed at a random
size and position on 28×28 pixels, inside a margin of one pixel that only faint edge pixels may touch. Each class has
its own random stream, seeded by its code point, so that one class can be rendered without the others.

The check has a tolerance because the grey value of edge pixels depends on FreeType's rasteriser and on SciPy's
interpolation, and either may change a little from version to version; FreeType 2.13 and 2.14 give identical images.
A class passes if the mean absolute difference over its pixels is at most 2 of 255 and at most 1 % of its pixels
differ by more than 64. The list of classes has to be the same.
"""

from __future__ import annotations

import argparse
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..datasets import glyphs
from .glyph_characters import candidates, class_name, draw, faces_with, keep_distinct, script_of

Array = NDArray[np.float64]

SIZE = 28  # pixels, each side of a final image
FINE = 4  # fine pixels per final pixel, each side
IMAGES = 20  # per class
LEVELS = 16  # grey levels kept, for a smaller file
SEED = 1  # of all random streams, together with the code point

WEIGHT = 0.3  # strokes grow or shrink by up to this share of their half-width
TURN = 16  # degrees, at most, either way
SHEAR = 0.3
STRETCH = 0.25  # natural logarithm of the largest change of aspect ratio
BEND = 0.06  # largest displacement of a grid point of the elastic distortion, as a share of the glyph's size
SMALLEST, LARGEST = 17, 24  # pixels: longer side of the ink
SHIFT = 2  # pixels, at most, from the centre, in both directions

MEAN_TOLERANCE = 2.0  # of 255, over the pixels of a class
FAR, FAR_SHARE = 64, 0.01  # share of a class's pixels allowed to differ by more than FAR


@cache
def _distances(character: str, face: str) -> Array:
    """(144, 144): signed distance to the outline, positive inside; the glyph's longer side is 72, in the middle."""
    ink = draw(character, face)
    scale = max(ink.shape) / 72
    middle = (np.array(ink.shape) - 1) / 2
    offset = middle - scale * 71.5
    inside = ndimage.affine_transform(ink, np.diag([scale, scale]), offset, output_shape=(144, 144), order=1) > 0.5
    return ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)


def _uniform(rng: np.random.Generator, largest: float) -> float:
    return largest * (2 * float(rng.random()) - 1)


def _bend(rng: np.random.Generator) -> Array:
    """(2, 144, 144): smooth displacements in fine pixels, cubic between the points of a 5×5 grid."""
    grid = 72 * BEND * (2 * rng.random((2, 5, 5)) - 1)
    return np.stack([ndimage.zoom(plane, 144 / 5, order=3, mode="nearest", grid_mode=True) for plane in grid])


def _warp(rng: np.random.Generator) -> Array:
    """(2, 2): rotation · shear · stretch, of determinant 1."""
    angle, shear, stretch = np.radians(_uniform(rng, TURN)), _uniform(rng, SHEAR), np.exp(_uniform(rng, STRETCH) / 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.array([[1, 0], [shear, 1]]) @ np.diag([stretch, 1 / stretch])


def _distort(distances: Array, rng: np.random.Generator) -> Array:
    """(144, 144): the signed distances of the thickened, warped and bent glyph."""
    half_width = 2 * distances[distances > 0].mean()
    heavier = distances + WEIGHT * _uniform(rng, half_width)
    centred = np.indices((144, 144)) - 71.5
    sources = np.tensordot(_warp(rng), centred, axes=1) + 71.5 + _bend(rng)
    return ndimage.map_coordinates(heavier, sources, order=1, mode="nearest")


def _place(distances: Array, rng: np.random.Generator) -> Array:
    """(28, 28) in [0, 1]: the ink, wholly inside the image, at a random size and position."""
    rows, columns = ndimage.find_objects((distances > -0.5).astype(np.int64))[0]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    longer = SMALLEST + (LARGEST - SMALLEST) * float(rng.random())
    scale = max(height, width) / (longer * FINE)  # source pixels per fine pixel
    room = (SIZE - 2 - np.array([height, width]) / scale / FINE) / 2  # pixels to each side
    shift = np.clip([_uniform(rng, SHIFT), _uniform(rng, SHIFT)], -room, room) * FINE
    middle = np.array([rows.start + rows.stop - 1, columns.start + columns.stop - 1]) / 2
    offset = middle - scale * ((SIZE * FINE - 1) / 2 + shift)
    shape = (SIZE * FINE, SIZE * FINE)
    fine = ndimage.affine_transform(distances, np.diag([scale, scale]), offset, shape, order=1, mode="nearest")
    ink = np.clip(fine / scale + 0.5, 0, 1)
    return ink.reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))


def render(character: str) -> NDArray[np.uint8]:
    """(20, 28, 28) uint8: all images of a class, ink 255 on paper 0, in 16 grey levels."""
    rng = np.random.default_rng([SEED, ord(character)])
    faces = faces_with(character)
    images = []
    for _ in range(IMAGES):
        face = faces[int(rng.random() * len(faces))]
        images.append(_place(_distort(_distances(character, face), rng), rng))
    step = 255 // (LEVELS - 1)
    return (np.rint(np.stack(images) * (LEVELS - 1)) * step).astype(np.uint8)


def choose() -> list[str]:
    """The characters of all classes, ordered by split, script and code point."""
    order = [script for group in glyphs.SCRIPTS.values() for script in group]
    return sorted(keep_distinct(candidates()), key=lambda character: (order.index(script_of(character)), character))


def difference(images: NDArray[np.uint8], shipped: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean absolute difference of two equally shaped stacks of images, and share of pixels further apart than FAR."""
    gap = np.abs(images.astype(np.int64) - shipped)
    return float(gap.mean()), float((gap > FAR).mean())


def write(file: Path) -> None:
    """Render all classes into ``file`` and print its SHA-256, the constant in `data_utils.datasets.glyphs`."""
    characters = choose()
    names = np.array([class_name(character) for character in characters])
    code_points = np.array([ord(character) for character in characters], dtype=np.int32)
    images = np.stack([render(character) for character in characters])  # (classes, 20, 28, 28)
    np.savez_compressed(file, names=names, code_points=code_points, images=images)
    print(f"{file}: {len(names)} classes, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}")


def check(file: Path) -> list[str]:
    """What differs between ``file`` and a new rendering, one line for each class; empty if all is within tolerance."""
    with np.load(file, allow_pickle=False) as archive:
        shipped = dict(zip(archive["code_points"].tolist(), archive["images"], strict=True))
    chosen = [ord(character) for character in choose()]
    faults = [f"U+{point:04X} is chosen now or in the file, not both" for point in shipped.keys() ^ set(chosen)]
    for point in chosen:
        if point not in shipped:
            continue
        mean, share = difference(render(chr(point)), shipped[point])
        if mean > MEAN_TOLERANCE or share > FAR_SHARE:
            faults.append(f"{class_name(chr(point))}: mean difference {mean:.2f}, {share:.2%} of pixels far apart")
    return faults


def main(arguments: list[str] | None = None) -> None:
    """The command line; exits with status 1 if the check fails."""
    parser = argparse.ArgumentParser(description="Render the glyph dataset, or check the shipped file.")
    parser.add_argument("--out", type=Path, default=glyphs.FILE, help="file to write, or to check")
    parser.add_argument("--check", action="store_true", help="render anew and compare with the file")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.out)
        return
    faults = check(options.out)
    print("\n".join(faults) or f"{options.out} agrees with a new rendering")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
