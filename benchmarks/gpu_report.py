"""Everything that only a GPU can tell, in one command and one file to send us.

    python benchmarks/gpu_report.py [--sections probe agree speed long rivals] [--out gpu_report.json]

Each section is a process of its own with a limit of its own, prints its checks as PASS or FAIL with a number, and adds
its part to the file. ``--device cpu --size 16`` rehearses the whole thing where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from contenders import Fixed
from gpu.agree import Eager, agree, images, make
from gpu.probe import Row, probe, seconds
from gpu.table import table
from jobs import Case
from worker import cpu_name

from cxgrad_lite import TrainConfig, evaluate
from cxgrad_lite.training.engines import GRAPHS
from cxgrad_lite.training.loop import meta_steps
from cxgrad_lite.training.state import Run
from data_utils import TaskSampler

LIMITS = {"probe": 60, "agree": 180, "speed": 180, "long": 180, "rivals": 300}  # seconds
CASES = {
    "32 px, 32 filters, 5-shot, 2 tasks (CIFAR-FS here)": Case(3, 32, 32),
    "84 px, 48 filters, 5-shot, 2 tasks (the paper's)": Case(3, 84, 48),
    "28 px, 48 filters, 1-shot, 4 tasks": Case(1, 28, 48, shots=1, tasks=4),
}
ENGINES = (
    ("eager", "float32"), ("fused", "float32"), ("graph", "float32"), ("fused graph", "float32"),
    ("graph", "tf32"), ("fused graph", "tf32"), ("graph", "bf16"), ("fused graph", "bf16"),
)  # fmt: skip
LONG = "glyphs-5way-5shot-cxgrad-lr0.01-600it-seed0"
SMALL: dict[str, Any] = {"width": 4, "shots": 1, "queries": 1, "steps": 1, "tasks": 2}  # of a rehearsal


def agreement(size: int, device: str) -> Iterator[Row]:
    for what, good, number in agree(16, device):
        yield {"what": what, "number": number, "pass": good}


def step_of(case: Case, device: str, engine: str, precision: str) -> Callable[[], object]:
    """One meta-iteration with each call, as `meta_train` makes it."""
    config = TrainConfig(10**9, engine=engine, precision=precision, progress=False)  # type: ignore[arg-type]
    steps = meta_steps(Run(case.build(device), Fixed(case.meta_batch(device)), config))
    return lambda: next(steps)


def speed(size: int, device: str) -> Iterator[Row]:
    """Milliseconds of a meta-iteration by engine, arithmetic and setting; tasks side by side; evaluation."""
    small, repeats = device == "cpu", 10 if device == "cuda" else 1
    for title, full in list(CASES.items())[: 1 if small else None]:  # three small cases would be one and the same
        for method in ("MAML", "CxGrad"):
            case = replace(full, **SMALL, size=size, method=method) if small else replace(full, method=method)
            for engine, precision in ENGINES:
                row = {"what": f"{method}, {title}: {engine}, {precision}, ms per meta-iteration"}
                try:
                    torch.cuda.reset_peak_memory_stats() if device == "cuda" else None
                    row["number"] = 1e3 * seconds(
                        step_of(case, device, engine, precision), device, repeats if small or engine in GRAPHS else 3
                    )
                    row["GB"] = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
                except Exception as error:
                    row |= {"number": float("nan"), "pass": False, "why": f"{type(error).__name__}: {error}"[:300]}
                yield row
        case = replace(full, **SMALL, size=size) if small else full
        one = 1e3 * seconds(step_of(replace(case, tasks=1), device, "graph", "float32"), device, repeats)
        yield {"what": f"MAML, {title}: graph, one task, ms", "number": one}
    yield from evaluation_speed(size if small else 84, device)


def evaluation_speed(size: int, device: str) -> Iterator[Row]:
    """Milliseconds of adapting to one task and answering 15 queries a class."""
    data, count = images(size, device), 100 if device == "cuda" else 2
    method = make("CxGrad", size, inner_steps=5).to(device)
    for name, kind in (("graph", TaskSampler), ("eager", Eager)):
        tasks = kind(data, 5, 5, 7, 2, seed=7)
        taken = seconds(lambda tasks=tasks: evaluate(method, tasks, count), device, 1)  # type: ignore[misc]
        yield {"what": f"CxGrad, {size} px, 8 filters: evaluation, {name}, ms per task", "number": 1e3 * taken / count}


def long(size: int, device: str) -> Iterator[Row]:
    """A run that is killed in the middle and resumed; its memory, and the accuracy at the end."""
    iterations, episodes = (2000, 20) if device == "cuda" else (4, 2)
    with tempfile.TemporaryDirectory() as folder:
        words = f"--recipe {LONG} --device {device} --set iterations={iterations} --out {folder} --resume"
        words += f" --validate-every {iterations // 2} --validation-episodes {episodes} --minutes 0.02"
        command = [sys.executable, "-m", "cxgrad_lite", "train", *words.split()]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state = Path(folder) / "last.run"
        while first.poll() is None and not state.exists():
            time.sleep(0.2)
        time.sleep(1)
        first.send_signal(signal.SIGKILL)
        first.wait()
        start = time.perf_counter()
        second = subprocess.run(command, env=env, capture_output=True, text=True)
        said = (second.stdout + second.stderr)[-300:]
        yield {"what": f"{iterations} meta-iterations, killed and resumed, s", "number": time.perf_counter() - start,
               "pass": second.returncode == 0, "why": said}  # fmt: skip


def rivals(size: int, device: str) -> Iterator[Row]:
    """The benchmark's own table on this device: other packages, where they are installed."""
    command = [sys.executable, str(Path(__file__).with_name("compare.py")), "--device", device, "--repeats", "1"]
    setting = ["--setting", "paper", "--iterations", "20"] if device == "cuda" else ["--iterations", "1", "--help"]
    done = subprocess.run(command + setting, capture_output=True, text=True)
    yield {
        "what": "compare.py",
        "number": done.returncode,
        "pass": done.returncode == 0,
        "why": (done.stdout + done.stderr)[-4000:],
    }


