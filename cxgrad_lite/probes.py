"""What can be read off a trace: norms by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch

from .evaluation import Tasks
from .maml import MAML, StepTrace

LAYERS = ("block 1", "block 2", "block 3", "block 4", "head")


def layer_of(name: str) -> str | None:
    """The layer that a fast tensor belongs to; None for what is not part of the network, such as a context."""
    part, _, rest = name.partition(".")
    if part == "blocks":
        return LAYERS[int(rest.partition(".")[0])]
    return "head" if part == "head" else None


def layer_norms(trace: list[StepTrace], kind: Literal["grad", "weight", "update"] = "grad") -> dict[str, list[float]]:
    """Norm of all fast tensors of a layer together, one number per inner step; 0 for a layer that is not adapted."""
    norms: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for seen in trace:
        squares = dict.fromkeys(LAYERS, 0.0)
        for name, norm in getattr(seen, f"{kind}_norms").items():
            layer = layer_of(name)
            if layer:
                squares[layer] += norm**2
        for layer in LAYERS:
            norms[layer].append(math.sqrt(squares[layer]))
    return norms


def traces(method: MAML, tasks: Tasks, episodes: int) -> Iterator[list[StepTrace]]:
    """The trace of each of the first episodes."""
    for support, _ in tasks.episodes(episodes):
        with torch.no_grad():
            yield method.adapt(support, trace=True)[1]


def mean_layer_norms(
    method: MAML, tasks: Tasks, episodes: int = 20, kind: Literal["grad", "weight", "update"] = "grad"
) -> dict[str, float]:
    """Layer norms averaged over inner steps and tasks, as in Figure 2 of the CxGrad paper."""
    found = [layer_norms(trace, kind) for trace in traces(method, tasks, episodes)]
    return {layer: sum(sum(norms[layer]) / len(norms[layer]) for norms in found) / len(found) for layer in LAYERS}
