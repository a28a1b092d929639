"""Similarity, embeddings and their figures: what they say is what the definitions say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.container import BarContainer
from torch import Tensor
from torch.func import functional_call

from cxgrad_lite import ANIL, MAML, METHODS, Conv4, probes
from cxgrad_lite.core.outer import Episode
from cxgrad_lite.plots import representations as embedding_plots
from data_utils import TaskSampler

shapes = st.tuples(st.integers(3, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000))


def features(n: int, d1: int, d2: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two related representations of n images."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d1, generator=generator, dtype=torch.float64) + 3
    noise = torch.randn(n, d2, generator=generator, dtype=torch.float64)
    return x, x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64) + noise


def rotation(d: int, seed: int) -> Tensor:
    square = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(square).Q


@pytest.fixture()
def task(tasks: TaskSampler) -> Episode:
    return next(tasks.episodes(1))


def method_of(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return METHODS[name](Conv4(1, 16, 3, width=8, poolings=2), **options)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_cka_is_the_normalised_hilbert_schmidt_criterion_of_the_gram_matrices(shape: tuple[int, ...]) -> None:
    x, y = features(*shape)
    n = len(x)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        return (k @ centring @ m @ centring).trace() / (n - 1) ** 2

    k, m = x @ x.T, y @ y.T
    assert probes.linear_cka(x, y) == pytest.approx((hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()).item(), rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_cka_is_the_similarity_of_cross_covariances(shape: tuple[int, ...]) -> None:
    x, y = (f - f.mean(0) for f in features(*shape))
    by_hand = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert probes.linear_cka(x, y) == pytest.approx(by_hand.item(), rel=1e-8)
    assert 0 <= probes.linear_cka(x, y) <= 1 + 1e-12


@settings(max_examples=40, deadline=None)
@given(shapes, st.floats(0.01, 100))
def test_cka_sees_neither_rotation_nor_scale_nor_place(shape: tuple[int, ...], scale: float) -> None:
    x, y = features(*shape)
    moved = scale * y @ rotation(y.shape[1], shape[3]) + 5
    assert probes.linear_cka(x, moved) == pytest.approx(probes.linear_cka(x, y), rel=1e-8)
    assert probes.linear_cka(y, moved) == pytest.approx(1)


def test_cka_sees_other_linear_maps() -> None:
    x, _ = features(30, 4, 1, 0)
    stretched = x * torch.tensor([10.0, 1, 1, 1])
    assert probes.linear_cka(x, stretched) < 0.9


def test_cka_refuses_what_it_cannot_compare() -> None:
    x, _ = features(5, 3, 1, 0)
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(4, 3\)"):
        probes.linear_cka(x, x[:4])
    with pytest.raises(ValueError, match="same features"):
        probes.linear_cka(x, torch.ones(5, 2))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_shows_what_its_blocks_answer(name: str, task: Episode) -> None:
    method, images = method_of(name), task[1][0]
    theta = method.adapt(task[0])
    outputs = probes.block_outputs(method, theta, images)
    assert {"block 1", "block 2", "block 3", "block 4"} <= set(outputs)
    assert all(out.ndim == 2 and len(out) == len(images) for out in outputs.values())
    assert ("head" in outputs) == isinstance(method, MAML)
    if "head" in outputs:
        torch.testing.assert_close(outputs["head"], method.logits(theta, images).detach())


def test_block_outputs_are_those_of_the_blocks_and_leave_no_hook(task: Episode) -> None:
    method, images = method_of("CxGrad"), task[1][0]
    theta = method.adapt(task[0])
    outputs = probes.block_outputs(method, theta, images)
    x = images
    for i, block in enumerate(method.net.blocks):
        prefix = f"blocks.{i}."
        own = {name.removeprefix(prefix): t for name, t in theta.items() if name.startswith(prefix)}
        x = functional_call(block, own, (x,))
        torch.testing.assert_close(outputs[f"block {i + 1}"], x.flatten(1).detach())
    assert not any(module._forward_hooks for module in method.modules())


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if issubclass(cls, MAML)])
def test_states_are_what_adapt_passes_through(name: str, task: Episode) -> None:
    method = method_of(name, inner_steps=2)
    thetas, trace = probes.states(method, task[0])
    with torch.no_grad():
        theta, expected = method.adapt(task[0], trace=True)
    assert len(thetas) == 3 and len(trace) == 2
    torch.testing.assert_close(thetas[-1], theta)
    for seen, wanted in zip(trace, expected):
        torch.testing.assert_close((seen.before, seen.grads, seen.after), (wanted.before, wanted.grads, wanted.after))
    torch.testing.assert_close(thetas[0], {k: v.detach() for k, v in method.begin(task[0]).items()})


def test_metric_methods_have_no_before_and_after(task: Episode) -> None:
    with pytest.raises(ValueError, match="ProtoNet has no inner loop"):
        probes.states(method_of("ProtoNet"), task[0])


def test_cka_before_after_by_hand(tasks: TaskSampler) -> None:
    method = method_of("CxGrad", inner_lr=0.1)
    found = probes.cka_before_after(method, tasks, episodes=2)
    assert tuple(found) == probes.LAYERS and all(values.shape == (2,) for values in found.values())
    support, query = list(tasks.episodes(2))[1]
    first, last = method.begin(support), method.adapt(support)
    x, y = (probes.block_outputs(method, theta, query[0])["block 3"] for theta in (first, last))
    assert found["block 3"][1].item() == pytest.approx(probes.linear_cka(x, y))
    assert found["block 4"].max() < 0.999


def test_a_body_that_is_not_adapted_keeps_its_representation(tasks: TaskSampler) -> None:
    found = probes.cka_before_after(ANIL(Conv4(1, 16, 3, width=8), inner_lr=1.0), tasks, episodes=2)
    for layer in probes.LAYERS[:4]:
        torch.testing.assert_close(found[layer], torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert found["head"].max() < 0.999


def test_embeddings_are_the_last_blocks_outputs_after_every_step(task: Episode) -> None:
    method = method_of("MAML", inner_steps=3)
    found = probes.embeddings(method, *task)
    trace = method.adapt(task[0], trace=True)[1]
    assert found.shape == (4, 9, 8 * 16)
    for k, theta in enumerate([trace[0].before, *(seen.after for seen in trace)]):
        body = {name: t for name, t in theta.items() if not name.startswith("head")}
        with torch.no_grad():
            features = functional_call(
                method.net, {**body, "head.weight": torch.eye(128), "head.bias": torch.zeros(128)}, (task[1][0],)
            )
        torch.testing.assert_close(found[k], features)


def test_pca_is_one_plane_for_all_steps() -> None:
    embeddings = torch.randn(3, 12, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embeddings[2, :5] = embeddings[1, :5]  # these images do not move in the last step
    points = probes.project(embeddings)
    rows = embeddings.reshape(36, 6)
    rows = rows - rows.mean(0)
    plane = torch.linalg.svd(rows, full_matrices=False).Vh[:2].T  # (6, 2)
    torch.testing.assert_close(points.abs(), (rows @ plane).abs().reshape(3, 12, 2))  # a direction has no sign
    torch.testing.assert_close(points[2, :5], points[1, :5])
    assert (points[2, 5:] - points[1, 5:]).norm(dim=-1).min() > 0.01
    torch.testing.assert_close(probes.project(embeddings @ rotation(6, 1) + 2), points)


def test_tsne_depends_on_the_seed_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 15, 5, generator=generator) + 20 * (torch.arange(15) % 3)[:, None]
    points = probes.project(embeddings, "tsne", seed=3)
    assert points.shape == (2, 15, 2) and points.isfinite().all()
    torch.testing.assert_close(points, probes.project(embeddings, "tsne", seed=3))
    labels = torch.arange(15) % 3
    assert probes.class_separation(points, labels).min() > 0.5


def test_an_unknown_projection_is_refused() -> None:
    with pytest.raises(ValueError, match="'umap'"):
        probes.project(torch.randn(2, 5, 4), "umap")  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_class_separation_is_the_share_between_class_means(seed: int, scale: float) -> None:
    x = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.arange(12) % 3
    found = probes.class_separation(x, labels)
    for one, share in zip(x, found):
        between = sum(4 * (one[labels == c].mean(0) - one.mean(0)).square().sum() for c in range(3))
        within = sum((one[labels == c] - one[labels == c].mean(0)).square().sum() for c in range(3))
        assert share.item() == pytest.approx((between / (between + within)).item())
    torch.testing.assert_close(probes.class_separation(scale * x @ rotation(5, seed) + 1, labels), found)


def test_class_separation_at_its_ends() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert probes.class_separation(torch.tensor([[0.0], [0], [1], [1]]), labels) == 1
    assert probes.class_separation(torch.tensor([[0.0], [1], [0], [1]]), labels) == 0


def test_intervals_are_over_tasks() -> None:
    values = torch.tensor([0.2, 0.4, 0.9])
    mean, ci95 = embedding_plots.interval(values)
    assert mean == pytest.approx(0.5) and ci95 == pytest.approx(1.96 * math.sqrt(0.13 / 3))
    with pytest.raises(ValueError, match="at least 2 tasks, not 1"):
        embedding_plots.interval(values[:1])


def test_cka_figure_draws_means_and_intervals() -> None:
    results = {
        name: {"block 1": torch.tensor([a, a + 0.1]), "head": torch.tensor([0.2, 0.2])}
        for name, a in (("MAML, α = 0.01", 0.5), ("MAML, α = 0.1", 0.7), ("CxGrad", 0.8))
    }
    picture = embedding_plots.cka_by_layer(results)
    (ax,) = picture.figure.axes
    bars = {container.get_label(): container for container in ax.containers if isinstance(container, BarContainer)}
    for name, a in (("MAML, α = 0.01", 0.55), ("MAML, α = 0.1", 0.75), ("CxGrad", 0.85)):
        assert [bar.get_height() for bar in bars[name]] == pytest.approx([a, 0.2])
        (interval,) = bars[name].errorbar[2]
        low, high = interval.get_segments()[0][:, 1]
        assert (high - low) / 2 == pytest.approx(1.96 * 0.05)  # std of two values 0.1 apart, over √2
    assert "CxGrad: block 1 0.85 ± 0.10, head 0.20 ± 0.00" in picture.alt


def test_colours_of_methods_and_classes_differ() -> None:
    labels = ["MAML", "MAML, α = 0.1", "CxGrad", "mine", "mine too"]
    colours = embedding_plots.method_colours(labels)
    assert colours[0].upper() == "#0072B2" and len(set(colours)) == len(labels)
    assert len({embedding_plots.class_style(c) for c in range(49)}) == 49
    assert embedding_plots.class_style(2) == embedding_plots.class_style(2)


def test_before_and_after_share_their_axes() -> None:
    points = {name: torch.randn(4, 6, 2) * size for name, size in (("MAML", 1.0), ("CxGrad", 9.0))}
    labels = torch.arange(6) % 3
    shares = {"MAML": torch.tensor([0.25, 0.5]), "CxGrad": torch.tensor([0.1, 0.75])}
    picture = embedding_plots.before_after(points, labels, shares)
    panes = picture.figure.axes
    assert len(panes) == 4 and "CxGrad, between classes 10% before and 75% after" in picture.alt
    for left, right, steps in zip(panes[::2], panes[1::2], points.values()):
        assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
        for pane, step in ((left, 0), (right, -1)):
            for c, marks in enumerate(pane.collections):
                drawn = torch.as_tensor(marks.get_offsets().data).float()  # type: ignore[union-attr]
                torch.testing.assert_close(drawn, steps[step][labels == c])
    assert picture.png().startswith(b"\x89PNG")


def test_paths_end_where_the_images_are() -> None:
    points = torch.randn(4, 6, 2)
    picture = embedding_plots.paths(points, torch.arange(6) % 2)
    lines = picture.figure.axes[0].lines
    assert len(lines) == 2 and "in 3 inner steps" in picture.alt, "a line for each class"
    first = torch.tensor(lines[0].get_xydata()).float()  # three ways of four places, a gap after each
    assert first.shape == (15, 2) and first[4::5].isnan().all()
    torch.testing.assert_close(first[:4], points[:, 0])
