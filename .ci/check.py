"""Runs checks one after another, even after one has failed, and ends with a table of which passed.

Usage: python .ci/check.py [check ...]     (none named: all that `make test` runs)
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
PYTEST = ["-m", "pytest", "-ra", "--durations=12"]
# The tests of a file share its fixtures and so stay in one lane. Files start in the order of the command line.
IN_LANES = ["-n", str(LANES), "--dist", "loadfile", "--no-loadscope-reorder"]
IN_MAKE_TEST = ("lint", "format", "types", "imports", "tests")


def checks() -> dict[str, list[str]]:
    """Name of each check → arguments for Python."""
    # The solutions run in the browser's tests.
    notebooks = [str(path.relative_to(ROOT)) for path in find([]) if path.parent.name == "notebooks"]
    return {
        "lint": ["-m", "ruff", "check", "."],
        "format": ["-m", "ruff", "format", "--check", "."],
        "types": ["-m", "mypy"],
        "imports": ["-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-logo"],
        # Notebooks take the longest, so they start first: at the end, no lane waits long for another.
        "tests": [*PYTEST, *IN_LANES, "-m", "not browser and not slow", *check_notebooks.OPTIONS, *notebooks, "tests"],
        "browser": [*PYTEST, *IN_LANES, "-m", "browser", "tests/browser"],
        "slow": [*PYTEST, *IN_LANES, "-m", "slow", "tests"],
    }


def run(name: str, arguments: list[str]) -> tuple[bool, float]:
    """Runs one check; returns whether it passed, and its seconds."""
    print(f"\n== {name}: {' '.join(['python', *arguments])}", flush=True)
    start = time.monotonic()
    passed = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT).returncode == 0
    return passed, time.monotonic() - start


def main(names: list[str]) -> int:
    """Runs the checks named; returns the exit status."""
    every = checks()
    unknown = [name for name in names if name not in every]
    if unknown:
        print(f"check: no check is called {', '.join(unknown)}; choose from {', '.join(every)}", file=sys.stderr)
        return 2
    results = {name: run(name, every[name]) for name in names or IN_MAKE_TEST}
    print("\n== summary")
    for name, (passed, seconds) in results.items():
        print(f"{name:<10} {'passed' if passed else 'FAILED'} {seconds:7.1f} s")
    failed = sum(not passed for passed, _ in results.values())
    print(f"checks: {len(results) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
