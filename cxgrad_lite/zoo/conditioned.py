"""Methods whose adaptation is conditioned on the task by a small network: CAVIA, L2F, ALFA and ModGrad.

`core.cxgrad.CxGrad` is the fifth of them.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core.maml import MAML
from ..core.method import Batch, StepTrace, Theta, fast
from ..core.nets import Conv4, Net
from .learned_rates import at_step


class FiLM(nn.Linear):
    """Feature-wise linear modulation: channel ↦ gain · channel + shift, with [gain; shift] = A context + a."""

    context: Tensor

    def __init__(self, context_dim: int, channels: int) -> None:
        super().__init__(context_dim, 2 * channels)
        self.register_buffer("context", torch.zeros(context_dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        gain, shift = super().forward(self.context).view(2, -1, 1, 1)  # (channels, 1, 1) each
        return gain * x + shift


class CAVIA(MAML):
    """Fast context adaptation: only a context vector is adapted, φ ← φ − α ∇_φ L, from φ = 0 in every task.

    The context modulates the third block, h ↦ activation(gain ∘ pool(norm(conv h)) + shift) with
    [gain; shift] = A φ + a. Meta-learned: the network, A and a; φ is no meta-parameter. The network is copied, because
    its third block gets a FiLM layer.

    Source: Zintgraf et al., ICML 2019, github.com/lmzintgraf/cavia, with its defaults. As there A and a keep PyTorch's
    initialisation, so the gain starts near zero, not at one. The released network has ReLU and convolutions with bias
    (options of `Conv4`), and Kaiming-uniform kernels.

    Args:
        net, second_order: as in `MAML`.
        inner_lr: α, of the context.
        inner_steps: steps of the context.
        context_dim: length of φ.
    """

    LAYERS = ("blocks.2.film",)
    CONTEXT = "blocks.2.film.context"

    def __init__(
        self, net: Conv4, inner_lr: float = 1.0, inner_steps: int = 2, second_order: bool = True, context_dim: int = 100
    ) -> None:
        super().__init__(copy.deepcopy(net), inner_lr, inner_steps, second_order)
        self.context_dim = context_dim
        self.net.get_submodule("blocks.2").film = FiLM(context_dim, net.width)

    def is_fast(self, name: str) -> bool:
        return name == self.CONTEXT

    def begin(self, support: Batch) -> Theta:
        return {self.CONTEXT: self.net.get_buffer(self.CONTEXT)}

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        theta, trace = super().step(theta, support, k)
        return theta, replace(trace, context=theta[self.CONTEXT].detach())


class L2F(MAML):
    """Learn to forget: before the inner loop every tensor of the initialisation is attenuated, θ_j ← γ_j θ_j.

    γ = sigmoid(MLP(e)) in (0, 1), where e_j is the mean of ∇_j L at the initialisation, taken as a constant. Then MAML.
    Meta-learned: the network and the MLP (``attenuator``).

    Source: Baik, Hong & Lee, CVPR 2020, github.com/baiksung/L2F, with its defaults. That code takes inner gradients of
    first order during its first 10 epochs; here ``second_order`` holds throughout.
    """

    def __init__(self, net: Net, inner_lr: float = 0.01, inner_steps: int = 5, second_order: bool = True) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order)
        n = len(self.position)
        self.attenuator = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n), nn.Sigmoid())

    def attenuation(self, theta: Theta, support: Batch) -> Tensor:
        """(fast tensors,) the factors γ of a task."""
        with torch.no_grad():  # the gradients are seen as constants
            _, grads = self.gradients(fast(theta), support)
        return self.attenuator(torch.stack([grad.mean() for grad in grads.values()]))

    def begin(self, support: Batch) -> Theta:
        theta = super().begin(support)
        gamma = self.attenuation(theta, support)
        return {name: factor * t for factor, (name, t) in zip(gamma, theta.items(), strict=True)}


class ALFA(MAML):
    """Adaptive learning of fast adaptation: every step generates a rate and a weight decay for each fast tensor.

    [a; b] = MLP([means of θ; means of the gradients, as constants]), then
    θ_j ← (1 − b_j B_{j,k}) θ_j − a_j A_{j,k} ∇_j L. Meta-learned: the network, the MLP (``regularizer``), and for each
    tensor and step A (``rates``) and B (``decays``).

    Source: Baik et al., NeurIPS 2020, github.com/baiksung/ALFA, with its defaults. A and B are in the code, not in the
    paper's equations. The released network has convolutions with bias (option of `Conv4`). The code has A and B for one
    step more, which is never used.

    Args:
        net, inner_steps, second_order: as in `MAML`.
        inner_lr: where A starts.
        weight_decay: where B starts.
    """

    def __init__(
        self,
        net: Net,
        inner_lr: float = 0.01,
        inner_steps: int = 5,
        second_order: bool = True,
        weight_decay: float = 5e-6,
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order)
        self.weight_decay = weight_decay
        self.rates = nn.ParameterList(torch.full((inner_steps,), inner_lr) for _ in self.position)
        self.decays = nn.ParameterList(torch.full((inner_steps,), weight_decay) for _ in self.position)
        n = 2 * len(self.position)
        self.regularizer = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        theta = fast(theta)
        loss, grads = self.gradients(theta, support)
        state = [theta[name].mean() for name in grads] + [grad.detach().mean() for grad in grads.values()]
        rates, decays = self.regularizer(torch.stack(state)).chunk(2)  # (fast tensors,) each
        new = {}
        for j, (name, grad) in enumerate(grads.items()):
            rate, decay = rates[j] * at_step(self.rates[j], k), decays[j] * at_step(self.decays[j], k)
            new[name] = (1 - decay) * theta[name] - rate * grad
        return {**theta, **new}, StepTrace.of(loss, theta, grads, new)


class ModGrad(MAML):
    """Modulated gradient: only blocks 3 and 4 move, and masks that depend on the task say how much each weight may.

    g = ∇L(θ); trial weights θ(z) = θ − α g ∘ M(z); z ← −∇_z L(θ(z)) at z = 0; then θ ← θ(z). For a kernel
    M(z) = ReLU(u vᵀ), where u and v are softmax mixtures of vectors that a small network makes from z; for a bias
    M(z) = ReLU(b). Meta-learned: the network and the generators.

    Source: Simon et al., ECCV 2020, github.com/chrysts/generative_preconditioner, with its defaults. Its loop runs
    twice but takes g only once, so it makes one step, as here; more ``inner_steps`` repeat the whole step. The released
    network has ReLU and convolutions with bias (options of `Conv4`).

    Args:
        net, second_order: as in `MAML`.
        inner_lr: α.
        inner_steps: modulated steps.
        context_dim: length of z.
        mixtures: vectors in each mixture.
    """

    LAYERS = ("blocks.2.conv", "blocks.3.conv")

    def __init__(
        self,
        net: Conv4,
        inner_lr: float = 0.1,
        inner_steps: int = 1,
        second_order: bool = True,
        context_dim: int = 300,
        mixtures: int = 5,
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, second_order)
        self.context_dim, self.mixtures = context_dim, mixtures
        self.generators = nn.ModuleList()
        for name in self.position:  # a kernel (out, in, 3, 3) has a mask (3 out, 3 in), a product of two vectors
            shape = net.get_parameter(name).shape
            lengths = [3 * n for n in shape[:2]] if len(shape) == 4 else shape
            self.generators.append(nn.ModuleList(self.generator(length) for length in lengths))

    def generator(self, length: int) -> nn.Sequential:
        outputs = self.mixtures * (1 + length)
        return nn.Sequential(nn.Linear(self.context_dim, length), nn.ReLU(), nn.Linear(length, outputs))

    def is_fast(self, name: str) -> bool:
        return name.startswith(("blocks.2.conv.", "blocks.3.conv."))

    def mixture(self, generator: nn.Module, context: Tensor) -> Tensor:
        """(length,) a softmax mixture of generated vectors."""
        made = generator(context)
        return made[: self.mixtures].softmax(0) @ made[self.mixtures :].view(self.mixtures, -1)

    def mask(self, name: str, context: Tensor) -> Tensor:
        """How much each entry of a fast tensor may move; 0 or more, before reshaping to the tensor."""
        factors = [self.mixture(generator, context) for generator in self.generators[self.position[name]].children()]
        return (torch.outer(*factors) if len(factors) == 2 else factors[0]).relu()

    def modulated(self, theta: Theta, grads: Theta, context: Tensor) -> Theta:
        masks = {name: self.mask(name, context).view_as(grad) for name, grad in grads.items()}
        return {name: theta[name] - self.inner_lr * grad * masks[name] for name, grad in grads.items()}

    def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
        theta = fast(theta)
        loss, grads = self.gradients(theta, support)
        start = loss.new_zeros(self.context_dim).requires_grad_()
        create_graph = torch.is_grad_enabled() and self.second_order
        with torch.enable_grad():
            trial = self.loss(self.modulated(theta, grads, start), support)
            (slope,) = torch.autograd.grad(trial, start, create_graph=create_graph)
        new = self.modulated(theta, grads, -slope)
        return new, StepTrace.of(loss, theta, grads, new, context=-slope)
