"""Checkpoints and states of runs that were damaged, forged or made by others: right, or refused in one sentence."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import REPEATABLE, STRANGE, STRANGE_TENSORS, damaged_bytes, damaged_table
from safetensors.torch import load_file, save_file

from cxgrad_lite import Conv4, CxGrad, TrainConfig, load_checkpoint, save_checkpoint
from cxgrad_lite.core.method import Method
from cxgrad_lite.training.checkpoints import read_header
from cxgrad_lite.training.resume import LAST, PREVIOUS, RunFolder
from cxgrad_lite.training.state import Run
from data_utils import TaskSampler

FEW, MANY = 50, 1000


def tiny() -> Method:
    torch.manual_seed(0)
    return CxGrad(Conv4(1, 16, 3, width=4), inner_steps=1, context_dim=5)


def rewrite(path: Path, header: Any = None, **tensors: Any) -> Path:
    """The checkpoint with another header, or with some tensors changed, or, where one is None, left out."""
    stored = {name: t for name, t in (load_file(path) | tensors).items() if t is not None}
    save_file(stored, path, metadata={"cxgrad_lite": json.dumps(read_header(path) if header is None else header)})
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "m.safetensors", tiny(), seed=0)
    return tmp_path / "m.safetensors"


HEAD = "net.head.weight"


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({HEAD: torch.full((3, 4), torch.nan)}, "12 of the 12 numbers in net.head.weight are NaN or infinite"),
        ({HEAD: torch.full((3, 4), torch.inf)}, "are NaN or infinite"),
        ({HEAD: torch.ones(3, 4, dtype=torch.int64)}, "must be torch.float32 of shape .3, 4., not torch.int64"),
        ({HEAD: torch.ones(3, 4, dtype=torch.bool)}, "not torch.bool"),
        ({HEAD: torch.ones(3, 4, dtype=torch.complex64)}, "not torch.complex64"),
        ({HEAD: torch.ones(3, 5)}, "not torch.float32 of shape .3, 5."),
        ({HEAD: None}, "net.head.weight is missing"),
        ({"net.tail": torch.ones(1)}, "net.tail is none of its tensors"),
    ],
)
def test_a_tensor_that_cannot_be_is_named(checkpoint: Path, tensors: dict[str, Any], words: str) -> None:
    try:
        rewrite(checkpoint, **tensors)
    except KeyError as error:
        pytest.skip(f"this version of safetensors writes no {error}")
    with pytest.raises(ValueError, match=rf"{checkpoint.name}: .*{words}"):
        load_checkpoint(checkpoint)


def test_a_flipped_bit_makes_no_other_weight(checkpoint: Path) -> None:
    data = bytearray(checkpoint.read_bytes())
    data[-7] ^= 1  # of the last number: still finite
    checkpoint.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{checkpoint.name} is damaged: its numbers are not those"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda h: h["recipe"]["options"].update(inner_steps=10**9), "inner_steps must be a whole number from 0 to 1"),
        (lambda h: h["recipe"]["options"].update(inner_lr="0.1"), "inner_lr must be a number of at least 0, not '0.1'"),
        (lambda h: h["recipe"]["options"].update(inner_lr=float("nan")), "inner_lr must be .*, not nan"),
        (lambda h: h["recipe"]["options"].update(second_order=1), "second_order must be true or false, not 1"),
        (lambda h: h["recipe"]["options"].update(inner_rate=1), "no setting 'inner_rate'; did you mean inner"),
        (lambda h: h["recipe"]["net"].update(width=4096), "net.* must be torch.float32 of shape .4096, "),
        (lambda h: h["recipe"]["net"].update(width=30_000), "width must be a whole number from 1 to 4096, not 30000"),
        (lambda h: h["recipe"]["net"].update(image_size=2), "m.safetensors: poolings must be 0 to 1"),
        (lambda h: h["recipe"].update(method="MAMLL"), "no method 'MAMLL'; did you mean MAML"),
        (lambda h: h["recipe"].update(net=[]), "net must be a table, not .."),
        (lambda h: h["recipe"].pop("net"), "Parts lacks net"),
        (lambda h: h.pop("provenance"), "Header lacks provenance"),
        (lambda h: h.update(format="1"), "format must be a whole number"),
        (lambda h: h.update(format=2), "newer version"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_named(checkpoint: Path, change: Callable[[Any], Any], words: str) -> None:
    header = read_header(checkpoint)
    change(header)
    with pytest.raises(ValueError, match=words) as refused:
        load_checkpoint(rewrite(checkpoint, header))
    assert str(checkpoint) in str(refused.value)


def test_a_network_too_large_for_its_file_takes_no_memory(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, made = read_header(checkpoint), []
    header["recipe"]["net"]["width"] = 4096
    monkeypatch.setattr(Conv4, "reset_parameters", lambda net: made.append(net.head.weight.device.type))
    with pytest.raises(ValueError, match="4096"):
        load_checkpoint(rewrite(checkpoint, header))
    assert set(made) == {"meta"}


@pytest.mark.parametrize("text", ["{", "[]", "3", '"x"', "[" * 100_000])
def test_a_header_that_is_no_table(checkpoint: Path, text: str) -> None:
    save_file(load_file(checkpoint), checkpoint, metadata={"cxgrad_lite": text})
    with pytest.raises(ValueError, match=checkpoint.name):
        read_header(checkpoint)


# --- states of runs


def a_run(tasks: TaskSampler) -> Run:
    return Run(tiny(), tasks, TrainConfig(4, progress=False, engine="eager"))


def saved(folder: Path, tasks: TaskSampler) -> Run:
    """A run of one meta-iteration, whose state is in the folder."""
    from cxgrad_lite.training.loop import meta_steps

    run, keeper = a_run(tasks), RunFolder(folder)
    with keeper.open(run):
        next(meta_steps(run))
        keeper.save(run)
    return run


def reopened(folder: Path, tasks: TaskSampler) -> Run:
    run = a_run(tasks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with RunFolder(folder, resume=True).open(run):
            return run


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *flat(value[key]))]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flat(item)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.pop("optimiser"), "State lacks optimiser"),
        (lambda s: s.update(optimiser={}), "optimiser's moments"),
        (lambda s: s["optimiser"][0].update(exp_avg=torch.zeros(1)), "the optimiser's parameter 0: exp_avg must be"),
        (lambda s: s["optimiser"].update({99: {}}), "knows a parameter 99"),
        (lambda s: s["method"].update({HEAD: torch.full((3, 4), torch.nan)}), "numbers in net.head.weight are NaN"),
        (lambda s: s["history"].pop("seconds"), "History lacks seconds"),
        (lambda s: s["history"]["loss"].pop(), "one loss and one accuracy"),
        (lambda s: s["history"].update(validation=[(1, "x")]), "validation are missing"),
        (lambda s: s["tasks"].update(generator=torch.zeros(3, dtype=torch.uint8)), "last.run is damaged"),
        (lambda s: s["random"].pop("numpy"), "numpy"),
    ],
)
def test_a_part_that_is_missing_or_wrong_is_damage(
    tmp_path: Path, tasks: TaskSampler, change: Callable[[Any], Any], words: str
) -> None:
    saved(tmp_path, tasks)
    stored = torch.load(tmp_path / LAST, weights_only=True)
    change(stored["state"])
    torch.save(stored, tmp_path / LAST)
    run = a_run(tasks)
    before = run.state()
    with pytest.warns(UserWarning, match=words), pytest.raises(ValueError, match="no state .* can be read"):
        with RunFolder(tmp_path, resume=True).open(run):
            pass
    assert flat(run.state()["method"]) == flat(before["method"]), "nothing was half restored"


def test_one_flipped_bit_is_found(tmp_path: Path, tasks: TaskSampler) -> None:
    """In whichever number of a tensor; torch.load reads it as another number."""
    saved(tmp_path, tasks)
    data = bytearray((tmp_path / LAST).read_bytes())
    weight = tiny().state_dict()["generator.0.weight"].numpy().tobytes()
    moved = load_state(tmp_path / LAST)["method"]["generator.0.weight"].numpy().tobytes()
    assert moved != weight
    data[data.find(moved) + 1] ^= 1
    (tmp_path / LAST).write_bytes(data)
    with pytest.warns(UserWarning, match="checksum of .* is wrong"), pytest.raises(ValueError, match="no state"):
        with RunFolder(tmp_path, resume=True).open(a_run(tasks)):
            pass


def load_state(path: Path) -> Any:
    return torch.load(path, weights_only=True)["state"]


def test_a_state_in_a_folders_place(tmp_path: Path, tasks: TaskSampler) -> None:
    saved(tmp_path, tasks)
    (tmp_path / LAST).rename(tmp_path / PREVIOUS)
    (tmp_path / LAST).mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder, where a run keeps a file: .*last.run"):
        reopened(tmp_path, tasks)


# --- by chance


def hunt(count: int, try_one: Callable[[Any], None], mutated: Callable[[Random], Any]) -> None:
    @settings(max_examples=count, **REPEATABLE)
    @given(st.randoms())
    def hunted(random: Random) -> None:
        try_one(mutated(random))

    hunted()


SCALES = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", SCALES)
def test_mutated_checkpoints_load_or_are_refused(checkpoint: Path, count: int) -> None:
    data, header, refused = checkpoint.read_bytes(), read_header(checkpoint), []
    tensors = {name: t.clone() for name, t in load_file(checkpoint).items()}  # some versions map the file

    def load() -> None:
        try:
            method = load_checkpoint(checkpoint)
        except ValueError as error:
            assert checkpoint.name in str(error) and "\n" not in str(error)
            refused.append(str(error))
        else:
            assert all(t.isfinite().all() for t in method.state_dict().values())

    def bytes_changed(changed: bytes) -> None:
        checkpoint.write_bytes(changed)
        load()

    def values_changed(changed: Any) -> None:
        checkpoint.write_bytes(data)
        rewrite(checkpoint, changed)
        load()

    def tensors_changed(changed: Any) -> None:
        flat = {str(name): t.clone().contiguous() for name, t in changed.items() if isinstance(t, torch.Tensor)}
        save_file(flat, checkpoint, metadata={"cxgrad_lite": json.dumps(header)})
        load()

    hunt(count // 3 + 1, bytes_changed, lambda random: damaged_bytes(random, data))
    hunt(count // 3 + 1, values_changed, lambda random: damaged_table(random, header))
    hunt(count // 3 + 1, tensors_changed, lambda random: damaged_table(random, tensors, STRANGE_TENSORS))
    assert len(set(refused)) > 20


@pytest.mark.parametrize("count", SCALES)
def test_mutated_states_are_restored_whole_or_refused(tmp_path: Path, tasks: TaskSampler, count: int) -> None:
    saved(tmp_path, tasks)
    last, outcomes = tmp_path / LAST, []
    data, whole = last.read_bytes(), flat(reopened(tmp_path, tasks).state())
    stored = torch.load(last, weights_only=True)
    stored["header"] = json.loads(stored["header"])

    def reopen() -> list[Any] | None:
        try:
            state = reopened(tmp_path, tasks).state()
        except ValueError as error:
            words = ("no state in", "belongs to another run", "does not say its")
            assert any(text in str(error) for text in words) and "\n" not in str(error)
            outcomes.append("refused")
            return None
        outcomes.append("restored")
        return flat(state)

    def bytes_changed(changed: bytes) -> None:
        last.write_bytes(changed)
        assert reopen() in (None, whole), "what is restored is what was saved"

    def values_changed(changed: Any) -> None:
        if isinstance(changed.get("header"), dict):
            changed["header"] = json.dumps(changed["header"], default=str)
        torch.save(changed, last)
        reopen()

    assert reopen() == whole, "what is not damaged is restored"
    hunt(count // 2, bytes_changed, lambda random: damaged_bytes(random, data))
    hunt(count // 2, values_changed, lambda random: damaged_table(random, stored, STRANGE + STRANGE_TENSORS))
    assert {"refused", "restored"} <= set(outcomes)
