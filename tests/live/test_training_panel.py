"""The panel that trains: its buttons, sliders and thread, and that what it shows is the method's state."""

from __future__ import annotations

import copy
import gc
import math
import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxgrad_lite import MAML, METHODS, Conv4, CxGrad, TrainConfig, meta_train
from cxgrad_lite.core.maml import Batch, StepTrace, Theta
from cxgrad_lite.live import charts, watch_training
from cxgrad_lite.live.charts import Backend, choose_backend
from cxgrad_lite.live.steering import Share, State, Steering
from cxgrad_lite.live.training import POINTS, TrainingPanel, running_mean, thinned
from cxgrad_lite.plots.style import colour
from cxgrad_lite.probes import LAYERS, mean_layer_norms
from data_utils import TaskSampler

LONG = TrainConfig(iterations=100_000)
SECONDS = 60  # before a test gives up


@pytest.fixture(params=["plotly", "png"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "plotly" and choose_backend() != "plotly":
        pytest.skip("plotly 6 with anywidget and ipywidgets 8 is not installed")
    monkeypatch.setattr(charts, "choose_backend", lambda: request.param)
    return request.param


def make(name: str = "CxGrad", **options: Any) -> Any:
    torch.manual_seed(0)
    poolings = 2 if name == "RelationNet" else 4
    return METHODS[name](Conv4(1, 16, 3, width=8, poolings=poolings), **options)


def copied(method: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in method.parameters()]


def same(method: nn.Module, tensors: list[Tensor]) -> bool:
    return all(torch.equal(p, t) for p, t in zip(method.parameters(), tensors))


def train_until(panel: TrainingPanel, iterations: int) -> None:
    """Let the panel train until it has made that many meta-iterations, or stops by itself."""
    end = time.monotonic() + SECONDS
    while len(panel.history.loss) < iterations and not panel.wait(0.005):
        assert time.monotonic() < end, panel.error


def restarted(tasks: TaskSampler) -> TaskSampler:
    """The same tasks from the first one on (torch 2.3 cannot copy a generator)."""
    numbers = {name: getattr(tasks, name) for name in ("ways", "shots", "queries", "tasks_per_batch", "seed")}
    return TaskSampler(tasks.data, **numbers)


def panel_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "panel"]


def test_it_trains_exactly_as_meta_train_does(backend: Backend, tasks: TaskSampler) -> None:
    method, config = make(inner_steps=2), TrainConfig(iterations=6, progress=False)
    twin, twin_tasks = copy.deepcopy(method), restarted(tasks)
    panel = watch_training(method, tasks, config)
    panel.start_button.click()
    assert panel.wait(SECONDS) and panel.error is None
    history = meta_train(twin, twin_tasks, config)
    assert same(method, copied(twin)), "looking on must not change what is learned"
    assert panel.history.loss == history.loss and panel.history.accuracy == history.accuracy
    panel.close()


def test_it_shows_the_state_of_the_method(backend: Backend, tasks: TaskSampler) -> None:
    method = make(inner_steps=3)
    panel = watch_training(method, tasks, TrainConfig(iterations=4, validate_every=2, validation_episodes=2), tasks)
    empty = panel.chart.plotted("loss")
    panel.train(SECONDS)
    assert panel.chart.backend == backend and panel.error is None
    x, loss = panel.chart.plotted("loss")[0]
    assert empty != [(x, loss)] and x == [1, 2, 3, 4]
    assert loss == pytest.approx([sum(panel.history.loss[: i + 1]) / (i + 1) for i in range(4)])
    curve, validation = panel.chart.plotted("accuracy")
    assert curve[1][-1] == pytest.approx(100 * sum(panel.history.accuracy) / 4)
    assert validation[0] == [2, 4] and validation[1][1] == pytest.approx(100 * panel.history.validation[1][1].mean)

    norms = mean_layer_norms(method, tasks, episodes=1)
    layers, heights = panel.chart.plotted("norms")[0]
    assert layers == list(LAYERS) and heights == pytest.approx(list(norms.values()))
    assert [line[1][-1] for line in panel.chart.plotted("norm history")] == pytest.approx(heights)
    support, _ = next(tasks.episodes(1))
    gamma = method.adapt(support, trace=True)[1][-1].scaling
    assert [line[1][-1] for line in panel.chart.plotted("gamma")] == pytest.approx(gamma.tolist())
    picture = panel.picture()
    assert "CxGrad after 4 meta-iterations" in picture.alt and "γ by block" in picture.alt
    assert picture.png().startswith(b"\x89PNG")
    panel.close()


def test_reset_returns_both_sliders_and_the_method(tasks: TaskSampler) -> None:
    method = make("MAML", inner_steps=1)
    rate, panel = method.inner_lr, watch_training(method, tasks, LONG)
    panel.sliders["inner_lr"].value, panel.sliders["inner_steps"].value = 0.5, 4
    panel.step()
    assert panel.wait(SECONDS) and (method.inner_lr, method.inner_steps) == (pytest.approx(0.5), 4)
    panel.reset()
    assert panel.wait(SECONDS) and (method.inner_lr, method.inner_steps) == (rate, 1)
    panel.close()


def test_a_rate_set_in_a_cell_counts_until_a_slider_moves(tasks: TaskSampler) -> None:
    method = make("MAML", inner_steps=1)
    panel = watch_training(method, tasks, LONG)
    method.inner_lr = 0.3
    panel.step()
    assert panel.wait(SECONDS) and method.inner_lr == 0.3
    panel.close()


def test_a_pause_while_the_panel_is_drawing_is_shown(tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, show = watch_training(make("MAML", inner_steps=1), tasks, LONG), TrainingPanel._show

    def pause_meanwhile(self: TrainingPanel, state: State) -> None:
        show(self, state)
        if state == "training":
            self.pause()

    monkeypatch.setattr(TrainingPanel, "_show", pause_meanwhile)
    panel.start()
    assert panel.wait(SECONDS) and len(panel.history.loss) == 1
    assert "1 meta-iterations" in panel._status.value and "paused" in panel._status.value
    panel.close()


def test_pause_step_and_go_on(backend: Backend, tasks: TaskSampler) -> None:
    method = make("MAML", inner_steps=1)
    panel = watch_training(method, tasks, LONG)
    assert panel.wait(0), "nothing runs before start"
    panel.start_button.click()
    train_until(panel, 3)
    panel.pause_button.click()
    assert panel.wait(SECONDS)
    done, weights = len(panel.history.loss), copied(method)
    assert done >= 3 and "paused" in panel._status.value
    time.sleep(0.3)
    assert same(method, weights) and len(panel.history.loss) == done
    assert panel.chart.plotted("loss")[0][0][-1] == done, "a paused panel is up to date"

    panel.step_button.click()
    panel.step_button.click()
    assert panel.wait(SECONDS)
    assert len(panel.history.loss) == done + 2 and not same(method, weights)
    panel.start_button.click()
    train_until(panel, done + 4)
    panel.step_button.click()
    assert panel.wait(SECONDS) and len(panel.history.loss) >= done + 4
    panel.close()


def test_paused_and_stepped_training_is_the_same_training(tasks: TaskSampler) -> None:
    method, config = make("MAML", inner_steps=1), TrainConfig(iterations=4, progress=False)
    twin, twin_tasks = copy.deepcopy(method), restarted(tasks)
    panel = watch_training(method, tasks, config, backend="png")
    for done in range(1, 5):
        panel.step()
        assert panel.wait(SECONDS) and len(panel.history.loss) == done
    meta_train(twin, twin_tasks, config)
    assert same(method, copied(twin)), "the optimiser keeps its state while paused"
    assert "finished" in panel._status.value
    panel.start()
    assert panel.wait(SECONDS) and len(panel.history.loss) == 8, "start after the end trains on"
    panel.close()


@pytest.mark.parametrize("state", ["running", "paused", "finished"])
def test_reset_brings_everything_back(state: str, backend: Backend, tasks: TaskSampler) -> None:
    method, stream = make(inner_steps=2, inner_lr=0.02), tasks.state_dict()["generator"].clone()
    weights, config = copied(method), TrainConfig(iterations=3) if state == "finished" else LONG
    panel = watch_training(method, tasks, config)
    first_norms = panel.norms[0]
    panel.start_button.click()
    train_until(panel, 3)
    panel.sliders["inner_steps"].value = 4
    if state == "paused":
        panel.pause_button.click()
        assert panel.wait(SECONDS)
    panel.reset_button.click()
    assert panel.wait(SECONDS) and panel.error is None
    assert same(method, weights) and torch.equal(tasks.state_dict()["generator"], stream)
    assert (method.inner_lr, method.inner_steps) == (0.02, 2) and panel.sliders["inner_steps"].value == 2
    assert panel.history.loss == [] and panel.norms == [first_norms]
    assert panel.chart.plotted("loss")[0] == ([], []) and "ready" in panel._status.value

    panel.step()
    assert panel.wait(SECONDS)
    again = panel.history.loss
    panel.reset()
    panel.start()  # at once, before the reset has been made
    train_until(panel, 2)
    panel.pause()
    assert panel.wait(SECONDS) and panel.history.loss[:1] == again, "the same first meta-batch, the same loss"
    panel.close()


def test_sliders_count_from_the_next_meta_iteration(backend: Backend, tasks: TaskSampler) -> None:
    class Noting(MAML):
        def adapt(self, support: Batch, trace: bool = False) -> Any:
            if torch.is_grad_enabled():
                seen.append((self.inner_lr, self.inner_steps))
            return super().adapt(support, trace)

    seen: list[tuple[float, int]] = []
    method = Noting(Conv4(1, 16, 3, width=8), inner_lr=0.0123, inner_steps=1)
    panel = watch_training(method, tasks, LONG)
    assert panel.sliders["inner_lr"].value == 0.0123
    panel.step()
    assert panel.wait(SECONDS) and method.inner_lr == 0.0123
    panel.sliders["inner_lr"].value = 0.1
    panel.sliders["inner_steps"].value = 2
    panel.step()
    assert panel.wait(SECONDS)
    panel.start()
    train_until(panel, 4)
    panel.sliders["inner_steps"].value = 3
    train_until(panel, len(panel.history.loss) + 2)
    panel.pause()
    assert panel.wait(SECONDS) and panel.error is None
    assert seen[:4] == [(0.0123, 1)] * 2 + [(0.1, 2)] * 2
    assert seen[-1] == (0.1, 3) and all(seen[i] == seen[i + 1] for i in range(0, len(seen), 2)), "not within a batch"
    assert len(panel.norms[-1][1]) == len(LAYERS)
    panel.close()


def test_a_slider_moved_to_a_rate_that_diverges_and_back(tasks: TaskSampler) -> None:
    panel = watch_training(make("MAML", inner_lr=1e30), tasks, TrainConfig(4, progress=False))
    panel.sliders["inner_lr"].value = 0.01
    panel.step()
    assert panel.wait(SECONDS) and panel.error is None
    panel.sliders["inner_lr"].value = 1e30
    panel.start()
    assert panel.wait(SECONDS) and "FloatingPointError: meta-iteration 2" in str(panel.error)
    panel.sliders["inner_lr"].value = 0.01
    panel.start()
    assert panel.wait(SECONDS) and panel.error is None and len(panel.history.loss) == 4
    panel.close()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_watched(name: str, tasks: TaskSampler) -> None:
    panel = watch_training(make(name), tasks, LONG, backend="png")
    panel.step()
    assert panel.wait(SECONDS) and panel.error is None
    metric = name in ("ProtoNet", "MatchingNet", "RelationNet")
    learns_rates = name in ("MetaSGD", "MAMLPlusPlus", "ALFA")
    assert ("norms" in panel.chart.contents) == (not metric) == ("inner_steps" in panel.sliders)
    assert ("inner_lr" in panel.sliders) == (not metric and not learns_rates)
    assert ("gamma" in panel.chart.contents) == (name == "CxGrad")
    if not metric:
        assert panel.norms[-1][1] and all(norm >= 0 for norm in panel.norms[-1][1].values())
    assert len(panel.chart.plotted("loss")[0][1]) == 1 and name in panel.picture().alt
    panel.close()


def test_a_class_of_the_readers_own(backend: Backend, tasks: TaskSampler) -> None:
    class LastBlock(MAML):
        def is_fast(self, name: str) -> bool:
            return name.startswith("blocks.3.conv")

    panel = watch_training(LastBlock(Conv4(1, 16, 3, width=8), 0.1, 2), tasks, LONG)
    panel.step()
    assert panel.wait(SECONDS) and panel.error is None
    assert panel.chart.plotted("norms")[0][0] == ["block 4"] and "LastBlock" in panel.alt()
    panel.close()


def test_a_method_that_is_no_maml(backend: Backend, tasks: TaskSampler) -> None:
    class Nearest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(256, 4)

        def begin_iteration(self, iteration: int) -> None:
            pass

        def adapt(self, support: Batch) -> Tensor:
            return torch.stack([self.embed(support[0].flatten(1))[support[1] == c].mean(0) for c in range(3)])

        def logits(self, theta: Tensor, images: Tensor) -> Tensor:
            return -torch.cdist(self.embed(images.flatten(1)), theta)

        def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            logits = self.logits(self.adapt(support), query[0])
            return F.cross_entropy(logits, query[1]), logits

    panel = watch_training(Nearest(), tasks, LONG)
    panel.step()
    assert panel.wait(SECONDS) and panel.error is None and panel.sliders == {}
    assert set(panel.chart.contents) == {"loss", "accuracy"} and len(panel.history.loss) == 1
    panel.close()


class Fragile(MAML):
    """Raises in its third meta-iteration, once."""

    calls = 0

    def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.calls == 5:
            raise RuntimeError("the reader's own mistake")
        return super().outer(support, query)


def test_an_exception_in_the_thread_is_shown(backend: Backend, tasks: TaskSampler) -> None:
    panel = watch_training(Fragile(Conv4(1, 16, 3, width=8), inner_steps=1), tasks, LONG)
    panel.start_button.click()
    assert panel.wait(SECONDS)
    panel._worker.wait(SECONDS)
    assert panel.error and "RuntimeError: the reader's own mistake" in panel.error and "in outer" in panel.error
    assert "own mistake" in panel._trouble.value and panel._trouble.layout.display == ""
    assert panel._status.value == "stopped after 2 meta-iterations" and panel_threads() == []
    panel.step_button.click()
    assert panel.wait(SECONDS) and panel.error is None and len(panel.history.loss) == 3
    panel.close()


@pytest.mark.parametrize("paused", [False, True])
def test_closing_leaves_no_thread(paused: bool, backend: Backend, tasks: TaskSampler) -> None:
    method = make("MAML", inner_steps=1)
    panel = watch_training(method, tasks, LONG)
    panel.start()
    train_until(panel, 2)
    if paused:
        panel.pause()
        assert panel.wait(SECONDS)
    panel.close()
    panel.close()
    assert panel_threads() == [] and panel.closed and panel.start_button.comm is None
    weights = copied(method)
    panel.start()
    assert panel.wait(SECONDS) and panel_threads() == [] and same(method, weights), "closed is closed"
    assert panel.history.loss, "what was seen can still be read"


def test_a_forgotten_panel_stops_training(backend: Backend, tasks: TaskSampler) -> None:
    method = make("MAML", inner_steps=1)
    panel = watch_training(method, tasks, LONG)
    panel.start()
    train_until(panel, 2)
    del panel
    end = time.monotonic() + SECONDS
    while panel_threads() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
    assert panel_threads() == []


def test_two_panels_never_train_the_same_weights(tasks: TaskSampler) -> None:
    method, other = make("MAML", inner_steps=1), make("MAML")
    first, bystander = (watch_training(m, restarted(tasks), LONG, backend="png") for m in (method, other))
    first.start()
    train_until(first, 1)
    second = watch_training(CxGrad(method.net), tasks, LONG, backend="png")
    assert first.closed and not bystander.closed and panel_threads() == []
    second.close()
    bystander.close()


def test_two_panels_on_one_source_of_tasks_are_told_of(tasks: TaskSampler) -> None:
    first = watch_training(make("MAML"), tasks, LONG, backend="png")
    with pytest.warns(UserWarning, match="another panel draws from the same tasks: each gets a part of the stream"):
        second = watch_training(make("MAML"), tasks, LONG, backend="png")
    first.close()
    third = watch_training(make("MAML"), restarted(tasks), LONG, backend="png")
    for panel in (second, third):
        panel.close()


def test_the_panel_can_be_made_where_no_class_has_its_name(tasks: TaskSampler) -> None:
    class TwoTensors(MAML):
        """Fast tensors that belong to no layer of Conv4."""

        def begin(self, support: Batch) -> Theta:
            return {"shift": torch.zeros(3)}

        def logits(self, theta: Theta, images: Tensor) -> Tensor:
            return self.net(images) + theta["shift"]

        def step(self, theta: Theta, support: Batch, k: int) -> tuple[Theta, StepTrace]:
            return super().step(theta, support, k)

    panel = watch_training(TwoTensors(Conv4(1, 16, 3, width=8)), tasks, LONG, backend="png")
    assert panel.chart.plotted("norms")[0][0] == ["shift"] and colour("TwoTensors") is None
    panel.close()


def test_orders_are_carried_out_one_by_one(tasks: TaskSampler) -> None:
    method = make("MAML", inner_steps=1)
    steering = Steering(method, tasks, TrainConfig(3), None)
    weights = copied(method)
    assert not steering.ordered and steering.advance() == "paused" and steering.run.done == 0
    steering.allow(1)
    steering.allow(1)
    assert [steering.advance(), steering.advance()] == ["training", "paused"] and not steering.ordered
    method.inner_steps = 2  # by hand, and not by a slider: it stays
    steering.allow(math.inf)
    assert steering.advance() == "finished" and not steering.ordered and method.inner_steps == 2
    steering.allow(math.inf)
    assert steering.advance() == "training" and steering.run.config.iterations == 6
    steering.reset()
    steering.allow(1)
    assert steering.advance() == "ready" and steering.ordered and same(method, weights)
    assert steering.run.config.iterations == 3 and method.inner_steps == 1 and steering.run.history.seconds == 0
    assert steering.advance() == "paused" and steering.run.done == 1


def test_looking_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    share, busy = Share(0.05), 0.0
    while now < 1000:
        if share.left():
            with share:
                now += 0.3
                busy += 0.3
        now += 0.1
    assert 0.04 < busy / now <= 0.05 + 0.3 / 1000


def test_curves_are_means_at_a_limited_number_of_places() -> None:
    assert running_mean([4.0, 2.0, 6.0], window=2) == ([1, 2, 3], [4.0, 3.0, 4.0])
    assert running_mean([]) == ([], [])
    values = [float(i) for i in range(1, 2001)]
    x, means = running_mean(values, window=1)
    assert len(x) <= POINTS and x[-1] == 2000 and means == x
    assert len(thinned(values)) <= POINTS and thinned(values)[-1] == 2000
