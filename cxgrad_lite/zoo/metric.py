"""Methods that compare instead of adapting: ProtoNet, MatchingNet, RelationNet, and pixels without any learning.

The three use the features of `Conv4` (its head is left out) and take a task with any number of classes. Batch norm
normalises with the images at hand, as everywhere in this package: the support set alone, then all query images
together. The released ProtoNet and MatchingNet test with running statistics instead, and ProtoNet trains with support
and query in one batch.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.method import NUMBERED, Batch, Method, Theta
from ..core.nets import Block, Conv4, Net, make_norm
from ..core.stateless import with_tensors


class Metric(Method):
    """What the three have in common: a copy of the network without head, and the average or sum of each class.

    Raises (in `adapt`):
        ValueError: if a class between 0 and the largest label has no support image, or a trace is asked for.
    """

    LAYERS = ("head",)

    def __init__(self, net: Net) -> None:
        super().__init__(copy.deepcopy(net))
        self.net.head = nn.Identity()  # type: ignore[assignment]  # so the network answers with its features, (n, d)

    def adapt(self, support: Batch, trace: bool = False) -> Theta:
        if trace:
            raise ValueError(f"{type(self).__name__} has no inner loop, so there is nothing to trace")
        ways = len(self.check(support))
        return self.compare_with(self.features(support[0]), one_hot(support[1], ways, support[0]))

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) images to (n, d) features."""
        return with_tensors(self.net, {})(images)

    def compare_with(self, features: Tensor, members: Tensor) -> Theta:
        """What query images are compared with, from support features (n, d) and one-hot labels (n, ways)."""
        raise NotImplementedError

    def check(self, support: Batch) -> list[int]:
        shots = super().check(support)
        if 0 in shots:
            empty, given = ([c for c, count in enumerate(shots) if bool(count) == there] for there in (False, True))
            if len(empty) > len(given):
                raise ValueError(NUMBERED.format(given))
            raise ValueError(f"{type(self).__name__} needs a support image of every class; classes {empty} have none")
        return shots


def one_hot(labels: Tensor, ways: int, like: Tensor) -> Tensor:
    """(n, ways) rows of the identity matrix, of the type of ``like``."""
    return torch.eye(ways, dtype=like.dtype, device=like.device)[labels]


class ProtoNet(Metric):
    """Prototypical networks: a class is the mean of its support features; logits are −‖f(x) − prototype‖².

    Source: Snell, Swersky & Zemel, NeurIPS 2017, github.com/jakesnell/prototypical-networks (squared distance; some
    libraries take the root, which has the same largest logit but another loss). The paper trains with more ways than
    it tests.
    """

    def compare_with(self, features: Tensor, members: Tensor) -> Theta:
        return {"prototypes": members.T @ features / members.sum(0)[:, None]}  # (ways, d)

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        differences = self.features(images)[:, None] - theta["prototypes"]  # (n, ways, d)
        return -differences.square().sum(-1)


class MatchingNet(Metric):
    """Matching networks: an attention over the support images, by cosine; each votes for its class.

    p(class) = Σ_j softmax_j(100 · ReLU(cos(f(x), g_j))) [y_j = class]; logits are log(p + 1e-6), the loss is −log.
    With ``full_context`` the support features pass through a bidirectional LSTM, in class order, and the query
    features through an LSTM that reads them once per support image.

    Source: Vinyals et al., NeurIPS 2016. No official code; temperature, rectification and the LSTMs follow
    github.com/wyharveychen/CloserLookFewShot, which the paper does not have in this form.

    Args:
        net: its features are compared.
        full_context: use full context embeddings.
        temperature: multiplies the cosine.
    """

    def __init__(self, net: Conv4, full_context: bool = False, temperature: float = 100.0) -> None:
        super().__init__(net)
        self.full_context, self.temperature = full_context, temperature
        if full_context:
            d = net.head.in_features
            self.support_lstm = nn.LSTM(d, d, bidirectional=True)
            self.query_lstm = nn.LSTMCell(2 * d, d)

    def compare_with(self, features: Tensor, members: Tensor) -> Theta:
        if self.full_context:
            order = members.argmax(1).argsort(stable=True)
            features, members = features[order], members[order]
            both = self.support_lstm(features)[0].unflatten(1, (2, -1))  # (n, 2, d)
            features = features + both.sum(1)
        return {"features": features, "members": members}

    def attend(self, features: Tensor, support: Tensor) -> Tensor:
        """(n, d) query features after reading the support features (m, d) m times."""
        hidden, cell = features, torch.zeros_like(features)
        for _ in support:
            read = (hidden @ support.T).softmax(1) @ support
            hidden, cell = self.query_lstm(torch.cat([features, read], 1), (hidden, cell))
            hidden = hidden + features
        return hidden

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        features = self.features(images)
        if self.full_context:
            features = self.attend(features, theta["features"])
        cosine = F.normalize(features, dim=1) @ F.normalize(theta["features"], dim=1).T  # (n, support)
        attention = (self.temperature * cosine.relu()).softmax(1)
        return (attention @ theta["members"] + 1e-6).log()

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.nll_loss(logits, labels)


