"""Threads: two may use one method at once, and a panel's shares no cores with an idle pool of the notebook's own."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch

from cxgrad_lite import MAML, METHODS, Conv4, Method, TrainConfig, evaluate, meta_train
from cxgrad_lite.live import watch_training
from cxgrad_lite.probes import block_outputs
from cxgrad_lite.training.machine import pause_function, release_pool
from data_utils import TaskSampler

newer_openmp = pytest.mark.skipif(pause_function() is None, reason="torch has not brought a newer GNU OpenMP")

COUNT = """
import json, threading, torch
from pathlib import Path
from cxgrad_lite.live.panel import Worker
from cxgrad_lite.training.machine import release_pool

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


@newer_openmp
def test_release_pool_ends_the_threads_of_the_caller() -> None:
    printed = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    start, pool, released, after, same, in_worker = json.loads(printed)
    assert pool == start + 2
    assert released
    assert after == start
    assert same, "the next operation starts new threads"
    assert in_worker == start + 1, "the worker's job has no pool beside it but its own"


@newer_openmp
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


FIT = """
import os, torch
if {cores}: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
torch.set_num_threads(7)
from cxgrad_lite import Conv4, MAML, evaluate
from data_utils import TaskSampler, load
assert torch.get_num_threads() == 7, "an import changes nothing"
evaluate(MAML(Conv4(1, 28, 5, width=4), inner_steps=1), TaskSampler(load("glyphs", "test"), 5, 1, 1), 2)
print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
@pytest.mark.parametrize("limits", [{"CPU_LIMIT": "0.5"}, {"CPU_LIMIT": "nonsense", "cores": 1}, {"cores": 1}])
def test_threads_fit_the_share_that_a_container_or_hub_gives(limits: dict[str, Any]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "7", "CPU_LIMIT": limits.get("CPU_LIMIT", "")}
    program = FIT.format(cores=limits.get("cores", 0))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    said, threads = done.stdout.splitlines()
    assert said == "cxgrad_lite: 7 threads would share 1 core(s); from now on torch uses 1" and threads == "1"


@pytest.fixture()
def busy_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(*actions: Callable[[], object]) -> list[object]:
    """What the actions return, each in a thread of its own, begun together."""
    with ThreadPoolExecutor(len(actions)) as pool:
        gate = threading.Barrier(len(actions))

        def begin(action: Callable[[], object]) -> object:
            gate.wait()
            return action()

        return list(pool.map(begin, actions))


def small(name: str) -> Method:
    torch.manual_seed(0)
    options = {"inner_steps": 2} if name in ("MAML", "CxGrad", "CAVIA") else {}
    return METHODS[name](Conv4(1, 16, 3, width=4), **options)


@pytest.mark.parametrize("name", ["MAML", "CxGrad", "MAMLPlusPlus", "CAVIA", "ProtoNet"])
def test_two_threads_evaluate_one_method(name: str, tasks: TaskSampler, busy_switching: None) -> None:
    method = small(name)
    alone = evaluate(method, tasks, 10).per_task
    results = at_once(*[lambda: evaluate(method, tasks, 10).per_task] * 3)
    assert all(torch.equal(alone, result) for result in results)  # type: ignore[arg-type]


def test_one_method_is_trained_once_at_a_time(tasks: TaskSampler) -> None:
    method, config, tried = small("MAML"), TrainConfig(2, engine="eager", progress=False), []
    panel = watch_training(method, tasks, config)

    def second(history: object) -> None:
        for other in (method, MAML(method.net)):  # the same weights
            with pytest.raises(RuntimeError, match="this MAML is being trained already; wait"):
                meta_train(other, tasks, config)
        panel.step()
        panel.wait()
        tried.append(panel.error)

    assert len(meta_train(method, tasks, config, callback=second).loss) == 2
    assert all("this MAML is being trained already" in error for error in tried) and not panel.history.loss
    panel.step()
    panel.wait()
    assert panel.error is None and len(panel.history.loss) == 1
    assert len(meta_train(method, tasks, config).loss) == 2
    panel.close()


def watched(method: Method, tasks: TaskSampler) -> None:
    for _ in range(6):
        evaluate(method, tasks, 3)
        (support, (images, _)), *_ = tasks.episodes(1)
        held = copy.deepcopy(method)
        block_outputs(held, held.adapt(support), images)


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_training_is_not_disturbed_by_those_who_look(engine: str, tasks: TaskSampler, busy_switching: None) -> None:
    """Evaluating in a cell while a panel trains the same method: parameters, losses and gradients are its own."""
    config, finals = TrainConfig(12, engine=engine, progress=False), []  # type: ignore[arg-type]
    for looks in (0, 2):
        method, start = small("CxGrad"), tasks.state_dict()
        names = [name for name, _ in method.named_parameters()]
        watch = partial(watched, method, tasks)
        losses, *_ = at_once(lambda: meta_train(method, tasks, config).loss, *[watch] * looks)  # noqa: B023
        assert [name for name, _ in method.named_parameters()] == names and not method.net.blocks[0]._forward_hooks
        assert all(isinstance(p, torch.nn.Parameter) for p in method.parameters())
        finals.append([*losses, *(p.double().sum().item() for p in method.parameters())])  # type: ignore[misc]
        tasks.load_state_dict(start)
    assert finals[0] == finals[1]
