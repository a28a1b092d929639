"""What notebook 08 says of the methods, and the shipped runs that it shows."""

from __future__ import annotations

import pytest
import torch

from cxgrad_lite import BOIL, MAML, METHODS, Conv4, CxGrad, ProtoNet
from cxgrad_lite.course.comparison import (
    COLUMNS,
    lines_of_code,
    moves_picture,
    parameter_counts,
    seconds_in_turn,
    what_moves,
    zoo_runs,
)
from cxgrad_lite.recipes.course import ZOO, ZOO_ITERATIONS, ZOO_RATES, rate_search
from cxgrad_lite.recipes.recipe import has_inner_rate
from data_utils import TaskSampler

KERNELS = {"block 1", "block 2", "block 3", "block 4"}
MOVES = {
    "MatchingNet": set(),
    "ProtoNet": set(),
    "RelationNet": set(),
    "MAML": KERNELS | {"head"},
    "ANIL": {"head"},
    "BOIL": KERNELS | {"gains"},
    "MetaSGD": KERNELS | {"gains", "head"},
    "MAMLPlusPlus": KERNELS | {"head"},
    "CAVIA": {"context"},
    "L2F": KERNELS | {"head"},
    "ALFA": KERNELS | {"head"},
    "ModGrad": {"block 3", "block 4"},
    "CxGrad": KERNELS | {"head", "context"},
}


@pytest.mark.parametrize("name", METHODS)
def test_what_moves(name: str, tasks: TaskSampler) -> None:
    torch.manual_seed(0)
    options = {"inner_lr": 0.1} if has_inner_rate(name) else {}
    method = METHODS[name](Conv4(1, 16, 3, width=8, poolings=2 if name == "RelationNet" else 4), **options)
    support, _ = next(tasks.episodes(1))
    moved = what_moves(method, support)
    assert {part for part in COLUMNS if moved[part]} == MOVES[name]
    assert f"{name}: " in moves_picture({name: moved}).alt


def test_parameter_counts() -> None:
    net = Conv4(1, 16, 3, width=8)
    size = sum(p.numel() for p in net.parameters())
    assert parameter_counts(MAML(net)) == (size, 0)
    assert parameter_counts(CxGrad(net)) == (size, 100 * 100 + 100 + 4 * 100 + 4)
    assert parameter_counts(ProtoNet(net)) == (size - 3 * 8 - 3, 0), "no head"


def test_lines_of_code_leave_out_what_is_no_code() -> None:
    class Example:
        """Two
        lines."""

        # a comment
        def one(self) -> int:
            """Doc."""

            return 1

    assert lines_of_code(Example) == 3
    assert lines_of_code(BOIL) < lines_of_code(CxGrad)


def test_seconds_are_measured_without_a_trace(tasks: TaskSampler) -> None:
    method = MAML(Conv4(1, 16, 3, width=8), inner_steps=1)
    before = [p.clone() for p in method.parameters()]
    seconds = seconds_in_turn({"one": method, "two": method}, tasks, rounds=1)
    assert list(seconds) == ["one", "two"] and min(seconds.values()) > 0
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(method.parameters(), before))


@pytest.mark.parametrize("dataset, shots", ZOO)
def test_the_shipped_zoo_is_complete_and_its_search_is_there(dataset: str, shots: int) -> None:
    runs = zoo_runs(dataset, shots)
    assert list(runs) == list(METHODS)
    for name, (recipe, run) in runs.items():
        assert recipe.iterations == ZOO_ITERATIONS and run["recipe"]["method"] == name
        assert run["test"]["mean"] - run["test"]["ci95"] > 0.25, "above chance"
        if has_inner_rate(name):
            search = rate_search(dataset, name, shots=shots, iterations=100)
            assert tuple(sorted(search)) == ZOO_RATES[name]
            assert search[recipe.inner_lr]["mean"] == max(result["mean"] for result in search.values())
