"""Two tasks with one weight: where is the best place to start from? The first panel of notebook 02."""

from __future__ import annotations

import ipywidgets
import torch
from torch import Tensor

from ...live.charts import Backend, Chart
from ...live.panel import Line, Pane, Panel, Points

STEEPNESS, BEST = torch.tensor([1.0, 4.0]), torch.tensor([0.0, 1.0])  # of tasks A and B
NAMES, COLOURS = ("task A", "task B"), ("#4477AA", "#AA3377")
BLUE, GREY = "#0072B2", "#7F7F7F"
LOW, HIGH = -0.3, 1.5
PANES = {
    "tasks": Pane("", "weight w", "loss of each task", (LOW, HIGH), (-0.08, 2.2), legend="upper right"),
    "sum": Pane("", "starting point w", "sum of the two losses", (LOW, HIGH), (0, 2.2), legend="upper right"),
}


def losses(w: Tensor) -> Tensor:
    """(…, 2) losses ½ a (w − b)² of the tasks at (…, 1) or (…, 2) weights."""
    return 0.5 * STEEPNESS * (w - BEST) ** 2


def step(w: Tensor, alpha: float) -> Tensor:
    """(…, 2) weights after a gradient step of each task from (…, 1) starting points."""
    return w - alpha * STEEPNESS * (w - BEST)


def best_start(alpha: float) -> float:
    """Where the sum of the losses after one step is smallest."""
    weight = STEEPNESS * (1 - alpha * STEEPNESS) ** 2
    return ((weight * BEST).sum() / weight.sum()).item()


class ParabolaPanel(Panel):
    """See `two_parabolas`.

    Attributes:
        start, alpha: the sliders.
        before, after: sum of the losses at the start, and after a step of each task.
    """

    def __init__(self, start: float, alpha: float, backend: Backend | None = None) -> None:
        self.start = ipywidgets.FloatSlider(start, min=LOW + 0.1, max=HIGH - 0.1, step=0.01, description="start w")
        self.alpha = ipywidgets.FloatSlider(alpha, min=0, max=0.4, step=0.01, description="rate α")
        chart = Chart(PANES, inches=(9.5, 3.0), backend=backend)
        for slider in (self.start, self.alpha):
            slider.continuous_update = chart.backend == "plotly"  # a picture is too slow to follow the mouse
        super().__init__(chart, [[self.start, self.alpha]])
        self.on(self.start, self.redraw)
        self.on(self.alpha, self.redraw)
        self.redraw()

    def redraw(self) -> None:
        w, alpha = torch.tensor([self.start.value]), self.alpha.value
        moved, grid = step(w, alpha), torch.linspace(LOW, HIGH, 181).unsqueeze(1)
        self.before, self.after = losses(w).sum().item(), losses(moved).sum().item()
        curves, heights, ends = losses(grid), losses(w), losses(moved)
        marks: list[Line | Points] = []
        for i, (name, colour) in enumerate(zip(NAMES, COLOURS)):
            marks.append(Line(grid[:, 0].tolist(), curves[:, i].tolist(), name, colour))
            path = torch.stack([w[0], moved[i]]).tolist(), torch.stack([heights[i], ends[i]]).tolist()
            marks.append(Line(*path, colour="black"))
            marks.append(Points([path[0][0]], [path[1][0]], colour="black", filled=False))
            marks.append(Points([path[0][1]], [path[1][1]], colour="black", size=9))
        self.chart.set("tasks", *marks, title="one step for each task")
        both = {"no step": (losses(grid).sum(1), GREY), "after one step": (losses(step(grid, alpha)).sum(1), BLUE)}
        lines = [Line(grid[:, 0].tolist(), y.tolist(), label, colour) for label, (y, colour) in both.items()]
        lowest = [Points([grid[y.argmin(), 0].item()], [y.min().item()], colour=colour) for y, colour in both.values()]
        here = Points([w.item()] * 2, [self.before, self.after], "your start", "black", size=9, filled=False)
        self.chart.set("sum", *lines, *lowest, here, title=f"at your start: {self.before:.2f}, then {self.after:.2f}")
        self.chart.draw()

    def alt(self) -> str:
        return (
            f"Two parabolas with a step of rate {self.alpha.value:g} on each from w = {self.start.value:g}. The sum of "
            f"the losses falls from {self.before:.2f} to {self.after:.2f}. Without a step it is lowest at 0.8, after "
            f"one step each at {best_start(self.alpha.value):.2f}."
        )


def two_parabolas(start: float = 0.8, alpha: float = 0.2, backend: Backend | None = None) -> ParabolaPanel:
    """A panel with the losses of two tasks, ½(w − 0)² and ½·4·(w − 1)², and one gradient step on each.

    Left: the losses with the steps from a common start. Right: the sum of the losses over all starts, without a step
    and after it; filled points are the lowest. The sliders move the start and the inner rate.
    """
    return ParabolaPanel(start, alpha, backend)
