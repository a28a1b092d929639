"""Panels that look into an adaptation: what they draw is what the method does. No browser is needed."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import torch

from cxgrad_lite import MAML, Conv4, CxGrad, ProtoNet, probes
from cxgrad_lite.core.outer import Episode
from cxgrad_lite.live.adaptation import watch_adaptation
from cxgrad_lite.live.embedding import compare_cka, compare_embeddings
from cxgrad_lite.plots.marks import Images
from cxgrad_lite.plots.representations import interval
from cxgrad_lite.plots.style import RIGHT, WRONG, class_style
from data_utils import TaskSampler

BACKENDS = ["plotly", "png"]


@pytest.fixture()
def task(tasks: TaskSampler) -> Episode:
    return next(tasks.episodes(1))


@pytest.fixture()
def methods() -> dict[str, MAML]:
    torch.manual_seed(0)
    net = {"in_channels": 1, "image_size": 16, "ways": 3, "width": 8}
    return {"MAML": MAML(Conv4(**net), inner_lr=0.3, inner_steps=3), "CxGrad": CxGrad(Conv4(**net), 0.1, 2)}


def checked(panel: Any) -> None:
    """No exception was shown, the static figure has words, and nothing is left after closing."""
    assert panel.error is None
    data, metadata = panel._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and metadata["image/png"]["alt"] == panel.alt() != ""
    panel.close()
    panel.close()
    assert panel.closed and not any(thread.name == "panel" for thread in threading.enumerate())


@pytest.mark.parametrize("backend", BACKENDS)
def test_adaptation_step_by_step(methods: dict[str, MAML], task: Episode, backend: Any) -> None:
    panel = watch_adaptation(methods["CxGrad"], task, backend=backend)
    assert panel.step.value == panel.step.max == 2
    trace = methods["CxGrad"].adapt(task[0], trace=True)[1]
    for k in (0, 1, 2):
        panel.step.value = k
        for pane, kind in (("gradients", "grad"), ("updates", "update")):
            norms = probes.layer_norms(trace, kind)  # type: ignore[arg-type]
            ((layers, heights),) = panel.chart.plotted(pane)
            assert tuple(layers) == probes.LAYERS
            assert heights == pytest.approx([norms[layer][k - 1] if k else 0 for layer in layers], rel=1e-4)
    checked(panel)


def accuracies(method: MAML, task: Episode) -> tuple[list[float], list[float]]:
    """Support and query accuracy, in percent, before and after every step, from shorter and shorter adaptations."""
    steps, found = method.inner_steps, []
    for k in range(steps + 1):
        method.inner_steps = k
        theta = method.adapt(task[0])
        found.append([100 * (method.logits(theta, x).argmax(-1) == y).float().mean().item() for x, y in task])
    method.inner_steps = steps
    return [a for a, _ in found], [b for _, b in found]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["MAML", "CxGrad"])
def test_accuracies_are_those_of_fewer_steps(methods: dict[str, MAML], task: Episode, name: str, backend: Any) -> None:
    panel = watch_adaptation(methods[name], task, backend=backend)
    panel.step.value = 1
    support, query, now = panel.chart.plotted("accuracy")
    expected = accuracies(methods[name], task)
    assert support[1] == pytest.approx(expected[0]) and query[1] == pytest.approx(expected[1])
    assert now[0] == [1, 1] and now[1] == pytest.approx([expected[0][1], expected[1][1]])
    checked(panel)


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_move_in_one_plane(methods: dict[str, MAML], task: Episode, backend: Any) -> None:
    method = methods["MAML"]
    panel = watch_adaptation(method, task, backend=backend)
    points = probes.project(probes.embeddings(method, *task))
    torch.testing.assert_close(panel.points, points, rtol=1e-4, atol=1e-5)
    for k in (3, 0):
        panel.step.value = k
        drawn = panel.chart.plotted("embedding")
        assert len(drawn) == 6  # for each class its trails and its points
        for c in range(3):
            xy = torch.tensor(drawn[3 + c], dtype=torch.float64).T
            torch.testing.assert_close(xy, points[k, task[1][1] == c], rtol=1e-4, atol=1e-5)
            trail = [x for x in drawn[c][0] if x is not None and x == x]  # without the gaps
            assert len(trail) == 3 * (k + 1)
        if backend == "plotly":
            json.dumps(drawn, allow_nan=False)  # as it is sent to the browser
    checked(panel)


@pytest.mark.parametrize("backend", BACKENDS)
def test_thumbnails_say_what_the_network_answers(methods: dict[str, MAML], task: Episode, backend: Any) -> None:
    method, (images, labels) = methods["MAML"], task[1]
    panel = watch_adaptation(method, task, per_class=2, backend=backend)
    answers = []
    for k in range(4):
        method.inner_steps = k
        answers.append(method.logits(method.adapt(task[0]), images).argmax(-1).tolist())
    assert answers[0] != answers[-1]  # else this test would show nothing
    for k in (0, 1, 3):
        panel.step.value = k
        expected = []
        for i in panel.shown:
            now, was = answers[k][i], answers[max(k - 1, 0)][i]
            expected.append(f"{int(labels[i])}: {now}" if now == was else f"{int(labels[i])}: {was}→{now}")
        ((_, captions),) = panel.chart.plotted("now")
        assert captions == expected
        (mark,) = panel.chart.contents["now"].marks
        assert isinstance(mark, Images)
        torch.testing.assert_close(mark.images, images[panel.shown])
        assert list(mark.frames) == [RIGHT if answers[k][i] == labels[i] else WRONG for i in panel.shown]
    checked(panel)


def test_images_that_change_are_shown_first(methods: dict[str, MAML], task: Episode) -> None:
    panel = watch_adaptation(methods["MAML"], task, per_class=2, backend="png")
    assert task[1][1][panel.shown].tolist() == [0, 0, 1, 1, 2, 2]
    changes = (panel.predicted != panel.predicted[0]).any(0)
    for c in range(3):
        rows = (task[1][1] == c).nonzero().flatten()
        shown = [i for i in panel.shown if i in rows]
        assert changes[shown].sum() == min(2, changes[rows].sum())
    checked(panel)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compared_embeddings_and_the_chosen_image(methods: dict[str, MAML], task: Episode, backend: Any) -> None:
    panel = compare_embeddings(methods, task, backend=backend)
    labels = task[1][1]
    panel.chosen.value = 5
    for name, method in methods.items():
        points = probes.project(probes.embeddings(method, *task))[[0, -1]]
        for when, expected in zip(("before", "after"), points):
            *classes, ring = panel.chart.plotted(f"{name} {when}")
            for c, drawn in enumerate(classes):
                torch.testing.assert_close(torch.tensor(drawn).double().T, expected[labels == c], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(torch.tensor(ring).double().T[0], expected[5], rtol=1e-4, atol=1e-5)
    (mark,) = panel.chart.contents["image"].marks
    assert isinstance(mark, Images) and list(mark.frames) == [class_style(int(labels[5]))[0]]
    torch.testing.assert_close(mark.images, task[1][0][5:6])
    for (_, heights), method in zip(panel.chart.plotted("probability"), methods.values()):
        both = [
            method.logits(theta, task[1][0])[5].softmax(-1) for theta in (method.begin(task[0]), method.adapt(task[0]))
        ]
        assert heights == pytest.approx([p[labels[5]].item() for p in both], abs=1e-5)
    checked(panel)


def test_the_mouse_chooses_the_image_under_it(methods: dict[str, MAML], task: Episode) -> None:
    panel = compare_embeddings(methods, task, backend="plotly")
    traces = [trace for trace in panel.chart.widget.data if trace.name == "class 2"]
    assert len(traces) == 4
    for trace, point in zip(traces, (1, 0, 2, 1)):
        trace._hover_callbacks[0](trace, type("Points", (), {"point_inds": [point]}), None)
        assert panel.chosen.value == (task[1][1] == 2).nonzero().flatten()[point]
    panel.point_at(3, 0)  # the ring
    assert panel.chosen.value == (task[1][1] == 2).nonzero().flatten()[1]
    checked(panel)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compared_cka(methods: dict[str, MAML], tasks: TaskSampler, backend: Any) -> None:
    panel = compare_cka(methods, tasks, episodes=4, backend=backend)
    expected = {name: probes.cka_before_after(method, tasks, 4) for name, method in methods.items()}
    for n in (4, 2, 3):
        panel.tasks.value = n
        for (layers, heights), mark, by_layer in zip(
            panel.chart.plotted("layers"), panel.chart.contents["layers"].marks, expected.values()
        ):
            assert tuple(layers) == probes.LAYERS
            means, errors = zip(*(interval(by_layer[layer][:n]) for layer in layers))
            assert heights == pytest.approx(means, rel=1e-5)
            assert mark.errors == pytest.approx(errors, rel=1e-3, abs=1e-6)  # type: ignore[union-attr]
    panel.layer.value = "head"
    dots = panel.chart.plotted("tasks")[::2]
    for (x, y), by_layer in zip(dots, expected.values()):
        assert x == [1, 2, 3] and y == pytest.approx(by_layer["head"][:3].tolist(), rel=1e-5)
    assert "over 3 tasks" in panel.alt()
    checked(panel)


def test_methods_need_names_of_their_own(methods: dict[str, MAML], task: Episode) -> None:
    maml = methods["MAML"]
    assert list(compare_embeddings([maml, methods["CxGrad"]], task, backend="png").points) == ["MAML", "CxGrad"]
    with pytest.raises(ValueError, match="2 methods with 1 names"):
        compare_embeddings([maml, maml], task, backend="png")
    with pytest.raises(ValueError, match="no method was given"):
        compare_embeddings({}, task, backend="png")


def test_what_cannot_be_watched_is_refused(task: Episode, tasks: TaskSampler, methods: dict[str, MAML]) -> None:
    with pytest.raises(ValueError, match="ProtoNet has no inner loop"):
        watch_adaptation(ProtoNet(Conv4(1, 16, 3, width=8)), task)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 episodes, not 1"):
        compare_cka(methods, tasks, episodes=1)


def test_a_students_own_method_is_shown(task: Episode, tasks: TaskSampler) -> None:
    class Signs(MAML):
        """Steps of equal size for all weights."""

        def gradients(self, theta: Any, batch: Any) -> Any:
            loss, grads = super().gradients(theta, batch)
            return loss, {name: grad.sign() for name, grad in grads.items()}

    torch.manual_seed(0)
    mine = Signs(Conv4(1, 16, 3, width=8), inner_steps=2)
    panel = watch_adaptation(mine, task, backend="png")
    ((_, heights),) = panel.chart.plotted("updates")
    assert heights[1] == pytest.approx(0.01 * (8 * 8 * 9) ** 0.5, rel=1e-3)
    checked(panel)
    checked(compare_cka([mine], tasks, episodes=2, backend="png"))
