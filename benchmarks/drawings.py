"""How well drawings made on the canvas of `draw_and_adapt` are told apart.

Held-out drawings of Omniglot small (katakana, Sanskrit, Tagalog) are thinned to strokes, and these pass through the
canvas's own code (``cxgrad_lite/live/browser/strokes.js``, in headless Chromium): centred, drawn in one thickness,
shrunk. The shipped methods then adapt to tasks of such drawings. A query is classified as on the canvas, by itself but
in one batch with the support drawings, since batch norm needs company; and, to compare, alone, and with all other
queries of its task, as everywhere else in the course.

    python benchmarks/drawings.py --data FOLDER --out results/drawings.json

FOLDER holds Omniglot's images_background_small2.zip. Needs Chromium; about fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cxgrad_lite.live
from cxgrad_lite import Method
from cxgrad_lite.core.method import Theta
from cxgrad_lite.recipes.course import best_zoo_recipe
from cxgrad_lite.recipes.recipe import pretrained
from data_utils import ImageClasses, TaskSampler, load
from data_utils.datasets.omniglot import read_drawings

ARCHIVE = "images_background_small2.zip"
METHODS, SHOTS, QUERIES, SEED = ("MAML", "CxGrad"), (1, 3, 5), 3, 0
BROWSER = Path(cxgrad_lite.live.__file__).parent / "browser"
DRAW = """async images => {
    const {toImage, toStrokes} = await import('http://course.test/strokes.js');
    return images.map(ink => Array.from(toImage(toStrokes(Uint8Array.from(ink, Number), 105, 105))));
}"""
Classify = Callable[[Method, Theta, Tensor, Tensor], Tensor]  # method, theta, support, query images → (n, ways)


def alone(method: Method, theta: Theta, support: Tensor, query: Tensor) -> Tensor:
    return torch.cat([method.logits(theta, image[None]) for image in query])


def with_support(method: Method, theta: Theta, support: Tensor, query: Tensor) -> Tensor:
    return torch.cat([method.logits(theta, torch.cat([support, image[None]]))[-1:] for image in query])


def together(method: Method, theta: Theta, support: Tensor, query: Tensor) -> Tensor:
    return method.logits(theta, query)


def bits(drawing: NDArray[np.uint8]) -> str:
    """A drawing row by row, ink as 1; a string gets into the browser much faster than a list."""
    return "".join("1" if ink else "0" for ink in (drawing == 0).flatten())


def unpacked(archive: Path, folder: str) -> Path:
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)
    return Path(folder)


def redraw(archive: Path, data: ImageClasses) -> ImageClasses:
    """The same drawings as the canvas would have made them."""
    from playwright.sync_api import sync_playwright

    groups = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.route("http://course.test/*.js", lambda route: route.fulfill(path=BROWSER / route.request.url[19:]))
        page.route("http://course.test/", lambda route: route.fulfill(content_type="text/html", body=""))
        page.goto("http://course.test/")
        for name, drawings in read_drawings(unpacked(archive, folder), data.names):
            images = page.evaluate(DRAW, [bits(drawing) for drawing in drawings])
            groups.append((name, torch.tensor(images, dtype=torch.uint8).view(-1, 1, 28, 28)))
        browser.close()
    return ImageClasses.from_groups(groups)


def judge(method: Method, data: ImageClasses, shots: int, tasks: int, classify: Classify) -> dict[str, float]:
    """Accuracy over tasks and half its 95 % interval, 1.96 · std / √tasks."""
    right = []
    for (support, labels), (query, truth) in TaskSampler(data, 5, shots, QUERIES, seed=SEED).episodes(tasks):
        with torch.no_grad():
            logits = classify(method, method.adapt((support, labels)), support, query)
        right.append((logits.argmax(1) == truth).float().mean())
    accuracies = torch.stack(right)
    return {"mean": accuracies.mean().item(), "ci95": 1.96 * accuracies.std().item() / math.sqrt(tasks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {ARCHIVE}")
    parser.add_argument("--tasks", type=int, default=100, help="tasks per number (default: 100)")
    parser.add_argument("--out", type=Path, default=Path("results/drawings.json"))
    options = parser.parse_args()
    scanned = load("omniglot_small", "test", path=options.data / ARCHIVE)
    drawn = redraw(options.data / ARCHIVE, scanned)
    command = f"python benchmarks/drawings.py --data FOLDER --tasks {options.tasks}"
    rows = []
    for name in METHODS:
        recipe = best_zoo_recipe("omniglot_small", name, 5)
        method, _ = pretrained(recipe)
        settings = [("drawn", drawn, shots, with_support) for shots in SHOTS]
        settings += [("drawn", drawn, 5, alone), ("drawn", drawn, 5, together)]
        settings += [("scanned", scanned, 5, with_support), ("scanned", scanned, 5, together)]
        for kind, data, shots, classify in settings:
            accuracy = judge(method, data, shots, options.tasks, classify)
            row = {"method": name, "images": kind, "shots": shots, "batch": classify.__name__, **accuracy}
            print(row, flush=True)
            rows.append({**row, "checkpoint": recipe.name})
    options.out.write_text(json.dumps({"command": command, "tasks": options.tasks, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
