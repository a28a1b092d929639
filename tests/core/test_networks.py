"""Networks and support sets that are not ours: what works, and the one sentence where something cannot."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

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
    ModGrad,
    NearestPixels,
    ProtoNet,
    RelationNet,
    evaluate,
)
from cxgrad_lite.core.method import Batch
from data_utils import TaskSampler

batch_norm = partial(nn.BatchNorm2d, track_running_stats=False)


def small_net(norm: nn.Module | None = None) -> nn.Sequential:
    """No attribute but its layers; the last one is the head."""
    net = nn.Sequential()
    net.add_module("body", nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), norm or batch_norm(4), nn.ReLU(), nn.Flatten()))
    net.add_module("head", nn.Linear(4 * 4 * 4, 3))
    return net


@pytest.fixture
def support(tasks: TaskSampler) -> Batch:
    return next(tasks.episodes(1))[0]


@pytest.mark.parametrize("cls", [MAML, ANIL, BOIL, MetaSGD, L2F, ALFA, ProtoNet])
def test_any_network_with_a_head(cls: Any, tasks: TaskSampler) -> None:
    """The normalisation is known by its kind, whatever its name."""
    torch.manual_seed(0)
    method = cls(small_net())
    support, query = next(tasks.episodes(1))
    method(support, query).backward()
    assert all(p.grad is not None for p in method.parameters())
    assert 0 <= evaluate(method, tasks, 2).mean <= 1
    adapted = {name for name in method.adapt(support) if name in dict(method.net.named_parameters())}
    body, norm, head = {"body.0.weight", "body.0.bias"}, {"body.1.weight", "body.1.bias"}, {"head.weight", "head.bias"}
    everything = body | head | norm
    assert adapted == {ANIL: head, BOIL: body | norm, MetaSGD: everything, ProtoNet: set()}.get(cls, body | head)


def test_a_network_of_torchvision(tasks: TaskSampler) -> None:
    net = resnet18(num_classes=3, norm_layer=batch_norm)
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    with pytest.raises(ValueError, match="ResNet needs an attribute `ways`"):
        MAML(net)
    net.ways = 3  # type: ignore[assignment]
    method, (support, query) = MAML(net, inner_steps=1), next(tasks.episodes(1))
    theta = method.adapt(support)
    assert "layer1.0.conv1.weight" in theta and not any("bn" in name for name in theta)
    assert method.logits(theta, query[0]).shape == (len(query[0]), 3)
    with pytest.raises(ValueError, match="CxGrad scales kernels named .*this ResNet has none"):
        CxGrad(net)
    for cls in (ANIL, BOIL, ProtoNet):
        with pytest.raises(ValueError, match=f"{cls.__name__} cannot use this ResNet: it has no layer 'head'"):
            cls(net)
    for cls in (CAVIA, MAMLPlusPlus, ModGrad):
        with pytest.raises(ValueError, match=f"{cls.__name__} cannot use this ResNet: it has no layer 'blocks"):
            cls(net)


def test_kernels_that_nothing_normalises() -> None:
    net = Conv4(1, 16, 3, width=4)
    net.blocks[2].norm = nn.Identity()
    with pytest.raises(ValueError, match="CxGrad scales kernels .*blocks.2.conv.weight has none"):
        CxGrad(net)


@pytest.mark.parametrize("name", METHODS)
def test_running_statistics_are_refused(name: str) -> None:
    net = Conv4(1, 16, 3, width=4, poolings=2)
    net.blocks[1].norm = nn.BatchNorm2d(4)
    with pytest.raises(ValueError, match="'blocks.1.norm' keeps running statistics; build it with track_running_stats"):
        METHODS[name](net)


@pytest.mark.parametrize("cls", [ANIL, BOIL, ProtoNet, RelationNet, MAMLPlusPlus, CAVIA, ModGrad])
def test_a_compiled_network_is_refused_where_names_matter(cls: Any) -> None:
    compiled = torch.compile(Conv4(1, 16, 3, width=4, poolings=2))
    with pytest.raises(ValueError, match="has no layer '.*torch.compile renames layers"):
        cls(compiled)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_network_compiled_in_place_has_the_logits_of_its_fast_weights(when: str, tasks: TaskSampler) -> None:
    (support, query), net = next(tasks.episodes(1)), Conv4(1, 16, 3, width=4)
    expected = MAML(net, 0.3).query_logits(MAML(net, 0.3).adapt(support), query)
    if when == "before":
        net.compile(backend="eager")
    method = MAML(net, 0.3)
    if when == "after":
        net.blocks[1].compile(backend="eager")
    assert torch.equal(method.query_logits(method.adapt(support), query), expected)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no labels": (lambda images, labels: images, TypeError, r"\(images, labels\), not \(Tensor\)"),
    "bytes": (lambda images, labels: (images.mul(255).byte(), labels), TypeError, "not torch.uint8 and torch.int64"),
    "arrays": (lambda images, labels: (images.numpy(), np.asarray(labels)), TypeError, r"not \(ndarray, ndarray\)"),
    "float labels": (lambda images, labels: (images, labels.float()), TypeError, "labels int64, not .*float32"),
    "nothing": (lambda images, labels: (images[:0], labels[:0]), ValueError, "n > 0, and labels"),
    "one label less": (
        lambda images, labels: (images, labels[1:]),
        ValueError,
        r"shapes \(6, 1, 16, 16\) and \(5,|shapes \(9, 1, 16, 16\) and \(8,",
    ),
    "query too": (lambda images, labels: (images, labels, images), TypeError, "not .Tensor, Tensor, Tensor"),
    "one number too many": (lambda images, labels: (images, labels[:, None]), ValueError, r"and \((6|9), 1\)"),
    "one-hot": (lambda images, labels: (images, torch.eye(3).long()[labels]), ValueError, r"and \((6|9), 3\)"),
    "a label that a loss ignores": (lambda images, labels: (images, labels - 100), ValueError, "from 0; one is -100"),
    "a label like a number in a register": (
        lambda images, labels: (images, labels * 10**8),
        ValueError,
        "count from 0; one is 200000000",
    ),
    "no numbers": (lambda images, labels: (images.to("meta"), labels), TypeError, "are torch.float32 on meta"),
    "labels elsewhere": (
        lambda images, labels: (images, labels.to("meta")),
        TypeError,
        "their labels on meta; the net",
    ),
    "a pixel": (
        lambda images, labels: (images * torch.nan, labels),
        FloatingPointError,
        "pixels that are NaN",
    ),
}


class Source:
    """Tasks of somebody's own, all the same."""

    def __init__(self, support: Any, query: Any) -> None:
        self.episode = support, query

    def sample(self) -> list[Any]:
        return [self.episode]

    def episodes(self, count: int) -> list[Any]:
        return [self.episode] * count


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", ["MAML", "MAMLPlusPlus", "CxGrad", "ProtoNet", "RelationNet", "NearestPixels"])
def test_what_is_no_support_or_query_set(name: str, case: str, tasks: TaskSampler) -> None:
    spoil, error, sentence = BAD[case]
    method = METHODS[name](Conv4(1, 16, 3, width=4, poolings=2)) if name in METHODS else NearestPixels()
    support, query = next(tasks.episodes(1))
    with pytest.raises(error, match=sentence):
        method.adapt(spoil(*support))
    with pytest.raises(error, match=sentence):
        method(support, spoil(*query))
    if case != "no labels":  # there, the images would be taken apart as a pair
        with pytest.raises(error, match=sentence):
            evaluate(method, Source(support, spoil(*query)), 2)


