"""Live panels that compare methods: where they move the query images, how much they change each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
import torch
from torch import Tensor

from ..core.maml import MAML
from ..core.outer import Episode, Tasks
from ..plots.representations import class_points, in_words, interval, limits
from ..plots.style import class_style, method_colours
from ..probes import LAST_BLOCK, Projection, block_outputs, cka_before_after, class_separation, project, states
from .charts import Backend
from .panel import Bars, Chart, Images, Line, Pane, Panel, Points, remembers, weak

Methods = Mapping[str, MAML] | Sequence[MAML]
WHEN = ("before", "after")


def by_name(methods: Methods) -> dict[str, MAML]:
    """label → method; without labels, the names of the classes.

    Raises:
        ValueError: if there is no method, or two without labels have the same class.
    """
    named = dict(methods) if isinstance(methods, Mapping) else {type(method).__name__: method for method in methods}
    if not named or len(named) < len(methods):
        raise ValueError(f"{len(methods)} methods with {len(named)} names; give a dict, one label for each method")
    return named


class EmbeddingPanel(Panel):
    """See `compare_embeddings`.

    Attributes:
        chosen: the slider; its value is the row of the query image that is shown.
        points: label → (2, n, 2), query images in the plane before and after.
        separation: label → (2,) see `probes.class_separation`.
        probability: label → (2, n) of the true class, before and after.
    """

    def __init__(
        self,
        methods: Methods,
        task: Episode,
        kind: Projection = "pca",
        seed: int = 0,
        backend: Backend | None = None,
    ) -> None:
        self.images, self.labels = (t.cpu() for t in task[1])
        self.points: dict[str, Tensor] = {}
        self.separation: dict[str, Tensor] = {}
        self.probability: dict[str, Tensor] = {}
        for name, method in by_name(methods).items():
            self._compute(name, method, task, kind, seed)
        self.chosen = ipywidgets.IntSlider(
            0, 0, len(self.labels) - 1, description="query image", style={"description_width": "initial"}
        )
        super().__init__(self._chart(backend), [[self.chosen]])
        self.chosen.continuous_update = self.chart.backend == "plotly"  # a picture is too slow to follow the mouse
        self.on(self.chosen, self.redraw)
        self.redraw()
        for name in self.points:
            for when in WHEN:
                self.chart.on_hover(f"{name} {when}", weak(self.point_at))

    @torch.no_grad()
    def _compute(self, name: str, method: MAML, task: Episode, kind: Projection, seed: int) -> None:
        support, (images, labels) = task
        thetas, _ = states(method, support)
        embedded = torch.stack([block_outputs(method, theta, images)[LAST_BLOCK] for theta in thetas])
        self.points[name] = project(embedded, kind, seed)[[0, -1]]
        self.separation[name] = class_separation(embedded[[0, -1]], labels).cpu()
        logits = torch.stack([method.logits(theta, images) for theta in (thetas[0], thetas[-1])])  # (2, n, ways)
        self.probability[name] = logits.softmax(-1).cpu()[:, torch.arange(len(labels)), self.labels]

    def _chart(self, backend: Backend | None) -> Chart:
        """Upper row: before, and the image; lower row: after, and what the methods think of the image."""
        panes: dict[str, Pane] = {}
        for i, when in enumerate(WHEN):
            for name, points in self.points.items():
                title = f"{name}, {when}: {self.separation[name][i]:.0%}"
                x_limits, y_limits = limits(points)
                panes[f"{name} {when}"] = Pane(title, "", "", x_limits, y_limits, hide_axes=True)
            panes["image" if i == 0 else "probability"] = (
                Pane(hide_axes=True, equal=True)
                if i == 0
                else Pane("probability of its class", y_limits=(0, 1.3), legend="upper left")
            )
        columns = len(self.points) + 1
        return Chart(panes, columns, inches=(3.3 * columns, 6.4), backend=backend)

    def point_at(self, mark: int, point: int) -> None:
        """Choose the image under the mouse: point number ``point`` of mark number ``mark``."""
        rows = (self.labels == mark).nonzero().flatten()  # marks after the classes have none
        if point < len(rows):
            self.chosen.value = int(rows[point])

    def redraw(self) -> None:
        """Show image ``chosen.value`` and where it is."""
        i = self.chosen.value
        hover = [f"image {row}: class {c}" for row, c in enumerate(self.labels)]
        for name, points in self.points.items():
            for when, where in zip(WHEN, points):
                x, y = where[i].tolist()
                ring = Points([x], [y], colour="#000000", size=17, filled=False)
                self.chart.set(f"{name} {when}", *class_points(where, self.labels, hover), ring)
        c = int(self.labels[i])
        self.chart.set("image", Images(self.images[i : i + 1], 1, [class_style(c)[0]]), title=f"image {i}: class {c}")
        colours = dict(zip(self.points, method_colours(self.points)))
        bars = [
            Bars(WHEN, p[:, i].tolist(), [colours[name]] * 2, name, fmt=".2f") for name, p in self.probability.items()
        ]
        self.chart.set("probability", *bars)
        self.chart.draw()

    def alt(self) -> str:
        i = self.chosen.value
        shares = "; ".join(f"{name} {a:.0%} before, {b:.0%} after" for name, (a, b) in self.separation.items())
        votes = "; ".join(f"{name} {p[0, i]:.0%} before, {p[1, i]:.0%} after" for name, p in self.probability.items())
        return (
            "Query images in the plane before and after adaptation, coloured by class. Scatter between classes: "
            f"{shares}. Probability of the class of image {i}, which is shown: {votes}."
        )


class CKAPanel(Panel):
    """See `compare_cka`.

    Attributes:
        tasks, layer: the slider and the drop-down.
        similarity: label → layer → (episodes,).
    """

    def __init__(self, methods: Methods, tasks: Tasks, episodes: int = 20, backend: Backend | None = None) -> None:
        self.similarity = {name: cka_before_after(m, tasks, episodes) for name, m in by_name(methods).items()}
        layers = list(next(iter(self.similarity.values())))
        self.tasks = ipywidgets.IntSlider(episodes, 2, episodes, description="tasks")
        self.layer = ipywidgets.Dropdown(options=layers, value=LAST_BLOCK, description="layer")
        panes = {
            "layers": Pane("CKA before and after (1: unchanged)", y_limits=(0, 1.4), legend="upper right"),
            "tasks": Pane("", "task", "CKA", (0, episodes + 1)),
        }
        chart = Chart(panes, widths=(3, 2), inches=(11, 3.6), backend=backend)
        super().__init__(chart, [[self.tasks, self.layer]])
        self.tasks.continuous_update = chart.backend == "plotly"
        self.on(self.tasks, self.redraw)
        self.on(self.layer, self.redraw)
        self.redraw()

    def of_first_tasks(self) -> dict[str, dict[str, Tensor]]:
        """``similarity`` of the first ``tasks.value`` tasks."""
        n = self.tasks.value
        return {name: {layer: v[:n] for layer, v in by.items()} for name, by in self.similarity.items()}

    def redraw(self) -> None:
        """Show means and intervals over the tasks, and the tasks one by one."""
        bars: list[Bars] = []
        dots: list[Line | Points] = []
        for (name, by_layer), colour in zip(self.of_first_tasks().items(), method_colours(self.similarity)):
            means, errors = zip(*(interval(values) for values in by_layer.values()))
            bars.append(Bars(list(by_layer), means, [colour] * len(means), name, errors, fmt=""))
            values = by_layer[self.layer.value]
            n, mean = len(values), values.mean().item()
            dots.append(Points(list(range(1, n + 1)), values.tolist(), name, colour))
            dots.append(Line([1, n], [mean, mean], colour=colour, dashed=True))
        self.chart.set("layers", *bars)
        self.chart.set("tasks", *dots, title=f"{self.layer.value}, task by task (dashed: mean)")
        self.chart.draw()

    def alt(self) -> str:
        return (
            "Similarity (linear CKA) of each layer's output before and after adaptation, mean and 95 % interval over "
            f"{self.tasks.value} tasks. {in_words(self.of_first_tasks())}."
        )


@remembers
def compare_embeddings(
    methods: Methods,
    task: Episode,
    kind: Projection = "pca",
    seed: int = 0,
    backend: Backend | None = None,
) -> EmbeddingPanel:
    """A panel with the query images of one task in the plane, before and after adaptation, for several methods.

    The slider, or the mouse over a point, chooses an image; it is shown beside the plots and ringed in them, with the
    probability that each method gives to its class. The percentages in the titles are the share of the scatter that
    lies between classes (`probes.class_separation`). Before and after share one plane; each method has its own.

    Args:
        methods: label → method, or methods of different classes.
        task: (support, query), such as ``next(tasks.episodes(1))``.
        kind: "pca" or "tsne" (seconds per method); see `probes.project`.
        seed: of t-SNE.
        backend: see `Chart`.

    Raises:
        ValueError: if a method has no inner loop, or the labels are not unique.
    """
    return EmbeddingPanel(methods, task, kind, seed, backend)


@remembers
def compare_cka(methods: Methods, tasks: Tasks, episodes: int = 20, backend: Backend | None = None) -> CKAPanel:
    """A panel with the similarity of each layer's output before and after adaptation, for several methods.

    A slider chooses over how many tasks mean and interval are taken; a drop-down chooses the layer that is shown task
    by task. All methods see the same tasks. See `probes.cka_before_after`.

    Args:
        methods: label → method, or methods of different classes.
        tasks: where episodes come from.
        episodes: how many tasks are computed, at least 2.
        backend: see `Chart`.

    Raises:
        ValueError: if a method has no inner loop, the labels are not unique, or there are fewer than 2 episodes.
    """
    if episodes < 2:
        raise ValueError(f"an interval over tasks needs at least 2 episodes, not {episodes}")
    return CKAPanel(methods, tasks, episodes, backend)
