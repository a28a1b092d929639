"""The mathematics that the course rests on, as properties of random networks and tasks (float64)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cxgrad_lite import ANIL, BOIL, MAML, Conv4, CxGrad
from cxgrad_lite.core.method import Batch, Theta
from cxgrad_lite.core.nets import Norm

EPS = 1e-14  # PyTorch rejects 0
KERNELS = [f"blocks.{i}.conv.weight" for i in range(4)]
NORMS: list[Norm] = ["batch", "layer", "group"]

factors = st.floats(0.05, 20)
seeds = st.integers(0, 2**31 - 1)
settings.register_profile("course", deadline=None, max_examples=15, derandomize=True)
settings.load_profile("course")


def random_net(seed: int, norm: Norm = "batch", eps: float = EPS, width: int = 8) -> Conv4:
    torch.manual_seed(seed)
    return Conv4(1, 16, 3, width=width, norm=norm, eps=eps, poolings=3).double()


def random_batch(seed: int, per_class: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3 * per_class, 1, 16, 16, generator=generator, dtype=torch.float64)
    return images, torch.arange(3).repeat_interleave(per_class)


def loss_and_gradients(net: Conv4, weights: Theta, batch: Batch) -> tuple[Tensor, Theta]:
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    loss = MAML(net).loss(leaves, batch)
    return loss, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, scale=factors, block=st.integers(0, 3))
def test_a_scaled_kernel_leaves_the_outputs_and_divides_its_gradient(
    norm: Norm, seed: int, scale: float, block: int
) -> None:
    """Equations 4 and 5: BN(aWx) = BN(Wx), and the gradient with respect to aW is 1/a of that to W."""
    net, batch = random_net(seed, norm), random_batch(seed)
    weights = dict(net.named_parameters())
    scaled = {**weights, KERNELS[block]: scale * weights[KERNELS[block]]}
    method = MAML(net)
    torch.testing.assert_close(method.logits(scaled, batch[0]), method.logits(weights, batch[0]), rtol=1e-8, atol=1e-8)

    _, before = loss_and_gradients(net, weights, batch)
    _, after = loss_and_gradients(net, scaled, batch)
    for name in weights:
        expected = before[name] / scale if name == KERNELS[block] else before[name]
        assert relative(after[name], expected) < 1e-6, name


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds)
def test_the_gradient_of_a_normalised_kernel_is_orthogonal_to_it(norm: Norm, seed: int) -> None:
    """Euler's identity for a loss that does not change with the scale: ⟨∇_W L, W⟩ = 0."""
    net, batch = random_net(seed, norm), random_batch(seed)
    weights = dict(net.named_parameters())
    _, gradients = loss_and_gradients(net, weights, batch)
    for name in KERNELS:
        w, g = weights[name].detach(), gradients[name]
        assert abs((w * g).sum()) < 1e-8 * w.norm() * g.norm()
    head = "head.weight"  # no normalisation after it: the property is the kernels' own
    assert abs((weights[head].detach() * gradients[head]).sum()) > 1e-6 * weights[head].norm() * gradients[head].norm()


def test_a_conv_bias_breaks_the_invariance_only_without_normalisation_of_the_mean() -> None:
    """Batch norm subtracts a channel's bias again; layer norm does not, so there the factor must leave no bias."""
    for norm, invariant in (("batch", True), ("layer", False)):
        torch.manual_seed(0)
        net = Conv4(1, 16, 3, width=8, norm=norm, eps=EPS, conv_bias=True, poolings=3).double()  # type: ignore[arg-type]
        torch.nn.init.normal_(net.blocks[0].conv.bias)  # type: ignore[union-attr, arg-type]
        weights, images = dict(net.named_parameters()), random_batch(0)[0]
        scaled = {**weights, KERNELS[0]: 3 * weights[KERNELS[0]]}
        method = MAML(net)
        assert torch.allclose(method.logits(scaled, images), method.logits(weights, images)) is invariant


