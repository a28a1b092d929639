"""Runs every check, even after one has failed, and ends with a table of what passed.

Usage: python .ci/check.py [stage ...]     (no stage: all of them)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import check_notebooks
from execute_notebooks import find

ROOT = Path(__file__).resolve().parent.parent
# Two processes with one thread each do a third more than one with two; with two each, they wait for each other.
CORES = os.cpu_count() or 1
LANES = min(4, CORES)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": str(CORES // LANES), "PYTHONPATH": str(ROOT / ".ci")}
# A file stays in one lane, because its fixtures do; the order stays, because the browser's file is the longest.
IN_LANES = ["-n", str(LANES), "--dist", "loadfile", "--no-loadscope-reorder"]


def stages() -> dict[str, list[str]]:
    """The command of each stage, by name, in the order they run."""
    python = [sys.executable, "-m"]
    notebooks = [*check_notebooks.OPTIONS, *(str(path.relative_to(ROOT)) for path in find([]))]
    return {
        "lint": [*python, "ruff", "check", "."],
        "format": [*python, "ruff", "format", "--check", "."],
        "types": [*python, "mypy"],
        "imports": [str(Path(sys.executable).with_name("lint-imports"))],
        "tests": [*python, "pytest", "-ra", "--durations=12", *IN_LANES, "tests", *notebooks],
    }


def run(name: str, command: list[str]) -> tuple[bool, float]:
    """Runs one stage; returns whether it passed, and its seconds."""
    print(f"\n== {name}: {' '.join(['python', *command[1:]])}", flush=True)
    start = time.monotonic()
    passed = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT).returncode == 0
    return passed, time.monotonic() - start


def main(chosen: list[str]) -> int:
    """Runs the chosen stages; returns the exit status."""
    known = stages()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(f"check: no stage {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    results = {name: run(name, known[name]) for name in chosen or known}
    print("\n== summary")
    for name, (passed, seconds) in results.items():
        print(f"{name:<10} {'passed' if passed else 'FAILED'} {seconds:7.1f} s")
    failed = sum(not passed for passed, _ in results.values())
    print(f"stages: {len(results) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
