"""Few-shot image data: datasets by name, and episodes drawn from them.

>>> train = load("omniglot_small", "train")
>>> support, query = TaskSampler(train, ways=5, shots=1).sample()[0]
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .adapter import from_dataset
from .images import ImageClasses
from .store.own_copies import open_remembered, remembered_path
from .tasks import Batch, Episode, TaskSampler

__all__ = ["Batch", "Episode", "ImageClasses", "TaskSampler", "from_dataset", "load"]

# Module and function that loads each dataset; imported when it is first asked for.
LOADERS = {
    "glyphs": ("datasets.glyphs", "load"),
    "omniglot": ("datasets.omniglot", "load"),
    "omniglot_small": ("datasets.omniglot", "load_small"),
    "cifar_fs": ("datasets.cifar_fs", "load"),
    "mini_imagenet": ("datasets.mini_imagenet", "load"),
    "tiered_imagenet": ("datasets.tiered_imagenet", "load"),
    "cub": ("datasets.cub", "load"),
    "folder": ("datasets.folder", "load"),
}


def load(name: str, split: str, path: str | Path | None = None, **options: Any) -> ImageClasses:
    """The images of one split of a dataset, downloaded and converted on first use.

    Converted images stay in the cache folder, from which the next call opens them within a second.

    Args:
        name: "glyphs", "omniglot", "omniglot_small", "cifar_fs", "mini_imagenet", "tiered_imagenet", "cub", or
            "folder" for your own images.
        split: "train", "val" or "test"; "omniglot" also has its official parts "background" and "evaluation".
        path: a folder or archive that you already have, instead of a download. Without it, the one that
            ``python -m cxgrad_lite data get NAME --from PATH`` named is used, if there is one.
        options: further arguments of the dataset's own ``load``, such as ``size=84`` of cifar_fs.

    Raises:
        ValueError: if there is no such dataset, split or option, or the files at ``path`` are not as expected.
        FileNotFoundError: if there is nothing at ``path``.
        DownloadError: if a download fails; it says where to put the file by hand.
        StoreError: if the cache folder cannot be written, or has no space.
    """
    loader = _loader(name)
    known = inspect.signature(loader).parameters
    _check_options(name, options, [option for option in known if option not in ("split", "path")])
    if "path" not in known:
        if path is not None:
            raise ValueError(f"{name} are drawn by the package, not read from files: leave out path")
        return loader(split, **options)
    if path is None:
        path = remembered_path(name)
        if path is not None and not path.exists():
            data = open_remembered(name, split, options)
            if data is not None:
                return data
    return loader(split, path, **options)


def _loader(name: str) -> Callable[..., ImageClasses]:
    if name not in LOADERS:
        raise ValueError(f"there is no dataset {name!r}; there are {', '.join(LOADERS)}")
    module, function = LOADERS[name]
    loader: Callable[..., ImageClasses] = getattr(importlib.import_module(f".{module}", __package__), function)
    return loader


def _check_options(name: str, options: dict[str, Any], known: list[str]) -> None:
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
