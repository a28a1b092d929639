"""Which threads compute: a panel's must not share the cores with an idle pool of the notebook's own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
import torch

from cxgrad_lite.training.host import pause_function, release_pool

pytestmark = pytest.mark.skipif(pause_function() is None, reason="torch has not brought a newer GNU OpenMP")

COUNT = """
import json, threading, torch
from pathlib import Path
from cxgrad_lite.live.panel import Worker
from cxgrad_lite.training.host import release_pool

count = lambda: len(list(Path("/proc/self/task").iterdir()))
torch.set_num_threads(3)
start = count()
result = torch.ones(1 << 20).exp()
pool = count()
released = release_pool()
after = count()
same = bool((torch.ones(1 << 20).exp() == result).all())
seen, worker = [], Worker(lambda error: None)
worker.submit(lambda: seen.append(count()))
worker.wait()
print(json.dumps([start, pool, released, after, same, *seen]))
"""


def test_release_pool_ends_the_threads_of_the_caller() -> None:
    printed = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    start, pool, released, after, same, in_worker = json.loads(printed)
    assert pool == start + 2
    assert released
    assert after == start
    assert same, "the next operation starts new threads"
    assert in_worker == start + 1, "the worker's job has no pool beside it but its own"


def test_another_threads_pool_is_left_alone() -> None:
    go, results = threading.Event(), []

    def compute() -> None:
        for _ in range(200):
            results.append(torch.ones(1 << 16).exp().sum().item())
        go.set()

    thread = threading.Thread(target=compute)
    thread.start()
    while not go.is_set():
        assert release_pool()
    thread.join()
    assert len(results) == 200
    assert results == [results[0]] * 200
