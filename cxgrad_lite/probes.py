"""What can be read off an adaptation: norms by layer, similarity of representations, embeddings that move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from .core.maml import MAML
from .core.method import Batch, Method, StepTrace, Theta
from .core.outer import Tasks
from .core.stateless import with_tensors

LAYERS = ("block 1", "block 2", "block 3", "block 4", "head")
LAST_BLOCK = LAYERS[3]
Projection = Literal["pca", "tsne"]


def layer_of(name: str) -> str | None:
    """The layer that a fast tensor belongs to; None for what is not part of the network, such as a context."""
    part, _, rest = name.partition(".")
    if part == "blocks" and not name.endswith(".context"):
        return LAYERS[int(rest.partition(".")[0])]
    return "head" if part == "head" else None


def layer_norms(trace: list[StepTrace], kind: Literal["grad", "weight", "update"] = "grad") -> dict[str, list[float]]:
    """Norm of all fast tensors of a layer together, one number per inner step; 0 for a layer that is not adapted."""
    norms: dict[str, list[float]] = {layer: [] for layer in LAYERS}
    for step in trace:
        squares = dict.fromkeys(LAYERS, 0.0)
        for name, norm in getattr(step, f"{kind}_norms").items():
            layer = layer_of(name)
            if layer:
                squares[layer] += norm**2
        for layer in LAYERS:
            norms[layer].append(math.sqrt(squares[layer]))
    return norms


def traces(method: MAML, tasks: Tasks, episodes: int) -> Iterator[list[StepTrace]]:
    """The trace of each of the first episodes."""
    for support, _ in tasks.episodes(episodes):
        with torch.no_grad():
            yield method.adapt(support, trace=True)[1]


def mean_layer_norms(
    method: MAML, tasks: Tasks, episodes: int = 20, kind: Literal["grad", "weight", "update"] = "grad"
) -> dict[str, float]:
    """Layer norms averaged over inner steps and tasks, as in Figure 2 of the CxGrad paper."""
    return mean_over_traces(traces(method, tasks, episodes), kind)


def mean_over_traces(
    traces: Iterable[list[StepTrace]], kind: Literal["grad", "weight", "update"] = "grad"
) -> dict[str, float]:
    """The same mean of traces that are there already."""
    tasks = [layer_norms(trace, kind) for trace in traces]
    return {layer: sum(sum(norms[layer]) / len(norms[layer]) for norms in tasks) / len(tasks) for layer in LAYERS}


@torch.no_grad()
def states(method: MAML, support: Batch) -> tuple[list[Theta], list[StepTrace]]:
    """What `MAML.adapt` passes through: theta before the first inner step and after each one, and the trace.

    Returns:
        inner_steps + 1 thetas, each of which `logits` understands, and inner_steps traces.

    Raises:
        ValueError: if the method has no inner loop.
    """
    if not isinstance(method, MAML):
        raise ValueError(f"{type(method).__name__} has no inner loop, so there is no before and after")
    path = list(method.path(support))
    return [theta for theta, _ in path], [trace for _, trace in path if trace]


@torch.no_grad()
def block_outputs(method: Method, theta: Theta, images: Tensor) -> dict[str, Tensor]:
    """What each layer answers to (n, C, H, W) images when the network has the fast tensors ``theta``.

    Returns:
        layer → (n, d): the outputs of the blocks, flattened, and the logits under "head".
    """
    outputs: dict[str, Tensor] = {}

    def keep(layer: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs[layer] = output.flatten(1)

        return hook

    watched = with_tensors(method, {})  # a copy: another thread's use of the network is not ours to watch
    layers = [*watched.net.blocks, *([watched.net.head] if isinstance(method, MAML) else [])]  # others have no head
    for layer, module in zip(LAYERS, layers):
        module.register_forward_hook(keep(layer))
    watched.logits(theta, images)
    return outputs


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment of two representations of the same n images.

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, of features whose mean over the images is taken off; between 0 and 1.
    It is 1 when one is a rotation, reflection or scaled copy of the other. Two unrelated representations of few
    images with many features do not come out at 0: compare only values of equal n and similar sizes.

    Source: Kornblith et al., Similarity of neural network representations revisited, ICML 2019, eq. 3 with linear
    kernels.

    Args:
        x: (n, d₁) features.
        y: (n, d₂) features, of the same images in the same order.

    Raises:
        ValueError: if the shapes do not fit, or all images have the same features.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"expected features of shapes (n, d1) and (n, d2), not {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = x - x.mean(0), y - y.mean(0)
    # ‖YᵀX‖² = ⟨XXᵀ, YYᵀ⟩: n × n products, far smaller than d₁ × d₂ ones for the first blocks.
    gram_x, gram_y = (x @ x.T).cpu().double(), (y @ y.T).cpu().double()
    scale = gram_x.norm() * gram_y.norm()
    if scale == 0:
        raise ValueError("all images have the same features, so there is nothing to compare")
    return ((gram_x * gram_y).sum() / scale).item()


def cka_before_after(method: MAML, tasks: Tasks, episodes: int = 20) -> dict[str, Tensor]:
    """How similar each layer's output is before and after adaptation, as in Figure 3 of the CxGrad paper.

    Linear CKA on the query images. 1: adaptation left the layer's representation as it was.

    Returns:
        layer → (episodes,) float64, one number per task.
    """
    similarity: dict[str, list[float]] = {}
    for support, (images, _) in tasks.episodes(episodes):
        thetas, _ = states(method, support)
        before, after = (block_outputs(method, theta, images) for theta in (thetas[0], thetas[-1]))
        for layer in before:
            similarity.setdefault(layer, []).append(linear_cka(before[layer], after[layer]))
    return {layer: torch.tensor(values, dtype=torch.float64) for layer, values in similarity.items()}


def embeddings(method: MAML, support: Batch, query: Batch, layer: str = LAST_BLOCK) -> Tensor:
    """(steps + 1, n, d): a layer's output for the query images, before adaptation and after every inner step."""
    return torch.stack([block_outputs(method, theta, query[0])[layer] for theta in states(method, support)[0]])


