"""Blocks whose second derivatives are cheap on a CPU: the same numbers as `nets.Block`, up to rounding.

PyTorch's own second derivative of batch norm goes some thirty times over the full feature map, and that of a
convolution also computes the gradient with respect to its input where it is not needed (the images). `nets.Block` is
what to read; this is what runs while a CPU meta-trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from ..core.nets import Block
from ..core.stateless import layer_class

Gradients = tuple[Tensor | None, ...]


@contextmanager
def fused_blocks(on: bool = True) -> Iterator[None]:
    """Inside, in this thread, methods run `FusedBlock` in place of each block that fits."""
    token = layer_class.set(fused_class if on else type)
    try:
        yield
    finally:
        layer_class.reset(token)


def fused_class(layer: nn.Module) -> type[nn.Module]:
    """Which class a layer computes with: `FusedBlock` for batch norm of the batch at hand, pooling, no bias."""
    return FusedBlock if type(layer) is Block and fits(layer) else type(layer)


def fits(block: Block) -> bool:
    """Whether `FusedBlock` computes what the block does."""
    conv, norm = block.conv, block.norm
    plain = conv.kernel_size == (3, 3) and conv.padding == conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    batch = isinstance(norm, nn.BatchNorm2d) and norm.affine and not norm.track_running_stats
    return plain and batch and conv.bias is None and isinstance(block.pool, nn.MaxPool2d)


class FusedBlock(Block):
    """`Block` with the affine map of batch norm after the pooling."""

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self.norm
        kernel, gain = self.conv.weight, norm.weight
        # Pooling first is only valid for gain ≥ 0. A GPU is not asked: a graph cannot hold the answer.
        if gain.is_cuda or (gain < 0).any():
            sign = torch.where(gain < 0, -1.0, 1.0).to(gain.dtype)  # (C,)
            kernel, gain = kernel * sign.view(-1, 1, 1, 1), gain * sign
        return self.activation(self.film(norm_then_pool(convolve(x, kernel), gain, norm.bias, norm.eps)))


def norm_then_pool(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """2×2 max-pooling of batch norm, computed in the other order: the affine map is applied to the maxima only.

    Valid where no gain is negative; where one is, flipping the signs of kernel and gain makes it valid.

    Args:
        x: (n, C, H, W).
        gain: (C,), not negative.
        bias: (C,).
        eps: added to the variance.
    """
    pooled, mean, variance = PooledMoments.apply(x)
    scale = gain.view(1, -1, 1, 1) * torch.rsqrt(variance + eps)  # (1, C, 1, 1)
    return torch.addcmul(bias.view(1, -1, 1, 1) - mean * scale, pooled, scale)


class PooledMoments(Function):
    """(n, C, H, W) to its 2×2 maxima (n, C, H // 2, W // 2), and mean and variance of each channel (1, C, 1, 1).

    The gradient is one affine map of x per channel, plus the gradient of the maxima at their places.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # On a CPU pooling is five times faster where the channels of a pixel lie side by side, copying included.
        images = x if x.is_cuda else x.contiguous(memory_format=torch.channels_last)
        pooled, places = F.max_pool2d(images, 2, return_indices=True)
        pooled, places = pooled.contiguous(), places.contiguous()
        mean = x.mean((0, 2, 3), keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        variance = (x - mean).square_().mean((0, 2, 3), keepdim=True)
        ctx.save_for_backward(x, mean, places)
        return pooled, mean, variance

    @staticmethod
    def backward(ctx: Any, pooled: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        x, centre, places = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        slope = variance * (2 / count)  # (1, C, 1, 1)
        offset = mean / count - slope * centre
        everywhere = torch.addcmul(offset.flatten(2), x.flatten(2), slope.flatten(2))  # (n, C, H · W)
        return everywhere.scatter_add_(2, places.flatten(2), pooled.flatten(2).to(everywhere)).view_as(x)


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """3×3 convolution with padding 1: (n, C, H, W), (D, C, 3, 3) to (n, D, H, W)."""
    return Convolve.apply(images, kernel)


class Convolve(Function):
    """Bilinear in images and kernel, as are both its gradients: each of the three differentiates into the others."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(images, kernel)
        return F.conv2d(images, kernel, padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        images, kernel = ctx.saved_tensors
        wants = ctx.needs_input_grad
        return (
            ToImages.apply(grad, kernel, images.detach()) if wants[0] else None,
            ToKernel.apply(images, grad, kernel.detach()) if wants[1] else None,
        )


class ToImages(Function):
    """Gradient of the images, from that of the output and the kernel, the third for its shape."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, kernel: Tensor, images: Tensor) -> Tensor:
        ctx.save_for_backward(grad, kernel)
        return both(grad, images, kernel, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> Gradients:
        grad, kernel = ctx.saved_tensors
        wants = ctx.needs_input_grad
        return (
            Convolve.apply(change, kernel) if wants[0] else None,
            ToKernel.apply(change, grad, kernel.detach()) if wants[1] else None,
            None,
        )


class ToKernel(Function):
    """Gradient of the kernel, from the images and the gradient of the output, the third for its shape."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grad: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(images, grad)
        return both(grad, images, kernel, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> Gradients:
        images, grad = ctx.saved_tensors
        wants = ctx.needs_input_grad
        return (
            ToImages.apply(grad, change, images.detach()) if wants[0] else None,
            Convolve.apply(images, change) if wants[1] else None,
            None,
        )


def both(grad: Tensor, images: Tensor, kernel: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    """Gradients of images and kernel, as far as ``wanted``, in the type of ``grad`` (autocast may have chosen it)."""
    images, kernel, one = images.to(grad.dtype), kernel.to(grad.dtype), [1, 1]
    return torch.ops.aten.convolution_backward(grad, images, kernel, None, one, one, one, False, [0, 0], 1, wanted)
