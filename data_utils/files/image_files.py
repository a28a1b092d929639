"""Image files as people have them, decoded into bytes of one or three channels.

Sizes follow the released code of CxGrad: Pillow's bicubic ``resize`` to a square, without keeping the aspect ratio,
through ``torchvision.transforms.v2``; an image that has the size already is taken as it is.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".tga", ".jp2"),
)
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF
_FAULTS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)  # Pillow's, for damaged files

Mode = Literal["RGB", "L"]
Pixels = npt.NDArray[np.uint8]  # (C, H, W)


def is_image(name: str) -> bool:
    """Whether a file name is that of an image; hidden files (._x.png) are not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def skipped(folder: Path) -> Counter[str]:
    """How many files below a folder no loader looks at, by the ending of their names: ``{".heic": 31}``.

    Hidden files are not counted.
    """
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return Counter(file.suffix.lower() or file.name for file in files if not is_image(file.name))


def read_image(source: Path | bytes, size: int, mode: Mode = "RGB", where: str = "", upright: bool = False) -> Pixels:
    """One image as (C, size, size) uint8; C is 3 for mode "RGB" and 1 for "L".

    Args:
        source: a file, or the content of one.
        size: height and width to resize to, by the rule of this module.
        mode: colours to convert to before resizing.
        where: names the image in errors; the file's own path by default.
        upright: turn photographs as their EXIF data say; the published datasets are used without.

    Raises:
        ValueError: if the image cannot be decoded, or its pixels have no known white; it is named.
    """
    return fit(decode(source, mode, where, upright), size)


def decode(source: Path | bytes, mode: Mode = "RGB", where: str = "", upright: bool = False) -> Image.Image:
    """One image as Pillow has it; arguments and errors as for `read_image`."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return to_bytes(ImageOps.exif_transpose(image) if upright else image).convert(mode)
    except _FAULTS as error:
        raise ValueError(f"{where or (source if isinstance(source, Path) else 'an image')} {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, _Unscaled) else f"cannot be decoded: {error}"


class _Unscaled(ValueError):
    """Pixels whose white is not known."""


def to_bytes(image: Image.Image) -> Image.Image:
    """An image in grey or colour with 8 bits a channel: 16 bits and floats scaled, transparent ground made white.

    Of an animation the first frame is taken, with a warning.

    Raises:
        ValueError: for 32-bit integers, and floats outside [0, 1]: nothing in the file says which number is white.
    """
    # The second picture of a telephone's JPEG file ("MPO") is a preview or a map of brightness, not a frame.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        warnings.warn("animated images or several pages in a file: only the first one is used", stacklevel=2)
    if image.mode[0] in "IF":
        return _scaled(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        ink = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", ink.size, "white"), ink).convert("RGB")
    return image


def _scaled(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.float64)  # (height, width)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise _Unscaled("holds floats outside 0 … 1, so its white is not known: save it with 8 or 16 bits")
        pixels = pixels * 255
    elif image.mode != "I" or image.format in ("PNG", "PPM"):  # "I" is also Pillow's form of their 16 bits
        white = 2.0 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
        pixels = pixels * (255 / white)
        if tags.get(PHOTOMETRIC) == 0:  # white is 0
            pixels = 255 - pixels
    else:
        raise _Unscaled("holds 32-bit integers, so its white is not known: save it with 8 or 16 bits")
    return Image.fromarray(pixels.round().astype(np.uint8))


def fit(image: Image.Image, size: int) -> Pixels:
    """A Pillow image as (C, size, size) uint8, resized by the rule of this module."""
    if image.size != (size, size):
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2.functional import resize  # takes seconds to import, and is not always needed

        image = resize(image, [size, size], InterpolationMode.BICUBIC)
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # (size, size, C)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def tiles(image: Image.Image, where: str, count: int, columns: int, side: int, pitch: int) -> npt.NDArray[np.uint8]:
    """The images on a sheet, row by row: (count, side, side), with a last dimension of 3 for colour.

    Args:
        image: the sheet.
        where: names it in errors.
        count: how many images are on it.
        columns: images in a row.
        side: height and width of an image in pixels.
        pitch: pixels from one image to the next.

    Raises:
        ValueError: if the sheet has another size.
    """
    rows, sheet = -(-count // columns), np.asarray(image)  # (height, width) or (height, width, 3)
    if sheet.shape[:2] != (rows * pitch, columns * pitch):
        raise ValueError(f"{where} has {sheet.shape[:2]} pixels, not {(rows * pitch, columns * pitch)}")
    grid = sheet.reshape(rows, pitch, columns, pitch, *sheet.shape[2:]).swapaxes(1, 2)
    return grid.reshape(rows * columns, pitch, pitch, *sheet.shape[2:])[:count, :side, :side]
