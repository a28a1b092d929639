"""A live panel: one task, step by step through the inner loop."""

from __future__ import annotations

import ipywidgets
import torch

from ..core.maml import MAML
from ..core.outer import Episode, accuracy
from ..plots.marks import GREY
from ..plots.representations import class_points, class_trails, limits
from ..plots.style import LAYER_COLOURS, RIGHT, WRONG
from ..probes import LAST_BLOCK, LAYERS, Projection, block_outputs, class_separation, layer_norms, project, states
from .charts import Backend
from .panel import Bars, Chart, Images, Line, Pane, Panel, Points, remembers


class AdaptationPanel(Panel):
    """See `watch_adaptation`.

    Attributes:
        step: the slider; its value is the number of inner steps taken.
        support_accuracy, query_accuracy: (steps + 1,) fractions.
        predicted: (steps + 1, n) the class that each query image is taken for.
        points: (steps + 1, n, 2) query images in the plane.
        separation: (steps + 1,) see `probes.class_separation`.
        grad_norms, update_norms: layer → one number per inner step.
        shown: rows of the query images that are shown.
    """

    def __init__(
        self,
        method: MAML,
        task: Episode,
        per_class: int = 3,
        kind: Projection = "pca",
        seed: int = 0,
        backend: Backend | None = None,
    ) -> None:
        self.images, self.labels = (t.cpu() for t in task[1])
        self._compute(method, task, kind, seed)
        self.shown = self._choose(per_class)
        steps = method.inner_steps
        self.step = ipywidgets.IntSlider(
            steps, 0, steps, description="inner steps", style={"description_width": "initial"}
        )
        super().__init__(self._chart(per_class, backend), [[self.step]])
        self.step.continuous_update = self.chart.backend == "plotly"  # a picture is too slow to follow the mouse
        self.on(self.step, self.redraw)
        self.redraw()

    def _compute(self, method: MAML, task: Episode, kind: Projection, seed: int) -> None:
        support, query = task
        thetas, trace = states(method, support)
        self.grad_norms, self.update_norms = layer_norms(trace, "grad"), layer_norms(trace, "update")
        with torch.no_grad():
            logits = torch.stack([method.logits(theta, query[0]) for theta in thetas])  # (steps + 1, n, ways)
            fitted = [accuracy(method.logits(theta, support[0]), support[1]) for theta in thetas]
        self.predicted = logits.argmax(-1).cpu()
        self.support_accuracy = torch.stack(fitted).cpu()
        self.query_accuracy = (self.predicted == self.labels).float().mean(-1)
        embedded = torch.stack([block_outputs(method, theta, query[0])[LAST_BLOCK] for theta in thetas])
        self.points, self.separation = project(embedded, kind, seed), class_separation(embedded, query[1]).cpu()

    def _choose(self, per_class: int) -> list[int]:
        """The first images of each class, those first whose answer changes on the way."""
        settled = (self.predicted == self.predicted[0]).all(0)
        order = settled.int().argsort(stable=True)
        return [i for c in self.labels.unique() for i in order[self.labels[order] == c][:per_class].tolist()]

    def _chart(self, per_class: int, backend: Backend | None) -> Chart:
        (left, right), y_limits = limits(self.points)
        x_limits = (left, right + 0.3 * (right - left))  # room for the legend
        last = len(self.points) - 1
        panes = {
            "gradients": Pane(y_label="gradient norm", y_limits=(0, top(self.grad_norms))),
            "updates": Pane(y_label="update norm", y_limits=(0, top(self.update_norms))),
            "accuracy": Pane(
                "accuracy, %, over inner steps", "", "", (-0.2, last + 0.2), (0, 105), legend="lower right"
            ),
            "embedding": Pane(x_limits=x_limits, y_limits=y_limits, hide_axes=True, legend="upper right"),
            "before": Pane("before, true class: answer", hide_axes=True, equal=True),
            "now": Pane(hide_axes=True, equal=True),
        }
        return Chart(panes, columns=3, inches=(10.5, 6.6), backend=backend)

    def redraw(self) -> None:
        """Show the network after ``step.value`` inner steps."""
        k = self.step.value
        self._draw_norms(k)
        steps = list(range(len(self.points)))
        for_support, for_query = ((100 * a).tolist() for a in (self.support_accuracy, self.query_accuracy))
        self.chart.set(
            "accuracy",
            Line(steps, for_support, "support", GREY, dashed=True),
            Line(steps, for_query, "query", "#000000"),
            Points([k, k], [for_support[k], for_query[k]], "", [GREY, "#000000"], size=10),
        )
        hover = [f"image {i}: class {t}, taken for {p}" for i, (t, p) in enumerate(zip(self.labels, self.predicted[k]))]
        self.chart.set(
            "embedding",
            *class_trails(self.points[: k + 1], self.labels),
            *class_points(self.points[k], self.labels, hover),
            title=f"query images: {self.separation[k]:.0%} between classes",
        )
        self.chart.set("before", self._thumbnails(0))
        self.chart.set("now", self._thumbnails(k), title=f"after {k} steps (a→b: just changed)")
        self.chart.draw()

    def _draw_norms(self, k: int) -> None:
        """Norms of the step that led here; none have been seen before the first one."""
        colours = [LAYER_COLOURS[layer] for layer in LAYERS]
        for pane, norms, what in (("gradients", self.grad_norms, "gradient"), ("updates", self.update_norms, "update")):
            values = [norms[layer][k - 1] if k else 0.0 for layer in LAYERS]
            title = f"{what} of step {k}" if k else f"{what}: no step yet"
            self.chart.set(pane, Bars(LAYERS, values, colours), title=title)

    def _thumbnails(self, k: int) -> Images:
        """The shown images with true class and answer after ``k`` steps."""
        captions, frames = [], []
        for i in self.shown:
            true, answer, was = (
                int(v) for v in (self.labels[i], self.predicted[k, i], self.predicted[max(k - 1, 0), i])
            )
            captions.append(f"{true}: {answer}" if was == answer else f"{true}: {was}→{answer}")
            frames.append(RIGHT if answer == true else WRONG)
        return Images(self.images[self.shown], len(self.shown) // len(self.labels.unique()), frames, captions)

    def alt(self) -> str:
        k = self.step.value
        changed = int((self.predicted[k] != self.predicted[0]).sum())
        return (
            f"After {k} of {len(self.points) - 1} inner steps: {self.support_accuracy[k]:.0%} of the support and "
            f"{self.query_accuracy[k]:.0%} of the query images right; {changed} of {len(self.labels)} query images got "
            f"another answer than before. {self.separation[k]:.0%} of the scatter of {LAST_BLOCK}'s output lies "
            f"between the classes, {self.separation[0]:.0%} did before."
        )


def top(norms: dict[str, list[float]]) -> float:
    """Where an axis for these bars ends: it stays the same for all steps, so that bars can be compared."""
    return 1.2 * max([value for values in norms.values() for value in values], default=1.0) or 1.0


@remembers
def watch_adaptation(
    method: MAML,
    task: Episode,
    per_class: int = 3,
    kind: Projection = "pca",
    seed: int = 0,
    backend: Backend | None = None,
) -> AdaptationPanel:
    """A panel with a slider over the inner steps of one task.

    It shows, after each step: norms of the step's gradient and update by layer; accuracy on support and query images;
    the output of the last block for the query images, with the way they came, in one plane for all steps; and query
    images with their true class and the answer, first those whose answer changes. A green frame is a right answer, an
    orange one a wrong one. All is computed once, here.

    Args:
        method: a gradient-based method.
        task: (support, query), such as ``next(tasks.episodes(1))``.
        per_class: query images shown of each class.
        kind: how embeddings are projected; see `probes.project`.
        seed: of t-SNE.
        backend: see `Chart`.

    Raises:
        ValueError: if the method has no inner loop, or the task has more classes than its head.
    """
    return AdaptationPanel(method, task, per_class, kind, seed, backend)
