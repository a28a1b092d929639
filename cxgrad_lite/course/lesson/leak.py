"""A microscope for what a context knows of its task: ε as a dial, and one task's γ given to another."""

from __future__ import annotations

import copy

import ipywidgets
import torch
from torch import Tensor

from data_utils import TaskSampler

from ...core.cxgrad import CxGrad
from ...core.method import Batch
from ...core.outer import Episode
from ...live.charts import Backend, Chart
from ...live.panel import Bars, Line, Pane, Panel
from ...plots.marks import GREY
from ...plots.style import LAYER_COLOURS
from .gammas import path_at

EPS = (1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1)
ORANGE = "#D55E00"
PANES = {
    "gamma": Pane("", "task", "γ minus its mean, % of the mean", legend="lower right"),
    "given": Pane("", "γ of task", "images right, %", y_limits=(0, 105)),
}


class LeakPanel(Panel):
    """See `leak_microscope`.

    Attributes:
        eps, task: the sliders.
        gammas: (tasks, inner_steps, blocks) of each task's own adaptation.
        right: (tasks,) share of the task's query images answered rightly with the γ of each task.
    """

    def __init__(self, method: CxGrad, tasks: TaskSampler, count: int, eps: float, backend: Backend | None) -> None:
        self.method = copy.deepcopy(method).double()
        self.tasks: list[Episode] = [(doubled(s), doubled(q)) for s, q in tasks.episodes(count)]
        self.eps = ipywidgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in EPS], value=eps, description="ε at test"
        )
        self.task = ipywidgets.IntSlider(1, 1, count, description="task B")
        for slider in (self.eps, self.task):
            slider.continuous_update = False
        super().__init__(Chart(PANES, inches=(9.5, 3.1), backend=backend), [[self.eps, self.task]])
        self.on(self.eps, self.redraw)
        self.on(self.task, self.redraw)
        self.compute()

    def redraw(self) -> None:
        self.background(self.compute)

    @torch.no_grad()
    def compute(self) -> None:
        """Adapt to all tasks, then to task B with the γ of each."""
        eps, b = self.eps.value, self.task.value - 1
        for block in self.method.net.blocks:
            block.norm.eps = eps  # type: ignore[union-attr]
        traces = [self.method.adapt(support, trace=True)[1] for support, _ in self.tasks]
        self.gammas = torch.stack([torch.stack([s.scaling for s in t if s.scaling is not None]) for t in traces])
        support, (images, labels) = self.tasks[b]
        thetas = [path_at(self.method, support, gammas)[0][-1] for gammas in self.gammas]
        answers = [self.method.logits(theta, images).argmax(-1) == labels for theta in thetas]
        self.right = torch.stack(answers).double().mean(1)
        self.draw(eps, b)

    def draw(self, eps: float, b: int) -> None:
        numbers = list(range(1, len(self.tasks) + 1))
        away = deviations(self.gammas)
        lines = [
            Line(numbers, away[:, i].tolist(), block, tint, markers=True)
            for i, (block, tint) in enumerate(list(LAYER_COLOURS.items())[:4])
        ]
        self.chart.set("gamma", *lines, title=f"ε = {eps:g}: γ in the last step, off by up to {away.abs().max():.2g} %")
        tints = [ORANGE if n == b + 1 else GREY for n in numbers]
        bars = Bars([str(n) for n in numbers], (100 * self.right).tolist(), tints, fmt=".0f")
        self.chart.set("given", bars, title=f"task {b + 1} with the γ of each task (orange: its own)")
        self.chart.draw()

    def alt(self) -> str:
        low, high = (100 * self.right).aminmax()
        return (
            f"At ε = {self.eps.value:g} the γ of {len(self.tasks)} tasks differ from their mean by at most "
            f"{deviations(self.gammas).abs().max():.2g} %. Task {self.task.value} has {low:.0f} to {high:.0f} % of its "
            f"images right with the γ of each task, {100 * self.right[self.task.value - 1]:.0f} % with its own."
        )


def deviations(gammas: Tensor) -> Tensor:
    """(tasks, blocks): γ in the last inner step relative to its mean over tasks, in per cent."""
    return 100 * (gammas[:, -1] / gammas[:, -1].mean(0) - 1)


def doubled(batch: Batch) -> Batch:
    return batch[0].double(), batch[1]


def leak_microscope(
    method: CxGrad, tasks: TaskSampler, count: int = 8, eps: float = 1e-5, backend: Backend | None = None
) -> LeakPanel:
    """A panel with γ of several tasks under a microscope, and with each task's γ given to task B.

    Args:
        method: works on a copy, in float64.
        tasks: the first ``count`` of its episodes are shown.
        eps: batch norm's ε at first, one of `EPS`; it is changed at test time only.
    """
    return LeakPanel(method, tasks, count, eps, backend)
