"""Behaviour of the methods beyond their numbers: what moves, what is remembered, what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from cxgrad_lite import (
    ALFA,
    ANIL,
    BOIL,
    CAVIA,
    L2F,
    MAML,
    METHODS,
    Conv4,
    CxGrad,
    MAMLPlusPlus,
    MetaSGD,
    Method,
    ModGrad,
    TrainConfig,
    evaluate,
    meta_train,
)
from data_utils import ImageClasses, TaskSampler

ALL = list(METHODS)
GRADIENT = [name for name in ALL if issubclass(METHODS[name], MAML)]


def make(name: str, ways: int = 3, **options: Any) -> Method:
    torch.manual_seed(0)
    if name in GRADIENT:
        options = {"inner_lr": 0.1, "inner_steps": 2} | options
    return METHODS[name](Conv4(1, 16, ways, width=8, poolings=2 if name == "RelationNet" else 4), **options)


def make_gradient(name: str, **options: Any) -> MAML:
    method = make(name, **options)
    assert isinstance(method, MAML)
    return method


def moved(method: MAML, tasks: TaskSampler) -> set[str]:
    support, _ = next(tasks.episodes(1))
    before = dict(method.net.named_parameters())
    theta = method.adapt(support)
    return {name for name, t in theta.items() if name in before and not torch.equal(t, before[name])}


def test_what_each_method_adapts(tasks: TaskSampler) -> None:
    kernels = {f"blocks.{i}.conv.weight" for i in range(4)}
    norms = {f"blocks.{i}.norm.{part}" for i in range(4) for part in ("weight", "bias")}
    head = {"head.weight", "head.bias"}
    net = Conv4(1, 16, 3, width=8)
    assert moved(MAML(net), tasks) == kernels | head
    assert moved(MAML(net, adapt_norm=True), tasks) == kernels | norms | head
    assert moved(ANIL(net), tasks) == head
    assert moved(BOIL(net), tasks) == kernels | norms
    assert moved(BOIL(net, adapt_norm=False), tasks) == kernels
    assert moved(CxGrad(net), tasks) == kernels | head
    assert moved(MetaSGD(net), tasks) == kernels | norms | head
    assert moved(MetaSGD(net, adapt_norm=False), tasks) == kernels | head
    assert moved(MAMLPlusPlus(net), tasks) >= kernels | head
    assert moved(CAVIA(net), tasks) == set()
    assert moved(L2F(net), tasks) == kernels | head
    assert moved(ALFA(net), tasks) == kernels | head
    assert moved(ModGrad(net), tasks) == {"blocks.2.conv.weight", "blocks.3.conv.weight"}


LAYERS = [f"{i}.{part}" for i in (0, 2) for part in ("weight", "bias")]  # of a small network with two linear layers
OUTER = {  # beside the network
    "MAML": [],
    "ANIL": [],
    "BOIL": [],
    "MetaSGD": [f"rates.{j}" for j in range(14)],  # four kernels, gains and biases, weight and bias of the head
    "MAMLPlusPlus": [f"rates.{j}" for j in range(6)],  # four kernels, weight and bias of the head
    "CAVIA": ["net.blocks.2.film.weight", "net.blocks.2.film.bias"],
    "L2F": [f"attenuator.{layer}" for layer in LAYERS],
    "ALFA": [f"regularizer.{layer}" for layer in LAYERS]
    + [f"{table}.{j}" for table in ("rates", "decays") for j in range(6)],
    "ModGrad": [f"generators.{i}.{j}.{layer}" for i in (0, 1) for j in (0, 1) for layer in LAYERS],
    "CxGrad": [f"generator.{layer}" for layer in LAYERS],
    "ProtoNet": [],
    "MatchingNet": [],
    "RelationNet": [f"relation.{i}.{j}.{part}" for i in (0, 1) for j in ("conv", "norm") for part in ("weight", "bias")]
    + [f"relation.{i}.{part}" for i in (3, 5) for part in ("weight", "bias")],
}


@pytest.mark.parametrize("name", ALL)
def test_what_the_outer_optimiser_sees(name: str) -> None:
    """Rates and the start of a context are there only where the authors learn them; the same holds in a checkpoint."""
    net = [f"net.{key}" for key, _ in Conv4(1, 16, 3, width=8).named_parameters()]
    assert len(net) == 4 + 8 + 2
    if name not in GRADIENT:
        net = [key for key in net if "head" not in key]
    method = make(name)
    assert {key for key, _ in method.named_parameters()} == {*net, *OUTER[name]}
    assert set(method.state_dict()) == {*net, *OUTER[name]}


def test_what_the_outer_optimiser_sees_of_full_context_embeddings() -> None:
    method = make("MatchingNet", full_context=True)
    assert {key.partition(".")[0] for key, _ in method.named_parameters()} == {"net", "support_lstm", "query_lstm"}


def test_the_papers_parameter_count() -> None:
    """69 893 in the network at 84 pixels with 48 filters, 10 504 in the generator."""
    method = CxGrad(Conv4())
    assert sum(p.numel() for p in method.net.parameters()) == 69_893
    assert sum(p.numel() for p in method.generator.parameters()) == 10_504


@pytest.mark.parametrize("name", GRADIENT)
def test_no_grad_gives_the_same_numbers_and_remembers_nothing(name: str, tasks: TaskSampler) -> None:
    method = make(name)
    support, query = next(tasks.episodes(1))
    expected = method.adapt(support)
    with torch.no_grad():
        theta = method.adapt(support)
        assert not method.logits(theta, query[0]).requires_grad
    for key in expected:
        torch.testing.assert_close(theta[key], expected[key].detach())
        assert theta[key].grad_fn is None or theta[key]._is_view(), "a row of a parameter may say where it is from"


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("second_order", [True, False])
def test_every_meta_parameter_that_matters_gets_a_gradient(name: str, second_order: bool, tasks: TaskSampler) -> None:
    method = make_gradient(name)
    method.second_order = second_order
    before = copy.deepcopy(method.state_dict())
    support, query = next(tasks.episodes(1))
    method(support, query).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert all(torch.equal(t, before[key]) for key, t in method.state_dict().items()), "adaptation must not write"


@pytest.mark.parametrize("name", GRADIENT)
def test_the_trace(name: str, tasks: TaskSampler) -> None:
    method = make_gradient(name)
    support, _ = next(tasks.episodes(1))
    theta, trace = method.adapt(support, trace=True)
    assert [seen.loss.ndim for seen in trace] == [0, 0]
    last = trace[-1]
    assert last.grad_norms.keys() == last.weight_norms.keys() == last.update_norms.keys() <= theta.keys()
    assert all(torch.equal(t, theta[key]) for key, t in last.after.items())
    for key, norm in last.update_norms.items():
        if key != "context" and name not in ("ALFA", "ModGrad"):
            assert norm == pytest.approx(0.1 * last.grad_norms[key], rel=1e-3, abs=1e-7)
    assert not last.loss.requires_grad
    assert (last.scaling is not None) is (name == "CxGrad")
    assert (last.context is not None) is (name in ("CAVIA", "ModGrad", "CxGrad"))


@pytest.mark.parametrize("name", GRADIENT)
def test_more_steps_than_in_training_are_allowed(name: str, tasks: TaskSampler) -> None:
    """Learned rates per step repeat the last one."""
    method = make_gradient(name)
    method.inner_steps = 4
    support, query = next(tasks.episodes(1))
    theta, trace = method.adapt(support, trace=True)
    assert len(trace) == 4 and torch.isfinite(method.logits(theta, query[0])).all()


@pytest.mark.parametrize("name", ALL)
def test_every_method_learns_from_its_support_set(name: str, stripes: ImageClasses) -> None:
    """After 20 meta-iterations on easy classes: far above chance, in float64, with other ways and shots."""
    method = make(name, ways=2).double()
    sampler = TaskSampler(stripes, 2, 2, 3, 2, seed=0, transform=lambda images: images.double())
    meta_train(method, sampler, TrainConfig(20, meta_lr=0.01, progress=False))
    assert evaluate(method, sampler, 20).mean > 0.7


def test_a_constant_gamma_is_neither_adapted_nor_learned(tasks: TaskSampler) -> None:
    torch.manual_seed(0)
    method = CxGrad(Conv4(1, 16, 3, width=8), constant_gamma=True)
    drawn = {name: value.clone() for name, value in method.generator.state_dict().items()}
    gamma = method.generator(method.zero_context()).detach()
    meta_train(method, tasks, TrainConfig(iterations=3, progress=False))
    assert all(torch.equal(value, drawn[name]) for name, value in method.generator.state_dict().items())
    for support, _ in tasks.episodes(2):
        theta, trace = method.adapt(support, trace=True)
        assert all(torch.equal(step.scaling, gamma) for step in trace) and "context" not in theta
    learned = CxGrad(Conv4(1, 16, 3, width=8), frozen_context=True)
    before = [value.clone() for value in learned.generator.parameters()]
    meta_train(learned, tasks, TrainConfig(iterations=3, progress=False))
    assert any(not torch.equal(a, b) for a, b in zip(before, learned.generator.parameters())), "a frozen context learns"


def test_frozen_context_stays_zero_and_scales_all_tasks_alike(tasks: TaskSampler) -> None:
    method = CxGrad(Conv4(1, 16, 3, width=8), frozen_context=True)
    gammas = []
    for support, _ in tasks.episodes(3):
        _, trace = method.adapt(support, trace=True)
        for seen in trace:
            assert seen.context is not None and not seen.context.any()
            assert seen.scaling is not None
            gammas.append(seen.scaling)
    assert all(torch.equal(gamma, gammas[0]) for gamma in gammas)


def test_the_kernels_have_norm_gamma_in_every_step(tasks: TaskSampler) -> None:
    support, _ = next(tasks.episodes(1))
    _, trace = make_gradient("CxGrad").adapt(support, trace=True)
    for seen in trace:
        assert seen.scaling is not None
        for i, gamma in enumerate(seen.scaling.tolist()):
            assert seen.weight_norms[f"blocks.{i}.conv.weight"] == pytest.approx(gamma, rel=1e-5)


def test_step_wise_context_starts_anew_in_every_step(tasks: TaskSampler) -> None:
    support, _ = next(tasks.episodes(1))
    torch.manual_seed(0)
    method = CxGrad(Conv4(1, 16, 3, width=8, eps=1e-2), inner_lr=0.1, inner_steps=3, context_update="step")
    theta, trace = method.adapt(support, trace=True)
    fresh = method.with_fresh_context(trace[1].after, support)["context"]
    assert trace[2].context is not None and trace[0].context is not None
    torch.testing.assert_close(trace[2].context, fresh)
    assert not torch.equal(trace[0].context, trace[2].context)
    method.context_update = "task"
    _, task_wise = method.adapt(support, trace=True)
    assert task_wise[2].context is not None
    assert task_wise[2].context.norm() > trace[2].context.norm()


@pytest.mark.parametrize("name", GRADIENT)
def test_inference_mode_is_refused_in_one_clear_sentence(name: str, tasks: TaskSampler) -> None:
    support, query = next(tasks.episodes(1))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="use torch.no_grad"):
        make(name)(support, query)


def test_bad_input_is_named(tasks: TaskSampler, stripes: object) -> None:
    support, _ = next(tasks.episodes(1))
    with pytest.raises(ValueError, match="2 classes apart, but the task has 3"):
        make("MAML", ways=2).adapt(support)
    for name in GRADIENT:
        with pytest.raises(ValueError, match="2 classes apart, but the task has 3"):
            make(name, ways=2)(*next(tasks.episodes(1)))
    for labels in ([10, 20, 30], [1, 2, 3]):  # more classes would not help
        numbered = support[0][:3], torch.tensor(labels)
        with pytest.raises(ValueError, match=rf"count from 0, and these are \[{labels[0]}.*return_inverse=True"):
            make("MAML").adapt(numbered)
    with pytest.raises(ValueError, match=r"shape \(n, \*\(1, 28, 28\)\).*not \(6, 1, 16, 16\)"):
        MAML(Conv4(1, 28, 3, width=8)).adapt(support)
    with pytest.raises(ValueError, match="cannot be halved 4 times"):
        Conv4(1, 15, 3)
    with pytest.raises(ValueError, match="norm must be"):
        Conv4(1, 16, 3, norm="instance")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation must be"):
        Conv4(1, 16, 3, activation="gelu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="context_update must be"):
        CxGrad(Conv4(1, 16, 3), context_update="epoch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs at least one"):
        MAMLPlusPlus(Conv4(1, 16, 3), inner_steps=0)
    with pytest.raises(ValueError, match="cannot be negative"):
        MAML(Conv4(1, 16, 3), inner_lr=-1)


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
def test_batch_norm_sees_the_batch_and_the_others_one_image(norm: str, tasks: TaskSampler) -> None:
    net = Conv4(1, 16, 3, width=8, norm=norm)  # type: ignore[arg-type]
    images = next(tasks.episodes(1))[1][0]
    alone, together = net(images[:3])[:1], net(images)[:1]
    assert torch.allclose(alone, together, atol=1e-5) is (norm != "batch")
