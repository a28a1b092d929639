"""The images of a dataset in the shape that a network wants."""

from __future__ import annotations

import importlib
import inspect

import torch
from torch import Tensor

from data_utils import LOADERS, ImageClasses, load

CHUNK = 2000  # images resized at a time


def has_size(dataset: str) -> bool:
    """Whether the dataset itself is converted at a chosen size."""
    module, function = LOADERS[dataset]
    loader = getattr(importlib.import_module(f"data_utils.{module}"), function)
    return "size" in inspect.signature(loader).parameters


def load_images(dataset: str, split: str, size: int | None = None, channels: int | None = None) -> ImageClasses:
    """The images of a split.

    A dataset that leaves no choice of size is resized in memory: bicubic, with antialiasing.

    Args:
        dataset, split: see `data_utils.load`.
        size: height and width in pixels; None: as the dataset has it.
        channels: of the network; grey images become RGB where it wants three.

    Raises:
        ValueError: if colour images are to become grey; and see `data_utils.load`.
    """
    data = load(dataset, split, size=size) if size is not None and has_size(dataset) else load(dataset, split)
    images = data.images
    if size is not None and images.shape[-1] != size:
        images = resized(images, size)
    if channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if channels is not None and images.shape[1] != channels:
        raise ValueError(f"the network takes {channels} channel(s), and {dataset} has {images.shape[1]}")
    return data if images is data.images else ImageClasses(images, data.labels, data.names)


def resized(images: Tensor, size: int) -> Tensor:
    """(N, C, H, W) uint8 to (N, C, size, size) uint8."""
    from torchvision.transforms.v2.functional import InterpolationMode, resize  # takes seconds to import

    parts = [resize(part, [size, size], InterpolationMode.BICUBIC, antialias=True) for part in images.split(CHUNK)]
    return torch.cat(parts)
