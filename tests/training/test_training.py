"""The outer loop, evaluation and checkpoints, through the public names."""

from __future__ import annotations

import copy
import math
import os
import re
import signal
import textwrap
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from cxgrad_lite import (
    MAML,
    METHODS,
    Conv4,
    CxGrad,
    Evaluation,
    History,
    Method,
    TrainConfig,
    evaluate,
    load_checkpoint,
    meta_train,
    save_checkpoint,
)
from cxgrad_lite.core import outer
from cxgrad_lite.core.method import Batch, Theta
from cxgrad_lite.core.outer import clip, meta_gradient
from cxgrad_lite.recipes.recipe import has_inner_rate
from cxgrad_lite.training import checkpoints
from cxgrad_lite.training.checkpoints import read_header
from cxgrad_lite.training.engines import arithmetic
from cxgrad_lite.training.loop import Run, meta_steps
from data_utils import ImageClasses, TaskSampler

QUIET = TrainConfig(iterations=4, progress=False)


def make(name: str = "CxGrad", seed: int = 0, ways: int = 3) -> Method:
    torch.manual_seed(seed)
    options = {"inner_lr": 0.05, "inner_steps": 2} if has_inner_rate(name) else {}
    return METHODS[name](Conv4(1, 16, ways, width=8, poolings=2 if name == "RelationNet" else 4), **options)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MAML", "CxGrad"])
def test_training_learns_to_learn(name: str, stripes: ImageClasses) -> None:
    train = TaskSampler(stripes.select(stripes.names[:8]), 3, 2, 5, tasks_per_batch=4, seed=1)
    unseen = TaskSampler(stripes.select(stripes.names[8:]), 3, 2, 5, seed=2)
    method = make(name)
    before = evaluate(method, unseen, episodes=60)
    history = meta_train(method, train, TrainConfig(iterations=60, meta_lr=5e-3, progress=False))
    after = evaluate(method, unseen, episodes=60)
    assert len(history.loss) == len(history.accuracy) == 60 and not history.interrupted
    assert sum(history.loss[-10:]) < sum(history.loss[:10])
    assert after.mean - after.ci95 > before.mean + before.ci95


def test_the_same_seeds_give_the_same_run(stripes: ImageClasses) -> None:
    def run() -> tuple[History, Method]:
        method = make()
        return meta_train(method, TaskSampler(stripes, 3, 2, 3, seed=7), QUIET), method

    (first, a), (second, b) = run(), run()
    assert first.loss == second.loss
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_the_meta_gradient_is_the_mean_over_tasks(tasks: TaskSampler) -> None:
    method, episodes = make(), tasks.sample()
    losses, accuracies = meta_gradient(method, episodes)
    ours = [p.grad.clone() for p in method.parameters() if p.grad is not None]
    method.zero_grad()
    expected = torch.stack([method(support, query) for support, query in episodes]).mean()
    expected.backward()
    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.shape == accuracies.shape == (len(episodes),) and all(0 <= a <= 1 for a in accuracies)
    for mine, parameter in zip(ours, method.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)


def test_schedule_and_clipping(tasks: TaskSampler) -> None:
    def largest_move(**config: object) -> list[float]:
        method, moves = make("MAML"), []
        start = [method.net.head.weight.detach().clone()]

        def note(history: History) -> None:
            now = method.net.head.weight.detach().clone()
            moves.append((now - start[0]).abs().max().item())
            start[0] = now

        meta_train(method, tasks, TrainConfig(iterations=6, progress=False, **config), callback=note)  # type: ignore[arg-type]
        return moves

    constant, cosine = largest_move(), largest_move(schedule="cosine")
    assert cosine[0] == pytest.approx(1e-3, rel=1e-2) and cosine[-1] < 0.2 * constant[-1]
    method = make("MAML")
    meta_gradient(method, tasks.sample())
    clip(method.parameters(), value=1e-3)
    assert max(p.grad.abs().max().item() for p in method.parameters() if p.grad is not None) <= 1.001e-3
    clip(method.parameters(), norm=1e-4)
    total = math.sqrt(sum(p.grad.square().sum().item() for p in method.parameters() if p.grad is not None))
    assert total == pytest.approx(1e-4, rel=1e-3)


def test_validation_is_recorded(tasks: TaskSampler) -> None:
    config = TrainConfig(iterations=5, validate_every=2, validation_episodes=4, progress=False)
    history = meta_train(make(), tasks, config, validation=tasks)
    assert [iteration for iteration, _ in history.validation] == [2, 4]
    assert all(isinstance(result, Evaluation) for _, result in history.validation)
    with pytest.raises(ValueError, match="no validation tasks"):
        meta_train(make(), tasks, config)


