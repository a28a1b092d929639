"""Fused blocks compute what `Block` does, with all derivatives that a meta-gradient needs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from cxgrad_lite import METHODS, Conv4, Method
from cxgrad_lite.core import outer
from cxgrad_lite.core.nets import Block
from cxgrad_lite.core.stateless import with_tensors
from cxgrad_lite.recipes.recipe import has_inner_rate
from cxgrad_lite.training.fused import FusedBlock, convolve, fits, fused_blocks, normalise
from data_utils import TaskSampler


def make(name: str) -> Method:
    torch.manual_seed(0)
    options = {"inner_lr": 0.05, "inner_steps": 2} if has_inner_rate(name) else {}
    method = METHODS[name](Conv4(1, 16, 3, width=6, poolings=2 if name == "RelationNet" else 4), **options).double()
    for parameter_name, parameter in method.named_parameters():
        if parameter_name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter)  # gains of both signs
    return method


def meta_gradient(name: str, tasks: TaskSampler, fused: bool) -> torch.Tensor:
    method = make(name)
    doubled = [tuple((images.double(), labels) for images, labels in episode) for episode in tasks.episodes(2)]
    with fused_blocks(fused):
        losses, accuracies = outer.meta_gradient(method, doubled)  # type: ignore[arg-type]
    grads = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
    return torch.cat([losses, accuracies, *grads])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_same_meta_gradient(name: str, tasks: TaskSampler) -> None:
    usual, fused = (meta_gradient(name, tasks, on) for on in (False, True))
    torch.testing.assert_close(fused, usual, rtol=1e-9, atol=1e-11)
    assert not torch.equal(fused, usual), "or the fused blocks were not used"


@given(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_normalise_and_pool_is_pool_and_normalise(images: int, height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, 3, height, width, generator=generator, dtype=torch.float64)
    gain, bias = torch.rand(3, generator=generator).double(), torch.randn(3, generator=generator).double()
    expected = torch.nn.functional.batch_norm(x, None, None, gain, bias, training=True, eps=1e-5)
    expected = torch.nn.functional.max_pool2d(expected, 2)
    torch.testing.assert_close(normalise(x, gain, bias, 1e-5, pool=True), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pool", [True, False])
def test_derivatives_agree_with_finite_differences(pool: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    gain, bias = (torch.rand(2, dtype=torch.float64).requires_grad_() for _ in range(2))
    kernel = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    for function, inputs in ((lambda *t: normalise(*t, 1e-3, pool), (x, gain, bias)), (convolve, (x, kernel))):
        assert gradcheck(function, inputs)  # type: ignore[no-untyped-call]
        assert gradgradcheck(function, inputs)  # type: ignore[no-untyped-call]


def test_only_blocks_that_fit_are_fused_and_all_are_put_back() -> None:
    changes = {"poolings": 2, "norm": "group", "conv_bias": True}
    for option, value in changes.items():
        net = Conv4(1, 16, 3, width=8, **{option: value})  # type: ignore[arg-type]
        fitting = [fits(block) for block in net.blocks if isinstance(block, Block)]
        assert fitting == [option == "poolings"] * 4
    block = Conv4(1, 16, 3, width=8).blocks[0]
    assert isinstance(block, Block) and fits(block)
    for pool in (nn.AvgPool2d(2), nn.MaxPool2d(3), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, stride=1)):
        block.pool = pool
        assert not fits(block)
    block.pool = nn.MaxPool2d(2)
    handle = block.norm.register_forward_hook(lambda *_: None)
    assert not fits(block), "or the hook would not be called"
    handle.remove()
    assert fits(block)
    net = Conv4(1, 16, 3, width=8)
    with pytest.raises(KeyError), fused_blocks():
        assert all(type(block) is FusedBlock for block in with_tensors(net, {}).blocks)
        raise KeyError
    assert all(type(block) is Block for block in with_tensors(net, {}).blocks)


@pytest.mark.parametrize("channels", [1, 3])
def test_feature_maps_lie_as_the_cpu_likes_them(channels: int) -> None:
    images, kernel = torch.randn(4, channels, 8, 8), torch.randn(6, channels, 3, 3)
    assert convolve(images, kernel).is_contiguous(memory_format=torch.channels_last)


def test_a_third_derivative_is_refused() -> None:
    x, kernel = (torch.randn(shape, requires_grad=True) for shape in ((2, 2, 4, 4), (3, 2, 3, 3)))
    values = normalise(convolve(x, kernel), torch.ones(3), torch.zeros(3), 1e-5, True).pow(3).sum()
    (first,) = torch.autograd.grad(values, kernel, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), kernel, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        second.sum().backward()


def test_a_block_of_ones_own_is_not_replaced() -> None:
    class Doubling(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    net = Conv4(1, 16, 3, width=8)
    net.blocks[0].__class__ = Doubling
    with fused_blocks():
        assert [type(block) for block in with_tensors(net, {}).blocks] == [Doubling] + [FusedBlock] * 3