class NearestPixels(Method):
    """No learning: the Euclidean distance between raw pixels; the logit of a class is minus that to its nearest image.

    So a query image gets the label of the support image that is nearest to it. Use it as a baseline, not in training.
    """

    def __init__(self) -> None:
        super().__init__(nn.Flatten())

    def adapt(self, support: Batch) -> Theta:
        ways = len(self.check(support))
        return {"pixels": self.net(support[0]), "members": one_hot(support[1], ways, support[0])}

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        distances = torch.cdist(self.net(images), theta["pixels"])  # (n, support)
        elsewhere = theta["members"].T == 0  # (ways, support)
        return -distances[:, None].masked_fill(elsewhere, torch.inf).amin(2)  # (n, ways)


class RelationNet(Metric):
    """Relation networks: a small convolutional network scores how well a query image fits a class.

    A class is the sum of the feature maps of its support images; r = sigmoid(relation([class; query])) in (0, 1), and
    the loss is the mean squared difference to the one-hot label.

    Source: Sung et al., CVPR 2018, github.com/floodsung/LearningToCompare_FSL, with its initialisation of the relation
    module. There the encoder pools twice, which is ``Conv4(poolings=2)``, and does not pad its first two convolutions:
    19×19 features at 84 pixels instead of 21×21; the relation module sees 3×3 in both. The relation blocks are not
    padded either, but below 10×10 features nothing would be left, so there they are, by one pixel (28-pixel images
    with two poolings, for instance). Two optimisers and their separate gradient clipping are one here.

    Args:
        net: at least 4×4 features.
        hidden: width of the last layer but one.

    Raises:
        ValueError: if the feature map is too small.
    """

    def __init__(self, net: Conv4, hidden: int = 8) -> None:
        super().__init__(net)
        self.hidden = hidden
        size, width, padding = net.final_size, net.width, int(net.final_size < 10)
        if size < 4:
            raise ValueError(f"RelationNet needs 4×4 features or more, not {size}×{size}; build Conv4 with poolings=2")
        left = (size + 2 * padding - 2) // 2
        left = (left + 2 * padding - 2) // 2
        convs = [nn.Conv2d(n, width, 3, padding=padding) for n in (2 * width, width)]
        blocks = [Block(conv, make_norm("batch", width, net.eps), nn.ReLU(), pool=True) for conv in convs]
        ends = [nn.Flatten(), nn.Linear(width * left**2, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid()]
        self.relation = nn.Sequential(*blocks, *ends)
        for module in self.relation.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (9 * module.out_channels)))
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.ones_(module.bias)

    def compare_with(self, features: Tensor, members: Tensor) -> Theta:
        return {"classes": members.T @ features}  # (ways, d): a sum, not a mean

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        """(n, ways) scores between 0 and 1."""
        queries, classes = self.features(images), theta["classes"]
        n, ways, size = len(queries), len(classes), self.net.final_size
        pairs = torch.stack([classes.expand(n, -1, -1), queries[:, None].expand(-1, ways, -1)], 2)  # (n, ways, 2, d)
        relation = with_tensors(self.relation, {})
        return relation(pairs.view(n * ways, -1, size, size)).view(n, ways)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(logits, one_hot(labels, logits.shape[1], logits))
