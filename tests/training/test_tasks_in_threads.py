"""Tasks side by side in threads compute what they compute one after the other, to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cxgrad_lite import METHODS, Conv4, Method, TrainConfig, evaluate, meta_train
from cxgrad_lite.core.method import Batch
from cxgrad_lite.core.outer import meta_gradient
from cxgrad_lite.recipes.recipe import has_inner_rate
from cxgrad_lite.training import parallel
from cxgrad_lite.training.fused import fused_blocks
from cxgrad_lite.training.parallel import TaskThreads
from data_utils import ImageClasses, TaskSampler


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make(name: str) -> Method:
    torch.manual_seed(0)
    options = {"inner_steps": 2} if has_inner_rate(name) else {}
    return METHODS[name](Conv4(1, 16, 3, width=6, poolings=2 if name == "RelationNet" else 4), **options)


def gradients(method: Method) -> list[Tensor | None]:
    return [p.grad for p in method.parameters()]


@pytest.mark.parametrize("name", METHODS)
def test_the_meta_gradient_is_the_same_to_the_last_bit(name: str, tasks: TaskSampler) -> None:
    episodes = list(tasks.episodes(4))
    side_by_side, in_turn = make(name), make(name)
    with fused_blocks():
        threads = TaskThreads([side_by_side], "float32")
        assert threads.at_once(episodes) == 2
        seen = threads.meta_gradient(side_by_side, episodes)
        torch.set_num_threads(1)
        expected = meta_gradient(in_turn, episodes)
    for one, other in zip(seen, expected):
        assert torch.equal(one, other)
    for grad, other in zip(gradients(side_by_side), gradients(in_turn), strict=True):
        assert (grad is None) == (other is None) and (grad is None or other is None or torch.equal(grad, other))


def test_evaluation_is_the_same_to_the_last_bit(tasks: TaskSampler) -> None:
    method = make("CxGrad")
    side_by_side = evaluate(method, tasks, 7)
    torch.set_num_threads(1)
    assert torch.equal(side_by_side.per_task, evaluate(method, tasks, 7).per_task)


def test_training_does_not_depend_on_the_number_of_threads(stripes: ImageClasses) -> None:
    finals = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        method = make("CxGrad")
        sampler = TaskSampler(stripes, 3, 2, 3, tasks_per_batch=3, seed=7)
        meta_train(method, sampler, TrainConfig(3, clip_norm=1.0, progress=False))
        finals.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    assert torch.equal(finals[0], finals[1]) and torch.equal(finals[0], finals[2])


def test_the_engine_holds_in_every_thread_and_the_number_of_threads_comes_back(tasks: TaskSampler) -> None:
    names, counts = set(), set()

    def job(episode: object) -> int:
        names.add(threading.current_thread().name)
        counts.add(torch.get_num_threads())
        return len(names)

    episodes = list(tasks.episodes(4))
    with fused_blocks():
        assert len(TaskThreads([make("MAML")], "float32").map(job, episodes)) == 4
    assert counts == {1} and torch.get_num_threads() == 2
    assert threading.current_thread().name not in names


class Noting(METHODS["MAML"]):  # type: ignore[misc]
    def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
        self.seen = threading.current_thread()
        result: tuple[Tensor, Tensor] = super().outer(support, query)
        return result


def test_methods_of_ones_own_are_given_one_task_after_the_other(tasks: TaskSampler) -> None:
    method = Noting(Conv4(1, 16, 3, width=6))
    episodes = list(tasks.episodes(2))
    TaskThreads([method], "float32").meta_gradient(method, episodes)
    assert method.seen is threading.current_thread()


def test_whoever_listens_hears_the_tasks_in_their_order(tasks: TaskSampler) -> None:
    method, heard = make("MAML"), list[str]()
    method.net.register_forward_hook(lambda *_: heard.append(threading.current_thread().name))
    evaluate(method, tasks, 4)
    assert len(heard) == 4 * 3 and set(heard) == {threading.current_thread().name}


def test_large_tasks_bf16_and_one_thread_stay_in_turn(tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    method, episodes = make("MAML"), list(tasks.episodes(2))
    assert TaskThreads([method], "float32").at_once(episodes) == 2
    assert TaskThreads([method], "bf16").at_once(episodes) == 1
    monkeypatch.setattr(parallel, "SMALL", 100)
    assert TaskThreads([method], "float32").at_once(episodes) == 1
    monkeypatch.undo()
    threads = TaskThreads([method], "float32")
    torch.set_num_threads(1)
    assert threads.at_once(episodes) == 1, "somebody has lowered their number meanwhile"


def test_an_error_in_a_thread_is_the_callers(tasks: TaskSampler) -> None:
    (support, query), *_ = tasks.episodes(1)
    wrong = (support[0], support[1] + 5)
    with pytest.raises(ValueError, match="the head tells 3 classes apart"):
        TaskThreads([make("MAML")], "float32").meta_gradient(make("MAML"), [(support, query), (wrong, query)])
    assert torch.get_num_threads() == 2