def project(embeddings: Tensor, kind: Projection = "pca", seed: int = 0) -> Tensor:
    """(steps, n, d) embeddings to (steps, n, 2) points of a plane.

    One projection is fitted on the images of all steps together: a point that stays where it was did not move, and one
    that moves has moved. Distances within a PCA plane are those of the embeddings, as far as the plane shows them; in
    a t-SNE plane only neighbourhoods mean something.

    Args:
        embeddings: steps may be anything that is to share one plane.
        kind: "pca" or "tsne".
        seed: of t-SNE; PCA needs none.

    Raises:
        ValueError: if the kind is unknown.
    """
    steps, n, d = embeddings.shape
    rows = embeddings.detach().cpu().double().reshape(-1, d)  # (steps · n, d)
    if kind == "pca":
        points = principal_plane(rows)
    elif kind == "tsne":
        points = tsne(rows, seed)
    else:
        raise ValueError(f"kind must be 'pca' or 'tsne', not {kind!r}")
    return points.reshape(steps, n, 2)


def principal_plane(rows: Tensor) -> Tensor:
    """(n, d) to (n, 2): coordinates along the two directions of largest variance; each points to its farthest row."""
    centred = rows - rows.mean(0)
    points = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
    farthest = points.gather(0, points.abs().argmax(0, keepdim=True))  # (1, 2)
    return torch.where(farthest < 0, -points, points)


def tsne(rows: Tensor, seed: int) -> Tensor:
    """(n, d) to (n, 2), as scikit-learn does it, from the principal plane."""
    # scikit-learn takes seconds to import; whoever draws no t-SNE need not wait for it.
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    fitted = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return torch.as_tensor(fitted.fit_transform(rows.numpy())).double()


def class_separation(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Share of the scatter of the embeddings that lies between the classes: 0, classes share a mean; 1, points.

    Squared distances of the class means to the common mean, over squared distances of all images to it. It is
    computed from the embeddings themselves, so it does not depend on how a picture projects them.

    Args:
        embeddings: (…, n, d).
        labels: (n,).

    Returns:
        (…,) shares; nan where all embeddings are equal.
    """
    centred = embeddings - embeddings.mean(-2, keepdim=True)  # (…, n, d)
    means = torch.zeros_like(centred)
    for c in labels.unique():
        means[..., labels == c, :] = centred[..., labels == c, :].mean(-2, keepdim=True)
    return means.square().sum((-2, -1)) / centred.square().sum((-2, -1))
