"""A meta-training run as a value: everything it needs to go on as if nothing had happened."""

from __future__ import annotations

import copy
import json
import math
import random
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam

from ..core.method import Method
from ..core.outer import Tasks, check_tasks
from .checkpoints import check_tensors
from .engines import Engine, Precision, choose_engine, device_of
from .evaluation import WEIGHTS, Evaluation, check_methods
from .settings import check, check_table


@dataclass(frozen=True)
class TrainConfig:
    """How the outer loop runs.

    Raises:
        ValueError: if a value has another type or is out of range (see `settings`), or a name is unknown.
    """

    iterations: int = 1000  # meta-iterations: one Adam step each
    meta_lr: float = 1e-3  # Adam's rate; released code: 1e-3
    schedule: Literal["constant", "cosine"] = "constant"  # released code: cosine by name, constant in effect
    decay: float = 1.0  # meta_lr is multiplied by this …
    decay_every: int = 0  # … every so many meta-iterations; 0: never
    clip_value: float | None = None  # clamp each entry of the meta-gradient to ± this (MAML, MAML++, L2F: 10)
    clip_norm: float | None = None  # scale the meta-gradient to at most this norm
    validate_every: int = 0  # meta-iterations between two validations; 0: none
    validation_episodes: int = 100
    progress: bool = True  # show a bar with loss, accuracy and time left
    engine: Engine = "auto"  # "fused graph" on a GPU, "fused" on a CPU; "eager" works everywhere; see `engines`
    precision: Precision = "float32"  # or "tf32", "bf16"; see `engines.arithmetic`

    def __post_init__(self) -> None:
        check(TrainConfig, vars(self))

    def rate(self, iteration: int) -> float:
        """Adam's rate in this meta-iteration, counted from 0."""
        decayed = self.decay ** (iteration // self.decay_every) if self.decay_every else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * iteration / self.iterations)) if self.schedule == "cosine" else 1.0
        return self.meta_lr * (decayed * cosine)


@dataclass
class History:
    """What happened, meta-iteration by meta-iteration.

    Attributes:
        loss: mean query loss of each meta-batch, after adaptation.
        accuracy: mean query accuracy of each meta-batch, a fraction.
        validation: (meta-iterations done, result), one per validation.
        seconds: time spent, validation included; of a resumed run: in all its parts.
        interrupted: whether the run was stopped before its end.
        engine: which engine ran, never "auto"; of a run resumed on another machine perhaps "graph, then fused".
        precision: the arithmetic of the meta-steps.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation: list[tuple[int, Evaluation]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    engine: str = ""
    precision: str = ""


IN_TRAINING: set[int] = set()  # the identities of the parameters that a run is changing now


@contextmanager
def trained_alone(method: Method) -> Iterator[None]:
    """Inside, no other run may change these parameters.

    Raises:
        RuntimeError: if one is doing so.
    """
    own = {id(parameter) for parameter in method.parameters()}
    with WEIGHTS:
        if own & IN_TRAINING:
            raise RuntimeError(f"this {type(method).__name__} is being trained already; wait, or pause its panel")
        IN_TRAINING.update(own)
    try:
        yield
    finally:
        IN_TRAINING.difference_update(own)


class Run:
    """A method that is being meta-trained, and all that changes while it is.

    Args:
        method, tasks, config: as for `loop.meta_train`.

    Attributes:
        config: as given, but with the engine that "auto" stands for.
        optimiser: Adam; on a GPU with all of the update in one kernel.
        history: grows by one entry with each meta-iteration.

    Raises:
        TypeError: if it is no method, or meta-batches cannot be sampled from ``tasks``.
        ValueError: if ``engine="graph"`` cannot work here.
    """

    def __init__(self, method: Method, tasks: Tasks, config: TrainConfig | None = None) -> None:
        check_methods([method])
        check_tasks(tasks, "sample")
        config = config or TrainConfig()
        self.method, self.tasks = method, tasks
        self.config = replace(config, engine=choose_engine(config.engine, config.precision, method, tasks))
        on_gpu = device_of(method).type == "cuda"
        self.optimiser = Adam(method.parameters(), lr=config.meta_lr, fused=True if on_gpu else None)
        self.history = History(engine=self.config.engine, precision=config.precision)

    @property
    def done(self) -> int:
        """Number of meta-iterations made."""
        return len(self.history.loss)

    def state(self) -> dict[str, Any]:
        """A copy of all that changes: tensors, numbers, strings, and lists, tuples and dicts of them."""
        history = vars(self.history) | {"validation": [(i, result.per_task) for i, result in self.history.validation]}
        return copy.deepcopy(
            {
                "method": dict(self.method.state_dict()),
                "optimiser": self.optimiser.state_dict()["state"],
                "tasks": self.tasks.state_dict() if hasattr(self.tasks, "state_dict") else {},
                "random": random_states(),
                "history": history,
            }
        )

    def check(self, state: Any) -> None:
        """Raises ValueError naming the first part of a stored state that this run cannot go on from."""
        check_table(State, state, "the state")
        check_tensors(state["method"], self.method.state_dict(), "the method")
        for number, moments in state["optimiser"].items():
            parameter = dict(enumerate(self.method.parameters())).get(number)
            if parameter is None or not isinstance(moments, dict):
                raise ValueError(f"the optimiser knows a parameter {number!r}")
            wanted = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            check_tensors(moments, wanted, f"the optimiser's parameter {number}")
        check_table(History, state["history"], "the history")
        loss, accuracy, validation = (state["history"][key] for key in ("loss", "accuracy", "validation"))
        if not loss or len(loss) != len(accuracy) or not all(isinstance(x, float) for x in loss + accuracy):
            raise ValueError("the history has not one loss and one accuracy for each meta-iteration")
        if not state["optimiser"] or not all(is_validation(entry, len(loss)) for entry in validation):
            raise ValueError("the optimiser's moments or a validation are missing")

    def restore(self, state: dict[str, Any]) -> None:
        """Return to where the run was when `state` was called."""
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": copy.deepcopy(state["optimiser"])})
        engine, history = self.config.engine, copy.deepcopy(state["history"])
        history["validation"] = [(i, Evaluation.over_tasks(per_task)) for i, per_task in history["validation"]]
        self.history = History(**history | {"interrupted": False})
        if not self.history.engine.endswith(engine):
            self.history.engine += f", then {engine}"
        self.rewind(state)

    def rewind(self, state: dict[str, Any]) -> None:
        """Return to that state of method, tasks and random generators; tensors stay where they are in memory."""
        with WEIGHTS:
            self.method.load_state_dict(state["method"])
        if state["tasks"]:
            self.tasks.load_state_dict(state["tasks"])  # type: ignore[attr-defined]
        set_random_states(state["random"])


@dataclass
class State:
    """The parts of a state."""

    method: dict[str, Any]
    optimiser: dict[int, Any]
    tasks: dict[str, Any]
    random: dict[str, Any]
    history: dict[str, Any]


def is_validation(entry: Any, done: int) -> bool:
    """Whether an entry is (meta-iterations, (tasks,) accuracies)."""
    if not isinstance(entry, tuple) or [type(part) for part in entry] != [int, Tensor]:
        return False
    return 1 <= entry[0] <= done and entry[1].ndim == 1 and entry[1].is_floating_point() and len(entry[1]) > 1


def settings_of_tasks(tasks: Tasks) -> dict[str, Any]:
    """What decides which tasks a source draws, as far as it says so: sizes, seed, device, checksums of the classes."""
    names = ("ways", "shots", "queries", "tasks_per_batch", "seed", "rotations")
    settings = {name: getattr(tasks, name) for name in names if hasattr(tasks, name)}
    if device := getattr(getattr(tasks, "generator", None), "device", None):
        settings["device"] = device.type  # each kind has random numbers of its own
    data: Any = getattr(tasks, "data", None)
    if not all(hasattr(data, name) for name in ("names", "counts", "take")):
        return settings
    first = data.take(data.counts.cumsum(0) - data.counts).cpu().contiguous()  # (classes, C, H, W)
    return settings | {"classes": zlib.crc32("\n".join(data.names).encode()), "images": zlib.crc32(first.numpy())}


def read_state(path: Path) -> tuple[dict[str, Any], Any]:
    """The header and the state in a file, every byte of which is as it was written.

    Raises:
        Exception: of many kinds, if the file is damaged.
    """
    with zipfile.ZipFile(path) as parts:  # torch.save writes checksums, which torch.load does not compare
        torn = parts.testzip()
    if torn is not None:
        raise ValueError(f"the checksum of {torn} is wrong")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    header = json.loads(stored["header"])
    if not all(isinstance(part, dict) for part in header.values()):
        raise ValueError("its header is not readable")
    return header, stored["state"]


def random_states() -> dict[str, Any]:
    """The states of all generators that training or a transform may draw from."""
    name, words, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(words).astype(np.int64)), *rest),
        "python": random.getstate(),
    }


def set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    for i, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, i)
    name, words, *rest = states["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
