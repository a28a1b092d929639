"""Each panel gives itself back as one line of Python: whoever runs it has the panel with its controls as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from cxgrad_lite import MAML, Conv4, CxGrad, live
from cxgrad_lite.live.drawing import BROWSER, packed, unpacked
from cxgrad_lite.live.panel import Panel
from data_utils import TaskSampler


@pytest.fixture()
def names(tasks: TaskSampler) -> dict[str, Any]:
    """What a reader's notebook holds, under the names of the arguments."""
    torch.manual_seed(0)
    net = {"in_channels": 1, "image_size": 16, "ways": 3, "width": 8}
    method = CxGrad(Conv4(**net), 0.1, 2)
    made = {name: getattr(live, name) for name in live.__all__}
    methods = [method, MAML(Conv4(**net), inner_steps=1)]
    task = next(tasks.episodes(1))
    return made | {"method": method, "methods": methods, "tasks": tasks, "task": task, "net": Conv4(1, 28, 5, 8)}


def values(panel: Panel) -> list[Any]:
    return [control.value for control in panel._first]


@pytest.mark.parametrize(
    ("line", "moves"),
    [
        ("scale_explorer()", "panel.a.value = 2.5; panel.layer.value = 'head'; panel.norm.value = 'layer'"),
        ("scale_explorer(net, backend='png')", "panel.eps.value = 1e-3; panel.a.value = 0.25"),
        ("watch_adaptation(method, task, 1, kind='tsne', seed=3)", "panel.step.value = 1"),
        ("compare_embeddings(methods, task)", "panel.chosen.value = 4"),
        ("compare_cka(methods, tasks, episodes=4)", "panel.tasks.value = 3; panel.layer.value = 'block 2'"),
        (
            "watch_training(method, tasks)",
            "panel.sliders['inner_lr'].value, panel.sliders['inner_steps'].value = 0.01, 4",
        ),
    ],
)
def test_the_line_brings_the_panel_back(line: str, moves: str, names: dict[str, Any]) -> None:
    exec(f"panel = {line}", names)
    panel = names["panel"]
    opened = panel.code()
    exec(moves, names)
    panel.wait()
    moved, said, seen = panel.code(), panel.alt(), values(panel)
    assert moved != opened and "\n" not in moved and moved.endswith("; panel")
    panel.close()
    if line.startswith("watch_training"):  # the sliders have changed the method itself
        names["method"].inner_lr, names["method"].inner_steps = 0.1, 2
    exec(moved, names)
    again = names["panel"]
    again.wait()
    assert again is not panel and values(again) == seen and again.alt() == said and again.code() == moved
    again.close()


def test_a_panel_that_nobody_moved_is_only_the_call(names: dict[str, Any]) -> None:
    for line in ("scale_explorer(net=net)", "watch_adaptation(method, task, per_class=1, backend='png')"):
        panel = eval(line, names)
        assert panel.code() == f"panel = {line}; panel"
        panel.close()


def test_drawings_come_back() -> None:
    pytest.importorskip("anywidget", reason="the drawing panel needs anywidget")
    method = MAML(Conv4(1, 28, 5, width=4))
    example = json.loads((BROWSER / "example.json").read_text(encoding="utf-8"))
    drawn = {"A1": example["A1"], "C2": example["C2"], "query": example["query"]}
    panel = live.draw_and_adapt(method)
    assert panel.code() == "panel = draw_and_adapt(methods); panel"
    images = [bytes([c] * 28 * 28) for c in (9, 90)]
    panel.receive({"ask": "adapt", "labels": [0, 1], "names": ["A", "C"], "drawn": drawn}, images)
    panel.wait()
    scope: dict[str, Any] = {"draw_and_adapt": live.draw_and_adapt, "methods": method}
    exec(panel.code(), scope)
    again = scope["panel"]
    shown = again._drawings.widget.example
    assert shown.keys() == drawn.keys() and again.code() == panel.code()
    assert all(torch.tensor(shown[s][0]) == pytest.approx(torch.tensor(drawn[s][0]), abs=1e-3) for s in drawn)
    assert again.alt() == "Drawings of 2 characters." and again.picture().png()
    for one in (panel, again):
        one.close()


@pytest.mark.parametrize("text", ["", "no drawings", packed({"A1": [[[0.5, 0.5]]]})[:-8]])
def test_a_part_of_the_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the whole text"):
        unpacked(text)
