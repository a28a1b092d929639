"""Training runs by name: everything that a number depends on, in one typed record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_utils import TaskSampler, load

from .checkpoints import build, load_checkpoint, read_header
from .maml import MAML
from .training import History, TrainConfig, meta_train

PRETRAINED = Path(__file__).parent / "pretrained"
SPLIT_SEEDS = {"val": 10_001, "test": 10_002}  # the same tasks for every run that is compared
RATES_FILE = "inner_rates.json"


@dataclass(frozen=True)
class Recipe:
    """One training run on the CPU, small enough for a laptop."""

    dataset: str = "glyphs"  # a name that data_utils.load knows
    method: str = "CxGrad"  # a name in cxgrad_lite.METHODS
    ways: int = 5  # classes per episode
    shots: int = 5  # support images per class
    queries: int = 15  # query images per class
    tasks_per_batch: int = 2  # episodes per meta-iteration
    width: int = 32  # filters per convolution
    inner_lr: float = 0.01  # α
    inner_steps: int = 5  # in training and at test
    iterations: int = 600  # meta-iterations
    meta_lr: float = 1e-3  # Adam's rate
    seed: int = 0  # of the initial weights and of the training episodes

    @property
    def name(self) -> str:
        """File name of the run, without ending."""
        task = f"{self.dataset}-{self.ways}way-{self.shots}shot"
        return f"{task}-{self.method.lower()}-lr{self.inner_lr:g}-{self.iterations}it-seed{self.seed}"

    def tasks(self, split: str) -> TaskSampler:
        """Episodes of a split; validation and test episodes do not depend on the run's seed."""
        seed = SPLIT_SEEDS.get(split, self.seed)
        return TaskSampler(
            load(self.dataset, split), self.ways, self.shots, self.queries, self.tasks_per_batch, seed=seed
        )

    def build(self) -> MAML:
        """The untrained method."""
        torch.manual_seed(self.seed)
        channels, _, size = load(self.dataset, "val").images.shape[1:]
        net = {"in_channels": channels, "image_size": size, "ways": self.ways, "width": self.width}
        options = {"inner_lr": self.inner_lr, "inner_steps": self.inner_steps}
        return build({"method": self.method, "options": options, "net": net})

    def train(self, config: TrainConfig | None = None) -> tuple[MAML, History]:
        """Run the recipe; ``config`` may change how progress is shown and validated."""
        config = config or TrainConfig(self.iterations, self.meta_lr)
        method = self.build()
        return method, meta_train(method, self.tasks("train"), config, self.tasks("val"))


def rate_search(dataset: str, method: str, folder: Path = PRETRAINED) -> dict[float, dict[str, float]]:
    """Validation accuracy of short runs by inner rate: rate → {"mean", "ci95", "episodes"}."""
    runs = json.loads((folder / RATES_FILE).read_text())
    chosen = [run for run in runs if (run["recipe"]["dataset"], run["recipe"]["method"]) == (dataset, method)]
    return {run["recipe"]["inner_lr"]: run["validation"] for run in chosen}


def best_recipe(dataset: str, method: str, folder: Path = PRETRAINED) -> Recipe:
    """The recipe at the inner rate that did best on validation classes."""
    search = rate_search(dataset, method, folder)
    return Recipe(dataset, method, inner_lr=max(search, key=lambda rate: search[rate]["mean"]))


def pretrained(recipe: Recipe) -> tuple[MAML, dict[str, Any]]:
    """A shipped checkpoint and its provenance (see `pretraining.train_whole`).

    Raises:
        FileNotFoundError: if that run is not shipped; the message names those that are.
    """
    path = PRETRAINED / f"{recipe.name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in PRETRAINED.glob("*.safetensors")))
        raise FileNotFoundError(f"no run {recipe.name} is shipped; there are {shipped or 'none'}")
    return load_checkpoint(path), read_header(path)["provenance"]
