"""Training runs by name: everything that a number depends on, in one typed record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from data_utils import LOADERS, ImageClasses, TaskSampler
from data_utils.transforms import preset

from ..core.maml import MAML
from ..core.method import Method
from ..core.nets import Activation, Norm
from ..training.checkpoints import build, load_checkpoint, read_header
from ..training.loop import History, TrainConfig, meta_train
from ..training.settings import check, check_method, suggestion
from ..zoo.registry import METHODS
from .images import load_images

PRETRAINED = Path(__file__).parent / "pretrained"
SPLIT_SEEDS = {"val": 10_001, "test": 10_002}  # the same tasks for every run that is compared
Purpose = Literal["whole", "search", "study"]
# What stands at a fixed place in a recipe's name, or is part of no name as a whole.
IN_FRONT = ("dataset", "ways", "shots", "method", "inner_lr", "options", "iterations", "seed", "purpose")


@dataclass(frozen=True)
class Recipe:
    """One training run. The defaults are small enough for a laptop; `published.PUBLISHED` has the papers' settings."""

    dataset: str = "glyphs"  # a name that data_utils.load knows
    method: str = "CxGrad"  # a name in cxgrad_lite.METHODS
    ways: int = 5  # classes per episode
    shots: int = 5  # support images per class
    queries: int = 15  # query images per class
    tasks_per_batch: int = 2  # episodes per meta-iteration
    train_ways: int | None = None  # the same while meta-training, where it differs (ProtoNet)
    train_queries: int | None = None  # the same while meta-training, where it differs (the zoo)
    width: int = 32  # filters per convolution
    activation: Activation = "leaky_relu"  # of the network
    conv_bias: bool = False  # whether convolutions have a bias
    poolings: int = 4  # blocks that halve the image
    norm: Norm = "batch"  # normalisation after each convolution
    eps: float = 1e-5  # batch norm's ε
    inner_lr: float | None = None  # α, or where a learned rate starts; None: the method's default, or it has none
    inner_steps: int | None = None  # in training and at test; None: the method's default
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of the method
    size: int | None = None  # image size in pixels; None: as the dataset has it
    normalisation: Literal["none", "imagenet", "cifar_cxgrad", "relationnet"] = (
        "none"  # of the images; see data_utils.preset
    )
    test_dataset: str | None = None  # meta-test classes of another dataset; None: of the one it is trained on
    iterations: int = 600  # meta-iterations
    meta_lr: float = 1e-3  # Adam's rate
    decay: float = 1.0  # Adam's rate is multiplied by this …
    decay_every: int = 0  # … every so many meta-iterations; 0: never
    clip_value: float | None = None  # clamp of each entry of the meta-gradient
    clip_norm: float | None = None  # largest norm of the meta-gradient
    seed: int = 0  # of the initial weights and of the training episodes
    episodes: int = 600  # tasks that it is judged by: of validation classes for a search, else of meta-test classes
    purpose: Purpose = "whole"  # "search": a short run to choose a rate by; "study": a run whose numbers are compared

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown name or a number out of range, before anything is loaded or trained."""
        check(Recipe, vars(self))
        for name in (self.dataset, self.test_dataset):
            if name is not None and name not in LOADERS:
                raise ValueError(f"there is no dataset {name!r}{suggestion(name, LOADERS)}")
        self.method_options()

    @classmethod
    def stored(cls, values: Any, where: object) -> Recipe:
        """The recipe in a file; fields that are newer than the file have their defaults.

        Raises:
            ValueError: naming the file and what is wrong with a field.
        """
        check(cls, values, where)
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    @property
    def name(self) -> str:
        """File name of the run, without ending: dataset, task, method and rate, then every other field that differs
        from its default."""
        parts = [self.dataset, f"{self.ways}way", f"{self.shots}shot", self.method.lower()]
        parts += [] if self.inner_lr is None else [f"lr{self.inner_lr:g}"]
        usual = {f.name: f.default for f in fields(self)}
        changes = {key: value for key, value in asdict(self).items() if key not in IN_FRONT and value != usual[key]}
        parts += [label(key, value) for key, value in (changes | self.options).items()]
        parts += [] if self.purpose == "whole" else [self.purpose]
        return "-".join([*parts, f"{self.iterations}it", f"seed{self.seed}"])

    def tasks(self, split: str, device: torch.device | str = "cpu") -> TaskSampler:
        """Episodes of a split, on a device; validation and test episodes do not depend on the run's seed."""
        seed = SPLIT_SEEDS.get(split, self.seed)
        ways, queries = self.ways, self.queries
        if split == "train":
            ways, queries = self.train_ways or ways, self.train_queries or queries
        transform = None if self.normalisation == "none" else preset(self.normalisation)
        images = self.images(split).to(device)
        return TaskSampler(images, ways, self.shots, queries, self.tasks_per_batch, seed=seed, transform=transform)

    def images(self, split: str) -> ImageClasses:
        """The images of a split, at the recipe's size; those of another dataset have the shape of the network's."""
        if split == "test" and self.test_dataset:
            channels, _, size = self.images("val").images.shape[1:]
            return load_images(self.test_dataset, split, size, channels)
        return load_images(self.dataset, split, self.size)

    def build(self) -> Method:
        """The untrained method."""
        torch.manual_seed(self.seed)
        channels, _, size = self.images("val").images.shape[1:]
        net: dict[str, Any] = {"in_channels": channels, "image_size": size, "ways": self.ways, "width": self.width}
        net |= {"activation": self.activation, "conv_bias": self.conv_bias, "poolings": self.poolings}
        net |= {"norm": self.norm, "eps": self.eps}
        return build({"method": self.method, "options": self.method_options(), "net": net})

    def method_options(self) -> dict[str, Any]:
        """The arguments of the method besides its network.

        Raises:
            ValueError: if the method does not have one of them, or not with this value.
        """
        inner = {"inner_lr": self.inner_lr, "inner_steps": self.inner_steps}
        chosen = {key: value for key, value in inner.items() if value is not None} | self.options
        check_method(self.method, chosen)
        return chosen

    def config(self) -> TrainConfig:
        """How the outer loop runs."""
        return TrainConfig(
            self.iterations,
            self.meta_lr,
            decay=self.decay,
            decay_every=self.decay_every,
            clip_value=self.clip_value,
            clip_norm=self.clip_norm,
            engine="eager",  # as the shipped runs were made; another engine rounds differently
        )

    def train(self, config: TrainConfig | None = None) -> tuple[Method, History]:
        """Run the recipe; ``config`` may change how progress is shown and validated."""
        method = self.build()
        return method, meta_train(method, self.tasks("train"), config or self.config(), self.tasks("val"))