SECTIONS = {"probe": probe, "agree": agreement, "speed": speed, "long": long, "rivals": rivals}


def header(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else "none: a rehearsal on a CPU"
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}
    return {"device": name, "host": cpu_name(), "date": date.today().isoformat(), **versions}


def run_section(name: str, size: int, device: str, out: Path) -> list[Row]:
    """In this process; each row is printed and written as it comes: a section that is stopped leaves its rows."""
    rows: list[Row] = []
    for row in SECTIONS[name](size, device):
        verdict = {None: "    ", True: "PASS", False: "FAIL"}[row.get("pass")]
        print(
            f"{verdict} {row['number']:>12.4g}  {row['what']} {'' if row.get('pass', True) else row.get('why', '')}",
            flush=True,
        )
        rows.append(row)
        out.write_text(json.dumps(rows))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", type=int, default=84, help="pixels of the probe (default: 84)")
    parser.add_argument("--out", type=Path, default=Path("gpu_report.json"))
    parser.add_argument("--here", action="store_true", help="run the sections in this process, without limits")
    parser.add_argument("--table", type=Path, metavar="REPORT", help="print the table of a report instead")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return 0
    report: dict[str, Any] = {"about": header(options.device)}
    for name in options.sections:
        start = time.perf_counter()
        if options.here:
            run_section(name, options.size, options.device, options.out)
            continue
        report[name] = in_process(name, options)
        report["about"][f"{name}, s"] = round(time.perf_counter() - start, 1)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    rows = [row for name in options.sections for row in report.get(name, [])]
    failed = [row["what"] for row in rows if row.get("pass") is False]
    print(f"{report['about']}\n{len(rows)} rows, {len(failed)} failed{': ' if failed else ''}{'; '.join(failed)}")
    return bool(failed)


def in_process(name: str, options: argparse.Namespace) -> list[Row]:
    """The section's rows; those it had when it was stopped or crashed, and one that says so."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        command = [
            sys.executable,
            __file__,
            "--sections",
            name,
            "--device",
            options.device,
            "--size",
            str(options.size),
        ]
        process = subprocess.Popen([*command, "--here", "--out", str(part)])
        try:
            process.wait(LIMITS[name])
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        rows: list[Row] = json.loads(part.read_text()) if part.exists() else []
        if process.returncode:
            rows.append(
                {"what": f"{name}: ended with {process.returncode}", "number": process.returncode, "pass": False}
            )
        return rows


if __name__ == "__main__":
    sys.exit(main())