@pytest.mark.parametrize("name", ["MAML", "CxGrad", "ProtoNet", "RelationNet"])
def test_images_of_another_type_and_labels_of_another_count(name: str, tasks: TaskSampler) -> None:
    method = METHODS[name](Conv4(1, 16, 3, width=4, poolings=2))
    (images, labels), query = next(tasks.episodes(1))
    with pytest.raises(
        TypeError, match="support set are torch.float64 on cpu, .*; the network is torch.float32 on cpu"
    ):
        method((images.double(), labels), query)
    with pytest.raises(ValueError, match=r"labels count from 0, and these are \[10, 20, 30\]: take labels.unique"):
        method((images, 10 * labels + 10), query)


def test_labels_beyond_the_classes_of_a_task(tasks: TaskSampler) -> None:
    support, (images, labels) = next(tasks.episodes(1))
    for name in ("MAML", "MAMLPlusPlus", "ProtoNet", "RelationNet"):
        method = METHODS[name](Conv4(1, 16, 3, width=4, poolings=2))
        beyond = support, (images, labels + 1)
        for use in (lambda: method(*beyond), lambda: evaluate(method, Source(*beyond), 2)):  # noqa: B023
            with pytest.raises(ValueError, match="a query label is 3, and the task has 3 classes"):
                use()
    with pytest.raises(ValueError, match="labels of a support set count from 0; one is -1"):
        NearestPixels().adapt((images, labels - 1))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_nothing_is_added_to_no_variance(norm: Any) -> None:
    with pytest.raises(ValueError, match="eps must be above 0, not 0.0"):
        Conv4(1, 16, 3, norm=norm, eps=0.0)