def label(key: str, value: Any) -> str:
    """A setting as part of a file name: ``poolings2``, ``frozen_context``, ``no-second_order``, ``norm_layer``."""
    if isinstance(value, bool):
        return key if value else f"no-{key}"
    return f"{key}{value:g}" if isinstance(value, int | float) else f"{key}_{value}"


def has_inner_rate(method: str) -> bool:
    return issubclass(METHODS[method], MAML)


def check_same(recipe: Recipe, stored: dict[str, Any], path: Path, free: Iterable[str] = ()) -> None:
    """Compare a recipe with the one stored at ``path``; fields that are newer than the file have their defaults.

    Raises:
        ValueError: naming each field that differs and is not ``free`` to.
    """
    asked, made = asdict(recipe), asdict(Recipe.stored(stored, path))
    differs = [key for key in asked if key not in free and asked[key] != made[key]]
    if differs:
        fields = ", ".join(f"{key}={made[key]!r}, not {asked[key]!r}" for key in differs)
        raise ValueError(f"{path} was made with {fields}")


def pretrained(recipe: Recipe) -> tuple[Method, dict[str, Any]]:
    """A shipped checkpoint and its provenance (see `making.make`).

    Raises:
        FileNotFoundError: if that run is not shipped; the message names those that are.
        ValueError: if the shipped run was made with other settings.
    """
    path = PRETRAINED / f"{recipe.name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in PRETRAINED.glob("*.safetensors")))
        raise FileNotFoundError(f"no run {recipe.name} is shipped; there are {shipped or 'none'}")
    provenance = read_header(path)["provenance"]
    check_same(recipe, provenance["recipe"], path)
    return load_checkpoint(path), provenance
