"""What all thirteen methods have in common: adapt to a support set, then classify query images.

``theta`` is a dict of the tensors that belong to one task; everything else in the network is shared by all tasks.
Nothing is kept on ``self`` during adaptation: theta goes in, theta comes out.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .nets import Conv4, Net

Theta = dict[str, Tensor]  # what belongs to one task, by name
Batch = tuple[Tensor, Tensor]  # (images, labels): (n, C, H, W), (n,)
NUMBERED = "labels count from 0, and these are {}: take labels.unique(return_inverse=True)[1]"
# Images per class, where they are known and nobody may look at the labels: while a CUDA graph is captured.
known_shots: ContextVar[list[int] | None] = ContextVar("known_shots", default=None)


class Method(nn.Module):
    """A way to learn from a support set; the base of gradient-based and of metric methods.

    A method says what `adapt` finds in the support set and how `logits` uses it. The rest follows.

    Args:
        net: a `Conv4`, or any `nn.Module` from (n, C, H, W) images to (n, ways) logits that has an attribute ``ways``
            or a linear last layer ``head``, has the layers named in ``LAYERS``, and whose batch norm keeps no running
            statistics.

    Raises:
        ValueError: if the network is not of this form.
    """

    LAYERS: tuple[str, ...] = ()  # what the method looks for in the network
    net: Conv4  # or what can stand in for it

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = cast(Conv4, net)
        self.ways: int = getattr(net, "ways", getattr(getattr(net, "head", None), "out_features", 0))
        layers, refused = dict(net.named_modules()), f"{type(self).__name__} cannot use this {type(net).__name__}: "
        for name in self.LAYERS:
            if name not in layers:
                raise ValueError(f"{refused}it has no layer {name!r} (torch.compile renames layers; pass the original)")
        for name, layer in layers.items():
            if "forward" in vars(layer) or isinstance(layer, torch.jit.ScriptModule):
                raise ValueError(f"{refused}its forward is compiled or was replaced; pass the original network")
            if getattr(layer, "running_mean", None) is not None:
                raise ValueError(f"{refused}{name!r} keeps running statistics; build it with track_running_stats=False")

    def adapt(self, support: Batch) -> Theta:
        """What is learned from the support set of one task."""
        raise NotImplementedError(f"{type(self).__name__} must say how it adapts")

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        """(n, C, H, W) images to (n, ways) scores; the largest is the answer."""
        raise NotImplementedError(f"{type(self).__name__} must say how it classifies")

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """() loss of logits (n, ways) for labels (n,)."""
        return F.cross_entropy(logits, labels)

    def loss(self, theta: Theta, batch: Batch) -> Tensor:
        """() loss on a batch."""
        images, labels = batch
        return self.criterion(self.logits(theta, images), labels)

    def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
        """() loss that the outer loop descends, and (n, ways) query logits after adaptation."""
        logits = self.query_logits(self.adapt(support), query)
        return self.criterion(logits, query[1]), logits

    def query_logits(self, theta: Theta, query: Batch) -> Tensor:
        """(n, ways) logits of query images with their labels.

        Raises:
            TypeError, ValueError, FloatingPointError: as `check_batch`, and if a label is none of the ways.
        """
        classes = len(check_batch(query, "query set", self))
        logits = self.logits(theta, query[0])
        if classes > logits.shape[1]:
            raise ValueError(f"a query label is {classes - 1}, and the task has {logits.shape[1]} classes, from 0 on")
        return logits

    def forward(self, support: Batch, query: Batch) -> Tensor:
        """() loss that the outer loop descends, differentiable to every meta-parameter."""
        return self.outer(support, query)[0]

    def begin_iteration(self, iteration: int) -> None:
        """The training loop says which meta-iteration follows, counted from 0. Only schedules need it."""

    def check(self, support: Batch) -> list[int]:
        """`check_batch` of a support set, and what else the method needs of it; called before any work is done."""
        return check_batch(support, "support set", self)


def check_batch(batch: object, kind: str, method: nn.Module) -> list[int]:
    """How many images of each class a batch has, if it is one.

    Raises:
        TypeError: if it is not (images, labels), or they are not tensors, of the method's type and int64, beside it.
        ValueError: if there are no images, not one label for each, or a label is negative, which a loss would ignore.
        FloatingPointError: if a pixel is NaN or infinite.
    """
    pair = batch if isinstance(batch, (tuple, list)) else [batch]
    if [isinstance(part, Tensor) for part in pair] != [True, True]:
        kinds = ", ".join(type(part).__name__ for part in pair)
        raise TypeError(f"a {kind} is a pair of tensors, (images, labels), not ({kinds})")
    images, labels = cast(Batch, batch)
    if not images.is_floating_point() or labels.dtype != torch.int64:
        given = f"{images.dtype} and {labels.dtype}; images.float() / 255 and labels.long() may be what you want"
        raise TypeError(f"images must be floating point and labels int64, not {given}")
    weight = next(method.parameters(), images)
    if images.is_meta or (images.dtype, images.device, labels.device) != (weight.dtype, weight.device, weight.device):
        given = f"{images.dtype} on {images.device}, their labels on {labels.device}"
        raise TypeError(f"images of a {kind} are {given}; the network is {weight.dtype} on {weight.device}")
    if not len(images) or labels.shape != images.shape[:1]:
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"a {kind} needs images (n, C, H, W), n > 0, and labels (n,), not shapes {shapes}")
    if known := known_shots.get():
        return known
    low, high = torch.stack(labels.aminmax()).tolist()
    if low < 0 or high >= 100_000:  # counting would take a place for each number
        raise ValueError(f"labels of a {kind} count from 0; one is {low if low < 0 else high}")
    if not images.isfinite().all():
        raise FloatingPointError(f"images of a {kind} have pixels that are NaN or infinite")
    return labels.bincount().tolist()


def fast(theta: Theta) -> Theta:
    """The same tensors, in a form that a gradient can be taken of."""
    return {name: t if t.requires_grad else t.detach().requires_grad_() for name, t in theta.items()}


def norms(theta: Theta) -> dict[str, float]:
    """Euclidean (for matrices and kernels: Frobenius) norm of each tensor."""
    return {name: t.norm().item() for name, t in theta.items()}


@dataclass(frozen=True)
class StepTrace:
    """What was seen in one inner step. All tensors are detached; norms are computed when asked for.

    Attributes:
        loss: () support loss at the fast tensors ``before``.
        before: fast tensors at which the gradient was taken (for CxGrad: after scaling).
        grads: gradient of the loss with respect to each of them.
        after: fast tensors after the step.
        scaling: (blocks,) CxGrad's γ of this step, else None.
        context: (context_dim,) context after this step's update (CAVIA, ModGrad, CxGrad), else None.
    """

    loss: Tensor
    before: Theta
    grads: Theta
    after: Theta
    scaling: Tensor | None = None
    context: Tensor | None = None

    @classmethod
    def of(cls, loss: Tensor, before: Theta, grads: Theta, after: Theta, context: Tensor | None = None) -> "StepTrace":
        """The trace of a step that moved the tensors that have a gradient."""
        before, grads, after = ({name: theta[name].detach() for name in grads} for theta in (before, grads, after))
        return cls(loss.detach(), before, grads, after, context=None if context is None else context.detach())

    @property
    def weight_norms(self) -> dict[str, float]:
        return norms(self.before)

    @property
    def grad_norms(self) -> dict[str, float]:
        return norms(self.grads)

    @property
    def update_norms(self) -> dict[str, float]:
        return norms({name: self.after[name] - t for name, t in self.before.items()})
