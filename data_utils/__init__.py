"""Few-shot image data: datasets by name, and episodes drawn from them.

>>> train = load("omniglot_small", "train")
>>> support, query = TaskSampler(train, ways=5, shots=1).sample()[0]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import omniglot
from .images import ImageClasses
from .tasks import Batch, Episode, TaskSampler

__all__ = ["Batch", "Episode", "ImageClasses", "TaskSampler", "load"]


def _load_glyphs(split: str, path: str | Path | None) -> ImageClasses:
    from . import glyphs

    if path is not None:
        raise ValueError("glyphs are drawn by the package, not read from files: leave out path")
    return glyphs.load(split)


LOADERS: dict[str, Callable[[str, str | Path | None], ImageClasses]] = {
    "glyphs": _load_glyphs,
    "omniglot": omniglot.load,
    "omniglot_small": omniglot.load_small,
}


def load(name: str, split: str, path: str | Path | None = None) -> ImageClasses:
    """The images of one split of a dataset, downloaded and converted on first use.

    Args:
        name: "glyphs", "omniglot" or "omniglot_small".
        split: "train", "val" or "test"; "omniglot" also has its official parts "background" and "evaluation".
        path: a folder or archive that you already have, instead of a download.

    Raises:
        ValueError: if there is no such dataset or split, or the files at ``path`` are not as expected.
        FileNotFoundError: if there is nothing at ``path``.
        DownloadError: if a download fails; it says where to put the file by hand.
    """
    if name not in LOADERS:
        raise ValueError(f"there is no dataset {name!r}; there are {', '.join(LOADERS)}")
    return LOADERS[name](split, path)