def test_a_callback_can_end_the_run(tasks: TaskSampler) -> None:
    history = meta_train(make(), tasks, QUIET, callback=lambda history: len(history.loss) == 2)
    assert len(history.loss) == 2 and history.interrupted


def test_an_interrupt_ends_the_run_and_loses_nothing(tasks: TaskSampler) -> None:
    before = signal.getsignal(signal.SIGINT)
    method = make()

    def press_stop(history: History) -> None:
        if len(history.loss) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    history = meta_train(method, tasks, TrainConfig(iterations=1000, progress=False), callback=press_stop)
    assert history.interrupted and 3 <= len(history.loss) <= 4
    assert signal.getsignal(signal.SIGINT) is before

    def press_twice(history: History) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    history = meta_train(method, tasks, TrainConfig(iterations=1000, progress=False), callback=press_twice)
    assert history.interrupted and len(history.loss) == 1


def test_training_in_a_worker_thread(tasks: TaskSampler) -> None:
    results: list[History] = []
    thread = threading.Thread(target=lambda: results.append(meta_train(make(), tasks, QUIET)))
    thread.start()
    thread.join()
    assert len(results[0].loss) == 4


def test_a_loss_that_overflows_names_iteration_task_and_step(tasks: TaskSampler) -> None:
    method = make("MAML")
    method.inner_lr = 1e39
    before = [p.detach().clone() for p in method.parameters()]
    with pytest.raises(FloatingPointError, match=r"meta-iteration 1, task 1 of 2: .* inner step 2"):
        meta_train(method, tasks, QUIET)
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True))


def test_a_meta_gradient_that_overflows_is_refused_before_it_destroys_the_parameters(tasks: TaskSampler) -> None:
    method = make("MAML")
    outer, weight = method.outer, method.net.head.weight

    def overflow(*episode: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        loss, logits = outer(*episode)
        return loss + (0 * weight).norm().sqrt(), logits  # adds zero, with an infinite slope

    method.outer = overflow  # type: ignore[method-assign]
    before = [p.detach().clone() for p in method.parameters()]
    with pytest.raises(FloatingPointError, match=r"meta-gradient of net.head.weight"):
        meta_train(method, tasks, QUIET)
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True))


def test_the_bar_shows_loss_accuracy_and_time_left(tasks: TaskSampler, capsys: pytest.CaptureFixture[str]) -> None:
    meta_train(make(), tasks, TrainConfig(iterations=3))
    shown = capsys.readouterr().err
    assert "CxGrad" in shown and "loss=" in shown and "accuracy=" in shown and "3/3" in shown and "<" in shown


def test_configurations_that_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="meta_lr must be a number above 0"):
        TrainConfig(meta_lr=0)
    with pytest.raises(ValueError, match="iterations must be a whole number of at least 1"):
        TrainConfig(iterations=0)
    with pytest.raises(ValueError, match="schedule must be"):
        TrainConfig(schedule="linear")  # type: ignore[arg-type]


def test_the_program_in_the_docstring_trains_as_meta_train_does(stripes: ImageClasses) -> None:
    assert outer.__doc__
    program = textwrap.dedent(re.split(r"\n\n(?=\S|$)", outer.__doc__.split("is\n\n", 1)[1])[0])
    trained, sampler = make(), TaskSampler(stripes, 3, 2, 3, seed=7)
    exec(program, vars(outer) | {"method": trained, "tasks": sampler, "iterations": 4})
    expected = make()
    config = TrainConfig(4, clip_norm=10, engine="eager", progress=False)
    meta_train(expected, TaskSampler(stripes, 3, 2, 3, seed=7), config)
    assert all(torch.equal(p, q) for p, q in zip(trained.parameters(), expected.parameters(), strict=True))


def test_meta_steps_may_be_taken_one_by_one(stripes: ImageClasses) -> None:
    expected, method = make(), make()
    history = meta_train(expected, TaskSampler(stripes, 3, 2, 3, seed=7), QUIET)
    run = Run(method, TaskSampler(stripes, 3, 2, 3, seed=7), QUIET)
    steps = meta_steps(run)
    next(steps)
    beginning, first = run.state(), copy.deepcopy(method.state_dict())
    next(steps)
    run.restore(beginning)
    assert run.done == 1 and all(torch.equal(t, first[name]) for name, t in method.state_dict().items())
    assert [len(history.loss) for history in meta_steps(run)] == [2, 3, 4]
    assert run.history.loss == history.loss
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), expected.parameters(), strict=True))
    assert (run.history.engine, history.engine, history.precision) == ("fused", "fused", "float32")


