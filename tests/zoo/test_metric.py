"""ProtoNet, MatchingNet and RelationNet: by hand, and against an independent implementation."""

from __future__ import annotations

import pytest
import torch
from easyfsl.methods import MatchingNetworks, PrototypicalNetworks, RelationNetworks
from torch import nn

from cxgrad_lite import Conv4, MatchingNet, NearestPixels, ProtoNet, RelationNet, TrainConfig, evaluate, meta_train
from cxgrad_lite.core.method import Batch, Theta
from cxgrad_lite.zoo.metric import Metric
from data_utils import ImageClasses, TaskSampler, load

METRIC = (ProtoNet, MatchingNet, RelationNet)


def build(cls: type[Metric], size: int = 16, **options: bool) -> Metric:
    torch.manual_seed(0)
    return cls(Conv4(1, size, 3, width=8, poolings=2), **options).double()


def task(shots: int = 2, ways: int = 3, size: int = 16) -> tuple[Batch, Batch]:
    images = torch.rand(ways, shots + 2, 1, size, size, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(ways)
    support = images[:, :shots].flatten(0, 1), labels.repeat_interleave(shots)
    return support, (images[:, shots:].flatten(0, 1), labels.repeat_interleave(2))


def test_prototypes_by_hand() -> None:
    method = build(ProtoNet)
    support, query = task()
    theta = method.adapt(support)
    features, seen = method.net.features(support[0]), method.net.features(query[0])
    torch.testing.assert_close(theta["prototypes"][1], (features[2] + features[3]) / 2)
    logits = method.logits(theta, query[0])
    assert logits[4, 1].item() == pytest.approx(-((seen[4] - theta["prototypes"][1]) ** 2).sum().item())
    expected = -torch.log_softmax(logits, 1)[range(6), query[1]].mean()
    torch.testing.assert_close(method(support, query), expected)


def test_attention_by_hand() -> None:
    """Two support images of class 0, one of class 1: p = Σ softmax(100 ReLU(cos)) over each class."""
    method = build(MatchingNet)
    a, b, c = torch.eye(3, dtype=torch.float64)
    theta: Theta = {"features": torch.stack([a, b, c]), "members": torch.tensor([[1.0, 0], [1, 0], [0, 1]]).double()}
    method.temperature = 2.0  # type: ignore[assignment]
    x = (a - b + c)[None]  # cosines 0.577, -0.577 (rectified), 0.577
    method.net.features = lambda images: images  # type: ignore[method-assign]
    weights = torch.tensor([2 / 3**0.5, 0, 2 / 3**0.5]).double().exp()
    expected = (weights[:2].sum() / weights.sum() + 1e-6).log()
    torch.testing.assert_close(method.logits(theta, x)[0, 0], expected)
    torch.testing.assert_close(method.criterion(method.logits(theta, x), torch.tensor([0])), -expected)


def test_relation_scores_and_their_loss() -> None:
    method = build(RelationNet)
    support, query = task()
    theta = method.adapt(support)
    features = method.net.features(support[0])
    torch.testing.assert_close(theta["classes"][2], features[4] + features[5])
    logits = method.logits(theta, query[0])
    assert logits.shape == (6, 3) and (0 < logits).all() and (logits < 1).all()
    target = torch.eye(3, dtype=torch.float64)[query[1]]
    torch.testing.assert_close(method(support, query), ((logits - target) ** 2).mean())


def test_the_relation_module_of_the_paper_has_its_size() -> None:
    """64 filters, 84 pixels: 128 → 64 → 64 channels, 576 → 8 → 1, biases of the linear layers at one."""
    method = RelationNet(Conv4(3, 84, 5, width=64, poolings=2))
    shapes = {name: tuple(p.shape) for name, p in method.relation.named_parameters()}
    assert shapes["0.conv.weight"] == (64, 128, 3, 3) and shapes["1.conv.weight"] == (64, 64, 3, 3)
    assert shapes["3.weight"] == (8, 576) and shapes["5.weight"] == (1, 8)
    assert (method.relation[3].bias == 1).all() and (method.relation[5].bias == 1).all()
    assert method.relation[3].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert RelationNet(Conv4(1, 28, 5, width=8, poolings=2)).relation[0].conv.padding == (1, 1)


# --- against easyfsl, whose ProtoNet takes the root of the distance and whose RelationNet averages over shots ---------


class Maps(nn.Module):
    """The network's last feature maps, not flattened."""

    def __init__(self, net: Conv4) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net.features(images).unflatten(1, (8, 4, 4))


class Flat(Maps):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net.features(images)


def test_protonet_against_easyfsl() -> None:
    method, (support, query) = build(ProtoNet), task()
    theirs = PrototypicalNetworks(Flat(method.net))
    theirs.process_support_set(*support)
    torch.testing.assert_close(method.logits(method.adapt(support), query[0]), -(theirs(query[0]) ** 2))


def test_full_context_embeddings_against_easyfsl() -> None:
    method, (support, query) = build(MatchingNet, full_context=True), task()
    assert isinstance(method, MatchingNet)
    theirs = MatchingNetworks(
        Flat(method.net),
        feature_dimension=128,
        support_encoder=nn.LSTM(128, 128, batch_first=True, bidirectional=True).double(),
        query_encoder=method.query_lstm,
    )
    theirs.support_features_encoder.load_state_dict(method.support_lstm.state_dict())
    theirs.process_support_set(*support)
    theta = method.adapt(support)
    torch.testing.assert_close(theta["features"], theirs.contextualized_support_features)
    seen = method.net.features(query[0])
    torch.testing.assert_close(method.attend(seen, theta["features"]), theirs.encode_query_features(seen))
    shuffled = torch.tensor([3, 0, 5, 1, 4, 2])
    again = method.adapt((support[0][[0, 1, 2, 3, 4, 5]][shuffled], support[1][shuffled]))
    assert (again["members"].argmax(1) == torch.tensor([0, 0, 1, 1, 2, 2])).all(), "read in class order"


def test_relationnet_against_easyfsl_with_one_shot() -> None:
    method, (support, query) = build(RelationNet), task(shots=1)
    assert isinstance(method, RelationNet)
    theirs = RelationNetworks(Maps(method.net), feature_dimension=8, relation_module=method.relation)
    theirs.process_support_set(*support)
    torch.testing.assert_close(method.logits(method.adapt(support), query[0]), theirs(query[0]))


# --- pixels without learning ------------------------------------------------------------------------------------------


def test_a_query_image_gets_the_label_of_the_nearest_support_image() -> None:
    """The loss is that of any other method; the logit of a class is minus the distance to its nearest image."""
    method = NearestPixels()
    grey = torch.tensor([0.0, 1.0, 0.4]).view(3, 1, 1, 1).expand(3, 1, 3, 3)
    theta = method.adapt((grey, torch.tensor([1, 0, 1])))
    logits = method.logits(theta, torch.tensor([0.9, 0.3]).view(2, 1, 1, 1).expand(2, 1, 3, 3))
    torch.testing.assert_close(logits, -torch.tensor([[0.3, 1.5], [2.1, 0.3]]))
    absent = method.logits(method.adapt((grey[:1], torch.tensor([1]))), grey)[:, 0]
    assert (absent == -torch.inf).all(), "a class without an image is never the answer"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pixels_alone_solve_about_half_of_the_one_shot_queries(split: str) -> None:
    result = evaluate(NearestPixels(), TaskSampler(load("glyphs", split), ways=5, shots=1, seed=0), 200)
    assert 0.35 < result.mean < 0.65


# --- any task, and what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", METRIC)
def test_any_number_of_ways(cls: type[Metric], stripes: ImageClasses) -> None:
    """Trained with two classes, tested with four, by a network that was built for three."""
    method = build(cls).float()
    meta_train(method, TaskSampler(stripes, 2, 1, 3, 2, seed=0), TrainConfig(5, progress=False))
    tasks = TaskSampler(stripes, 4, 3, 2, 1, seed=1)
    support, query = next(tasks.episodes(1))
    assert method.logits(method.adapt(support), query[0]).shape == (8, 4)
    assert 0 <= evaluate(method, tasks, 4).mean <= 1


@pytest.mark.parametrize("cls", METRIC)
def test_what_metric_methods_cannot_do(cls: type[Metric]) -> None:
    method, (support, _) = build(cls), task()
    with pytest.raises(ValueError, match=f"{cls.__name__} has no inner loop"):
        method.adapt(support, trace=True)
    with pytest.raises(ValueError, match=r"classes \[1\] have none"):
        method.adapt((support[0], support[1].where(support[1] != 1, torch.tensor(2))))
    assert torch.inference_mode()(method.logits)(method.adapt(support), support[0]).shape == (6, 3)


def test_a_feature_map_that_is_too_small_for_relations() -> None:
    with pytest.raises(ValueError, match="4×4 features or more, not 1×1; build Conv4 with poolings=2"):
        RelationNet(Conv4(1, 28, 5))
