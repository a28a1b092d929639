"""The accuracy that few-shot classification reaches without any learning.

::

    python -m data_utils.baselines glyphs test --ways 5 --shots 1 --episodes 600 --seed 0
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import torch
from torch import Tensor

from .tasks import Batch, Episode, TaskSampler


def nearest_pixel_neighbour(support: Batch, query: Batch) -> Tensor:
    """Label each query image like the support image nearest to it, by Euclidean distance between raw pixels.

    Args:
        support: images (n, C, H, W), float, and labels (n,).
        query: images (m, C, H, W), float, and labels (m,), which are not looked at.

    Returns:
        (m,) predicted labels, of the type of the support labels.
    """
    images, labels = support
    distances = torch.cdist(query[0].flatten(1), images.flatten(1))  # (m, n)
    return labels[distances.argmin(1)]


def accuracies(episodes: Iterable[Episode]) -> Tensor:
    """(episodes,) float64: for each one, the share of query images that `nearest_pixel_neighbour` labels rightly."""
    rights = [nearest_pixel_neighbour(support, query) == query[1] for support, query in episodes]
    return torch.stack([right.double().mean() for right in rights])


def main(arguments: list[str] | None = None) -> None:
    """The command line: prints mean accuracy and the half-width of its 95 % interval over tasks."""
    from . import load

    parser = argparse.ArgumentParser(description="Few-shot accuracy of the nearest neighbour in pixel space.")
    parser.add_argument("dataset", help="a name that data_utils.load knows, such as glyphs")
    parser.add_argument("split", help="train, val or test")
    for name, default in {"ways": 5, "shots": 1, "queries": 15, "episodes": 600, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    data = load(options.dataset, options.split)
    sampler = TaskSampler(data, options.ways, options.shots, options.queries, seed=options.seed)
    found = accuracies(sampler.episodes(options.episodes))
    half_width = 1.96 * found.std().item() / len(found) ** 0.5
    print(f"{found.mean().item():.2%} ± {half_width:.2%} over {len(found)} tasks")


if __name__ == "__main__":
    main()
