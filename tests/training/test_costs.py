"""What a meta-step costs, counted."""

from __future__ import annotations

import itertools

import pytest
import torch

from cxgrad_lite import ANIL, MAML, Conv4, CxGrad
from cxgrad_lite.costs import KINDS, REST, kept_bytes, operations
from data_utils import TaskSampler


def kept(tasks: TaskSampler, steps: int, second_order: bool, kind: type[MAML] = MAML) -> int:
    method = kind(Conv4(1, 16, 3, width=8), inner_steps=steps, second_order=second_order)
    return kept_bytes(method, tasks.episodes(1).__next__())


def test_second_order_keeps_every_inner_step_and_first_order_none(tasks: TaskSampler) -> None:
    second = [kept(tasks, steps, True) for steps in (1, 2, 3, 4)]
    growth = [b - a for a, b in itertools.pairwise(second)]
    assert growth[0] > 10_000 and max(growth) < 1.02 * min(growth)
    first = [kept(tasks, steps, False) for steps in (1, 4)]
    assert first[0] < second[0] and first[1] - first[0] < 0.01 * growth[0]


def test_adapting_the_head_alone_keeps_much_less(tasks: TaskSampler) -> None:
    def growth(kind: type[MAML]) -> int:
        return kept(tasks, 3, True, kind) - kept(tasks, 2, True, kind)

    assert growth(ANIL) < 0.6 * growth(MAML)


def test_what_is_kept_is_at_least_what_the_query_loss_needs(tasks: TaskSampler) -> None:
    (_, query), net = next(tasks.episodes(1)), Conv4(1, 16, 3, width=8)
    inputs = sum(4 * len(query[0]) * 8 * size**2 for size in (8, 4, 2))  # of the convolutions 2 to 4
    assert kept_bytes(MAML(net, inner_steps=0), next(tasks.episodes(1))) > inputs


@pytest.mark.parametrize("kind", [MAML, CxGrad])
def test_operations_are_counted_by_kind(kind: type[MAML], tasks: TaskSampler) -> None:
    method, episodes = kind(Conv4(1, 16, 3, width=8), inner_steps=1), tasks.sample()
    one = operations(method, episodes)
    method.inner_steps = 3
    three = operations(method, episodes)
    assert set(one) == {*KINDS, REST}
    assert all(three[name].calls > 1.5 * one[name].calls > 0 for name in one)
    assert all(cost.seconds > 0 for cost in three.values())
    assert all(p.grad is None for p in method.parameters())
    assert torch.is_grad_enabled()
