"""Images of many classes in one tensor: the form in which every dataset of this package arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageClasses:
    """Images grouped by class, kept as bytes in one tensor on one device.

    Args:
        images: (N, C, H, W) uint8. Images of one class stand next to each other.
        labels: (N,) int64, ascending, with every class 0 … len(names) - 1 present.
        names: one name per class, none twice; ``names[labels[i]]`` is the class of image i.
        file: what ``images`` is a memory map of, if it is one.

    Raises:
        ValueError: if shapes, types or labels are not as above.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    file: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise ValueError(f"names has to be a list with one name per class, not the string {self.names!r}")
        object.__setattr__(self, "names", tuple(self.names))
        for part in (self.images, self.labels):
            if not isinstance(part, Tensor):
                raise ValueError(f"images and labels must be tensors, not {type(part).__name__}; see torch.as_tensor")
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images must be uint8 of shape (N, C, H, W), "
                f"not {self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        if min(self.images.shape) < 1:
            raise ValueError(f"there are no pixels in images of shape {tuple(self.images.shape)}")
        if self.labels.dtype != torch.int64:
            raise ValueError(f"labels must be int64, not {self.labels.dtype}")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"{len(self.images)} images need as many labels, not {tuple(self.labels.shape)}")
        present, _ = torch.unique_consecutive(self.labels, return_counts=True)
        if present.tolist() != list(range(len(self.names))):
            raise ValueError(f"labels must be ascending and cover 0 … {len(self.names) - 1}, one number per class name")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f"class {twice[0]!r} is there twice; a name stands for one class")

    @classmethod
    def from_groups(cls, groups: Iterable[tuple[str, Tensor]]) -> ImageClasses:
        """Build from (class name, (n, C, H, W) uint8 images) pairs; classes may differ in size."""
        pairs = list(groups)
        if not pairs:
            raise ValueError("there is no class to build from")
        empty = [name for name, stack in pairs if len(stack) == 0]
        if empty:
            raise ValueError(f"class {empty[0]!r} has no images")
        images = torch.cat([stack for _, stack in pairs])
        counts = torch.tensor([len(stack) for _, stack in pairs], device=images.device)
        labels = torch.arange(len(pairs), device=images.device).repeat_interleave(counts)
        return cls(images, labels, tuple(name for name, _ in pairs))

    @cached_property
    def counts(self) -> Tensor:
        """(classes,) int64: how many images each class has."""
        return torch.bincount(self.labels, minlength=len(self.names))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        return (
            f"ImageClasses({len(self.names)} classes, {len(self)} images, "
            f"{channels}×{height}×{width}, {self.images.device})"
        )

    def to(self, device: torch.device | str) -> ImageClasses:
        """The same images on another device."""
        return ImageClasses(self.images.to(device), self.labels.to(device), self.names)

    def of_class(self, name: str) -> Tensor:
        """(n, C, H, W) uint8: all images of one class."""
        if name not in self.names:
            raise ValueError(f"there is no class {name!r}; the first few are {', '.join(self.names[:5])}")
        return self.take(self.labels == self.names.index(name))

    def take(self, rows: Tensor) -> Tensor:
        """(n, C, H, W) uint8 images, by number or by a mask (N,).

        Raises:
            OSError: if the file that they are mapped from has been cut, where reading on would end the program.
        """
        with suppress(FileNotFoundError):  # a file that was deleted can still be read where it is mapped
            if self.file and self.file.stat().st_size < self.images.nbytes:
                raise OSError(f"{self.file} was cut short while it was in use; load the data again to have it remade")
        return self.images[rows]

    def select(self, names: Iterable[str]) -> ImageClasses:
        """Only the named classes, in the order given."""
        return ImageClasses.from_groups((name, self.of_class(name)) for name in names)

    def with_rotations(self) -> ImageClasses:
        """Four classes for each one: turned by 0, 90, 180 and 270 degrees.

        The usual way to enlarge Omniglot (Santoro et al., 2016). Images must be square.
        """
        if self.images.shape[2] != self.images.shape[3]:
            raise ValueError(f"only square images can be turned into new classes, not {tuple(self.images.shape[2:])}")
        classes = len(self.names)
        rotated = torch.cat([torch.rot90(self.images, quarter, (2, 3)) for quarter in range(4)])  # (4N, C, H, W)
        labels = torch.cat([self.labels + quarter * classes for quarter in range(4)])  # (4N,)
        names = tuple(f"{name} turned {90 * quarter}°" for quarter in range(4) for name in self.names)
        return ImageClasses(rotated, labels, names)
