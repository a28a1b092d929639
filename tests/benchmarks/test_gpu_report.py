"""The GPU report is rehearsed here, since a mistake in it would be found only where time is dear."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.engines import fake_capture
from torch.optim import Adam

from cxgrad_lite import METHODS
from cxgrad_lite.training import engines, evaluation, graph, state

pytestmark = pytest.mark.skipif(
    not hasattr(torch.cuda.CUDAGraph, "register_generator_state"), reason="before torch 2.4: no graph"
)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture()
def report(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The module, on a machine that seems to have graphs; what they would hold is run each time."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(engines, "obstacle_to_capture", lambda method, tasks: None)
    monkeypatch.setattr(evaluation, "obstacle_to_capture", lambda method, tasks: "no graph")
    monkeypatch.setattr(graph, "capture", fake_capture)
    monkeypatch.setattr(graph, "new_streams", lambda tasks: [])
    monkeypatch.setattr(state, "Adam", lambda parameters, lr, fused: Adam(parameters, lr=lr, fused=True))
    import gpu_report
    from gpu import agree

    some = ("MAML", "CxGrad", "ProtoNet", "MatchingNet", "MAMLPlusPlus")
    monkeypatch.setattr(agree, "METHODS", {name: METHODS[name] for name in some})

    yield gpu_report
    for name in ("gpu_report", "gpu.agree", "gpu.probe", "gpu.table", "gpu", "contenders", "jobs", "worker"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("section", ["probe", "agree", "speed", "long"])
def test_a_section_runs_on_a_cpu(section: str, report, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = report.run_section(section, 16, "cpu", tmp_path / "part.json")
    assert rows and json.loads((tmp_path / "part.json").read_text()) == rows
    failed = [row for row in rows if row.get("pass") is False]
    # Without a graph nothing is repeated, so nothing is caught either.
    assert [row["what"] for row in failed if "host fall back" not in row["what"]] == [], failed


def test_the_whole_report_is_one_file(tmp_path: Path, report, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", *f"--device cpu --size 8 --sections probe --out {out}".split()])
    assert report.main() == 0
    stored = json.loads(out.read_text())
    assert stored["about"]["device"].startswith("none") and len(stored["probe"]) > 5
    monkeypatch.setitem(report.LIMITS, "probe", 0.01)
    assert report.main() == 1 and "ended with" in json.loads(out.read_text())["probe"][-1]["what"]


def test_the_page_has_the_numbers_of_the_report(report) -> None:  # type: ignore[no-untyped-def]
    stored = json.loads((BENCHMARKS.parent / "results" / "gpu_h200.json").read_text())
    page = (BENCHMARKS.parent / "results" / "gpu.md").read_text(encoding="utf-8")
    assert report.table(stored) in page
    for row in stored["probe"]:
        assert f"{row['number']:.3g}" in page, row