def test_what_is_no_source_of_tasks_is_refused_in_one_sentence(stripes: ImageClasses, tasks: TaskSampler) -> None:
    dataset = torch.utils.data.TensorDataset(torch.zeros(4, 1, 16, 16), torch.arange(4))
    for wrong in (dataset, torch.utils.data.DataLoader(dataset), stripes, None):
        with pytest.raises(TypeError, match=r"tasks must have sample\(\).*TaskSampler\(data_utils.from_dataset"):
            meta_train(make(), wrong, QUIET)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"tasks must have episodes\(\)"):
            evaluate(make(), wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tasks must have episodes\(\)"):
        meta_train(make(), tasks, TrainConfig(validate_every=1), validation=dataset)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_refused(mode: Any, tasks: TaskSampler) -> None:
    with mode(), pytest.raises(RuntimeError, match="meta-training needs gradients; leave torch.no_grad"):
        meta_train(make(), tasks, QUIET)


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_evaluation_is_repeatable_and_its_interval_is_the_stated_one(tasks: TaskSampler) -> None:
    method = make()
    result = evaluate(method, tasks, episodes=20)
    tasks.sample()
    again = evaluate(method, tasks, episodes=20)
    assert torch.equal(result.per_task, again.per_task) and result.per_task.shape == (20,)
    assert result.mean == pytest.approx(result.per_task.mean().item())
    assert result.ci95 == pytest.approx(1.96 * result.per_task.std().item() / math.sqrt(20))
    assert "95 % interval over 20 tasks" in str(result)


def test_evaluation_inside_no_grad_and_inference_mode(tasks: TaskSampler) -> None:
    method = make()
    expected = evaluate(method, tasks, episodes=5)
    with torch.no_grad():
        assert torch.equal(evaluate(method, tasks, episodes=5).per_task, expected.per_task)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="use torch.no_grad"):
        evaluate(method, tasks, episodes=5)
    assert all(p.grad is None for p in method.parameters())


def test_evaluation_is_without_dropout_and_leaves_every_mode_as_it_was(tasks: TaskSampler) -> None:
    method = make("MAML")
    expected = evaluate(method, tasks, episodes=5)
    method.net.blocks[3] = torch.nn.Sequential(method.net.blocks[3], torch.nn.Dropout(0.9))
    renamed = {f"blocks.3.0.{part}": f"blocks.3.{part}" for part in ("conv.weight", "norm.weight", "norm.bias")}
    method.is_fast = lambda name: MAML.is_fast(method, renamed.get(name, name))  # type: ignore[method-assign]
    method.net.blocks[0].eval()
    modes = [module.training for module in method.modules()]
    assert torch.equal(evaluate(method, tasks, episodes=5).per_task, expected.per_task)
    assert [module.training for module in method.modules()] == modes and len(set(modes)) == 2


