"""Figures about a reader's own images: what became of their files, and which are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .figures import show_image
from .style import Picture, halves


def as_the_network_sees(files: Sequence[Path], images: Mapping[Path, Tensor]) -> Picture:
    """Above, files as they are stored, on pale blue, which shines through what is transparent; below, what became of
    them: file → (C, H, W), for those that could be read."""
    figure = Figure(figsize=(1.15 * len(files), 2.6), layout="constrained")
    rows = figure.subplots(2, len(files), squeeze=False)
    for file, above, below in zip(files, *rows):
        above.set(title=f"{file.parent.name}\n{file.name}", xticks=[], yticks=[], facecolor="#BFD7EA")
        above.title.set_fontsize(8)
        below.set_axis_off()
        try:
            above.imshow(Image.open(file))
        except UnidentifiedImageError:
            above.text(0.5, 0.5, "no image", ha="center", fontsize=8, transform=above.transAxes)
        if file in images:
            below.set_axis_on()
            show_image(below, images[file])
    said = ", ".join(f"{file.parent.name}/{file.name}" for file in files)
    return Picture(figure, f"Above, files as they are stored, below, the images made of them: {said}.")


def confusions(share: Tensor, names: Sequence[str], worst: Sequence[tuple[Tensor, str]]) -> Picture:
    """Which classes are taken for which, with a grey diagonal, and the worst mistakes.

    Args:
        share: (classes, classes) per cent of the images of a row's class, in tasks that hold both classes, that are
            taken for the column's; NaN where no task holds both.
        names: of the classes.
        worst: (C, H, W) images with a caption.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = halves(figure, [1.15, 1])
    ax = left.subplots()
    wrong = share.clone().fill_diagonal_(torch.nan)
    drawn = ax.imshow(wrong, cmap="Oranges", vmin=0)
    ax.scatter(range(len(names)), range(len(names)), marker="s", s=60, color="#CCCCCC")
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(xlabel="taken for", ylabel="is")
    left.colorbar(drawn, ax=ax, label="% of the images", shrink=0.8)
    columns = (len(worst) + 1) // 2
    for ax, (image, caption) in zip(right.subplots(2, columns, squeeze=False).flat, worst):
        show_image(ax, image)
        ax.set_title(caption, fontsize=8)
    row, column = divmod(int(wrong.nan_to_num(-1).argmax()), len(names))
    said = f"{names[row]} is taken for {names[column]} most often, {wrong[row, column]:.0f} % of the time"
    captions = ", ".join(caption.replace("\n", " ") for _, caption in worst)
    return Picture(figure, f"Left: a table of confusions; {said}. Right, the worst mistakes: {captions}.")
