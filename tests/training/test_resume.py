"""A run that is killed, cut short or left without disk space goes on; several processes do what one does."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cxgrad_lite import Conv4, CxGrad, History, MAMLPlusPlus, TrainConfig, evaluate, load_checkpoint, meta_train
from cxgrad_lite.core.method import Method
from cxgrad_lite.training import checkpoints, parallel
from cxgrad_lite.training.resume import LAST, PREVIOUS, RunFolder
from data_utils import ImageClasses, TaskSampler

ITERATIONS = 12
SETTINGS: dict[str, Any] = {
    "decay": 0.5,
    "decay_every": 5,
    "validate_every": 4,
    "validation_episodes": 3,
    "progress": False,
}
CONFIG = TrainConfig(ITERATIONS, **SETTINGS)


def noisy(images: torch.Tensor) -> torch.Tensor:
    """A transform that draws from all global generators."""
    return images + 0.01 * torch.randn(1) + 0.01 * float(np.random.normal()) + 0.01 * random.random()


def classes() -> ImageClasses:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 8, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageClasses(images.flatten(0, 1), torch.arange(6).repeat_interleave(8), [f"class {i}" for i in range(6)])


def parts(seed: int = 0) -> tuple[Method, TaskSampler, TaskSampler]:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    method = MAMLPlusPlus(Conv4(1, 16, 3, width=4), inner_steps=2, annealing=8)
    images = classes()
    return method, TaskSampler(images, 3, 1, 2, 2, seed=1, transform=noisy), TaskSampler(images, 3, 1, 2, seed=2)


def train(folder: Path | None, resume: bool = False, slow: float = 0.0, config: TrainConfig = CONFIG) -> Any:
    method, tasks, validation = parts()
    keeper = RunFolder(folder, every=1, keep=2, resume=resume) if folder else None

    def pause(history: History) -> None:
        time.sleep(slow)

    return method, meta_train(method, tasks, config, validation, pause if slow else None, keeper)


def check_equal(one: tuple[Method, History], other: tuple[Method, History]) -> None:
    for (name, p), q in zip(one[0].named_parameters(), other[0].parameters()):
        assert torch.equal(p, q), name
    a, b = one[1], other[1]
    assert a.loss == b.loss and a.accuracy == b.accuracy
    assert [done for done, _ in a.validation] == [done for done, _ in b.validation]
    for (_, p), (_, q) in zip(a.validation, b.validation):
        assert torch.equal(p.per_task, q.per_task) and (p.mean, p.ci95) == (q.mean, q.ci95)


def in_process(folder: Path) -> None:
    torch.set_num_threads(1)
    train(folder, resume=True, slow=0.01)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in another order would differ in the last digit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def server() -> Any:
    """Forks processes that have torch loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "cxgrad_lite", "data_utils"])
    return context


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[Method, History]:
    torch.set_num_threads(1)
    return train(None)


def kill_at(process: BaseProcess, folder: Path, moment: float) -> None:
    """Kill the process so many seconds after its first state is there."""
    deadline = time.monotonic() + 120
    while not (folder / LAST).exists() and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.join(moment)
    if process.is_alive() and process.pid:
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_killed_twenty_times_at_random_moments(server: Any, uninterrupted: Any, tmp_path: Path) -> None:
    """Bit for bit: every parameter, every loss, every validation, whenever it was killed."""
    generator, killed, runs = random.Random(0), 0, 0
    while killed < 20:
        folder = tmp_path / f"run{runs}"
        while killed < 20:
            process = server.Process(target=in_process, args=(folder,))
            process.start()
            kill_at(process, folder, generator.uniform(0, 0.25))
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            killed += 1
        check_equal(train(folder, resume=True), uninterrupted)
        runs += 1
    assert runs >= 1


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    train(tmp_path, config=TrainConfig(5, progress=False))
    _, history = train(tmp_path, resume=True, config=TrainConfig(9, progress=False))
    _, whole = train(None, config=TrainConfig(9, progress=False))
    assert history.loss == whole.loss and len(whole.loss) == 9
    assert history.seconds > 0