def test_evaluation_has_an_arithmetic_of_its_own(tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    method, seen = make(), list[bool]()
    newer = hasattr(torch.backends.cudnn, "conv")  # torch 2.9 and later
    adapt = method.adapt

    def tf32() -> bool:
        return torch.backends.cudnn.conv.fp32_precision == "tf32" if newer else torch.backends.cudnn.allow_tf32

    def watched(support: Batch) -> Theta:
        seen.append(tf32())
        return adapt(support)

    monkeypatch.setattr(method, "adapt", watched)
    with arithmetic("tf32", torch.device("cpu")):
        evaluate(method, tasks, episodes=2)
        assert seen == [False, False] and tf32()
    evaluate(method, tasks, episodes=2, precision="tf32")
    assert seen == [False, False, True, True]


def test_the_papers_protocol_averages_logits_over_checkpoints(tasks: TaskSampler) -> None:
    methods = [make(seed=seed) for seed in range(3)]
    result = evaluate(methods, tasks, episodes=10, protocol="paper")
    assert result.ci95 == pytest.approx(1.96 * math.sqrt(result.mean * (1 - result.mean) / (10 * 9)))
    assert "paper's protocol" in str(result)
    one = evaluate(methods[0], tasks, episodes=10, protocol="paper")
    assert torch.equal(one.per_task, evaluate(methods[0], tasks, episodes=10).per_task)
    with pytest.raises(ValueError, match="3 methods were given"):
        evaluate(methods, tasks)
    with pytest.raises(ValueError, match="at least 2 episodes"):
        evaluate(methods[0], tasks, episodes=1)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_brings_back_the_method_and_its_provenance(name: str, tasks: TaskSampler, tmp_path: Path) -> None:
    method = make(name)
    meta_train(method, tasks, QUIET)
    path = tmp_path / "deep" / "method.safetensors"
    save_checkpoint(path, method, seed=3, command="python -m …")
    loaded = load_checkpoint(path)
    assert type(loaded) is type(method) and checkpoints.options(loaded) == checkpoints.options(method)
    assert torch.equal(evaluate(loaded, tasks, 5).per_task, evaluate(method, tasks, 5).per_task)
    assert read_header(path)["provenance"] == {"seed": 3, "command": "python -m …"}
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_what_is_not_finite_has_no_accuracy(tasks: TaskSampler) -> None:
    """NaN logits have a largest one, too: the first."""
    diverging = MAML(Conv4(1, 16, 3, width=4), inner_lr=1e30)
    result = evaluate(diverging, tasks, 4)
    assert str(result) == "no accuracy: the logits of 4 of 4 tasks are not finite" and math.isnan(result.mean)
    with pytest.raises(FloatingPointError, match="4 of 4 tasks"):
        result.checked()
    history = meta_train(
        MAML(Conv4(1, 16, 3, width=4), inner_steps=1), tasks, TrainConfig(1, validate_every=1, progress=False), tasks
    )
    assert history.validation[0][1].checked() is history.validation[0][1]


@pytest.mark.parametrize(
    "given, error, words",
    [
        (None, TypeError, "a method is needed, such as MAML.net., not NoneType"),
        (MAML, TypeError, "not the class MAML"),
        (Conv4(1, 16, 3, width=4), TypeError, "not Conv4"),
        ([], ValueError, "no method was given"),
    ],
)
def test_what_is_no_method(given: Any, error: type[Exception], words: str, tasks: TaskSampler) -> None:
    with pytest.raises(error, match=words):
        evaluate(given, tasks, 2, protocol="paper")
    if given != []:
        with pytest.raises(error, match=words):
            meta_train(given, tasks, TrainConfig(1, progress=False))


def test_tasks_beyond_those_asked_for_are_left(tasks: TaskSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    method, usual = MAML(Conv4(1, 16, 3, width=4), inner_steps=1), TaskSampler.episodes
    expected = evaluate(method, tasks, 3).per_task
    monkeypatch.setattr(TaskSampler, "episodes", lambda self, count: usual(self, count + 2))
    assert torch.equal(evaluate(method, tasks, 3).per_task, expected)


def test_tasks_that_are_missing_are_not_zeros(tasks: TaskSampler) -> None:
    class Three:
        def episodes(self, count: int) -> Any:
            return tasks.episodes(3)

    with pytest.raises(ValueError, match="6 tasks were asked for, and the source has 3"):
        evaluate(MAML(Conv4(1, 16, 3, width=4)), Three(), 6)  # type: ignore[arg-type]


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, make("CxGrad"))
    other = CxGrad(Conv4(1, 16, 3, width=8), inner_lr=0.2, inner_steps=2)
    with pytest.raises(ValueError, match=r"does not match: stored options=.*0.05.*; given options=.*0.2"):
        load_checkpoint(path, into=other)
    same = make("CxGrad", seed=9)
    assert load_checkpoint(path, into=same) is same


def test_a_class_that_forgets_an_argument_is_told_what_to_write(tmp_path: Path) -> None:
    class Mine(MAML):
        def __init__(self, net: Conv4, gain: float = 2.0) -> None:
            super().__init__(net)

    with pytest.raises(ValueError, match="Mine takes gain, but does not keep it; .* write self.gain = gain"):
        save_checkpoint(tmp_path / "mine.safetensors", Mine(Conv4(1, 16, 3, width=4)))


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, make())
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_checkpoint(torn)
    bare = tmp_path / "bare.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, str(bare))
    with pytest.raises(ValueError, match="no recipe"):
        load_checkpoint(bare)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, make())
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("cxgrad_lite.training.checkpoints.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, make(seed=1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_the_tasks_of_a_batch(tasks: TaskSampler) -> None:
    """When a task begins, nothing of the task before it is alive any more."""
    method = make("MAML")
    adapted: list[weakref.ref] = []
    adapt = method.adapt

    def watched(support: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert all(ref() is None for ref in adapted)
        theta = adapt(support)
        adapted.extend(weakref.ref(t) for t in theta.values())
        return theta

    method.adapt = watched  # type: ignore[method-assign, assignment]
    meta_gradient(method, tasks.sample())
    assert len(adapted) == 2 * 6
