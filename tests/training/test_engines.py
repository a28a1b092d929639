"""Which engine runs a meta-step, with which arithmetic, and that it looks at no value where a graph could not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from helpers.engines import HostLooks, make
from torch import Tensor

from cxgrad_lite import TrainConfig, meta_train
from cxgrad_lite.core.outer import meta_gradient
from cxgrad_lite.training import engines, evaluation
from cxgrad_lite.training.engines import arithmetic, choose_engine, on_device
from data_utils import ImageClasses, TaskSampler
from data_utils.transforms import NORMALISATIONS, preset

CPU = torch.device("cpu")
Transform = Callable[[torch.Tensor], torch.Tensor]


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

    def choice(engine: str = "auto", transform: Transform | None = None, **changes: object) -> str:
        tasks = TaskSampler(stripes, 3, 1, 1, transform=transform)
        tasks.generator = SimpleNamespace(device=torch.device("cuda"))  # type: ignore[assignment]
        for name, value in changes.items():
            setattr(tasks, name, value)
        return choose_engine(engine, "float32", method, tasks)  # type: ignore[arg-type]

    assert choice() == choice("fused graph") == choice(transform=preset("relationnet")) == "fused graph"
    assert choice("graph") == "graph"
    assert choice("eager") == choice(transform=preset("none", "flip")) == choice(transform=abs) == "eager"
    with pytest.raises(ValueError, match="repeat its first choice"):
        choice("graph", transform=preset("none", "flip"))
    with pytest.raises(ValueError, match="repeat its first choice"):
        choose_engine("graph", "float32", method, SimpleNamespace(ways=3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the tasks draw on cpu, and the method is on cuda"):
        choice("fused graph", generator=torch.Generator())
    monkeypatch.setattr(engines, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="several processes"):
        choice("graph")


@pytest.mark.parametrize("wrong", [{"engine": "fast"}, {"precision": "float16"}])
def test_unknown_names_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        TrainConfig(**wrong)  # type: ignore[arg-type]


def test_precision_holds_inside_and_is_put_back(tasks: TaskSampler) -> None:
    backend, newer = torch.backends.cuda.matmul, hasattr(torch.backends.cudnn, "conv")

    def allowed() -> bool:
        return backend.fp32_precision == "tf32" if newer else backend.allow_tf32

    before = backend.allow_tf32, torch.backends.cudnn.allow_tf32
    with arithmetic("tf32", CPU):
        assert allowed()
    with pytest.raises(KeyError), arithmetic("float32", CPU):
        assert not allowed()
        raise KeyError
    assert (backend.allow_tf32, torch.backends.cudnn.allow_tf32) == before, "readable by the older switches again"


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


def test_a_user_of_the_newer_switches_is_not_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = getattr(torch.backends.cudnn, "conv", None)
    if conv is None:
        pytest.skip("before torch 2.9: the older switches only")
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "ieee" if before != "ieee" else "tf32"  # from now on allow_tf32 raises
        with pytest.raises(RuntimeError):
            print(torch.backends.cudnn.allow_tf32)
        chosen = conv.fp32_precision
        with arithmetic("tf32", CPU):
            assert conv.fp32_precision == "tf32"
        assert conv.fp32_precision == chosen
    finally:
        conv.fp32_precision = before


def test_work_goes_to_the_methods_own_device() -> None:
    inside = on_device(torch.device("cuda", 1))
    assert isinstance(inside, torch.cuda.device) and inside.idx == 1
    with on_device(CPU):
        pass


@pytest.mark.parametrize("broken", [False, True])
def test_captured_logits_follow_their_inputs_or_are_not_believed(
    broken: bool, tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Graph:
        def __init__(self, function: Callable[[], Tensor]) -> None:
            self.function, self.results = function, torch.randn_like(function())

        def replay(self) -> None:
            if not broken:
                self.results.copy_(self.function())

    def capture(function: Callable[[], Tensor], *rest: object) -> tuple[Graph, Tensor]:
        graph = Graph(function)
        return graph, graph.results

    torch.manual_seed(0)
    monkeypatch.setattr(evaluation, "capture", capture)
    monkeypatch.setattr(evaluation, "obstacle_to_capture", lambda method, tasks: None)
    method = make("CxGrad")
    expected = [evaluation.mean_logits([method], support, query).argmax(1) for support, query in tasks.episodes(6)]
    with pytest.warns(UserWarning, match="other logits") if broken else nullcontext():
        result = evaluation.evaluate(method, tasks, 6)
    right = [(e == q[1]).float().mean().item() for e, (_, q) in zip(expected, tasks.episodes(6))]
    assert result.per_task.tolist() == right
