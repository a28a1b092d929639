"""Contextual Gradient Scaling (Lee et al., WACV 2022)."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from .maml import MAML
from .method import Batch, StepTrace, Theta, fast
from .nets import Conv4


class CxGrad(MAML):
    """MAML whose convolution kernels are set to norm γ before every inner step; γ depends on the task.

    A convolution followed by batch norm can be multiplied by a > 0 without changing the network, but its gradient is
    then multiplied by 1/a (eq. 4, 5). So with kernels of norm γ (eq. 6) the backbone's gradients are those of
    unit-norm kernels, divided by γ. γ = g(c) comes from a small network, the generator (eq. 8), fed with a context
    vector c that starts at zero and is adapted to the task by the same loss (eq. 7). Algorithm 1 and 2 of the paper:

        c ← 0;  c ← c − β ∇_c L(scaled θ)            once, before the inner loop (`begin`)
        θ ← scale(θ, g(c));  θ ← θ − α ∇_θ L(θ);  c ← c − β ∇_c L(θ)          every inner step (`step`)

    Meta-learned: the network and the generator. Not meta-learned: the start of c, α and β.

    Source: Lee, Lee & Song, WACV 2022, github.com/shlee625/CxGrad. Where the released code says more than the paper,
    the code is followed: the first context update is first order; one Frobenius norm per kernel; the gradient step is
    taken from the scaled kernel; after the last step nothing is scaled again. Biases of convolutions, if the network
    has them, are not scaled here (the released code would normalise them as well, but never has any). The step-wise
    variant of the paper's Table 3 was not released: ``context_update="step"`` is our reading of it.

    Args:
        net: a network whose kernels are named ``blocks.{i}.conv.weight`` and are each followed by normalisation.
        inner_lr: α.
        inner_steps: gradient steps per task.
        second_order: differentiate through the inner gradients.
        context_dim: length of c.
        context_lr: β.
        frozen_context: keep c at zero, so that γ is learned but the same for all tasks.
        constant_gamma: a control of ours: keep c at zero and the generator as it was drawn, so that γ (about 0.69) is
            neither adapted nor learned.
        context_update: "task" keeps c from step to step (the paper); "step" starts it anew from zero in every step.

    Raises:
        ValueError: if an option is unknown or negative, or the network has no such kernels.
    """

    def __init__(
        self,
        net: Conv4,
        inner_lr: float = 0.01,
        inner_steps: int = 5,
        second_order: bool = True,
        context_dim: int = 100,
        context_lr: float = 1.0,
        frozen_context: bool = False,
        constant_gamma: bool = False,
        context_update: Literal["task", "step"] = "task",
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order)
        if context_update not in ("task", "step"):
            raise ValueError(f"context_update must be 'task' or 'step', not {context_update!r}")
        self.context_dim, self.context_lr = context_dim, context_lr
        self.frozen_context, self.constant_gamma, self.context_update = frozen_context, constant_gamma, context_update
        self.kernels = [name for name, _ in net.named_parameters() if name.endswith(".conv.weight")]
        bare = [name for name in self.kernels if name.removesuffix("conv.weight") + "norm" not in self.norms]
        if bare or not self.kernels:
            missing = f"{bare[0] if bare else f'this {type(net).__name__}'} has none"
            raise ValueError(f"CxGrad scales kernels named ….conv.weight, each before a norm named ….norm; {missing}")
        self.generator = nn.Sequential(
            nn.Linear(context_dim, context_dim), nn.ReLU(), nn.Linear(context_dim, len(self.kernels)), nn.Softplus()
        )

    @property
    def context_moves(self) -> bool:
        return not (self.frozen_context or self.constant_gamma)

    def rate(self, name: str, k: int) -> float | Tensor:
        if name == "context":
            return self.context_lr if self.context_update == "task" else 0.0
        return super().rate(name, k)

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        return super().logits({name: t for name, t in theta.items() if name != "context"}, images)

    def scale(self, theta: Theta) -> tuple[Theta, Tensor]:
        """Algorithm 2: kernels set to norm γ = g(context), everything else as it is; and γ, (blocks,)."""
        gamma = self.generator(theta["context"] if "context" in theta else self.zero_context())  # (blocks,)
        if self.constant_gamma:
            gamma = gamma.detach()
        return self.set_norms(theta, gamma), gamma

    def set_norms(self, theta: Theta, gamma: Tensor) -> Theta:
        """Kernels with the norms γ, (blocks,), everything else as it is (eq. 6)."""
        kernels = {name: gamma[i] * theta[name] / theta[name].norm() for i, name in enumerate(self.kernels)}
        return {**theta, **kernels}

    def zero_context(self) -> Tensor:
        """(context_dim,) the context before it has seen the task."""
        return next(self.generator.parameters()).new_zeros(self.context_dim)

    def with_fresh_context(self, theta: Theta, support: Batch) -> Theta:
        """theta with the context that one gradient step from zero gives (eq. 7), held constant."""
        context = self.zero_context().requires_grad_()
        with torch.enable_grad():
            loss = self.loss(self.scale({**theta, "context": context})[0], support)
            (grad,) = torch.autograd.grad(loss, context)
        return {**theta, "context": (context - self.context_lr * grad).detach()}

    def begin(self, support: Batch) -> Theta:
        theta = super().begin(support)
        return self.with_fresh_context(theta, support) if self.context_moves else theta

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        if self.context_update == "step" and self.context_moves and k > 0:
            theta = self.with_fresh_context(theta, support)
        with torch.enable_grad():  # the context's gradient runs through γ, also where no meta-gradient is wanted
            scaled, gamma = self.scale(fast(theta))
        theta, trace = super().step(scaled, support, k)
        context = theta["context"] if "context" in theta else self.zero_context()
        return theta, replace(trace, scaling=gamma.detach(), context=context.detach())
