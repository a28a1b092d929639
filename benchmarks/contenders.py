"""Who takes part in the benchmark: a function for each contender, from a job to one meta-iteration.

All get the same images, labels and initial weights and do the same arithmetic (second-order MAML or CxGrad, mean
cross-entropy, Adam at 1e-3). Each is called through its public functions, the way its own documentation does it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jobs import Case, Job
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

from cxgrad_lite.core.maml import MAML
from cxgrad_lite.core.nets import Conv4
from cxgrad_lite.core.outer import Episode
from cxgrad_lite.training.engines import Engine, Precision
from cxgrad_lite.training.loop import Run, TrainConfig, meta_steps

META_LR = 1e-3
MAML_JSON = "experiment_config/mini_imagenet_5way_5shot/maml_4conv.json"  # both in the authors' checkout
CXGRAD_JSON = "experiment_config/mini_imagenet_5way_5shot/CxGrad_4conv.json"

Step = Callable[[], float]  # one meta-iteration; returns the mean query loss before the update


class Fixed:
    """A source of episodes that always gives the same meta-batch, which a graph may hold."""

    capturable = True

    def __init__(self, meta_batch: list[Episode]) -> None:
        self.meta_batch = meta_batch

    def sample(self) -> list[Episode]:
        return self.meta_batch

    def episodes(self, count: int) -> Any:
        raise NotImplementedError("the benchmark does not evaluate")


def ours(job: Job, engine: Engine = "auto", precision: Precision = "float32") -> Step:
    """What `meta_train` runs."""
    method = job.case.build(job.device)
    config = TrainConfig(10**9, meta_lr=META_LR, engine=engine, precision=precision)
    steps = meta_steps(Run(method, Fixed(job.case.meta_batch(job.device)), config))
    return lambda: next(steps).loss[-1]


def fast_parameters(net: Conv4) -> list[nn.Parameter]:
    """Those that MAML adapts: gains and biases of the normalisation are not among them."""
    return [p for name, p in net.named_parameters() if ".norm." not in name]


def with_adam(net: Conv4, episodes: list[Episode], query_loss: Callable[[Episode], torch.Tensor]) -> Step:
    """The outer loop around a peer's inner loop; one backward pass for each task needs the least memory."""
    optimiser = Adam(net.parameters(), lr=META_LR)

    def step() -> float:
        optimiser.zero_grad()
        total = 0.0
        for episode in episodes:
            loss = query_loss(episode)
            (loss / len(episodes)).backward()
            total += loss.item()
        optimiser.step()
        return total / len(episodes)

    return step


def higher(job: Job) -> Step:
    import higher as package

    net, steps = job.case.build(job.device).net, job.case.steps
    inner = SGD(fast_parameters(net), lr=job.case.inner_lr)

    def query_loss(episode: Episode) -> torch.Tensor:
        (images, labels), (query_images, query_labels) = episode
        with package.innerloop_ctx(net, inner, copy_initial_weights=False) as (functional, optimiser):
            for _ in range(steps):
                optimiser.step(F.cross_entropy(functional(images), labels))
            return F.cross_entropy(functional(query_images), query_labels)

    return with_adam(net, job.case.meta_batch(job.device), query_loss)


def torchopt(job: Job) -> Step:
    import torchopt as package

    net, steps = job.case.build(job.device).net, job.case.steps
    adapted = nn.ModuleList([part for name, part in net.named_modules() if name.endswith(".conv") or name == "head"])
    inner = package.MetaSGD(adapted, lr=job.case.inner_lr)
    start = package.extract_state_dict(adapted, by="reference"), package.extract_state_dict(inner, by="reference")

    def query_loss(episode: Episode) -> torch.Tensor:
        (images, labels), (query_images, query_labels) = episode
        for _ in range(steps):
            inner.step(F.cross_entropy(net(images), labels))
        loss = F.cross_entropy(net(query_images), query_labels)
        package.recover_state_dict(adapted, start[0])
        package.recover_state_dict(inner, start[1])
        return loss

    return with_adam(net, job.case.meta_batch(job.device), query_loss)


def authors(job: Job) -> Step:
    """The classifier of the CxGrad repository, driven as its experiment builder drives it."""
    case, method = job.case, job.case.build(job.device)
    settings = json.loads((Path(job.authors) / (CXGRAD_JSON if case.method == "CxGrad" else MAML_JSON)).read_text())
    settings |= {"batch_size": case.tasks, "image_height": case.size, "image_width": case.size}
    settings |= {"image_channels": case.channels, "cnn_num_filters": case.width, "num_classes_per_set": case.ways}
    settings |= {"number_of_training_steps_per_iter": case.steps, "init_inner_loop_learning_rate": case.inner_lr}
    settings |= {"num_samples_per_class": case.shots, "num_target_samples": case.queries}
    settings |= {"seed": 0, "use_cuda": job.device == "cuda"}
    sys.path.insert(0, job.authors)
    from few_shot_learning_system import MAMLFewShotClassifier

    shape = (2, case.channels, case.size, case.size)
    system = MAMLFewShotClassifier(shape, torch.device(job.device), SimpleNamespace(**settings))
    give_weights(system, method)
    batch = their_batch(case, case.meta_batch(job.device))

    def step() -> float:
        return float(system.run_train_iter(batch, epoch=0, current_iter=0)[0]["loss"].detach())

    def exact_step() -> float:  # the same in float64, into which run_train_iter does not let the images pass
        images = *batch[:2], *(labels.long() for labels in batch[2:])
        loss = system.train_forward_prop(images, epoch=0, current_iter=0)[0]["loss"]
        system.meta_update(loss)
        return float(loss.detach())

    return exact_step if job.float64 else step


def give_weights(system: nn.Module, method: MAML) -> None:
    """Our initial weights under their names; running statistics, which they never use, stay as they are."""
    given = {}
    for name, tensor in method.state_dict().items():
        name = re.sub(r"net\.blocks\.(\d)\.conv", r"classifier.layer_dict.conv\1.conv", name)
        name = re.sub(r"net\.blocks\.(\d)\.norm", r"classifier.layer_dict.conv\1.norm_layer", name)
        name = name.replace("net.head.weight", "classifier.layer_dict.linear.weights")
        name = name.replace("net.head.bias", "classifier.layer_dict.linear.bias")
        given[name.replace("generator.", "gamma_generator.")] = tensor
    missing, unexpected = system.load_state_dict(given, strict=False)
    wrong = [name for name in missing if ".running_" not in name] + list(unexpected)
    if wrong:
        raise ValueError(f"the authors' network has other parameters than expected: {', '.join(wrong)}")


def their_batch(case: Case, episodes: list[Episode]) -> tuple[torch.Tensor, ...]:
    """Support images, query images, support labels, query labels: (tasks, ways, images per class, …), all floats."""
    pairs = list(zip(*episodes))  # supports, queries

    def stacked(part: int, which: int) -> torch.Tensor:
        return torch.stack([batch[which].to(batch[0]).unflatten(0, (case.ways, -1)) for batch in pairs[part]])

    return stacked(0, 0), stacked(1, 0), stacked(0, 1), stacked(1, 1)


CONTENDERS: dict[str, Callable[[Job], Step]] = {
    "ours": ours,
    "ours, eager": partial(ours, engine="eager"),
    "ours, bf16": partial(ours, engine="eager", precision="bf16"),
    "higher": higher,
    "torchopt": torchopt,
    "authors": authors,
}
