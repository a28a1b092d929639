"""Time and memory of one second-order meta-iteration, ours beside other implementations, each in its own processes.

python benchmarks/compare.py [--setting paper] [--methods maml cxgrad] [--authors PATH] [--curves]
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jobs import Case, Job
from worker import Row, absence, allocators, cpu_name, faster, is_mixed, run_all, spread, titled

GOOD, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130  # exit codes
SETTINGS = {
    "small": Case(),
    "omniglot": Case(width=48, shots=1, tasks=4),
    "paper": Case(channels=3, size=84, width=48),
}
METHODS = {"maml": "MAML", "cxgrad": "CxGrad"}
CONTENDERS = {
    "MAML": ["ours", "ours, eager", "ours, bf16", "higher", "torchopt", "authors"],
    "CxGrad": ["ours", "ours, eager", "ours, bf16", "authors"],
}
CURVES: dict[str, tuple[Any, ...]] = {
    "tasks": (1, 2, 4, 8), "steps": (1, 2, 5, 10), "shots": (1, 5, 10), "size": (28, 42, 84), "width": (16, 32, 48, 64),
}  # fmt: skip
NO_TUNING = " The allocator's thresholds are glibc's; here they would change nothing, so there are no such rows."
TOLERANCE = 1e-7  # relative, between losses in float64
# In float32 rounding decides here and there which pixel of a pooling window is the largest; inner steps magnify that,
# CxGrad's on these noisy patterns by so much that float64 alone can tell.
ROUNDING = {"MAML": 2e-2, "CxGrad": math.inf}


class Refused(Exception):
    """Times that must not be compared; the message says why."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    cores = os.cpu_count() or 1
    small = "small: 28 px, grey, 32 filters; paper: 84 px, colour, 48 filters; both 5-way 5-shot, 5 steps, 2 tasks"
    single = "omniglot: 28 px, grey, 48 filters, 1-shot, 4 tasks"
    parser.add_argument("--setting", choices=SETTINGS, default="small", help=f"{small}; {single} (default: small)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["maml"], help="default: maml")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS["MAML"], help="default: all that know the method")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each contender, in turn (default: 5)")
    parser.add_argument("--iterations", type=int, default=1, help="timed in each process, after one (default: 1)")
    parser.add_argument("--threads", type=int, default=min(2, cores), help="default: 2, or as many as there are cores")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--authors", type=Path, metavar="PATH", help="a checkout of github.com/shlee625/CxGrad")
    parser.add_argument("--curves", action="store_true", help="instead: cost over tasks, steps, shots, size, filters")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables there as well (Markdown)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 good, 1 losses differ or our own code failed, 2 wrong input, 130 Ctrl-C."""
    options = build_parser().parse_args(arguments)
    try:
        check(options)
        tables = [header(options)]
        for name in options.methods:
            case = replace(SETTINGS[options.setting], method=METHODS[name])
            tables.append(curves(case, options) if options.curves else comparison(case, options))
    except KeyboardInterrupt:
        print("compare: interrupted; no table", file=sys.stderr)
        return INTERRUPTED
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return WRONG_INPUT
    except Refused as error:
        print(f"compare: no table: {error}", file=sys.stderr)
        return FAILED
    text = "\n\n".join(tables) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return GOOD


def check(options: argparse.Namespace) -> None:
    """Raises ValueError for options that cannot work."""
    if min(options.repeats, options.iterations, options.threads) < 1:
        raise ValueError("repeats, iterations and threads must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here")
    if options.out and not options.out.absolute().parent.is_dir():
        raise ValueError(f"--out {options.out}: there is no folder {options.out.absolute().parent}")
    if options.authors and not (options.authors / "few_shot_learning_system.py").is_file():
        raise ValueError(f"--authors {options.authors}: there is no few_shot_learning_system.py in that folder")


def chosen(case: Case, options: argparse.Namespace) -> list[str]:
    """Contenders of a method that take part; ours always does."""
    return [name for name in CONTENDERS[case.method] if name in ("ours", *(options.contenders or CONTENDERS["MAML"]))]


def make_rows(case: Case, contenders: Sequence[str], options: argparse.Namespace) -> list[Row]:
    jobs = [make_job(case, name, options) for name in contenders]
    settings = [(a, job) for a in allocators(options.device) for job in jobs]
    rows = [Row(job.contender, a, job, note=absence(job)) for a, job in settings]
    return [row for row in rows if not is_mixed(row) or row.allocator == rows[-1].allocator]  # one row is enough


def make_job(case: Case, contender: str, options: argparse.Namespace) -> Job:
    folder = str(options.authors.resolve()) if options.authors else ""
    return Job(case, contender, options.iterations, options.threads, options.device, authors=folder)


def comparison(case: Case, options: argparse.Namespace) -> str:
    """Table of all contenders.

    Raises:
        Refused: if losses differ, or ours did not run.
    """
    verified = verify(case, options)
    rows = make_rows(case, chosen(case, options), options)
    for _ in run_all(rows, options.repeats):
        check_losses([row for row in rows if not is_mixed(row)], ROUNDING[case.method])
    return f"## {case.method}\n\n{table(rows)}\n\n{verified} {about_losses(rows)}"


def verify(case: Case, options: argparse.Namespace) -> str:
    """Compare all contenders in float64, on fewer images, before any is timed; says how well they agree."""
    smaller = replace(case, shots=1, queries=2)
    jobs = [replace(make_job(smaller, name, options), float64=True, iterations=1) for name in chosen(case, options)]
    rows = [Row(job.contender, "default", job, note=absence(job)) for job in jobs]
    rows = [row for row in rows if not is_mixed(row)]
    for row in rows:
        if not row.note:
            row.run()
    largest = check_losses(rows, TOLERANCE)
    return (
        f"Verified before timing, in float64 with 1 shot and 2 queries: the query losses of the first two "
        f"meta-iterations are {losses(rows[0].results[0]['losses'])}; the largest relative difference between "
        f"contenders is {largest:.0e}."
    )


def check_losses(rows: list[Row], tolerance: float) -> float:
    """Largest relative difference to the query losses that ours reports, before and after Adam's first step.

    Raises:
        Refused: if it is above the tolerance, or ours did not run.
    """
    for row in rows:
        if row.note and row.contender == "ours":
            raise Refused(f"our own code did not run; {row.note}")
    expected = rows[0].results[0]["losses"]
    far = [(difference(result["losses"], expected), row, result) for row in rows for result in row.results]
    for apart, row, result in far:
        if not apart <= tolerance:
            found = losses(result["losses"])
            why = f"query losses of the first two meta-iterations are {found}, ours {losses(expected)}"
            raise Refused(f"{row.contender} does not compute what ours computes: {why} (tolerance {tolerance:g})")
    return max(apart for apart, _, _ in far)


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """Largest relative difference; infinite where one is not a number."""
    return max(abs(a - b) / abs(b) if math.isfinite(a) else math.inf for a, b in zip(found, expected))


def losses(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)


def about_losses(rows: list[Row]) -> str:
    """How far the losses are apart in the runs that were timed."""
    expected = rows[0].results[0]["losses"]
    exact, mixed = (
        [difference(result["losses"], expected) for row in rows if is_mixed(row) == bf16 for result in row.results]
        for bf16 in (False, True)
    )
    said = f"In the timed runs they are {losses(expected)} and {max(exact):.0e} apart in float32"
    return said + (f"; bf16 autocast changes them by {100 * max(mixed):.2g} %." if mixed else ".")


def table(rows: list[Row]) -> str:
    lines = [
        "| contender | allocator | s per meta-iteration | peak MB | ours is faster, same allocator | ours, tuned |",
        "|---|---|---|---|---|---|",
    ]
    mine = {row.allocator: row for row in rows if row.contender == "ours"}
    for row in rows:
        if row.note:
            cells = [row.note, "", "", ""]
        else:
            ratios = [faster(row, mine[row.allocator]), faster(row, mine["tuned"]) if "tuned" in mine else ""]
            cells = [spread(row.seconds), f"{row.peak:.0f}", *ratios]
        lines.append("| " + " | ".join([titled(row), row.allocator, *cells]) + " |")
    return "\n".join(lines)


def curves(case: Case, options: argparse.Namespace) -> str:
    """Table of time and memory of ours, where one number of the setting changes at a time."""
    points = [(name, value, replace(case, **{name: value})) for name, values in CURVES.items() for value in values]
    cases = dict.fromkeys(changed for _, _, changed in points)
    allocator = allocators(options.device)[-1]
    rows = {c: Row("ours", allocator, make_job(c, "ours", options)) for c in cases}
    for _ in run_all(list(rows.values()), options.repeats):
        for row in rows.values():
            if row.note:
                raise Refused(f"{row.job.case}: {row.note}")
    lines = [
        f"| changed | to | s per meta-iteration ({allocator} allocator) | peak MB | start MB |",
        "|---|---|---|---|---|",
    ]
    for name, value, changed in points:
        row, start = rows[changed], median(result["start_mb"] for result in rows[changed].results)
        lines.append(f"| {name} | {value} | {spread(row.seconds)} | {row.peak:.0f} | {start:.0f} |")
    return f"## Cost of {case.method}\n\n" + "\n".join(lines)


def header(options: argparse.Namespace) -> str:
    """Everything that the numbers depend on."""
    case = SETTINGS[options.setting]
    device = torch.cuda.get_device_name() if options.device == "cuda" else cpu_name()
    few = "" if options.repeats >= 5 else " (fewer than five: a try, not a result)"
    tuned = "" if options.device == "cuda" or "tuned" in allocators(options.device) else NO_TUNING
    return (
        f"# One second-order meta-iteration, setting {options.setting}\n\n"
        f"{datetime.date.today()}, {device}, {options.threads} thread(s), torch {torch.__version__}, Python "
        f"{platform.python_version()}, {platform.system()}, float32 (without TF32) unless it says bf16.\n\n"
        f"{case.size}×{case.size} pixels, {case.channels} channel(s), {case.width} filters, {case.ways}-way "
        f"{case.shots}-shot, {case.queries} queries per class, {case.steps} inner steps, {case.tasks} tasks: inner "
        f"loops, outer backward pass and Adam's step, data in memory. Each repeat is a new process; the contenders "
        f"take turns. Median (fastest–slowest) of {options.repeats} repeats{few}, each the mean of "
        f"{options.iterations} meta-iteration(s) after one that warms up.{tuned}"
    )


if __name__ == "__main__":
    sys.exit(main())
