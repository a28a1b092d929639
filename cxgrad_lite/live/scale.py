"""The slider of equations 4 and 5: multiply a layer by a, and see what stays and what changes."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import ipywidgets
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.nets import Conv4, make_norm
from ..core.stateless import with_tensors
from ..plots.marks import GREY
from ..plots.style import LAYER_COLOURS
from ..probes import LAYERS, layer_of
from .charts import Backend
from .panel import Bars, Chart, Line, Pane, Panel, Points, remembers

NORMS = ("batch", "layer", "group", "none")
EPS = (1e-12, 1e-5, 1e-3, 1e-1)
LOW, HIGH = 0.1, 10.0  # of a
SHADE = "#C8C8C8"
PANES = {
    "outputs": Pane("outputs", "logit at a = 1", "logit now", equal=True),
    "norms": Pane("gradient norm", y_limits=(0, None)),
    "law": Pane("that layer", "a", log_x=True, log_y=True),
}


def stripes(ways: int = 5, shots: int = 5, size: int = 28) -> tuple[Tensor, Tensor]:
    """A task to look at: (ways · shots, 1, size, size) images, stripes of another direction in each class; labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ways).repeat_interleave(shots)
    angle = math.pi * labels[:, None, None] / ways
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    wave = torch.sin((x * angle.cos() + y * angle.sin()) * 2 * math.pi / 6)  # (n, size, size)
    noise = torch.randn(wave.shape, generator=generator)
    return (0.5 + 0.25 * wave + 0.1 * noise).clamp(0, 1).unsqueeze(1), labels


def with_norm(net: Conv4, norm: Any, eps: float) -> Conv4:
    """A copy of the network with another normalisation; "none": without any."""
    net = copy.deepcopy(net)
    for block in net.blocks:
        block.norm = nn.Identity() if norm == "none" else make_norm(norm, net.width, eps)  # type: ignore[assignment]
    return net.to(next(net.parameters()).device)


def kernel_of(layer: str) -> str:
    """The name of a layer's weight."""
    return "head.weight" if layer == "head" else f"blocks.{LAYERS.index(layer)}.conv.weight"


def look(net: Conv4, images: Tensor, labels: Tensor, layer: str, a: float) -> tuple[Tensor, dict[str, float]]:
    """(n, ways) logits with one layer's weight multiplied by a, and the norm of the gradient of each layer's weight."""
    weights = {kernel_of(name): net.get_parameter(kernel_of(name)).detach() for name in LAYERS}
    weights[kernel_of(layer)] = a * weights[kernel_of(layer)]
    weights = {name: w.requires_grad_() for name, w in weights.items()}
    logits = with_tensors(net, weights)(images)
    grads = torch.autograd.grad(F.cross_entropy(logits, labels), list(weights.values()))
    return logits.detach(), {str(layer_of(name)): grad.norm().item() for name, grad in zip(weights, grads)}


