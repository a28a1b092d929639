"""Figures, probes and the live plot: what they show is what was measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cxgrad_lite import ANIL, MAML, Conv4, CxGrad, History, TrainConfig, meta_train, plots
from cxgrad_lite.live import curves as live
from cxgrad_lite.plots import figures
from cxgrad_lite.plots.style import Picture
from cxgrad_lite.probes import LAYERS, layer_norms, layer_of, mean_layer_norms
from data_utils import TaskSampler


@pytest.fixture()
def method() -> MAML:
    torch.manual_seed(0)
    return CxGrad(Conv4(1, 16, 3, width=8), inner_steps=3)


def drawn(picture: Picture, tmp_path: Path) -> Picture:
    """It can be saved, is a PNG, and has alternative text, also where a notebook asks for it."""
    picture.save(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    data, metadata = picture._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == picture.alt != ""
    return picture


def test_layer_norms_join_the_tensors_of_a_layer(method: MAML, tasks: TaskSampler) -> None:
    support, _ = next(tasks.episodes(1))
    _, trace = method.adapt(support, trace=True)
    norms = layer_norms(trace)
    assert tuple(norms) == LAYERS and all(len(values) == 3 for values in norms.values())
    seen = trace[1].grad_norms
    assert norms["block 2"][1] == pytest.approx(seen["blocks.1.conv.weight"])
    assert norms["head"][1] == pytest.approx(math.hypot(seen["head.weight"], seen["head.bias"]))
    assert layer_of("context") is None and layer_of("blocks.3.norm.bias") == "block 4"


def test_layers_that_do_not_adapt_have_no_update(tasks: TaskSampler) -> None:
    norms = mean_layer_norms(ANIL(Conv4(1, 16, 3, width=8), inner_steps=2), tasks, episodes=2, kind="update")
    assert norms["head"] > 0 and all(norms[f"block {i}"] == 0 for i in range(1, 5))


def test_mean_layer_norms_average_over_steps_and_tasks(method: MAML, tasks: TaskSampler) -> None:
    by_hand = []
    for support, _ in tasks.episodes(2):
        by_hand += layer_norms(method.adapt(support, trace=True)[1])["block 1"]
    assert mean_layer_norms(method, tasks, episodes=2)["block 1"] == pytest.approx(sum(by_hand) / 6, rel=1e-4)


def test_episode_and_predictions(tasks: TaskSampler, tmp_path: Path) -> None:
    support, query = next(tasks.episodes(1))
    assert "3-way 2-shot" in drawn(plots.show_episode(support, query, queries=2), tmp_path).alt
    wrong = torch.nn.functional.one_hot((query[1] + 1) % 3, 3)
    right = torch.nn.functional.one_hot(query[1], 3)
    picture = drawn(plots.show_predictions(query, wrong, right, per_class=2), tmp_path)
    assert "0% right before adaptation, 100% after" in picture.alt
    colour_images = torch.rand(6, 3, 16, 16), support[1]
    drawn(plots.show_episode(colour_images, colour_images, queries=1), tmp_path)


def test_curves_and_bars(tmp_path: Path) -> None:
    runs = {
        "MAML, α = 0.01": {"loss": [2.0, 1.0], "accuracy": [0.2, 0.6]},
        "MAML, α = 0.3": {"loss": [2.0, 0.5], "accuracy": [0.2, 0.8]},
    }
    picture = drawn(plots.training_curves(runs, step=20), tmp_path)
    loss, accuracy = picture.figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[20, 2], [40, 1]]
    assert accuracy.lines[1].get_ydata().tolist() == [20, 80]
    assert loss.lines[0].get_linestyle() != loss.lines[1].get_linestyle(), "same colour, so another line style"
    assert "MAML, α = 0.3 ends at 80%" in picture.alt
    alone = drawn(plots.training_curves({"MAML": {"loss": [2.0, 1.0], "accuracy": []}}), tmp_path)
    assert len(alone.figure.axes) == 1 and "MAML ends at 1.00" in alone.alt

    norms = {"MAML": dict.fromkeys(LAYERS, 1.0), "CxGrad": dict.fromkeys(LAYERS, 2.0)}
    picture = drawn(plots.norms_by_layer(norms), tmp_path)
    assert sorted(bar.get_height() for bar in picture.figure.axes[0].patches) == [1.0] * 5 + [2.0] * 5
    assert "93.0 ± 1.0" in drawn(plots.accuracy_bars({"CxGrad": (0.93, 0.01)}, chance=0.2), tmp_path).alt


def test_layers_without_a_norm_have_no_bar_on_a_log_axis(tmp_path: Path) -> None:
    none, some = dict.fromkeys(LAYERS, 0.0), dict(zip(LAYERS, (0.0, 0.004, 7.7, 190.0, 1.0)))
    for norms in ({"CAVIA": none, "ANIL": none}, {"CAVIA": none, "CxGrad": some}):
        (ax,) = drawn(plots.norms_by_layer(norms, log=True), tmp_path).figure.axes
        low, high = ax.get_ylim()
        shown = [value for by_layer in norms.values() for value in by_layer.values() if value]
        assert ax.get_yscale() == "log" and all(low < value < high for value in shown)


def test_smoothing_is_a_running_mean() -> None:
    assert figures.smooth([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    assert figures.smooth([1, 2, 3, 4], 1) == [1, 2, 3, 4]


def test_colours_belong_to_methods() -> None:
    assert plots.colour("CxGrad, just trained") == plots.METHOD_COLOURS["CxGrad"] != plots.colour("MAML")
    assert plots.colour("something else") is None


def test_live_curves_follow_the_run_in_one_output(
    method: MAML, tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Picture] = []

    class Handle:
        update = staticmethod(shown.append)

    def display(picture: Picture, display_id: bool) -> Handle:
        assert display_id and not shown, "one output that is replaced, not one per drawing"
        shown.append(picture)
        return Handle()

    monkeypatch.setattr(live, "display", display)
    curves = live.LiveCurves("CxGrad", every=0)
    history = meta_train(method, tasks, TrainConfig(iterations=4, progress=False), callback=curves)
    assert len(shown) == 4
    expected = figures.smooth(history.loss, 10)
    assert shown[-1].figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx(expected)
    curves.label = "MAML"
    curves.draw(history)
    assert "CxGrad ends" in shown[-1].alt and "MAML ends" in shown[-1].alt, "the next run joins the first"

    only_loss = live.LiveCurves("MAML", low=60).picture(History(loss=[1.0, 0.5]))
    assert len(only_loss.figure.axes) == 1, "a loop of one's own may count no accuracy"

    shown.clear()
    config = TrainConfig(iterations=1000, progress=False)
    history = meta_train(method, tasks, config, callback=live.LiveCurves("CxGrad", seconds=0.0, at_least=2, every=1e9))
    assert len(history.loss) == 2 and history.interrupted, "it ends the run when the time is up"
