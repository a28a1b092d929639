"""MAML and what is one rule away from it: ANIL and BOIL.

Every gradient-based method of this package is a class with three small methods. ``theta`` is a dict of the *fast*
tensors of one task; everything else in the network is shared by all tasks. Nothing is kept on ``self`` during
adaptation: theta goes in, theta comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .nets import Conv4

Theta = dict[str, Tensor]  # fast tensors by name
Batch = tuple[Tensor, Tensor]  # (images, labels): (n, C, H, W), (n,)


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
        context: (context_dim,) CxGrad's context after this step's update, else None.
    """

    loss: Tensor
    before: Theta
    grads: Theta
    after: Theta
    scaling: Tensor | None = None
    context: Tensor | None = None

    @property
    def weight_norms(self) -> dict[str, float]:
        return norms(self.before)

    @property
    def grad_norms(self) -> dict[str, float]:
        return norms(self.grads)

    @property
    def update_norms(self) -> dict[str, float]:
        return norms({name: self.after[name] - t for name, t in self.before.items()})


class MAML(nn.Module):
    """Model-agnostic meta-learning: an initialisation from which a few gradient steps solve a new task.

    Inner loop (CxGrad paper, eq. 2): θ ← θ − α ∇L(θ; support), ``inner_steps`` times. Outer loop (eq. 3): descend the
    query loss after adaptation, differentiated through the inner steps (``second_order``) or with the inner gradients
    taken as constants (first order).

    Source: Finn, Abbeel & Levine, ICML 2017, github.com/cbfinn/maml. Defaults follow the MAML of the CxGrad
    repository (github.com/shlee625/CxGrad): mean cross-entropy, convolutions and head are fast, the gains and biases of
    the normalisation are meta-learned but not adapted. The original code divides the summed loss by the shots instead,
    so its α = 0.01 is 0.05 here in 5-way tasks, and takes 10 steps at test.

    Args:
        net: maps (n, C, H, W) images to (n, ways) logits; see `Conv4`.
        inner_lr: α.
        inner_steps: gradient steps per task, in training and at test.
        second_order: differentiate through the inner gradients.
        adapt_norm: let the inner loop move the normalisation's gains and biases too.

    Raises:
        ValueError: if ``inner_lr`` or ``inner_steps`` is negative.
    """

    def __init__(
        self,
        net: Conv4,
        inner_lr: float = 0.01,
        inner_steps: int = 5,
        second_order: bool = True,
        adapt_norm: bool = False,
    ) -> None:
        super().__init__()
        if inner_lr < 0 or inner_steps < 0:
            raise ValueError(f"inner_lr and inner_steps cannot be negative: {inner_lr}, {inner_steps}")
        self.net = net
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.second_order, self.adapt_norm = second_order, adapt_norm

    def is_fast(self, name: str) -> bool:
        """Whether the inner loop adapts the parameter of the network with this name."""
        return self.adapt_norm or ".norm." not in name

    def rate(self, name: str, k: int) -> float | Tensor:
        """Learning rate of fast tensor ``name`` in inner step ``k``."""
        return self.inner_lr

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        """(n, ways) logits of the network with its fast tensors replaced by ``theta``."""
        return functional_call(self.net, theta, (images,))

    def loss(self, theta: Theta, batch: Batch) -> Tensor:
        """() mean cross-entropy on a batch."""
        images, labels = batch
        return F.cross_entropy(self.logits(theta, images), labels)

    def begin(self, support: Batch) -> Theta:
        """The fast tensors before the first inner step."""
        return {name: p for name, p in self.net.named_parameters() if self.is_fast(name)}

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        """Inner step ``k``: new fast tensors, and what was seen on the way."""
        theta = fast(theta)
        loss, grads = self.gradients(theta, support)
        after = {name: t - self.rate(name, k) * grads[name] for name, t in theta.items()}
        return after, StepTrace(loss.detach(), detached(theta), detached(grads), detached(after))

    def gradients(self, theta: Theta, batch: Batch) -> tuple[Tensor, Theta]:
        """Loss and its gradient. The graph is kept where the caller may want a meta-gradient: not under no_grad."""
        meta = torch.is_grad_enabled()
        with torch.enable_grad():
            loss = self.loss(theta, batch)
            grads = torch.autograd.grad(
                loss, list(theta.values()), create_graph=meta and self.second_order, retain_graph=meta
            )
        return loss, dict(zip(theta, grads, strict=True))

    @overload
    def adapt(self, support: Batch, trace: Literal[False] = False) -> Theta: ...

    @overload
    def adapt(self, support: Batch, trace: Literal[True]) -> tuple[Theta, list[StepTrace]]: ...

    def adapt(self, support: Batch, trace: bool = False) -> Theta | tuple[Theta, list[StepTrace]]:
        """Adapt to one task.

        Under ``torch.no_grad()`` the inner loop still takes its gradients, but remembers nothing for a meta-gradient.

        Returns:
            theta, or with ``trace=True`` (theta, one `StepTrace` per inner step).

        Raises:
            ValueError: if the support set has more classes than the head.
            RuntimeError: inside ``torch.inference_mode()``, where no gradient can be taken.
        """
        self._check(support)
        theta, seen = self.begin(support), []
        for k in range(self.inner_steps):
            theta, step_trace = self.step(theta, support, k)
            if trace:
                seen.append(step_trace)
        return (theta, seen) if trace else theta

    def _check(self, support: Batch) -> None:
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                f"{type(self).__name__} adapts by gradient descent, which torch.inference_mode() forbids; "
                "use torch.no_grad() instead"
            )
        labels = support[1]
        if labels.is_cuda and torch.cuda.is_current_stream_capturing():
            return  # a captured graph cannot look at values
        if int(labels.max()) >= self.net.ways:
            raise ValueError(
                f"the head tells {self.net.ways} classes apart, but the task has {int(labels.max()) + 1}; "
                f"build the network with ways={int(labels.max()) + 1}"
            )

    def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
        """() query loss and (n, ways) query logits after adaptation."""
        logits = self.logits(self.adapt(support), query[0])
        return F.cross_entropy(logits, query[1]), logits

    def forward(self, support: Batch, query: Batch) -> Tensor:
        """() query loss after adaptation, differentiable to every meta-parameter."""
        return self.outer(support, query)[0]


def detached(theta: Theta) -> Theta:
    return {name: t.detach() for name, t in theta.items()}


class ANIL(MAML):
    """Almost no inner loop: only the head is adapted, θ_h ← θ_h − α ∇L; the backbone is shared by all tasks.

    Source: Raghu et al., ICLR 2020. No official code; defaults follow learn2learn's script (α = 0.1, 5 steps).
    """

    def __init__(self, net: Conv4, inner_lr: float = 0.1, inner_steps: int = 5, second_order: bool = True) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order)

    def is_fast(self, name: str) -> bool:
        return name.startswith("head.")


class BOIL(MAML):
    """Body only in the inner loop: the head is shared by all tasks, the backbone is adapted.

    Source: Oh et al., ICLR 2021, github.com/jhoon-oh/BOIL. As in that code the normalisation's gains and biases are
    adapted too (``adapt_norm``), with α = 0.5 and one step.
    """

    def __init__(
        self,
        net: Conv4,
        inner_lr: float = 0.5,
        inner_steps: int = 1,
        second_order: bool = True,
        adapt_norm: bool = True,
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order, adapt_norm)

    def is_fast(self, name: str) -> bool:
        return not name.startswith("head.") and super().is_fast(name)
