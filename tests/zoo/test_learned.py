"""Methods without numbers from their authors: finite differences, hand-computed cases, and what schedules do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cxgrad_lite import (
    CAVIA,
    METHODS,
    Conv4,
    MAMLPlusPlus,
    MatchingNet,
    MetaSGD,
    ModGrad,
    TrainConfig,
    load_checkpoint,
    meta_train,
    save_checkpoint,
)
from cxgrad_lite.core.method import Batch, Method
from cxgrad_lite.training.checkpoints import read_header
from data_utils import TaskSampler

# L2F, ALFA and CxGrad hold a part of their graph constant on purpose, so their meta-gradient is no derivative.
DIFFERENTIABLE = [name for name in METHODS if name not in ("L2F", "ALFA", "CxGrad")]


def random_task(seed: int = 0, ways: int = 3) -> tuple[Batch, Batch]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(ways, 4, 1, 16, 16, generator=generator, dtype=torch.float64)
    labels = torch.arange(ways)
    support = images[:, :2].flatten(0, 1), labels.repeat_interleave(2)
    return support, (images[:, 2:].flatten(0, 1), labels.repeat_interleave(2))


def build(name: str) -> Method:
    torch.manual_seed(1)
    net = Conv4(1, 16, 3, width=4, poolings=2 if name == "RelationNet" else 4, conv_bias=True)
    return METHODS[name](net).double()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_meta_gradient_is_the_derivative_of_the_outer_loss(name: str) -> None:
    """Along a random direction through all meta-parameters, by central differences."""
    method, (support, query) = build(name), random_task()
    method(support, query).backward()
    generator = torch.Generator().manual_seed(2)
    parameters = list(method.parameters())
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    expected = sum((p.grad * d).sum().item() for p, d in zip(parameters, directions, strict=True) if p.grad is not None)
    step, values = 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
        values.append(method(support, query).item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_meta_sgd_by_hand() -> None:
    """One step with one rate per weight is θ − α ∘ ∇L; equal rates are MAML; a negative rate climbs."""
    support, _ = random_task()
    torch.manual_seed(0)
    method = MetaSGD(Conv4(1, 16, 3, width=4), inner_lr=0.2).double()
    with torch.no_grad():
        method.rates[method.position["head.weight"]].copy_(torch.linspace(-1, 1, 12).view(3, 4))
    theta, (seen,) = method.adapt(support, trace=True)
    start = method.net.head.weight
    torch.testing.assert_close(
        theta["head.weight"], start - torch.linspace(-1, 1, 12).view(3, 4) * seen.grads["head.weight"]
    )
    kernel = method.net.get_parameter("blocks.0.conv.weight")
    torch.testing.assert_close(theta["blocks.0.conv.weight"], kernel - 0.2 * seen.grads["blocks.0.conv.weight"])
    assert sum(p.numel() for p in method.parameters()) == 2 * sum(p.numel() for p in method.net.parameters())


def test_modgrad_moves_by_the_masked_gradient() -> None:
    support, _ = random_task()
    torch.manual_seed(0)
    method = ModGrad(Conv4(1, 16, 3, width=4), inner_lr=0.5, context_dim=6, mixtures=2).double()
    theta, (seen,) = method.adapt(support, trace=True)
    assert seen.context is not None and seen.context.any()
    for name in ("blocks.2.conv.weight", "blocks.3.conv.weight"):
        mask = method.mask(name, seen.context).view(4, 4, 3, 3)
        assert (mask >= 0).all() and (mask == 0).any() and (mask > 0).any()
        torch.testing.assert_close(theta[name], seen.before[name] - 0.5 * seen.grads[name] * mask)
    slope = torch.autograd.grad(
        method.loss(method.modulated(seen.before, seen.grads, z := torch.zeros(6).double().requires_grad_()), support),
        z,
    )[0]
    torch.testing.assert_close(seen.context, -slope)


def test_cavia_starts_at_zero_and_moves_the_third_block_only() -> None:
    support, query = random_task()
    torch.manual_seed(0)
    method = CAVIA(Conv4(1, 16, 3, width=4), context_dim=5).double()
    assert not method.begin(support)[CAVIA.CONTEXT].any()
    theta = method.adapt(support)
    assert theta.keys() == {CAVIA.CONTEXT} and theta[CAVIA.CONTEXT].any()
    film = method.net.get_submodule("blocks.2.film")
    gain, shift = (film.weight @ theta[CAVIA.CONTEXT] + film.bias).chunk(2)  # type: ignore[operator, union-attr]
    x = torch.rand(2, 4, 2, 2, dtype=torch.float64)
    by_hand = gain[:, None, None] * x + shift[:, None, None]
    torch.testing.assert_close(torch.func.functional_call(film, {"context": theta[CAVIA.CONTEXT]}, (x,)), by_hand)


def test_a_method_that_changes_the_network_leaves_the_students_network_alone() -> None:
    net = Conv4(1, 16, 3, width=4)
    before = {name: tuple(p.shape) for name, p in net.named_parameters()}
    for cls in (CAVIA, MAMLPlusPlus, MatchingNet):
        cls(net)
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == before
    assert net(torch.rand(2, 1, 16, 16)).shape == (2, 3)


def test_the_loss_weights_of_maml_plus_plus() -> None:
    """At the start all steps count alike; the last one gains in 15 stages; then it is alone. They always sum to one."""
    method = MAMLPlusPlus(Conv4(1, 16, 3, width=4), annealing=30)
    assert method.loss_weights(0) == method.loss_weights(1) == [0.2] * 5
    assert method.loss_weights(2) == pytest.approx([(1 - 1 / 15) / 5] * 4 + [(1 + 4 / 15) / 5])
    assert method.loss_weights(30) == [0, 0, 0, 0, 1]
    for iteration in range(32):
        assert sum(method.loss_weights(iteration)) == pytest.approx(1)
    lasts = [method.loss_weights(iteration)[-1] for iteration in range(32)]
    assert lasts == sorted(lasts)


def test_training_tells_the_method_which_iteration_it_is(tasks: TaskSampler) -> None:
    torch.manual_seed(0)
    method = MAMLPlusPlus(Conv4(1, 16, 3, width=4), inner_steps=2, annealing=4)
    meta_train(method, tasks, TrainConfig(4, progress=False))
    assert method.weights == method.loss_weights(3)
    meta_train(method, tasks, TrainConfig(6, progress=False))
    assert method.weights == [0, 1]


def test_each_inner_step_of_maml_plus_plus_has_its_own_gains() -> None:
    support, query = random_task()
    torch.manual_seed(0)
    method = MAMLPlusPlus(Conv4(1, 16, 3, width=4), inner_steps=2).double()
    method.weights = [0.0, 1.0]
    before = method(support, query).item()
    gain = method.net.get_parameter("blocks.3.norm.weight")
    assert gain.shape == (2, 4)
    with torch.no_grad():
        gain[0] *= 3
    changed_first = method.adapt(support)
    assert method(support, query).item() != before, "the first row acts on the first support loss"
    assert torch.equal(changed_first["blocks.3.norm.weight"], gain[1]), "queries are seen with the last row"


def test_decay_of_the_outer_rate() -> None:
    config = TrainConfig(10, meta_lr=1.0, decay=0.5, decay_every=3)
    assert [config.rate(iteration) for iteration in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("name", ["MetaSGD", "MAMLPlusPlus", "ALFA", "ModGrad"])
def test_checkpoints_that_name_tensors_still_load(name: str, tmp_path: Path) -> None:
    """What is learned for a fast tensor used to stand under its name, rates.head-bias, and now under its position."""
    method = build(name).float()
    names = [fast.replace(".", "-") for fast in method.position]  # type: ignore[attr-defined, union-attr]
    table = re.compile(r"^(rates|decays|generators)\.(\d+)")
    state = method.state_dict()
    old = {table.sub(lambda match: f"{match[1]}.{names[int(match[2])]}", key): t for key, t in state.items()}
    assert old.keys() != state.keys()
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, method)
    header = {part: value for part, value in read_header(path).items() if part != "sha256"}
    save_file(old, path, metadata={"cxgrad_lite": json.dumps(header)})
    loaded = load_checkpoint(path).state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], t) for key, t in state.items())
