"""Conv4, the backbone of the paper: a plain `nn.Module`, called with other weights by `stateless.with_tensors`."""

import math
from typing import Literal

from torch import Tensor, nn

Net = nn.Module  # a `Conv4`, or what can stand in for one: see `method.Method`
Norm = Literal["batch", "layer", "group"]
Activation = Literal["leaky_relu", "relu"]


def make_norm(norm: Norm, width: int, eps: float) -> nn.Module:
    """The normalisation after a convolution. Batch norm uses the statistics of the batch it sees, always."""
    if not eps > 0:
        raise ValueError(f"eps must be above 0, not {eps}: a constant channel has variance 0")
    if norm == "batch":
        return nn.BatchNorm2d(width, eps=eps, track_running_stats=False)
    if norm in ("layer", "group"):
        return nn.GroupNorm(1 if norm == "layer" else math.gcd(width, 8), width, eps=eps)
    raise ValueError(f"norm must be 'batch', 'layer' or 'group', not {norm!r}")


def make_activation(activation: Activation) -> nn.Module:
    if activation not in ("leaky_relu", "relu"):
        raise ValueError(f"activation must be 'leaky_relu' or 'relu', not {activation!r}")
    return nn.LeakyReLU(0.01) if activation == "leaky_relu" else nn.ReLU()


def normalisations(net: nn.Module) -> set[str]:
    """Names of a network's normalisations: the modules of PyTorch's kinds, and those that are called ``norm``."""
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    named = [(name, module) for name, module in net.named_modules() if not isinstance(module, nn.Identity)]
    return {name for name, module in named if isinstance(module, kinds) or name.endswith(".norm")}


class Block(nn.Module):
    """Convolution 3×3, normalisation, 2×2 max-pooling (if ``pool``), activation.

    ``film`` is a free place for a feature-wise modulation before the activation; see `zoo.conditioned.CAVIA`.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, activation: nn.Module, pool: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, norm, activation
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.film: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # The activation is monotone, so pooling first gives the same numbers from a quarter of the work.
        return self.activation(self.film(self.pool(self.norm(self.conv(x)))))


class Conv4(nn.Module):
    """Four blocks and a linear head, as in the released CxGrad code.

    Parameters are named ``blocks.{0..3}.conv.weight``, ``blocks.{0..3}.norm.{weight,bias}``, ``head.{weight,bias}``.
    Batch norm keeps no running statistics: it normalises with the images of the batch at hand, in training and in
    testing (all query images of a task together, so the method is transductive). Weights start Xavier-uniform, biases
    at zero. The paper draws the activation before the pooling; the order here is the faster one with equal results.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels.
        ways: classes that the head tells apart.
        width: filters per convolution (the paper: 48).
        activation: "leaky_relu" (slope 0.01, released code) or "relu".
        conv_bias: whether convolutions have a bias (the released code: no; batch norm would cancel it).
        poolings: how many blocks, from the first on, halve the image (the paper: all four).
        norm: "batch", "layer" (over channels and pixels of one image) or "group" (8 groups where width allows).
        eps: added to the variance by the normalisation.

    Raises:
        ValueError: if the image is too small for the poolings, or an option is unknown.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 84,
        ways: int = 5,
        width: int = 48,
        activation: Activation = "leaky_relu",
        conv_bias: bool = False,
        poolings: int = 4,
        norm: Norm = "batch",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.in_channels, self.image_size, self.ways, self.width = in_channels, image_size, ways, width
        self.activation: Activation = activation
        self.conv_bias, self.poolings, self.norm, self.eps = conv_bias, poolings, norm, eps
        self.final_size = image_size >> poolings
        if not 0 <= poolings <= 4 or self.final_size < 1:
            most = min(4, int(math.log2(max(image_size, 1))))
            raise ValueError(
                f"poolings must be 0 to {most}: a {image_size}-pixel image cannot be halved {poolings} times"
            )
        channels = [in_channels, width, width, width, width]
        self.blocks = nn.ModuleList()
        for i in range(4):
            conv = nn.Conv2d(channels[i], width, 3, padding=1, bias=conv_bias)
            self.blocks.append(Block(conv, make_norm(norm, width, eps), make_activation(activation), i < poolings))
        self.head = nn.Linear(width * self.final_size**2, ways)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: Xavier-uniform; biases zero, normalisation gains one."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) images to (n, width · final_size²) features, the input of the head."""
        expected = (self.in_channels, self.image_size, self.image_size)
        if images.shape[1:] != expected:
            raise ValueError(f"images must have shape (n, *{expected}) for this Conv4, not {tuple(images.shape)}")
        for block in self.blocks:
            images = block(images)
        return images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) images to (n, ways) logits."""
        return self.head(self.features(images))
