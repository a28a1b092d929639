"""Few-shot tasks, drawn on the device that holds the images."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .images import ImageClasses

Batch = tuple[Tensor, Tensor]  # (images, labels)
Episode = tuple[Batch, Batch]  # (support, query)


class TaskSampler:
    """Draws N-way K-shot episodes from an `ImageClasses`.

    An episode is ``(support, query)``, each of them ``(images, labels)``: images (n, C, H, W) float32 in [0, 1],
    labels (n,) int64 in 0 … ways - 1, class by class; n is ways·shots for the support and ways·queries for the
    query set. Classes, and images within a class, are drawn without replacement; support and query share no image.

    Episodes come from ``generator``, which starts at ``seed``, on the device of the images: the same seed on the same
    kind of device gives the same episodes.

    Args:
        data: where to draw from.
        ways: classes per episode.
        shots: support images per class.
        queries: query images per class.
        tasks_per_batch: episodes in one meta-batch.
        seed: start of the stream of episodes.
        rotations: also use every class turned by 90, 180 and 270 degrees, as three further classes (Omniglot).
        transform: applied to the images of each support and query set, (n, C, H, W) float32 in [0, 1], such as a
            `data_utils.transforms.preset`. One that draws at random does so from PyTorch's global generator, not from
            ``seed``.

    Raises:
        ValueError: if there are fewer classes than ways, or a class has fewer than shots + queries images.
        TypeError: if ``data`` is no `ImageClasses`.
    """

    def __init__(
        self,
        data: ImageClasses,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        tasks_per_batch: int = 4,
        seed: int = 0,
        rotations: bool = False,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not isinstance(data, ImageClasses):
            raise TypeError(
                f"TaskSampler draws from ImageClasses, not from {type(data).__name__}; "
                f"data_utils.from_dataset(dataset) makes them from a dataset of (image, label) pairs"
            )
        sizes = {"ways": ways, "shots": shots, "queries": queries, "tasks_per_batch": tasks_per_batch}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.data = data.with_rotations() if rotations else data
        self.ways, self.shots, self.queries = ways, shots, queries
        self.tasks_per_batch, self.seed, self.rotations = tasks_per_batch, seed, rotations
        self.transform = transform
        self._check_sizes()
        self._first = self.data.counts.cumsum(0) - self.data.counts  # (classes,) row of each class's first image
        self._slots = torch.arange(int(self.data.counts.max()), device=data.images.device)
        self.generator = self._new_generator()
        self._reader: weakref.ref[threading.Thread] | None = None

    @property
    def capturable(self) -> bool:
        """Whether `sample` works on the device alone, so that a CUDA graph can repeat it: no transform with chance."""
        return self.transform is None or not getattr(self.transform, "is_random", True)

    def _check_sizes(self) -> None:
        names, counts = self.data.names, self.data.counts
        if self.ways > len(names):
            raise ValueError(f"{self.ways}-way episodes need {self.ways} classes; there are {len(names)}")
        needed, smallest = self.shots + self.queries, int(counts.argmin())
        if counts[smallest] < needed:
            raise ValueError(
                f"class {names[smallest]!r} has {int(counts[smallest])} images; "
                f"{self.shots} shots + {self.queries} queries need {needed}"
            )

    def _new_generator(self) -> torch.Generator:
        return torch.Generator(self.data.images.device).manual_seed(self.seed)

    def draw(self, generator: torch.Generator, tasks: int) -> Tensor:
        """(tasks, ways, shots + queries) int64: rows of ``data.images``, distinct within a task."""
        data, device = self.data, self.data.images.device
        keys = torch.rand(tasks, len(data.names), generator=generator, device=device)
        classes = keys.topk(self.ways).indices  # (tasks, ways)
        keys = torch.rand(tasks, self.ways, len(self._slots), generator=generator, device=device)
        empty = self._slots >= data.counts[classes].unsqueeze(-1)  # smaller classes fill fewer slots
        keys = keys.masked_fill(empty, -1)
        chosen = keys.topk(self.shots + self.queries).indices  # (tasks, ways, shots + queries)
        return self._first[classes].unsqueeze(-1) + chosen

    def _episode(self, rows: Tensor) -> Episode:
        return self._batch(rows[:, : self.shots]), self._batch(rows[:, self.shots :])

    def _batch(self, rows: Tensor) -> Batch:
        labels = torch.arange(rows.numel(), device=rows.device) // rows.shape[1]  # class by class
        images = self.data.take(rows.flatten()).float() / 255
        return images if self.transform is None else self.transform(images), labels

    def sample(self) -> list[Episode]:
        """The next meta-batch of the stream: ``tasks_per_batch`` episodes.

        Raises:
            RuntimeError: while another thread draws from the same stream, as a panel's does.
        """
        self._claim()
        return [self._episode(rows) for rows in self.draw(self.generator, self.tasks_per_batch)]

    def _claim(self) -> None:
        """Refuse a second reader, for each would get a part of the stream, and neither what its seed says."""
        me, other = threading.current_thread(), self._reader and self._reader()
        if other and other is not me and other.is_alive():
            raise RuntimeError(
                "another thread is drawing from this TaskSampler, perhaps a panel's; wait for it, or make a second "
                "TaskSampler of the same data and seed"
            )
        if me is not threading.main_thread():  # which lives as long as the program
            self._reader = weakref.ref(me)

    def episodes(self, count: int) -> Iterator[Episode]:
        """``count`` episodes drawn one by one from the seed, always the same ones; `sample` is not disturbed.

        Used for evaluation: methods that are compared see the same tasks, whatever their ``tasks_per_batch``.
        """
        generator = self._new_generator()
        for _ in range(count):
            yield self._episode(self.draw(generator, 1)[0])

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream of `sample` stands."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue the stream of `sample` from a `state_dict`.

        Raises:
            ValueError: if the state comes from another kind of device, whose generator draws other tasks.
        """
        if state["generator"].shape != self.generator.get_state().shape:
            here = self.generator.device.type
            raise ValueError(f"these tasks were drawn on another kind of device than {here}, and can only go on there")
        self.generator.set_state(state["generator"].cpu())
