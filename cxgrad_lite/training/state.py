"""A meta-training run as a value: everything that it would need to go on as if nothing had happened."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from ..core.method import Method
from ..core.outer import Tasks
from .evaluation import Evaluation


@dataclass
class History:
    """What happened, meta-iteration by meta-iteration.

    Attributes:
        loss: mean query loss of each meta-batch, after adaptation.
        accuracy: mean query accuracy of each meta-batch, a fraction.
        validation: (meta-iterations done, result), one per validation.
        seconds: time spent, validation included; of a resumed run: in all its parts.
        interrupted: whether the run was stopped before its end.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation: list[tuple[int, Evaluation]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


@dataclass
class Run:
    """What changes while a run goes on."""

    method: Method
    tasks: Tasks
    optimiser: Adam
    schedule: LambdaLR
    history: History = field(default_factory=History)

    def tensors(self) -> dict[str, Tensor]:
        """All numbers of the run, by name, on the CPU."""
        found = {f"method/{name}": t for name, t in self.method.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser/{i}/{key}": t for key, t in state.items()}
        if hasattr(self.tasks, "state_dict"):
            found |= {f"tasks/{key}": t for key, t in self.tasks.state_dict().items()}
        found |= {f"random/{key}": t for key, t in random_states().items()}
        history = self.history
        found["history/loss"] = torch.tensor(history.loss, dtype=torch.float64)
        found["history/accuracy"] = torch.tensor(history.accuracy, dtype=torch.float64)
        for done, result in history.validation:
            found[f"validation/{done}"] = result.per_task
        return {name: t.detach().cpu().clone().contiguous() for name, t in found.items()}

    def restore(self, tensors: dict[str, Tensor], seconds: float) -> None:
        """Go back to where a run was when `tensors` was called."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, t in part(tensors, "optimiser").items():
            i, _, entry = key.partition("/")
            state.setdefault(int(i), {})[entry] = t
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
        validation = [(int(done), Evaluation.over_tasks(t)) for done, t in part(tensors, "validation").items()]
        validation.sort(key=lambda pair: pair[0])
        loss, correct = tensors["history/loss"].tolist(), tensors["history/accuracy"].tolist()
        self.history = History(loss, correct, validation, seconds)
        self._restore_schedule(len(self.history.loss))
        self.put_back(tensors)

    def put_back(self, tensors: dict[str, Tensor]) -> None:
        """The method, the place in the stream of tasks and all random states; tensors stay where they are in memory."""
        self.method.load_state_dict(part(tensors, "method"))
        if hasattr(self.tasks, "load_state_dict"):
            self.tasks.load_state_dict(part(tensors, "tasks"))
        set_random_states(part(tensors, "random"))

    def _restore_schedule(self, done: int) -> None:
        rates = [base * factor(done) for base, factor in zip(self.schedule.base_lrs, self.schedule.lr_lambdas)]
        for group, rate in zip(self.optimiser.param_groups, rates):
            group["lr"] = rate
        self.schedule.load_state_dict(
            self.schedule.state_dict() | {"last_epoch": done, "_step_count": done + 1, "_last_lr": rates}
        )


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those whose names begin with ``name/``, without it."""
    return {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}/")}


def random_states() -> dict[str, Tensor]:
    """The states of all generators that training or a transform may draw from."""
    _, words, position, has_gauss, gauss = np.random.get_state()
    _, ours, _ = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(words).astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
        "python": torch.tensor(ours, dtype=torch.int64),
    }
    if torch.cuda.is_available():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["torch"])
    position, has_gauss, gauss = states["numpy_rest"].tolist()
    words = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, int(position), int(has_gauss), gauss))
    random.setstate((3, tuple(states["python"].tolist()), None))
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda{i}"], i)


def describe(config: Any) -> dict[str, Any]:
    """A configuration without what may change between the parts of a run."""
    return {key: value for key, value in vars(config).items() if key not in ("progress", "iterations", "engine")}
