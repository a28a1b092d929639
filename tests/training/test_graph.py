"""A meta-step as a CUDA graph. What a graph captures is run here without one, so it is tested where no GPU is."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable

import pytest
import torch
from helpers.engines import FakeGraph, HostLooks, fake_capture, make, new_run
from torch import Tensor

from cxgrad_lite import MAML, METHODS, Method, TrainConfig, meta_train
from cxgrad_lite.core.method import Batch, known_shots
from cxgrad_lite.core.outer import Episode, meta_gradient
from cxgrad_lite.training import graph
from cxgrad_lite.training.graph import Captured, fingerprint, meta_gradient_side_by_side, undone
from cxgrad_lite.training.loop import meta_steps
from cxgrad_lite.training.state import Run
from data_utils import ImageClasses, TaskSampler

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 4)
needs_fused_adam = pytest.mark.skipif(OLD, reason="before torch 2.4 the fused Adam runs on GPUs only")
CONFIG = TrainConfig(iterations=4, schedule="cosine", clip_norm=0.5)


@pytest.fixture()
def uncaptured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "capture", fake_capture)
    monkeypatch.setattr(graph, "new_streams", lambda tasks: [])


def graph_run(method: Method, tasks: TaskSampler, config: TrainConfig = CONFIG) -> Run:
    run = new_run(method, tasks, config)
    run.config = dataclasses.replace(config, engine="graph")
    return run


@needs_fused_adam
@pytest.mark.parametrize("name", METHODS)
def test_nothing_in_a_captured_step_looks_at_a_value(name: str, tasks: TaskSampler) -> None:
    step = Captured(new_run(make(name), tasks, TrainConfig(clip_value=10, clip_norm=1.0)))
    step.step()  # Adam makes its state in the first one
    token = known_shots.set(make(name).check(tasks.sample()[0][0]))
    with HostLooks() as looks:
        step.step()
    known_shots.reset(token)
    assert looks.seen == []


@pytest.mark.parametrize("name", METHODS)
def test_tasks_side_by_side_have_the_same_meta_gradient(name: str, tasks: TaskSampler) -> None:
    episodes, grads = tasks.sample(), []
    for function in (meta_gradient, lambda method, batch: meta_gradient_side_by_side(method, batch, [])):
        method = make(name)
        results = function(method, episodes)
        grads.append([*results, *(p.grad for p in method.parameters() if p.grad is not None)])
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def test_no_task_leaves_a_trace_on_the_parameters(tasks: TaskSampler) -> None:
    seen: list[list[Tensor]] = []  # kept, or a later task's may have the identity of an earlier one's

    class Watching(MAML):
        def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            seen.append(list(self.parameters()))
            return super().outer(support, query)

    method = make("MAML")
    method.__class__ = Watching
    meta_gradient_side_by_side(method, tasks.sample(), [])
    sets = [{id(p) for p in parameters} for parameters in (*seen, method.parameters())]
    assert len(set.union(*sets)) == sum(map(len, sets)), "else autograd sends every gradient to the first task's stream"


@needs_fused_adam
@pytest.mark.parametrize("name", ["MAML", "MAMLPlusPlus", "CxGrad", "ProtoNet"])
def test_both_engines_train_alike(name: str, stripes: ImageClasses, uncaptured: None) -> None:
    finals = []
    for engine in ("eager", "graph"):
        run = new_run(make(name).double(), Doubled(stripes, 3, 2, 3, seed=7), CONFIG)
        run.config = dataclasses.replace(CONFIG, engine=engine)  # type: ignore[arg-type]
        losses = [history.loss[-1] for history in meta_steps(run)]
        finals.append(torch.cat([torch.tensor(losses), *(p.detach().flatten() for p in run.method.parameters())]))
    torch.testing.assert_close(*finals, rtol=1e-10, atol=1e-12)


class Doubled(TaskSampler):
    """Images in float64."""

    def _batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = super()._batch(rows)
        return images.double(), labels


@needs_fused_adam
def test_a_step_that_is_not_finite_changes_nothing_and_is_named(tasks: TaskSampler, uncaptured: None) -> None:
    method = make("MAML")
    run = new_run(method, tasks, TrainConfig())
    run.config = TrainConfig(engine="graph")
    steps = meta_steps(run)
    next(steps)
    before = copy.deepcopy(method.state_dict())
    method.inner_lr = float("inf")
    with pytest.raises(FloatingPointError, match=r"meta-iteration 2, task 1 .*not finite"):
        next(steps)
    assert all(torch.equal(t, before[name]) for name, t in method.state_dict().items())
    assert run.done == 1


@needs_fused_adam
@pytest.mark.parametrize("engine", ["eager", "graph"])
@pytest.mark.parametrize("clipping", [{"clip_value": 1.0}, {"clip_norm": 1.0}])
def test_the_parameter_whose_gradient_is_infinite_is_named(
    engine: str, clipping: dict[str, float], tasks: TaskSampler, uncaptured: None
) -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
            return torch.full_like(grad, torch.inf)

    class Faulty(MAML):
        def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            loss, logits = super().outer(support, query)
            return loss + 0 * Steep.apply(self.net.blocks[2].norm.bias).sum(), logits

    method = make("MAML")
    method.__class__ = Faulty
    before = copy.deepcopy(method.state_dict())
    run = graph_run(method, tasks, TrainConfig(**clipping))  # type: ignore[arg-type]
    run.config = dataclasses.replace(run.config, engine=engine)  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError, match=r"meta-gradient of net\.blocks\.2\.norm\.bias is not finite"):
        next(meta_steps(run))
    assert all(torch.equal(t, before[name]) for name, t in method.state_dict().items())


@needs_fused_adam
def test_whatever_a_step_reads_asks_for_a_new_capture(tasks: TaskSampler) -> None:
    method = make("MAMLPlusPlus", annealing=30)
    run = new_run(method, tasks, TrainConfig())
    keys = [fingerprint(run)]
    changes: list[Callable[[], object]] = [
        lambda: method.begin_iteration(2),  # other loss weights
        lambda: setattr(method, "inner_steps", 1),
        lambda: setattr(method.net.blocks[1].norm, "eps", 0.1),
        lambda: method.net.head.requires_grad_(False),
        lambda: method.position.update(extra=9),  # in a dict
        lambda: setattr(method.net.head, "weight", torch.nn.Parameter(torch.zeros_like(method.net.head.weight))),
        lambda: method.eval(),
        lambda: setattr(tasks, "shots", 1),
    ]
    for change in changes:
        assert fingerprint(run) == keys[-1]
        change()
        keys.append(fingerprint(run))
    assert len({repr(key) for key in keys}) == len(changes) + 1


@needs_fused_adam
def test_the_rate_is_float32_whatever_the_parameters_are(tasks: TaskSampler) -> None:
    assert Captured(new_run(make("MAML").double(), tasks, CONFIG)).rate.dtype == torch.float32


class HostTasks(TaskSampler):
    """Draws with Python's generator, and wrongly says that a graph can hold that."""

    def sample(self) -> list[Episode]:
        return random.sample(super().sample(), 2)


