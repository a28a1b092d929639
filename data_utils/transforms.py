"""Normalisation and augmentation of images, with the settings of published code under names.

>>> sampler = TaskSampler(train, transform=preset("imagenet"))

A sampler without ``transform`` gives images in [0, 1]; nothing is normalised or augmented unless it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """Subtract the mean of each channel and divide by the deviation, of images in [0, 1].

    Args:
        mean: one number per channel.
        deviation: one number per channel.
        paper_is_white: these numbers are for white paper; this package has black paper, so images are inverted first.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    paper_is_white: bool = False


NORMALISATIONS: dict[str, Normalisation | None] = {
    "none": None,  # CxGrad for miniImageNet, tieredImageNet and CUB; BOIL, ProtoNet
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # L2F, ALFA, MAML++, CAVIA, ModGrad
    # CxGrad for CIFAR-FS, where the released code normalises the test images only, not those it trains on.
    "cifar_cxgrad": Normalisation((0.5071, 0.4847, 0.4408), (0.2675, 0.2565, 0.2761)),
    "relationnet": Normalisation((0.92206,), (0.08426,), paper_is_white=True),  # RelationNet for Omniglot
}
AUGMENTATIONS = ("none", "flip", "crop_flip_jitter")


@dataclass(frozen=True)
class Preset:
    """What `preset` returns. Augmentations draw on the host, so no CUDA graph can hold them (``is_random``)."""

    normalisation: Normalisation | None
    augmentation: str

    @property
    def is_random(self) -> bool:
        return self.augmentation != "none"

    def __call__(self, images: Tensor) -> Tensor:
        augmented = _augment(images, self.augmentation)
        return augmented if self.normalisation is None else _normalise(augmented, self.normalisation)


def preset(normalisation: str = "none", augmentation: str = "none") -> Preset:
    """A transform of float images (n, C, H, W) in [0, 1], for ``TaskSampler(transform=...)``.

    Args:
        normalisation: "none"; "imagenet" (means and deviations of ImageNet, as in L2F, ALFA, MAML++, CAVIA and
            ModGrad); "cifar_cxgrad" (CIFAR-FS in CxGrad); "relationnet" (Omniglot in RelationNet).
        augmentation: "none", as in all of these; "flip" (left-right, every second image); "crop_flip_jitter" (a
            random part resized to the full image, a flip, and brightness, contrast and saturation changed by up to
            40 %). Each image is changed by itself, drawn from PyTorch's global generator; only for training.

    Raises:
        ValueError: if there is no such preset; and, from the transform, if images have another number of channels.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"there is no normalisation {normalisation!r}; there are {', '.join(NORMALISATIONS)}")
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"there is no augmentation {augmentation!r}; there are {', '.join(AUGMENTATIONS)}")
    chosen = NORMALISATIONS[normalisation]
    return Preset(chosen, augmentation)


def _normalise(images: Tensor, chosen: Normalisation) -> Tensor:
    channels = images.shape[1]
    if channels != len(chosen.mean):
        raise ValueError(f"this normalisation is for {len(chosen.mean)} channels; the images have {channels}")
    right = 1 - images if chosen.paper_is_white else images
    # Channel by channel: torchvision would copy the numbers to the device each time, which a CUDA graph cannot hold.
    pairs = zip(chosen.mean, chosen.deviation, strict=True)
    return torch.stack([(right[:, c] - mean) / deviation for c, (mean, deviation) in enumerate(pairs)], 1)


def _augment(images: Tensor, augmentation: str) -> Tensor:
    if augmentation == "none":
        return images
    from torchvision.transforms import v2

    steps = [v2.RandomHorizontalFlip()]
    if augmentation == "crop_flip_jitter":
        steps = [v2.RandomResizedCrop(images.shape[-2:], antialias=True), *steps, v2.ColorJitter(0.4, 0.4, 0.4)]
    change = v2.Compose(steps)
    return torch.stack([change(image) for image in images])  # one by one: a whole batch would be changed alike
