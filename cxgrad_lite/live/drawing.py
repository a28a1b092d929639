"""Draw five characters of your own, and watch networks adapt to them.

The panel is the one of the course's site: the modules in ``browser/`` draw it there, too. Here the kernel adapts, with
any method; there a web worker does.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..core.maml import MAML
from ..core.method import Batch, Method, StepTrace, Theta
from ..plots.figures import show_image
from ..plots.style import Picture
from ..probes import states
from .embedding import by_name
from .panel import Panel, remembers, weak

BROWSER = Path(__file__).parent / "browser"
SIDE = 28  # pixels
Strokes = list[list[list[float]]]  # a drawing: strokes of points (x, y)


def module(name: str) -> str:
    """A module of ``browser/`` with everything that it imports, as one text: a widget has no folder to import from."""
    text = (BROWSER / name).read_text(encoding="utf-8")

    def inline(match: re.Match[str]) -> str:
        return f'from "data:text/javascript;base64,{base64.b64encode(module(match[1]).encode()).decode()}"'

    return re.sub(r'from "\./(\w+\.js)"', inline, text)


def packed(drawings: dict[str, Strokes]) -> str:
    """Drawings as a short text, to a thousandth of the canvas."""
    rounded = {slot: [[[round(v, 3) for v in p] for p in stroke] for stroke in d] for slot, d in drawings.items()}
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(rounded).encode(), 9)).decode()


def unpacked(text: str) -> dict[str, Strokes]:
    """The drawings in a text that `packed` made.

    Raises:
        ValueError: if it is another text, or a part of one.
    """
    try:
        drawings: dict[str, Strokes] = json.loads(zlib.decompress(base64.urlsafe_b64decode(text)))
    except (ValueError, zlib.error) as error:
        raise ValueError(f"drawings have to be the whole text that a panel's code() gave: {error}") from error
    return drawings


def canvas(methods: list[str], example: dict[str, Strokes]) -> Any:
    """The panel's widget.

    Raises:
        ModuleNotFoundError: without anywidget.
    """
    import anywidget  # belongs to the extra "lab"
    import traitlets

    class Canvas(anywidget.AnyWidget):
        _esm = module("widget.js")
        _css = (BROWSER / "drawing.css").read_text(encoding="utf-8")
        methods = traitlets.List(traitlets.Unicode()).tag(sync=True)
        example = traitlets.Dict().tag(sync=True)

    return Canvas(methods=methods, example=example)


def adaptation(method: Method, support: Batch) -> tuple[list[Theta], list[StepTrace]]:
    """What a method passes through; a method that only compares has one theta and no trace."""
    if isinstance(method, MAML):
        return states(method, support)
    with torch.no_grad():
        return [method.adapt(support)], []


def as_json(trace: StepTrace) -> dict[str, Any]:
    """What the page shows of an inner step."""
    norms = {name if name == "context" else f"net.{name}": norm for name, norm in trace.grad_norms.items()}
    scaling = None if trace.scaling is None else trace.scaling.tolist()
    return {"loss": trace.loss.item(), "gradNorms": norms, "scaling": scaling}


class Drawings:
    """What stands in the place of a chart: the widget, and a picture of what has been drawn."""

    def __init__(self, methods: list[str], drawings: str | None) -> None:
        example = json.loads((BROWSER / "example.json").read_text(encoding="utf-8"))
        self.example: dict[str, Strokes] = unpacked(drawings) if drawings else example
        self.widget = canvas(methods, self.example)
        self.support: Batch | None = None
        self.names = sorted({slot[0] for slot in self.example if slot != "query"})

    def rows(self) -> Iterator[tuple[str, list[Tensor | Strokes]]]:
        """The name and the drawings of each character: images, or, while there are none, the example's strokes."""
        for c, name in enumerate(self.names):
            if self.support is None:
                yield name, [strokes for slot, strokes in self.example.items() if slot[0] == name]
            else:
                images, labels = self.support
                yield name, list(images[labels == c])

    def picture(self, alt: str) -> Picture:
        figure = Figure(figsize=(4.4, 0.8 * len(self.names)), layout="constrained")
        axes = figure.subplots(len(self.names), 5, squeeze=False)
        for row, (name, drawings) in zip(axes, self.rows()):
            row[0].set_ylabel(name, rotation=0, ha="right", va="center")
            for ax in row[len(drawings) :]:
                ax.set_axis_off()
            for ax, drawing in zip(row, drawings):
                show_image(ax, drawing) if isinstance(drawing, Tensor) else show_strokes(ax, drawing)
        return Picture(figure, alt)


def show_strokes(ax: Axes, strokes: Strokes) -> None:
    """A drawing as it was drawn: x to the right, y downwards, the side of the canvas being 1."""
    for stroke in strokes:
        ax.plot(*zip(*stroke), color="black", linewidth=1.5)
    ax.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")


