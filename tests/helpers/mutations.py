"""What outside data may have become: bytes that changed, and values that do not belong where they stand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from hypothesis import HealthCheck

# The same cases on every machine, however slow it is.
REPEATABLE: dict[str, Any] = {"deadline": None, "database": None, "derandomize": True}
REPEATABLE |= {"suppress_health_check": list(HealthCheck)}
STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 7, 10**9, 10**40, 0.5, -2.5, float("nan"), float("inf"), "", "x", "9", "é",
    [], [1], {}, {"x": 1},
]  # fmt: skip
STRANGE_TENSORS: list[Any] = [
    torch.tensor(1.0), torch.zeros(0), torch.full((4,), torch.nan), torch.ones(4, dtype=torch.int64), torch.ones(2, 3),
    torch.ones(4, dtype=torch.complex64), torch.ones(4, dtype=torch.bool),
]  # fmt: skip


def damaged_bytes(random: Random, data: bytes) -> bytes:
    """The bytes with one to three places cut out, overwritten or doubled."""
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, random.choice([min(len(data), 4000), len(data)]))
        start = random.choice([start, len(data) - start])  # of a file, the ends decide more than the middle
        end = min(len(data), start + random.choice([1, 2, 8, 100, len(data)]))
        middle = random.choice([b"", bytes(min(end - start, 1000)), data[start:end] * 2, b"\xff", b"{", b"9"])
        data = data[:start] + middle + data[end:]
    return data


def places(table: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in nested dicts and lists."""
    if isinstance(table, (dict, list)):
        for key, value in list(table.items() if isinstance(table, dict) else enumerate(table)):
            yield table, key
            yield from places(value)


def damaged_table(random: Random, table: Any, strange: list[Any] = STRANGE) -> Any:
    """A copy of nested dicts and lists in which one or two values were replaced, removed or added."""
    table = copy.deepcopy(table)
    for _ in range(random.randint(1, 2)):
        if found := list(places(table)):
            container, key = random.choice(found)
            value = copy.deepcopy(random.choice(strange))
            change = random.choice(["replace", "replace", "remove", "add"])
            if change == "remove":
                del container[key]
            elif change == "add" and isinstance(container, dict):
                container[random.choice(["new", "", "inner_lr", "shots", 3])] = value
            else:
                container[key] = value
    return table
