"""Four norms to be set by hand, and what an adaptation does with them. The panel of notebook 05."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor

from ...core.cxgrad import CxGrad
from ...core.maml import MAML
from ...core.method import Batch, StepTrace, Theta
from ...core.outer import Tasks
from ...live.charts import Backend, Chart
from ...live.panel import Bars, Line, Pane, Panel
from ...plots.marks import GREY
from ...plots.style import LAYER_COLOURS
from ...probes import LAYERS, layer_norms

START = math.log(2)  # softplus(0), the answer of an untrained generator
SHADE = "#BBBBBB"
PANES = {
    "gradient": Pane(y_label="gradient norm", log_y=True, y_limits=(0.1, 1000)),
    "relative step": Pane(y_label="relative step, %", log_y=True, y_limits=(0.01, 1000)),
    "accuracy": Pane("", "inner steps", "accuracy, %", y_limits=(0, 100), legend="lower right"),
}
Look = tuple[dict[str, float], dict[str, float], list[float]]


def path_at(method: CxGrad, support: Batch, gammas: Tensor) -> tuple[list[Theta], list[StepTrace]]:
    """CxGrad's inner loop at given norms, (inner_steps, blocks): theta before it and after each step, and its trace."""
    thetas, trace = [MAML.begin(method, support)], []
    for k, gamma in enumerate(gammas):
        theta, seen = MAML.step(method, method.set_norms(thetas[-1], gamma), support, k)
        thetas.append(theta)
        trace.append(seen)
    return thetas, trace


def look_at(method: CxGrad, tasks: Tasks, episodes: int, gamma: Sequence[float]) -> Look:
    """Gradient norm and relative step of each layer at first, and accuracy in % before and after each inner step."""
    gammas = torch.tensor([gamma] * method.inner_steps)
    grads, moves, accuracies = [], [], []
    with torch.no_grad():
        for support, (images, labels) in tasks.episodes(episodes):
            thetas, trace = path_at(method, support, gammas)
            norms = {kind: layer_norms(trace[:1], kind) for kind in ("grad", "update", "weight")}  # type: ignore[arg-type]
            grads.append([norms["grad"][layer][0] for layer in LAYERS])
            moves.append([100 * norms["update"][layer][0] / norms["weight"][layer][0] for layer in LAYERS])
            found = [(method.logits(theta, images).argmax(1) == labels).double().mean() for theta in thetas]
            accuracies.append(100 * torch.stack(found))
    grad, relative = (dict(zip(LAYERS, torch.tensor(rows).mean(0).tolist())) for rows in (grads, moves))
    return grad, relative, torch.stack(accuracies).mean(0).tolist()


class GammaPanel(Panel):
    """See `gamma_dials`.

    Attributes:
        gamma: the four sliders.
        grad, relative: of each layer in the first inner step, means over the tasks: the norm of its gradient, and the
            relative step α‖g‖/‖W‖ in percent.
        accuracy: in percent before the first inner step and after each one.
    """

    def __init__(self, method: CxGrad, tasks: Tasks, episodes: int, backend: Backend | None = None) -> None:
        self.method, self.tasks, self.count = copy.deepcopy(method), tasks, episodes
        names = [f"γ block {i + 1}" for i in range(4)]
        self.gamma = [ipywidgets.FloatLogSlider(START, min=-2, max=1.3, step=0.05, description=name) for name in names]
        chart = Chart(PANES, columns=3, backend=backend)
        for slider in self.gamma:
            slider.continuous_update = False  # each look adapts to several tasks
        super().__init__(chart, [self.gamma[:2], self.gamma[2:]])
        self.constant = self.look([START] * 4)
        for slider in self.gamma:
            self.on(slider, self.redraw)
        self.redraw()

    def look(self, gamma: Sequence[float]) -> Look:
        return look_at(self.method, self.tasks, self.count, gamma)

    def redraw(self) -> None:
        gamma = [slider.value for slider in self.gamma]
        self.grad, self.relative, self.accuracy = self.constant if gamma == [START] * 4 else self.look(gamma)
        colours = [LAYER_COLOURS[layer] for layer in LAYERS]
        shown = zip(("gradient", "relative step"), (self.grad, self.relative), self.constant[:2])
        for name, now, before in shown:
            grey = Bars(LAYERS, [before[layer] for layer in LAYERS], [SHADE] * 5, fmt="")
            self.chart.set(name, grey, Bars(LAYERS, [now[layer] for layer in LAYERS], colours), title=f"first {name}")
        steps = list(range(len(self.accuracy)))
        lines = [Line(steps, self.constant[2], "all γ = 0.69", GREY, dashed=True, markers=True)]
        lines += [Line(steps, self.accuracy, "your γ", "#D55E00", markers=True)]
        self.chart.set("accuracy", *lines, title=f"after {steps[-1]} steps: {self.accuracy[-1]:.0f} %")
        self.chart.draw()

    def alt(self) -> str:
        gammas = ", ".join(f"{slider.value:.2g}" for slider in self.gamma)
        moves = ", ".join(f"{layer} {value:.3g} %" for layer, value in self.relative.items())
        return (
            f"With γ = {gammas} the first inner step moves the layers by {moves} of their norms. "
            f"The accuracy after {len(self.accuracy) - 1} steps is {self.accuracy[-1]:.0f} %; with all γ at 0.69 it is "
            f"{self.constant[2][-1]:.0f} %."
        )


def gamma_dials(method: CxGrad, tasks: Tasks, episodes: int = 4, backend: Backend | None = None) -> GammaPanel:
    """A panel with a slider for the norm of each block's kernel, the same for all tasks and steps.

    Left and middle: gradient norm of each layer, and its first relative step, by how much of its norm the step moves
    it. Right: accuracy on the query sets. Grey is an adaptation with all four norms where an untrained generator puts
    them, 0.69.

    Args:
        method: its network and inner rate are used; a copy is changed.
        tasks, episodes: adapted to; means over so many tasks are shown.
    """
    return GammaPanel(method, tasks, episodes, backend)
