"""Datasets in torchvision's style, as `ImageClasses`.

>>> birds = from_dataset(torchvision.datasets.ImageFolder("birds", transform=torchvision.transforms.Resize((84, 84))))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .files.image_files import to_bytes
from .images import ImageClasses


def from_dataset(dataset: Any, names: Sequence[str] | None = None) -> ImageClasses:
    """All images of a dataset whose items are (image, label), such as those of ``torchvision.datasets``.

    Every item is read once, in order; 60,000 colour images of 84 x 84 pixels take 1.3 GB of memory. Augmentation that
    draws at random belongs in ``TaskSampler(transform=...)``: here each image would be drawn once and for all.

    Args:
        dataset: has a length; its items are (image, label), the image a Pillow image, or a tensor (C, H, W) or (H, W)
            of uint8 or of floats in [0, 1]; the label an integer. All images have one size.
        names: the class of label i is ``names[i]``; by default ``dataset.classes`` if there is one, else the numbers.
            Labels that do not occur are left out.

    Raises:
        ValueError: if the dataset is empty or has no length, a label is no integer or has no name, or an image has
            another type or another size than the first; the item is named.
    """
    count = len(dataset) if hasattr(dataset, "__len__") else 0
    if not count:
        raise ValueError(f"{type(dataset).__name__} has no items that can be counted, so there are no classes to draw")
    images, labels = torch.empty(0, dtype=torch.uint8), torch.empty(count, dtype=torch.int64)
    for index in range(count):
        pixels, labels[index] = _item(dataset[index], index)
        if not index:
            images = torch.empty(count, *pixels.shape, dtype=torch.uint8)  # (N, C, H, W)
        if pixels.shape != images.shape[1:]:
            shapes = f"{tuple(pixels.shape)}, and image 0 {tuple(images.shape[1:])}"
            raise ValueError(
                f"image {index} has shape {shapes}: all have to be alike, in size by "
                f"transform=torchvision.transforms.Resize((84, 84)), and either in colour or in grey"
            )
        images[index] = pixels
    present, numbers = labels.unique(return_inverse=True)
    order = numbers.argsort(stable=True)
    return ImageClasses(images[order], numbers[order], _names(dataset, names, present.tolist()))


def _item(item: Any, index: int) -> tuple[Tensor, int]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ValueError(f"item {index} is a {type(item).__name__}, not a pair (image, label)")
    image, label = item
    whole = isinstance(label, Tensor) and label.ndim == 0 and not (label.is_floating_point() or label.is_complex())
    if not (whole or isinstance(label, (int, np.integer))) or isinstance(label, bool):
        raise ValueError(f"the label of item {index} is {label!r}; labels have to be integers, one for each image")
    return _pixels(image, index), int(label)


def _pixels(image: Any, index: int) -> Tensor:
    """(C, H, W) uint8."""
    if isinstance(image, Image.Image):
        image = to_bytes(image)
        array = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        return torch.from_numpy(array.copy().reshape(*array.shape[:2], -1)).permute(2, 0, 1)
    if not isinstance(image, Tensor) or image.ndim not in (2, 3):
        raise ValueError(f"image {index} is a {type(image).__name__}, not a Pillow image or a tensor (C, H, W)")
    if image.is_floating_point():
        if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                f"image {index} has floats outside [0, 1]: normalise in TaskSampler(transform=...) instead"
            )
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ValueError(f"image {index} is {image.dtype}, not uint8 or floats in [0, 1]")
    return image if image.ndim == 3 else image.unsqueeze(0)


def _names(dataset: Any, names: Sequence[str] | None, labels: list[int]) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None) if names is None else names
    if names is None:
        return tuple(map(str, labels))
    if isinstance(names, str) or labels[0] < 0 or labels[-1] >= len(names):
        raise ValueError(f"the labels are {labels[0]} … {labels[-1]}; names needs one for each, not {str(names)[:80]}")
    return tuple(str(names[label]) for label in labels)
