"""Notebook 03: the chain rule through the head and through batch norm, which readers write, and typical mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .blanks import Exercise

OVER = (0, 2, 3)  # images, rows and columns: what a channel's mean is taken over
Head = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Norm = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def through_head(delta: Tensor, h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return delta.T @ h, delta @ weight


def through_norm(delta: Tensor, z_hat: Tensor, gain: Tensor, sigma: Tensor) -> Tensor:
    along = (delta * z_hat).mean(OVER, keepdim=True)
    return gain / sigma * (delta - delta.mean(OVER, keepdim=True) - z_hat * along)


def look_at_head(head: Head) -> Mapping[str, Tensor]:
    """Five images, two classes, three features."""
    draw = torch.Generator().manual_seed(0)
    delta, h, weight = (torch.randn(*shape, generator=draw).double() for shape in ((5, 2), (5, 3), (2, 3)))
    at_weight, at_features = head(delta, h, weight)
    return {"the gradient of the weight": at_weight, "what goes down to the features": at_features}


def look_at_norm(norm: Norm) -> Mapping[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    z, delta = (torch.randn(4, 3, 5, 6, generator=draw).double() for _ in range(2))
    sigma, gain = torch.tensor([0.5, 1.0, 2.0]).double(), torch.tensor([1.0, 3.0, 2.0]).double()
    z_hat = (z - z.mean(OVER, keepdim=True)) / z.var(OVER, correction=0, keepdim=True).sqrt()
    return {"what goes down to the convolution": norm(delta, z_hat, gain.view(1, 3, 1, 1), sigma.view(1, 3, 1, 1))}


def norm_with(last: Callable[[Tensor, Tensor], Tensor | float]) -> Norm:
    """Back through batch norm with another last term, made from δ and ẑ."""
    return lambda delta, z_hat, gain, sigma: (
        gain / sigma * (delta - delta.mean(OVER, keepdim=True) - last(delta, z_hat))
    )


CHAIN = {
    "through_head": Exercise(
        through_head,
        look_at_head,
        mistakes={
            "The gradient of the weight is transposed: it has a row for each class, as the weight has.": (
                lambda delta, h, weight: (h.T @ delta, delta @ weight)
            ),
            "The gradient of the weight is divided by n twice: the mistakes δ carry it already.": (
                lambda delta, h, weight: (delta.T @ h / len(h), delta @ weight)
            ),
            "What goes down to the features is made of mistakes and weight; there is no h in it.": (
                lambda delta, h, weight: (delta.T @ h, h)
            ),
            "The two are exchanged: first the gradient of the weight, then what goes down to the features.": (
                lambda delta, h, weight: (delta @ weight, delta.T @ h)
            ),
            "The signs are those of a step downhill; asked for are the gradients.": (
                lambda delta, h, weight: (-delta.T @ h, -delta @ weight)
            ),
        },
        raised={
            "cannot be multiplied": "The sizes do not fit: δ is (n, ways), h is (n, d), the weight is (ways, d). The "
            "gradient of the weight sums over the images; what goes down sums over the classes.",
            "must match the size": "An elementwise product does not fit: both are matrix products, written with @.",
        },
    ),
    "through_norm": Exercise(
        through_norm,
        look_at_norm,
        mistakes={
            "The second mean is missing: σ depends on z too, so the part of δ along ẑ has to go as well.": norm_with(
                lambda delta, z_hat: 0.0
            ),
            "The last term needs its mean: ẑ times the mean of δ ẑ.": norm_with(lambda delta, z_hat: delta * z_hat),
            "That is the mean of δ ẑ; the last term has ẑ as a factor in front of it.": norm_with(
                lambda delta, z_hat: (delta * z_hat).mean(OVER, keepdim=True)
            ),
            "All channels share one mean; each channel has its own: mean(over, keepdim=True).": norm_with(
                lambda delta, z_hat: z_hat * (delta * z_hat).mean()
            ),
            "The sign of the last term is wrong: it is subtracted, as the first mean is.": norm_with(
                lambda delta, z_hat: -z_hat * (delta * z_hat).mean(OVER, keepdim=True)
            ),
            "That is a sum over images and positions; the last term has the mean.": norm_with(
                lambda delta, z_hat: z_hat * (delta * z_hat).sum(OVER, keepdim=True)
            ),
        },
        raised={"must match the size": "The mean has lost dimensions: keep them with keepdim=True."},
    ),
}