class DrawingPanel(Panel):
    """See `draw_and_adapt`.

    Attributes:
        support: (images, labels) of what was drawn when "adapt" was pressed last: (n, 1, 28, 28) float32 in [0, 1] with
            ink 1, (n,) int64; None before. A label counts the characters that were drawn, in the order of the rows.
        query: (1, 1, 28, 28) the drawing that was read last, or None.
        answers: method → (inner steps + 1, characters) probabilities of ``query``, before and after each inner step.
    """

    def __init__(self, methods: dict[str, Method], drawings: str | None) -> None:
        for name, method in methods.items():
            channels, size = method.net.in_channels, method.net.image_size
            if (channels, size) != (1, SIDE):
                raise ValueError(
                    f"the canvas makes images of 1×{SIDE}×{SIDE}, but the network of {name} takes "
                    f"{channels}×{size}×{size}; give one trained on glyphs or Omniglot"
                )
        self.methods = methods
        self.query: Tensor | None = None
        self.answers: dict[str, Tensor] = {}
        self._thetas: dict[str, tuple[Method, list[Theta]]] = {}
        self._drawings = Drawings(list(methods), drawings)
        self._adapted = True  # to `support`
        super().__init__(self._drawings)  # type: ignore[arg-type]
        receive = weak(self.receive)
        self._drawings.widget.on_msg(lambda _, content, buffers: receive(content, buffers))

    @property
    def support(self) -> Batch | None:
        return self._drawings.support

    def receive(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        """A message of the page: new support drawings, or a drawing to be read."""
        flat = torch.tensor([list(bytes(image)) for image in buffers], dtype=torch.float32)
        images = flat.view(-1, 1, SIDE, SIDE) / 255
        if content["ask"] == "adapt":
            self._drawings.support = images, torch.tensor(content["labels"])
            self._drawings.names, self._adapted, self.query = content["names"], False, None
        else:
            self.query = images
        self.arguments["drawings"] = f"drawings={packed(content['drawn'])!r}"
        self.fail(None)
        self.background(self.work)

    def work(self) -> None:
        """Bring adaptation and answers up to date with what has been drawn; in the panel's thread."""
        while not self._adapted:
            self._adapted = True
            self.adapt()
        if self.query is not None:
            self.read(self.query)

    def adapt(self) -> None:
        assert self.support is not None
        self._thetas = {}
        for name, method in self.methods.items():
            mine = copy.deepcopy(method)  # the notebook may go on with its own
            thetas, trace = adaptation(mine, self.on_device(mine, *self.support))
            self._thetas[name] = mine, thetas
            for k, seen in enumerate([None, *map(as_json, trace)]):
                self._drawings.widget.send({"reply": "step", "method": name, "k": k, "trace": seen})

    def read(self, query: Tensor) -> None:
        """The answers to (1, 1, 28, 28); in one batch with the support images, because batch norm needs company."""
        assert self.support is not None
        batch, ways = torch.cat([self.support[0], query]), len(self._drawings.names)
        for name, (method, thetas) in self._thetas.items():
            (images,) = self.on_device(method, batch)
            with torch.no_grad():
                logits = torch.stack([method.logits(theta, images)[-1, :ways] for theta in thetas])
            self.answers[name] = logits.softmax(-1).cpu()
            rows = self.answers[name].tolist()
            self._drawings.widget.send({"reply": "answer", "method": name, "probabilities": rows})

    @staticmethod
    def on_device(method: Method, *tensors: Tensor) -> Any:
        """Tensors where the method is, images in its precision."""
        weight = next(method.parameters())
        return tuple(t.to(weight.device, weight.dtype if t.is_floating_point() else t.dtype) for t in tensors)

    def alt(self) -> str:
        if self.support is None and "drawings" in self.arguments:
            return f"Drawings of {len(self._drawings.names)} characters."
        if self.support is None:
            return "Five characters of scripts that the networks have never met, drawn five times each by five people."
        names = self._drawings.names
        read = [f"{method} reads {names[int(rows[-1].argmax())]}" for method, rows in self.answers.items()]
        drawn = f"{len(self.support[1])} drawings of {len(names)} characters"
        return f"{drawn}; {', '.join(read)}" if read and self.query is not None else drawn


@remembers
def draw_and_adapt(methods: Method | dict[str, Method] | list[Method], drawings: str | None = None) -> DrawingPanel:
    """A panel to draw up to five characters in, one to five times each, and a further one that methods shall read.

    "adapt" makes a support set of the drawings, ``panel.support``, and runs each method's inner loop on it; the last
    drawing is then read before and after every step. Without mouse or pen, upload images instead.

    A drawing is centred, drawn in one thickness and shrunk as the images of Omniglot are; ``results/drawings.json``
    has how often such drawings are read rightly.

    Args:
        methods: one, or several of different classes, or label → method. Their networks take 1×28×28 images; best are
            those that were trained on handwriting, as ``pretrained(best_zoo_recipe("omniglot_small", "CxGrad", 5))``
    was. A copy is adapted.
        drawings: the panel opens with these, as its line of Python gives them back; by default with an example.

    Raises:
        ValueError: if a network takes other images, labels are not unique, or ``drawings`` are none.
        ModuleNotFoundError: without anywidget (``pip install anywidget``).
    """
    several: Any = [methods] if isinstance(methods, Method) else methods
    return DrawingPanel(dict(by_name(several)), drawings)
