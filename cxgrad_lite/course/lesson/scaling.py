"""Scaling and the context, which readers write in notebook 05: the course's version, and the typical mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ...core.method import Batch, Theta
from ...core.nets import Conv4
from .blanks import Exercise

KERNELS = [f"blocks.{i}.conv.weight" for i in range(4)]
Loop = Callable[..., tuple[Theta, Tensor]]


def implicit_gradient_scaling(theta: Theta, gamma: Tensor) -> Theta:
    return theta | {n: gamma[i] * theta[n] / theta[n].norm() for i, n in enumerate(KERNELS)}


def loop_with(
    gamma: Callable[[nn.Module, Tensor], Tensor] = lambda generator, c: generator(c),
    move: Callable[[Tensor, float, Tensor], Tensor] = lambda c, beta, grad: c - beta * grad,
    most: int = 99,
) -> Loop:
    """The inner loop with another γ, another move of the context, and at most so many scalings."""

    def cxgrad_inner_loop(
        net: nn.Module, generator: nn.Module, support: Batch, alpha: float = 0.01, beta: float = 1.0, steps: int = 5
    ) -> tuple[Theta, Tensor]:
        def loss_of(theta: Theta) -> Tensor:
            return F.cross_entropy(functional_call(net, theta, (support[0],)), support[1])

        theta: Theta = {n: w for n, w in net.named_parameters() if ".norm." not in n}
        c = torch.zeros(100).to(support[0]).requires_grad_()
        loss = loss_of(implicit_gradient_scaling(theta, generator(c)))
        c = (c - beta * torch.autograd.grad(loss, c)[0]).detach().requires_grad_()
        for k in range(steps):
            if k < most:
                theta = implicit_gradient_scaling(theta, gamma(generator, c))
            loss = loss_of(theta)
            *grads, slope = torch.autograd.grad(loss, [*theta.values(), c], create_graph=True, allow_unused=True)
            theta = {n: w - alpha * g for (n, w), g in zip(theta.items(), grads)}
            c = move(c, beta, torch.zeros_like(c) if slope is None else slope)
        return theta, c

    return cxgrad_inner_loop


cxgrad_inner_loop = loop_with()


def small_case() -> tuple[Conv4, nn.Module, Batch]:
    """A small network, a generator and a support set, in double precision; ε is large, so that γ matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Conv4(1, 16, 2, width=3, eps=0.1).double()
        generator = nn.Sequential(nn.Linear(100, 6), nn.ReLU(), nn.Linear(6, 4), nn.Softplus()).double()
        return net, generator, (torch.rand(4, 1, 16, 16).double(), torch.tensor([0, 1, 0, 1]))


def look_at_scaling(scale: Callable[[Theta, Tensor], Theta]) -> Mapping[str, Tensor]:
    net, _, _ = small_case()
    theta = scale({n: w.detach() for n, w in net.named_parameters()}, torch.tensor([0.5, 1.0, 2.0, 4.0]).double())
    return {f"the norm of {n}": w.norm() for n, w in theta.items()} | dict(theta)


def look_at_loop(loop: Loop) -> Mapping[str, Tensor]:
    net, generator, support = small_case()
    theta, c = loop(net, generator, support, 0.1, 50.0, 3)
    return {"the context": c.detach()} | {f"θ of {n}": w.detach() for n, w in theta.items()}


def scaled_by(factor: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Theta, Tensor], Theta]:
    return lambda theta, gamma: theta | {n: factor(gamma[i], theta[n]) for i, n in enumerate(KERNELS)}


SCALING = {
    "implicit_gradient_scaling": Exercise(
        implicit_gradient_scaling,
        look_at_scaling,
        mistakes={
            "The kernels are multiplied by γ. Equation 6 gives them the norm γ, so divide by the norm they have.": (
                scaled_by(lambda g, w: g * w)
            ),
            "All norms are 1: γ is missing.": scaled_by(lambda g, w: w / w.norm()),
            "That divides by the square of the norm; a norm has a square root.": scaled_by(
                lambda g, w: g * w / w.square().sum()
            ),
            "Every filter has the norm γ. Equation 6 has one norm for the whole kernel of a block.": scaled_by(
                lambda g, w: g * w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            ),
            "That is the sum of the absolute values; the norm is the root of the sum of squares.": scaled_by(
                lambda g, w: g * w / w.abs().sum()
            ),
        },
    ),
    "cxgrad_inner_loop": Exercise(
        cxgrad_inner_loop,
        look_at_loop,
        mistakes={
            "γ comes from a context of zeros in every step: the generator has to see the task's own context, c.": (
                loop_with(lambda generator, c: generator(torch.zeros_like(c)))
            ),
            "The context stays where line 10 left it: line 15 has to move it in every step.": loop_with(
                move=lambda c, beta, grad: c + 0
            ),
            "The context climbs the loss; equation 7 subtracts the gradient.": loop_with(
                move=lambda c, beta, grad: c + beta * grad
            ),
            "The rate β is missing in line 15.": loop_with(move=lambda c, beta, grad: c - grad),
            "The old context is missing in line 15: this is the step alone.": loop_with(
                move=lambda c, beta, grad: -beta * grad
            ),
            "The kernels are scaled once; Algorithm 1 scales them before every step.": loop_with(most=1),
        },
        raised={
            "to not have been used": "The loss does not depend on c: the generator makes γ from the context.",
            "mat1 and mat2": "The generator takes the context, which has 100 numbers.",
            "in-place operation": "An in-place update would overwrite the context; build a new tensor.",
        },
    ),
}
