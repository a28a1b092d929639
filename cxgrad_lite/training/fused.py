"""Blocks whose second derivatives are cheap on a CPU: the same numbers as `nets.Block`, up to rounding.

PyTorch's own second derivative of batch norm goes some thirty times over the full feature map, and that of a
convolution also computes the gradient with respect to its input where it is not needed (the images). Here both are
written out, and nothing differentiates them a third time. `nets.Block` is what to read; this is what runs while a CPU
meta-trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..core.nets import Block
from ..core.stateless import layer_class

Gradients = tuple[Tensor | None, ...]
RUNNING = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
BATCH = (0, 2, 3)  # of a tensor (n, C, H, W), all but its channels


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
    """Whether `FusedBlock` computes what the block does, and nobody listens to a part that it leaves out."""
    conv, norm, pool = block.conv, block.norm, block.pool
    plain = type(conv) is nn.Conv2d and (conv.kernel_size, conv.padding, conv.stride) == ((3, 3), (1, 1), (1, 1))
    plain = plain and (conv.dilation, conv.groups, conv.padding_mode, conv.bias) == ((1, 1), 1, "zeros", None)
    batch = type(norm) is nn.BatchNorm2d and norm.affine and not norm.track_running_stats
    halves = type(pool) is nn.MaxPool2d and (pool.kernel_size, pool.stride, pool.padding) == (2, 2, 0)
    halves = halves and (pool.dilation, pool.ceil_mode, pool.return_indices) == (1, False, False)
    return plain and batch and (halves or type(pool) is nn.Identity) and not any(map(has_hooks, (conv, norm, pool)))


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody is called when the module runs forwards or backwards."""
    return any(getattr(module, kind) for kind in RUNNING)


class FusedBlock(Block):
    """`Block` with the affine map of batch norm after the pooling."""

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self.norm
        kernel, gain, pool = self.conv.weight, norm.weight, isinstance(self.pool, nn.MaxPool2d)
        # Pooling first is only valid for gain ≥ 0. A GPU is not asked: a graph cannot hold the answer.
        if pool and (gain.is_cuda or (gain < 0).any()):
            sign = torch.where(gain < 0, -1.0, 1.0).to(gain.dtype)  # (C,)
            kernel, gain = kernel * sign.view(-1, 1, 1, 1), gain * sign
        return self.activation(self.film(normalise(convolve(x, kernel), gain, norm.bias, norm.eps, pool)))


def layout(device: torch.device) -> torch.memory_format:
    """How a feature map lies in memory: on a CPU the channels of a pixel side by side, which makes its convolutions up
    to twice as fast and its pooling nine times."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def normalise(x: Tensor, gain: Tensor, bias: Tensor, eps: float, pool: bool) -> Tensor:
    """Batch norm, and 2×2 max-pooling before its affine map, which then has a quarter of the work.

    Valid where no gain is negative; where one is, flipping the signs of kernel and gain makes it valid.

    Args:
        x: (n, C, H, W).
        gain: (C,), not negative if ``pool``.
        bias: (C,).
        eps: added to the variance.
        pool: whether there is a pooling at all.

    Returns:
        (n, C, H // 2, W // 2), without a pooling (n, C, H, W).
    """
    return Normalise.apply(x.contiguous(memory_format=layout(x.device)), gain, bias, eps, pool)


class Normalise(Function):
    """y = b + g ẑ with ẑ = r (P x − m): P takes the maxima, m is the mean and r one over the standard deviation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float, pool: bool) -> Tensor:
        z, places = F.max_pool2d(x, 2, return_indices=True) if pool else (x, None)
        m = x.mean(BATCH, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))  # (1, C, 1, 1)
        r = (x - m).square_().mean(BATCH, keepdim=True).add_(eps).rsqrt_()
        z = torch.addcmul(-m * r, z, r)
        ctx.save_for_backward(x, gain, z, m, r, places)
        return torch.addcmul(channels(bias), z, channels(gain))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Gradients:
        return *NormaliseBackward.apply(dy, *ctx.saved_tensors), None, None