def test_a_torn_state_costs_one_interval(tmp_path: Path) -> None:
    expected = train(None)
    train(tmp_path, config=TrainConfig(8, **SETTINGS))
    data = (tmp_path / LAST).read_bytes()
    assert (tmp_path / PREVIOUS).exists()
    for damaged in (data[: len(data) // 2], b"", b"\0" * len(data)):
        (tmp_path / LAST).write_bytes(damaged)
        with pytest.warns(UserWarning, match="last.run is damaged"):
            result = train(tmp_path, resume=True)
        check_equal(result, expected)
        for path in tmp_path.glob("*.run"):
            path.unlink()
        train(tmp_path, resume=True, config=TrainConfig(8, **SETTINGS))


def test_a_full_disk_costs_the_backup_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    expected = train(None)
    monkeypatch.setattr(checkpoints, "save_file", full)
    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(UserWarning, match="No space left on device.*training goes on"):
        result = train(tmp_path)
    check_equal(result, expected)
    assert not list(tmp_path.glob("*.run")) and not list(tmp_path.glob("*.safetensors"))


def test_the_best_are_kept(tmp_path: Path) -> None:
    method, history = train(tmp_path)
    best = sorted(tmp_path.glob("best-*.safetensors"))
    assert len(best) == 2 and len(history.validation) == 3
    means = sorted(round(result.mean, 5) for _, result in history.validation)
    assert sorted(float(path.stem.split("-")[-1]) for path in best) == means[1:]
    _, _, validation = parts()
    together = evaluate([load_checkpoint(path) for path in best], validation, 4, protocol="paper")
    assert together.protocol == "paper"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == ITERATIONS + 3


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(FileExistsError, match="resume it, or choose another folder"):
        train(tmp_path)
    _, tasks, _ = parts()
    other = CxGrad(Conv4(1, 16, 3, width=4))
    with pytest.raises(ValueError, match="belongs to another run"):
        meta_train(other, tasks, CONFIG, tasks, folder=RunFolder(tmp_path, resume=True))


class Payload:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_state_that_would_run_code_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    _, history = train(tmp_path)
    trap = tmp_path / "trap"
    torch.save({"header": "", "state": Payload(trap)}, tmp_path / LAST)
    with pytest.warns(UserWarning, match="last.run is damaged"):
        assert train(tmp_path, resume=True)[1].loss == history.loss
    assert not trap.exists()
    save_file({"a": torch.zeros(1)}, tmp_path / LAST)  # as earlier versions wrote it
    (tmp_path / PREVIOUS).unlink()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="no state in .* can be read"):
        train(tmp_path, resume=True)


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    (method, tasks, _), (other, *_) = parts(), parts()

    def second(history: History) -> None:
        with pytest.raises(FileExistsError, match="in use by another process"):
            meta_train(other, tasks, TrainConfig(2, progress=False), folder=RunFolder(tmp_path, resume=True))

    config = TrainConfig(1, progress=False)
    meta_train(method, tasks, config, callback=second, folder=RunFolder(tmp_path))
    meta_train(method, tasks, config, folder=RunFolder(tmp_path, resume=True))  # the lock is free again


def test_a_history_names_every_engine_that_ran(tmp_path: Path) -> None:
    for iterations, engine in ((2, "eager"), (4, "auto"), (6, "fused")):
        config = TrainConfig(iterations, engine=engine, progress=False)  # type: ignore[arg-type]
        history = train(tmp_path, resume=True, config=config)[1]
    assert (history.engine, history.precision) == ("eager, then fused", "float32")


# --- several processes ------------------------------------------------------------------------------------------------


def two_tasks_each(number: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=2)
    method, history = double_run(RunFolder(folder, every=1))
    torch.save((method.state_dict(), history.loss, history.accuracy), folder / f"rank{number}.pt")
    result = evaluate(method.float(), parts()[2], 5)
    torch.save(result.per_task, folder / f"tasks{number}.pt")
    torch.distributed.destroy_process_group()


def double_run(folder: RunFolder | None) -> tuple[Method, History]:
    torch.manual_seed(0)
    method = CxGrad(Conv4(1, 16, 3, width=4), inner_steps=2, context_dim=5).double()
    tasks = TaskSampler(classes(), 3, 1, 2, 4, seed=1, transform=lambda images: images.double())
    return method, meta_train(method, tasks, TrainConfig(3, progress=False), folder=folder)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_do_what_one_does(server: Any, tmp_path: Path) -> None:
    port = free_port()
    processes = [server.Process(target=two_tasks_each, args=(number, port, tmp_path)) for number in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    method, history = double_run(None)
    expected = dict(method.named_parameters())
    for number in (0, 1):
        state, loss, accuracy = torch.load(tmp_path / f"rank{number}.pt", weights_only=True)
        for name, t in state.items():
            torch.testing.assert_close(t, expected[name].detach(), rtol=1e-10, atol=1e-12)
        assert loss == pytest.approx(history.loss, rel=1e-12) and accuracy == pytest.approx(history.accuracy)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3, "only one process writes"
    per_task = [torch.load(tmp_path / f"tasks{number}.pt", weights_only=True) for number in (0, 1)]
    assert torch.equal(per_task[0], per_task[1]) and len(per_task[0]) == 5


def test_a_meta_batch_that_cannot_be_split(monkeypatch: pytest.MonkeyPatch, tasks: TaskSampler) -> None:
    monkeypatch.setattr(parallel, "world_size", lambda: 3)
    with pytest.raises(ValueError, match="2 tasks cannot be split over 3 processes"):
        parallel.check_split(tasks.sample()[:2])
