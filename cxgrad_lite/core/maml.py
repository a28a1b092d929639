"""MAML and what is one choice of fast tensors away from it: ANIL and BOIL.

Every gradient-based method of this package is a class with a few small methods: which tensors are *fast*, where they
`begin`, and how they move in an inner `step`.
"""

from collections.abc import Iterator
from typing import Literal, overload

import torch
from torch import Tensor

from .method import NUMBERED, Batch, Method, StepTrace, Theta, fast
from .nets import Net, normalisations
from .stateless import with_tensors


class MAML(Method):
    """Model-agnostic meta-learning: an initialisation from which a few gradient steps solve a new task.

    Inner loop (CxGrad paper, eq. 2): θ ← θ − α ∇L(θ; support), ``inner_steps`` times. Outer loop (eq. 3): descend the
    query loss after adaptation, differentiated through the inner steps (``second_order``) or with the inner gradients
    taken as constants (first order).

    Source: Finn, Abbeel & Levine, ICML 2017, github.com/cbfinn/maml. Defaults follow the MAML of the CxGrad
    repository (github.com/shlee625/CxGrad): mean cross-entropy, convolutions and head are fast, the gains and biases of
    the normalisation are meta-learned but not adapted. The original code divides the summed loss by the shots instead,
    so its α = 0.01 is 0.05 here in 5-way tasks, and takes 10 steps at test.

    Args:
        net: maps (n, C, H, W) images to (n, ways) logits; see `Conv4` and, for networks of your own, `Method`.
        inner_lr: α.
        inner_steps: gradient steps per task, in training and at test.
        second_order: differentiate through the inner gradients.
        adapt_norm: let the inner loop move the normalisation's gains and biases too.

    Raises:
        ValueError: if ``inner_lr`` or ``inner_steps`` is negative.
    """

    def __init__(
        self,
        net: Net,
        inner_lr: float = 0.01,
        inner_steps: int = 5,
        second_order: bool = True,
        adapt_norm: bool = False,
    ) -> None:
        super().__init__(net)
        if inner_lr < 0 or inner_steps < 0:
            raise ValueError(f"inner_lr and inner_steps cannot be negative: {inner_lr}, {inner_steps}")
        if not self.ways:
            raise ValueError(f"{type(net).__name__} needs an attribute `ways`: how many classes it tells apart")
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.second_order, self.adapt_norm = second_order, adapt_norm
        self.norms = normalisations(net)
        names = [name for name, _ in net.named_parameters() if self.is_fast(name)]
        self.position = {name: j for j, name in enumerate(names)}  # of the fast parameters among themselves

    def is_fast(self, name: str) -> bool:
        """Whether the inner loop adapts the parameter of the network with this name."""
        return self.adapt_norm or name.rpartition(".")[0] not in self.norms

    def rate(self, name: str, k: int) -> float | Tensor:
        """Learning rate of fast tensor ``name`` in inner step ``k``."""
        return self.inner_lr

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        """(n, ways) logits of the network with its fast tensors replaced by ``theta``."""
        return with_tensors(self.net, theta)(images)

    def begin(self, support: Batch) -> Theta:
        """The fast tensors before the first inner step."""
        return {name: p for name, p in self.net.named_parameters() if self.is_fast(name)}

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        """Inner step ``k``: new fast tensors, and what was seen on the way."""
        theta = fast(theta)
        loss, grads = self.gradients(theta, support)
        new = {name: theta[name] - self.rate(name, k) * grad for name, grad in grads.items()}  # eq. 2
        return {**theta, **new}, StepTrace.of(loss, theta, grads, new)

    def gradients(self, theta: Theta, batch: Batch) -> tuple[Tensor, Theta]:
        """Loss and its gradient. The graph is kept where the caller may want a meta-gradient: not under no_grad."""
        meta = torch.is_grad_enabled()
        names = [name for name in theta if self.is_fast(name)]
        with torch.enable_grad():
            loss = self.loss(theta, batch)
            tensors = [theta[name] for name in names]
            grads = torch.autograd.grad(loss, tensors, create_graph=meta and self.second_order, retain_graph=meta)
        return loss, dict(zip(names, grads))

    def path(self, support: Batch) -> Iterator[tuple[Theta, StepTrace | None]]:
        """The inner loop: where it begins, without a trace, and where each step leads, with its trace."""
        self.check(support)
        theta = self.begin(support)
        yield theta, None
        for k in range(self.inner_steps):
            theta, trace = self.step(theta, support, k)
            yield theta, trace

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
        thetas, (_, *steps) = zip(*self.path(support))
        return (thetas[-1], steps) if trace else thetas[-1]

    def check(self, support: Batch) -> list[int]:
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "torch.inference_mode() forbids the gradients of an inner loop; use torch.no_grad() instead"
            )
        shots = super().check(support)
        if len(shots) > self.ways:
            given = [label for label, count in enumerate(shots) if count]
            counted = f"the task has {len(shots)}; build the network with ways={len(shots)}"
            advice = counted if len(given) == len(shots) else NUMBERED.format(given)
            raise ValueError(f"the head tells {self.ways} classes apart, but {advice}")
        return shots


class ANIL(MAML):
    """Almost no inner loop: only the head is adapted, θ_h ← θ_h − α ∇L; the backbone is shared by all tasks.

    Source: Raghu et al., ICLR 2020. No official code; defaults follow learn2learn's script (α = 0.1, 5 steps).
    """

    LAYERS = ("head",)

    def __init__(self, net: Net, inner_lr: float = 0.1, inner_steps: int = 5, second_order: bool = True) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order)

    def is_fast(self, name: str) -> bool:
        return name.startswith("head.")


class BOIL(MAML):
    """Body only in the inner loop: the head is shared by all tasks, the backbone is adapted.

    Source: Oh et al., ICLR 2021, github.com/jhoon-oh/BOIL. As in that code the normalisation's gains and biases are
    adapted too (``adapt_norm``), with α = 0.5 and one step.
    """

    LAYERS = ("head",)

    def __init__(
        self, net: Net, inner_lr: float = 0.5, inner_steps: int = 1, second_order: bool = True, adapt_norm: bool = True
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order, adapt_norm)

    def is_fast(self, name: str) -> bool:
        return not name.startswith("head.") and super().is_fast(name)