class NormaliseBackward(Function):
    """dx = g r (Pᵀ dy − Σ dy / N − r (x − m) Σ(dy ẑ) / N), Σ(dy ẑ) and Σ dy; sums per channel, of N numbers each in x.

    Its own derivative is written out with respect to dy, x and g; ẑ, m and r are functions of x.
    """

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, gain: Tensor, z: Tensor, m: Tensor, r: Tensor, places: Tensor | None
    ) -> Gradients:
        count, scale = x.numel() // x.shape[1], channels(gain) * r  # (1, C, 1, 1)
        total, product = channel_sum(dy), channel_sum(dy * z)
        slope = scale * r * product / -count
        dx = torch.addcmul(scale * total / -count - slope * m, x, slope)
        ctx.save_for_backward(dy, x, z, m, r, places, scale, total, product, slope)
        return add_at(dx, dy * scale, places), product.flatten(), total.flatten()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_dx: Tensor, to_product: Tensor, to_total: Tensor) -> Gradients:
        dy, x, z, m, r, places, scale, total, product, slope = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        there = to_dx if places is None else pixels(to_dx).gather(1, pixels(places)).mT.view_as(z)
        p = channel_sum(to_dx)
        q = r * (channel_sum(to_dx * x) - m * p)
        h = channel_sum(there * dy) - (total * p + product * q) / count
        k = channels(to_product) - scale * q / count
        to_dy = torch.addcmul(channels(to_total) - scale * p / count, there, scale).addcmul_(z, k)
        # Through x̂ = r (x − m), which is in q and product, and through the r in scale.
        w, wx = (slope / r * of_dx + k * of_dy for of_dx, of_dy in ((p, total), (q, product)))
        c = r * r / -count * (wx + scale * h)
        to_x = torch.addcmul(r * w / -count - c * m, x, c).addcmul_(to_dx, slope)
        return to_dy, add_at(to_x, dy * (r * k), places), (r * h).flatten(), None, None, None, None


def channels(values: Tensor) -> Tensor:
    """(C,) to (1, C, 1, 1)."""
    return values.view(1, -1, 1, 1)


def channel_sum(x: Tensor) -> Tensor:
    """(n, C, H, W) to (1, C, 1, 1)."""
    return x.sum(BATCH, keepdim=True)


def pixels(x: Tensor) -> Tensor:
    """(n, C, H, W) to (n, H · W, C), in both layouts without a copy."""
    return x.flatten(2).mT


def add_at(x: Tensor, values: Tensor, places: Tensor | None) -> Tensor:
    """x, with the values added in place: at the places in each image that a pooling took, or all over."""
    if places is None:
        return x.add_(values)
    pixels(x).scatter_add_(1, pixels(places), pixels(values).to(x))
    return x


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """3×3 convolution with padding 1: (n, C, H, W), (D, C, 3, 3) to (n, D, H, W)."""
    return Convolve.apply(images, kernel)


class Convolve(Function):
    """Bilinear in images and kernel, as both its gradients are: their derivatives are convolutions again."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(images, kernel)
        return conv2d(images, kernel)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        return ConvolveBackward.apply(grad, *ctx.saved_tensors, ctx.needs_input_grad)


class ConvolveBackward(Function):
    """Gradients of images and kernel from that of the output, as far as ``wanted``."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, images: Tensor, kernel: Tensor, wanted: tuple[bool, bool]) -> Gradients:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, images, kernel)
        return both(grad, images, kernel, *wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_images: Tensor | None, to_kernel: Tensor | None) -> Gradients:
        grad, images, kernel = ctx.saved_tensors
        pairs = [(i, k) for i, k in ((to_images, kernel), (images, to_kernel)) if i is not None and k is not None]
        to_grad = reduce(torch.add, [conv2d(i.to(grad.dtype), k.to(grad.dtype)) for i, k in pairs]) if pairs else None
        of_images = None if to_kernel is None else both(grad, images, to_kernel, ctx.needs_input_grad[1], False)[0]
        of_kernel = None if to_images is None else both(grad, to_images, kernel, False, ctx.needs_input_grad[2])[1]
        return to_grad, of_images, of_kernel, None


def conv2d(images: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(laid_out(images), laid_out(kernel), padding=1)


def both(grad: Tensor, images: Tensor, kernel: Tensor, of_images: bool, of_kernel: bool) -> Gradients:
    """Gradients of images and kernel, as far as wanted, in the type of ``grad`` (autocast may have chosen it)."""
    if not (of_images or of_kernel):
        return None, None
    given, one = [laid_out(tensor.to(grad.dtype)) for tensor in (grad, images, kernel)], [1, 1]
    wanted = [of_images, of_kernel, False]
    made = torch.ops.aten.convolution_backward(*given, None, one, one, one, False, [0, 0], 1, wanted)
    return made[0], made[1]


def laid_out(x: Tensor) -> Tensor:
    """The same numbers in this device's layout, by strides that say so even where one channel leaves it open."""
    x = x.contiguous(memory_format=layout(x.device))
    _, c, h, w = x.shape
    return x.as_strided(x.shape, (c * h * w, 1, c * w, c)) if x.device.type == "cpu" else x