@given(seed=seeds, inner_lr=st.floats(0.001, 0.3))
def test_cxgrad_with_zero_context_is_descent_on_the_sphere(seed: int, inner_lr: float) -> None:
    """Directions of the kernels move by u ← normalise(u − α/γ² ∇L(u)), the head by plain gradient descent."""
    net, support = random_net(seed, eps=EPS), random_batch(seed)
    method = CxGrad(net, inner_lr, inner_steps=3, frozen_context=True).double()
    with torch.no_grad():
        ours = method.adapt(support)
        gamma = method.generator(method.zero_context())
    sphere = {name: p.detach() for name, p in net.named_parameters() if method.is_fast(name)}
    sphere |= {name: sphere[name] / sphere[name].norm() for name in KERNELS}
    rates = {name: inner_lr / gamma[KERNELS.index(name)] ** 2 if name in KERNELS else inner_lr for name in sphere}
    for _ in range(3):
        _, gradients = loss_and_gradients(net, sphere, support)
        sphere = {name: w - rates[name] * gradients[name] for name, w in sphere.items()}
        sphere |= {name: sphere[name] / sphere[name].norm() for name in KERNELS}
    for name, w in sphere.items():
        assert relative(ours[name] / (ours[name].norm() if name in KERNELS else 1), w) < 1e-8, name


@given(seed=seeds)
def test_the_context_gets_no_gradient_but_through_eps(seed: int) -> None:
    """∂L/∂γ = 0 where normalisation is exact, so the context stays at zero; eps lets a little through."""
    leaks = []
    for eps in (1e-3, 1e-5, EPS):
        method = CxGrad(random_net(seed, eps=eps), inner_steps=2).double()
        with torch.no_grad():
            _, trace = method.adapt(random_batch(seed), trace=True)
        assert trace[0].context is not None
        leaks.append(trace[0].context.norm().item())
    assert leaks[2] < 1e-9
    assert leaks[0] > 10 * leaks[1] > 1e3 * leaks[2]


METHODS = {
    "MAML": lambda net: MAML(net, 0.1, 2),
    "ANIL": lambda net: ANIL(net, 0.1, 2),
    "BOIL": lambda net: BOIL(net, 0.1, 2),
    # The released code takes the first context update as a constant; a large eps makes the later ones visible.
    "CxGrad": lambda net: CxGrad(net, 0.1, 2, context_dim=7),
    "CxGrad, frozen": lambda net: CxGrad(net, 0.1, 2, context_dim=7, frozen_context=True),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_meta_gradient_agrees_with_finite_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along a random direction in the space of all meta-parameters; eps is large so that the context matters."""
    method = METHODS[name](random_net(1, eps=1e-2, width=6)).double()
    support, query = random_batch(2), random_batch(3)
    if name == "CxGrad":
        fixed = method.begin(support)["context"].clone()
        monkeypatch.setattr(method, "with_fresh_context", lambda theta, _: {**theta, "context": fixed})
    method(support, query).backward()
    generator = torch.Generator().manual_seed(4)
    start = [p.detach().clone() for p in method.parameters()]
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in start]
    slope = sum((p.grad * d).sum() for p, d in zip(method.parameters(), direction, strict=True) if p.grad is not None)

    def loss_at(h: float) -> float:
        with torch.no_grad():
            for p, p0, d in zip(method.parameters(), start, direction, strict=True):
                p.copy_(p0 + h * d)
            return method(support, query).item()

    h = 1e-7  # small, since a larger step crosses a kink of the activations now and then
    assert slope == pytest.approx((loss_at(h) - loss_at(-h)) / (2 * h), rel=1e-6)


def test_first_order_takes_the_inner_gradients_as_constants() -> None:
    """By its definition: the gradient of the query loss at the adapted parameters, handed to the initial ones."""
    net, support, query = random_net(5), random_batch(6), random_batch(7)
    method = MAML(net, 0.1, 3, second_order=False)
    method(support, query).backward()
    with torch.no_grad():
        theta = method.adapt(support)
    _, expected = loss_and_gradients(net, theta, query)
    for name, parameter in net.named_parameters():
        if name in expected:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected[name])
    second = MAML(net, 0.1, 3)
    net.zero_grad()
    second(support, query).backward()
    gradient = net.get_parameter("blocks.0.conv.weight").grad
    assert gradient is not None and relative(gradient, expected["blocks.0.conv.weight"]) > 1e-3


def test_pooling_before_the_activation_changes_nothing() -> None:
    net, images = random_net(8).float(), random_batch(9)[0].float()
    expected = images
    for block in net.blocks:
        expected = block.pool(block.activation(block.norm(block.conv(expected))))  # type: ignore[operator, union-attr]
    assert torch.equal(net(images), net.head(expected.flatten(1)))
