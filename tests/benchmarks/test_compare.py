"""The benchmark on a tiny network: the processes, what is compared, what is refused, and the tables."""

from __future__ import annotations

import argparse
import re
import signal
from dataclasses import replace
from pathlib import Path

import compare
import contenders
import pytest
import torch
import worker
from compare import main
from jobs import Case, Job
from worker import TUNED, Row, environment

TINY = Case(size=16, width=4, queries=2, steps=2, inner_lr=0.1)
REASON = "the peers are not dependencies; pip install higher torchopt"

WRONG_CLASSIFIER = """
from torch import nn, tensor

class MAMLFewShotClassifier(nn.Module):
    def __init__(self, shape, device, args):
        super().__init__()
        print("chatter on standard output, as in the original")

    def load_state_dict(self, given, strict):
        return [], []

    def train_forward_prop(self, batch, epoch, current_iter):
        return {"loss": tensor(1.5)}, None

    def meta_update(self, loss):
        pass
"""


@pytest.fixture()
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of that name, one allocator setting, and two contenders."""
    monkeypatch.setitem(compare.SETTINGS, "tiny", TINY)
    monkeypatch.setattr(compare, "allocators", lambda device: ["tuned"])
    monkeypatch.setattr(compare, "CONTENDERS", {"MAML": ["ours", "authors"]})


def first_losses(contender: str, case: Case = TINY) -> list[float]:
    """Of two meta-iterations, in this process."""
    step = contenders.CONTENDERS[contender](Job(case, contender))
    return [step(), step()]


def result(seconds: float, first: float = 1.5) -> dict[str, object]:
    return {"seconds": seconds, "losses": [first, 1.25], "start_mb": 500.0, "peak_mb": 600.0}


def row(contender: str, *results: dict[str, object], allocator: str = "tuned", note: str = "") -> Row:
    return Row(contender, allocator, Job(TINY, contender), list(results), note)


def test_from_the_command_to_the_table(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "table.md"
    assert main(["--setting", "tiny", "--repeats", "1", "--threads", "1", "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    assert f"torch {torch.__version__}" in text and "1 thread(s)" in text and "16×16 pixels" in text
    assert "1 repeats (fewer than five: a try, not a result)" in text
    line = next(line for line in text.splitlines() if line.startswith("| ours |"))
    seconds, megabytes, ratio = re.fullmatch(
        r"\| ours \| tuned \| ([\d.]+) \(.*?\) \| (\d+) \| (1.00×) .*", line
    ).groups()
    assert 0 < float(seconds) < 60 and 50 < float(megabytes) < 10_000 and ratio == "1.00×"
    assert "| authors | tuned | not installed: git clone https://github.com/shlee625/CxGrad" in text
    assert "the largest relative difference between contenders is 0e+00" in text
    assert compare.losses(first_losses("ours")) in text, "the process computes what this one does"


def test_other_losses_are_refused(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    do = worker.do
    monkeypatch.setattr(worker, "do", lambda job, t: result(1, 1.6) if job.contender == "ours" else do(job, t))
    (tmp_path / "few_shot_learning_system.py").write_text(WRONG_CLASSIFIER)
    settings = tmp_path / contenders.MAML_JSON
    settings.parent.mkdir(parents=True)
    settings.write_text("{}")
    out = tmp_path / "table.md"
    options = ["--setting", "tiny", "--threads", "1", "--authors", str(tmp_path), "--out", str(out)]
    assert main(options) == 1
    said = capsys.readouterr()
    assert "no table: authors does not compute what ours computes" in said.err and "1.500000, 1.500000" in said.err
    assert not said.out and not out.exists()


@pytest.mark.parametrize("peer", ["higher", "torchopt"])
def test_peers_compute_the_same(peer: str) -> None:
    pytest.importorskip(peer, reason=REASON)
    expected = first_losses("ours")
    assert first_losses(peer) == pytest.approx(expected, rel=1e-5)
    assert expected[1] < expected[0] - 0.01, "Adam's step shows in the second loss"
    changed = Case(size=16, width=4, queries=2, steps=1, inner_lr=0.1)
    assert compare.difference(first_losses(peer, changed), expected) > compare.ROUNDING["MAML"], "one step less shows"


def test_bf16_is_close_but_not_equal() -> None:
    far = compare.difference(first_losses("ours, bf16"), first_losses("ours"))
    assert 1e-5 < far < 0.1


def test_what_the_authors_get() -> None:
    support, query, labels, query_labels = contenders.their_batch(TINY, TINY.meta_batch("cpu"))
    assert support.shape == (2, 5, 5, 1, 16, 16) and query.shape == (2, 5, 2, 1, 16, 16)
    assert labels.shape == (2, 5, 5) and labels[1, 3].tolist() == [3.0] * 5 and query_labels.shape == (2, 5, 2)
    (images, _), _ = TINY.meta_batch("cpu")[1]
    assert torch.equal(support[1].flatten(0, 1), images)
    with pytest.raises(ValueError, match="other parameters.*gamma_generator"):
        other = torch.nn.ModuleDict({"classifier": torch.nn.Identity()})
        contenders.give_weights(other, Case(size=16, width=4, method="CxGrad").build("cpu"))


@pytest.mark.parametrize(
    "options",
    [
        ["--repeats", "0"],
        ["--iterations", "0"],
        ["--threads", "0"],
        ["--authors", "/nowhere"],
        ["--out", "/nowhere/table.md"],
        pytest.param(["--device", "cuda"], marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")),
    ],
)
def test_wrong_input(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    assert capsys.readouterr().err.startswith("compare: ")


def test_missing_peers_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "find_spec", lambda name: None)
    absent = {name: worker.absence(Job(TINY, name)) for name in compare.CONTENDERS["MAML"]}
    assert absent.pop("authors").startswith("not installed: git clone")
    assert absent == {
        "ours": "",
        "ours, eager": "",
        "ours, bf16": "",
        "higher": "not installed: pip install higher",
        "torchopt": "not installed: pip install torchopt",
    }


def test_bf16_has_one_row_and_the_others_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "allocators", lambda device: ["default", "tuned"])
    rows = compare.make_rows(TINY, ["ours", "ours, bf16"], main_options([]))
    assert [(r.contender, r.allocator) for r in rows] == [
        ("ours", "default"),
        ("ours", "tuned"),
        ("ours, bf16", "tuned"),
    ]


def test_table() -> None:
    rows = [
        row("ours", result(1.0), result(0.8), result(1.1), allocator="default"),
        row("authors", result(2.0), result(2.4), result(1.1), allocator="default"),
        row("ours", result(0.5), result(0.6), result(0.4)),
        row("authors", note="failed: RuntimeError: no"),
    ]
    lines = compare.table(rows).splitlines()
    assert lines[2] == "| ours | default | 1.00 (0.80–1.10) | 600 | 1.00× (1.00–1.00) | 2.00× (1.33–2.75) |"
    assert lines[3] == "| authors | default | 2.00 (1.10–2.40) | 600 | 2.00× (1.00–3.00) | 4.00× (2.75–4.00) |"
    assert lines[4].startswith("| ours | tuned | 0.500 (0.400–0.600) |")
    assert lines[5] == "| authors | tuned | failed: RuntimeError: no |  |  |  |"
    assert {line.count("|") for line in lines} == {7}


def test_losses_of_every_round_are_compared() -> None:
    mine = row("ours", result(1.0), result(1.0))
    assert compare.check_losses([mine, row("authors", result(1.0, 1.503))], 1e-2) == pytest.approx(2e-3)
    for wrong in (1.53, float("nan")):
        with pytest.raises(compare.Refused, match="authors does not compute"):
            compare.check_losses([mine, row("authors", result(1.0), result(1.0, wrong))], 1e-2)
    with pytest.raises(compare.Refused, match="our own code did not run; failed: X"):
        compare.check_losses([row("ours", note="failed: X"), row("authors", result(1.0))], 1e-2)


def test_bf16_is_reported_beside_the_exact_ones() -> None:
    rows = [row("ours", result(1.0)), row("higher", result(1.0, 1.50015)), row("ours, bf16", result(1.0, 1.53))]
    assert compare.about_losses(rows).endswith("1e-04 apart in float32; bf16 autocast changes them by 2 %.")
    assert compare.about_losses(rows[:2]).endswith("1e-04 apart in float32.")


def test_rounds_take_turns_and_a_failure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def do(job: Job, tuned: bool) -> dict[str, object]:
        seen.append((job.contender, tuned))
        return {"error": "RuntimeError: no"} if job.contender == "higher" else result(1.0)

    monkeypatch.setattr(worker, "do", do)
    rows = [row("ours", allocator="default"), row("higher"), row("authors")]
    assert list(worker.run_all(rows, 2)) == [1, 2]
    assert seen == [("ours", False), ("higher", True), ("authors", True), ("authors", True), ("ours", False)]
    assert rows[1].note == "failed: RuntimeError: no" and len(rows[0].results) == 2


def test_curves_change_one_number_at_a_time(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def do(job: Job, tuned: bool) -> dict[str, object]:
        return result(float(job.case.steps * job.case.tasks))

    monkeypatch.setattr(worker, "do", do)
    monkeypatch.setattr(compare, "CURVES", {"steps": (2, 4), "tasks": (2, 6)})
    options = main_options(["--setting", "tiny", "--curves", "--repeats", "2"])
    lines = compare.curves(TINY, options).splitlines()
    assert lines[4:] == [
        "| steps | 2 | 4.00 (4.00–4.00) | 600 | 500 |",
        "| steps | 4 | 8.00 (8.00–8.00) | 600 | 500 |",
        "| tasks | 2 | 4.00 (4.00–4.00) | 600 | 500 |",
        "| tasks | 6 | 12.00 (12.00–12.00) | 600 | 500 |",
    ]


def main_options(arguments: list[str]) -> argparse.Namespace:
    return compare.build_parser().parse_args(arguments)


def test_a_process_gets_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    job = Job(TINY, "ours", threads=3)
    assert Job.loads(job.dumps()) == job
    plain, tuned = environment(job, tuned=False), environment(job, tuned=True)
    assert not set(TUNED) & set(plain) and TUNED.items() <= tuned.items()
    assert plain["OMP_NUM_THREADS"] == "3" and plain["CUDA_VISIBLE_DEVICES"] == ""


def test_a_process_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.sys, "executable", "false")
    assert "the process ended with 1" in worker.do(Job(TINY, "ours"))["error"]


def test_some_contenders_may_be_left_out_but_not_ours() -> None:
    every, some = main_options([]), main_options(["--contenders", "authors", "higher"])
    case = compare.SETTINGS["small"]
    assert compare.chosen(case, every) == compare.CONTENDERS["MAML"]
    assert compare.chosen(case, some) == ["ours", "higher", "authors"]
    assert compare.chosen(replace(case, method="CxGrad"), some) == ["ours", "authors"]


def test_ctrl_c_ends_without_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compare, "comparison", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(["--setting", "small", "--threads", "1"]) == 130
    assert capsys.readouterr().err == "compare: interrupted; no table\n"