class ScalePanel(Panel):
    """See `scale_explorer`.

    Attributes:
        a, layer, norm, eps: the controls.
        difference: largest absolute difference of a logit to the one at a = 1.
        norms, norms_at_1: gradient norm of each layer's weight, now and at a = 1.
    """

    def __init__(self, net: Conv4, images: Tensor, labels: Tensor, backend: Backend | None = None) -> None:
        self.net, self.images, self.labels = net, images, labels
        dropdown = partial(ipywidgets.Dropdown, layout={"width": "160px"})
        self.a = ipywidgets.FloatLogSlider(1.0, min=-1, max=1, step=0.02, description="a", readout_format=".2f")
        self.layer = dropdown(options=LAYERS, value="block 4", description="layer")
        self.norm = dropdown(options=NORMS, value=net.norm, description="norm")
        self.eps = dropdown(options=sorted({*EPS, net.eps}), value=net.eps, description="ε")
        chart = Chart(PANES, columns=3, backend=backend)
        self.a.continuous_update = chart.backend == "plotly"  # a picture is too slow to follow the mouse
        super().__init__(chart, [[self.a, self.layer, self.norm, self.eps]])
        for control in (self.layer, self.norm, self.eps):
            self.on(control, self.begin)
        self.on(self.a, self.redraw)
        self.begin()

    def begin(self) -> None:
        """Another layer or normalisation: what it is at a = 1."""
        self._net = with_norm(self.net, self.norm.value, self.eps.value)
        self._logits_at_1, self.norms_at_1 = look(self._net, self.images, self.labels, self.layer.value, 1.0)
        self._tried = {1.0: self.norms_at_1[self.layer.value]}
        self.redraw()

    def redraw(self) -> None:
        """The network at the slider's a."""
        layer, a = self.layer.value, self.a.value
        logits, self.norms = look(self._net, self.images, self.labels, layer, a)
        self.difference = (logits - self._logits_at_1).abs().max().item()
        self._tried[a] = self.norms[layer]
        self._set_outputs(logits)
        self.chart.set(
            "norms",
            Bars(LAYERS, [self.norms_at_1[la] for la in LAYERS], [SHADE] * len(LAYERS), fmt=""),
            Bars(LAYERS, [self.norms[la] for la in LAYERS], [LAYER_COLOURS[la] for la in LAYERS]),
            title="gradient norm (grey: at a = 1)",
        )
        at_1, tried = self.norms_at_1[layer], sorted(self._tried.items())
        self.chart.set(
            "law",
            Line([LOW, HIGH], [at_1 / LOW, at_1 / HIGH], "1/a", GREY, dashed=True),
            Points([a for a, _ in tried], [norm for _, norm in tried], "tried", LAYER_COLOURS[layer], size=6),
            Points([a], [self.norms[layer]], "now", LAYER_COLOURS[layer], "diamond", size=12),
            title=f"{layer}, all a so far (dashed: 1/a)",
        )
        self.chart.draw()

    def _set_outputs(self, logits: Tensor) -> None:
        x, y = self._logits_at_1.flatten().tolist(), logits.flatten().tolist()
        ends = [min(x), max(x)]
        self.chart.set(
            "outputs",
            Line(ends, ends, colour=GREY, dashed=True),
            Points(x, y, size=5, colour="#0072B2"),
            title=f"outputs: largest difference {self.difference:.1e}",
        )

    def alt(self) -> str:
        layer = self.layer.value
        return (
            f"{layer} multiplied by {self.a.value:.2g}, norm {self.norm.value}, ε {self.eps.value:g}. The outputs "
            f"differ by at most {self.difference:.1e} from those at 1. The gradient norm of {layer} is "
            f"{self.norms[layer]:.2g}, that at 1 is {self.norms_at_1[layer]:.2g}."
        )


@remembers
def scale_explorer(
    net: Conv4 | None = None, images: Tensor | None = None, labels: Tensor | None = None, backend: Backend | None = None
) -> ScalePanel:
    """A panel in which one layer's weight is multiplied by a (CxGrad paper, equations 4 and 5).

    Left: logits against those at a = 1; on the diagonal nothing has changed. Middle: gradient norm of each layer's
    weight. Right: that of the chosen layer for all a that were tried, with the 1/a of equation 5. The drop-downs change
    the layer (the head is followed by no normalisation), the normalisation and its ε.

    Args:
        net: default: an untrained `Conv4` of 16 filters. A copy is used; normalisation gains and biases start anew.
        images, labels: (n, C, H, W), (n,); default: 25 images of stripes in five directions, made to fit the network.
        backend: how it is drawn; default: `charts.choose_backend`.

    Raises:
        ValueError: if only one of images and labels is given, or if the images do not fit the network.
    """
    if (images is None) != (labels is None):
        raise ValueError("give both images and labels, or neither")
    if net is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            channels, _, size = images.shape[1:] if images is not None else (1, 28, 28)
            net = Conv4(channels, size, int(labels.max()) + 1 if labels is not None else 5, width=16)
    if images is None or labels is None:
        images, labels = stripes(net.ways, size=net.image_size)
        images = images.expand(-1, net.in_channels, -1, -1)
    return ScalePanel(net, images, labels, backend)