@needs_fused_adam
@pytest.mark.parametrize("fault", ["repeats", "raises"])
def test_a_capture_that_does_not_work_is_undone_and_told(
    fault: str, stripes: ImageClasses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def capture(function: Callable[[], object], *rest: object) -> tuple[FakeGraph, list[object]]:
        if fault == "raises":
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        fake = FakeGraph(function, tasks)  # type: ignore[arg-type]
        return fake, fake.results

    monkeypatch.setattr(graph, "capture", capture)
    monkeypatch.setattr(graph, "new_streams", lambda tasks: [])
    losses = []
    for engine in ("eager", "graph"):
        random.seed(0)
        tasks = HostTasks(stripes, 3, 2, 3, tasks_per_batch=3, seed=7)
        run = graph_run(make("CxGrad"), tasks)
        run.config = dataclasses.replace(CONFIG, engine=engine)  # type: ignore[arg-type]
        steps = meta_steps(run)
        if engine == "graph":
            why = "does not draw new tasks" if fault == "repeats" else "not permitted when stream is capturing$"
            with pytest.warns(UserWarning, match=f"runs eagerly: .*{why}"):
                next(steps)
        losses.append([*[history.loss for history in steps][-1], *(p.sum().item() for p in run.method.parameters())])
    assert losses[0] == losses[1], "or the attempt left a trace"


@needs_fused_adam
def test_a_rehearsal_leaves_no_trace_but_the_optimisers_state(tasks: TaskSampler) -> None:
    run = new_run(make("CxGrad"), tasks, TrainConfig())
    addresses = [p.data_ptr() for p in run.method.parameters()]
    for _ in range(2):  # before Adam has a state, and after
        before = run.state()
        step = Captured(run)
        with undone(run):
            step.step()
            torch.rand(3)
            assert not torch.equal(run.method.state_dict()["net.head.weight"], before["method"]["net.head.weight"])
        after = run.state()
        for i, moments in after.pop("optimiser").items():
            for key, tensor in moments.items():
                assert torch.equal(tensor, before["optimiser"].get(i, {}).get(key, torch.zeros_like(tensor)))
        assert after.pop("history") == before["history"]
        assert after["random"]["python"] == before["random"]["python"]
        for key in ("method", "tasks"):
            torch.testing.assert_close(after[key], before[key], rtol=0, atol=0)
        assert torch.equal(after["random"]["torch"], before["random"]["torch"])
        assert [p.data_ptr() for p in run.method.parameters()] == addresses
        step.step()


@needs_cuda
@pytest.mark.parametrize("name", ["MAML", "MAMLPlusPlus", "CxGrad", "ProtoNet"])
def test_a_captured_step_equals_an_eager_one_on_the_gpu(name: str, stripes: ImageClasses) -> None:
    losses = []
    for engine in ("eager", "graph"):
        tasks = TaskSampler(stripes.to("cuda"), 3, 2, 3, seed=7)
        config = TrainConfig(iterations=6, engine=engine, progress=False)  # type: ignore[arg-type]
        losses.append(torch.tensor(meta_train(make(name, "cuda"), tasks, config).loss))
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)
