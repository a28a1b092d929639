"""MAML with rates that the outer loop learns: Meta-SGD and MAML++."""

import copy

import torch
from torch import Tensor, nn

from ..core.maml import MAML
from ..core.method import Batch, StepTrace, Theta
from ..core.nets import Conv4, Net


def at_step(rows: Tensor, k: int) -> Tensor:
    """Row ``k`` of what is learned per step; steps beyond those in training repeat the last row."""
    return rows[min(k, len(rows) - 1)]


class MetaSGD(MAML):
    """MAML with a learned rate for every single weight, θ ← θ − α ∘ ∇L, which may become negative.

    Meta-learned: the network and α (``rates``), which doubles what the outer loop learns.

    Source: Li et al., 2017 (arXiv 1707.09835). No official code; defaults follow github.com/jik0730/Meta-SGD-pytorch:
    one step, all rates start at ``inner_lr`` (the paper draws them from [0.005, 0.1]), the normalisation's gains and
    biases are fast too.
    """

    def __init__(
        self, net: Net, inner_lr: float = 1e-3, inner_steps: int = 1, second_order: bool = True, adapt_norm: bool = True
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order, adapt_norm)
        self.rates = nn.ParameterList(torch.full_like(net.get_parameter(name), inner_lr) for name in self.position)

    def rate(self, name: str, k: int) -> float | Tensor:
        return self.rates[self.position[name]]


class MAMLPlusPlus(MAML):
    """MAML with what makes it train well: learned rates, a loss after every step, batch norm of its own per step.

    * θ_j ← θ_j − α_{j,k} ∇_j L with a learned rate for each tensor j and step k (``rates``).
    * Outer loss Σ_k w_k L(θ after step k; query) at the beginning of training; the weights move to the last step in 15
      stages of ``annealing`` / 15 meta-iterations, after which only the last one counts (see `loss_weights`).
    * Gain and bias of the normalisation are (inner_steps, width): step k uses row k. They are not fast.

    The network is copied, because the shapes of its normalisation change.

    Source: Antoniou, Edwards & Storkey, ICLR 2019, github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch. As in the code
    the rates start at 0.1 (its configuration says 0.01, which is never read) and all gradients are of second order
    from the first iteration. Its rate for a step after the last, which is never used, is left out.

    Args:
        net, inner_lr, inner_steps, second_order: as in `MAML`; inner_lr is where the learned rates start.
        annealing: meta-iterations with a loss after every step; the released code: 15 epochs of 500.

    Raises:
        ValueError: if there is no inner step.
    """

    LAYERS = ("blocks",)
    STAGES = 15

    def __init__(
        self, net: Conv4, inner_lr: float = 0.1, inner_steps: int = 5, second_order: bool = True, annealing: int = 7500
    ) -> None:
        super().__init__(copy.deepcopy(net), inner_lr, inner_steps, second_order)
        if inner_steps < 1:
            raise ValueError("MAML++ takes its loss after every inner step, so it needs at least one")
        self.annealing = annealing
        for block in self.net.blocks:
            norm = block.get_submodule("norm")
            for name, parameter in list(norm.named_parameters()):
                setattr(norm, name, nn.Parameter(parameter.detach().repeat(inner_steps, 1)))
        self.rates = nn.ParameterList(torch.full((inner_steps,), inner_lr) for _ in self.position)
        self.begin_iteration(0)

    def begin_iteration(self, iteration: int) -> None:
        self.weights = self.loss_weights(iteration)

    def loss_weights(self, iteration: int) -> list[float]:
        """w_k for each step in a meta-iteration."""
        steps = self.inner_steps
        if iteration >= self.annealing:
            return [0.0] * (steps - 1) + [1.0]
        progress = (iteration * self.STAGES // self.annealing) / self.STAGES
        early = max((1 - progress) / steps, 0.03 / steps)
        last = min((1 + progress * (steps - 1)) / steps, 1 - (steps - 1) * 0.03 / steps)
        return [early] * (steps - 1) + [last]

    def rate(self, name: str, k: int) -> float | Tensor:
        return at_step(self.rates[self.position[name]], k)

    def norm_of_step(self, k: int) -> Theta:
        """Gains and biases that step ``k`` uses, each (width,)."""
        rows = [(name, p) for name, p in self.net.named_parameters() if not self.is_fast(name)]
        return {name: at_step(p, k) for name, p in rows}

    def begin(self, support: Batch) -> Theta:
        return {**super().begin(support), **self.norm_of_step(0)}

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        return super().step({**theta, **self.norm_of_step(k)}, support, k)

    def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
        # With another number of steps than in training the last one counts alone.
        fits = len(self.weights) == self.inner_steps
        weights, losses = self.weights if fits else self.loss_weights(self.annealing), []
        for weight, (theta, _) in zip([0.0, *weights], self.path(support)):  # no loss where the path begins
            if weight:
                logits = self.query_logits(theta, query)
                losses.append(weight * self.criterion(logits, query[1]))
        return torch.stack(losses).sum(), logits
