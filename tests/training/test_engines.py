"""How a meta-step runs. What a graph captures is run here without one, so that it is tested where there is no GPU."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cxgrad_lite.core.method
from cxgrad_lite import METHODS, Conv4, Method, TrainConfig, meta_train
from cxgrad_lite.core.outer import meta_gradient
from cxgrad_lite.recipes.recipe import has_inner_rate
from cxgrad_lite.training import engines, loop
from cxgrad_lite.training.engines import arithmetic, choose_engine
from cxgrad_lite.training.graph import Captured, undone
from cxgrad_lite.training.loop import meta_steps
from cxgrad_lite.training.state import Run
from data_utils import ImageClasses, TaskSampler
from data_utils.transforms import NORMALISATIONS, preset

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU = torch.device("cpu")
CONFIG = TrainConfig(iterations=4, schedule="cosine", clip_norm=0.5)
OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 4)
needs_fused_adam = pytest.mark.skipif(OLD, reason="before torch 2.4 the fused Adam runs on GPUs only")
Transform = Callable[[torch.Tensor], torch.Tensor]


def make(name: str, device: str = "cpu", **changes: object) -> Method:
    torch.manual_seed(0)
    options = {"inner_lr": 0.05, "inner_steps": 2} if has_inner_rate(name) else {}
    net = Conv4(1, 16, 3, width=8, poolings=2 if name == "RelationNet" else 4)
    return METHODS[name](net, **options | changes).to(device)


def new_run(method: Method, tasks: TaskSampler, config: TrainConfig) -> Run:
    run = Run(method, tasks, config)
    for group in run.optimiser.param_groups:
        group["fused"] = True  # as on a GPU: this Adam can leave a step out without looking
    return run


class HostLooks(TorchDispatchMode):
    """Lists the operations that a CUDA graph cannot hold: those that bring a value to the host, or one from it."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__.split(".")[0]
        if name.startswith(self.FORBIDDEN):
            self.seen.append(name)
        return func(*args, **kwargs or {})


class Uncaptured(Captured):
    """Runs what would be captured, every time."""

    def capture(self) -> None:
        self.graph = self

    def replay(self) -> None:
        group = self.run.optimiser.param_groups[0]
        rate, group["lr"] = group["lr"], self.rate
        self.results = self.step()
        group["lr"] = rate


@pytest.fixture()
def uncaptured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Captured", Uncaptured)


@needs_fused_adam
@pytest.mark.parametrize("name", METHODS)
def test_nothing_in_a_captured_step_looks_at_a_value(
    name: str, tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cxgrad_lite.core.method, "is_capturing", lambda tensor: True)
    step = Captured(new_run(make(name), tasks, TrainConfig(clip_value=10, clip_norm=1.0)))
    step.step()  # Adam makes its state in the first one
    with HostLooks() as looks:
        step.step()
    assert looks.seen == []


def test_the_watcher_sees_a_look(tasks: TaskSampler) -> None:
    with HostLooks() as looks:
        float(tasks.sample()[0][0][0].sum())
    assert looks.seen == ["_local_scalar_dense"]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_no_normalisation_looks_at_a_value(normalisation: str) -> None:
    images = torch.rand(4, 1 if normalisation == "relationnet" else 3, 8, 8)
    with HostLooks() as looks:
        preset(normalisation)(images)
    assert looks.seen == []


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
def test_a_changed_number_of_the_method_asks_for_a_new_capture(tasks: TaskSampler) -> None:
    class Counting(Uncaptured):
        captures = 0

        def capture(self) -> None:
            super().capture()
            self.captures += 1

    method = make("MAMLPlusPlus", annealing=30)
    captured = Counting(new_run(method, tasks, TrainConfig()))
    for iteration in (0, 1, 2, 3):  # the loss weights change every two meta-iterations
        method.begin_iteration(iteration)
        captured()
    assert captured.captures == 2
    method.inner_steps = 1
    captured()
    assert captured.captures == 3


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


def test_auto_needs_no_gpu(tasks: TaskSampler) -> None:
    method = make("MAML")
    assert choose_engine("auto", "float32", method, tasks) == "fused"
    assert choose_engine("auto", "bf16", method, tasks) == choose_engine("eager", "float32", method, tasks) == "eager"
    with pytest.raises(ValueError, match="only CUDA devices have graphs"):
        meta_train(method, tasks, TrainConfig(1, engine="graph", progress=False))


@pytest.mark.skipif(not hasattr(torch.cuda.CUDAGraph, "register_generator_state"), reason="before torch 2.4: no graph")
def test_a_graph_is_refused_in_words(stripes: ImageClasses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "device_of", lambda method: torch.device("cuda"))
    method = make("MAML")

    def choice(engine: str = "auto", ways: int = 3, transform: Transform | None = None) -> str:
        return choose_engine(engine, "float32", method, TaskSampler(stripes, ways, 1, 1, transform=transform))  # type: ignore[arg-type]

    assert choice() == choice("graph") == choice(transform=preset("relationnet")) == "graph"
    assert (
        choice("eager")
        == choice(ways=2)
        == choice(transform=preset("none", "flip"))
        == choice(transform=abs)
        == "eager"
    )
    with pytest.raises(ValueError, match="repeat its first choice"):
        choice("graph", transform=preset("none", "flip"))
    with pytest.raises(ValueError, match="number of ways, 3"):
        choice("graph", ways=2)
    monkeypatch.setattr(engines, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="several processes"):
        choice("graph")


@pytest.mark.parametrize("wrong", [{"engine": "fast"}, {"precision": "float16"}])
def test_unknown_names_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        TrainConfig(**wrong)  # type: ignore[arg-type]


def test_precision_holds_inside_and_is_put_back(tasks: TaskSampler) -> None:
    backend = torch.backends.cuda.matmul
    before = backend.allow_tf32
    with arithmetic("tf32", CPU):
        assert backend.allow_tf32
    with pytest.raises(RuntimeError), arithmetic("float32", CPU):
        assert not backend.allow_tf32
        raise RuntimeError
    assert backend.allow_tf32 == before


@pytest.mark.parametrize("name", ["MAML", "CxGrad"])
def test_bfloat16_is_near_float32(name: str, tasks: TaskSampler) -> None:
    episodes, grads, losses = tasks.sample(), [], []
    for precision in ("float32", "bf16"):
        method = make(name, inner_steps=1)
        with arithmetic(precision, CPU):  # type: ignore[arg-type]
            losses.append(meta_gradient(method, episodes)[0])
        assert all(p.dtype == torch.float32 for p in method.parameters())
        grads.append(torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]))
    assert not torch.equal(*losses)  # or nothing was computed in bfloat16
    torch.testing.assert_close(*losses, rtol=0.1, atol=0.05)
    assert torch.cosine_similarity(*grads, dim=0) > 0.9


@needs_cuda
@pytest.mark.parametrize("name", ["MAML", "MAMLPlusPlus", "CxGrad", "ProtoNet"])
def test_a_captured_step_equals_an_eager_one_on_the_gpu(name: str, stripes: ImageClasses) -> None:
    losses = []
    for engine in ("eager", "graph"):
        tasks = TaskSampler(stripes.to("cuda"), 3, 2, 3, seed=7)
        config = TrainConfig(iterations=6, engine=engine, progress=False)  # type: ignore[arg-type]
        losses.append(torch.tensor(meta_train(make(name, "cuda"), tasks, config).loss))
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)
