"""Training runs by name: everything that a number depends on, in one typed record."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from data_utils import TaskSampler, load

from .checkpoints import build, load_checkpoint, read_header, save_checkpoint
from .evaluation import Evaluation, evaluate
from .maml import MAML
from .training import History, TrainConfig, meta_train

PRETRAINED = Path(__file__).parent / "pretrained"
SPLIT_SEEDS = {"val": 10_001, "test": 10_002}  # the same tasks for every run that is compared
CURVE_EVERY = 20  # meta-iterations averaged into one point of a stored curve


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


def search_rate(recipe: Recipe, progress: bool = False) -> dict[str, Any]:
    """A short run and its accuracy on 200 validation tasks: what an inner rate is chosen by."""
    method, history = recipe.train(TrainConfig(recipe.iterations, recipe.meta_lr, progress=progress))
    return {**provenance(recipe, history), "validation": summary(evaluate(method, recipe.tasks("val"), 200))}


def pretrain(recipe: Recipe, folder: Path, progress: bool = False) -> None:
    """A whole run; writes ``folder/NAME.safetensors`` with curves and the accuracy on 600 meta-test tasks."""
    config = TrainConfig(
        recipe.iterations, recipe.meta_lr, validate_every=100, validation_episodes=100, progress=progress
    )
    method, history = recipe.train(config)
    test = evaluate(method, recipe.tasks("test"), 600)
    curves = {"loss": every(history.loss), "accuracy": every(history.accuracy), "every": CURVE_EVERY}
    validation = [{"iteration": i, **summary(result)} for i, result in history.validation]
    save_checkpoint(
        folder / f"{recipe.name}.safetensors",
        method,
        **provenance(recipe, history),
        curves=curves,
        validation=validation,
        test=summary(test),
    )


def pretrained(recipe: Recipe) -> tuple[MAML, dict[str, Any]]:
    """A shipped checkpoint and its provenance (see `pretrain`).

    Raises:
        FileNotFoundError: if that run is not shipped; the message names those that are.
    """
    path = PRETRAINED / f"{recipe.name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in PRETRAINED.glob("*.safetensors")))
        raise FileNotFoundError(f"no run {recipe.name} is shipped; there are {shipped or 'none'}")
    return load_checkpoint(path), read_header(path)["provenance"]


def provenance(recipe: Recipe, history: History) -> dict[str, Any]:
    """Where a number comes from."""
    return {
        "recipe": asdict(recipe),
        "command": f"python -m cxgrad_lite pretrain --only {recipe.name}",
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "seconds": round(history.seconds, 1),
    }


def summary(result: Evaluation) -> dict[str, float]:
    return {"mean": round(result.mean, 5), "ci95": round(result.ci95, 5), "episodes": len(result.per_task)}


def every(values: list[float]) -> list[float]:
    """Means of consecutive groups of `CURVE_EVERY` values."""
    groups = [values[i : i + CURVE_EVERY] for i in range(0, len(values), CURVE_EVERY)]
    return [round(sum(group) / len(group), 4) for group in groups]
