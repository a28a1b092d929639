"""Runs the notebooks under nbval; a cell fails, too, when its kernel has used too much memory.

Usage: python .ci/check_notebooks.py [pytest option or notebook ...]     (no notebook named: all of them)
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import psutil
import pytest
from execute_notebooks import MOST_GB, find, peak_bytes

# This file is its own pytest plugin: each process of pytest-xdist imports it.
OPTIONS = ["-p", "check_notebooks", "--nbval-lax", "--nbval-current-env"]
PEAKS: dict[str, float] = {}  # notebook → GB


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Generator[None, Any, Any]:
    result = yield
    kernel = getattr(item.parent, "kernel", None)
    if kernel is not None and kernel.is_alive():
        peak = peak_bytes(psutil.Process(kernel.km.provisioner.pid)) / 1e9
        item.user_properties.append((item.path.stem, peak))
        if peak > MOST_GB:
            pytest.fail(f"the kernel has used {peak:.2f} GB; the limit is {MOST_GB} GB", pytrace=False)
    return result


def pytest_runtest_logreport(report: Any) -> None:
    PEAKS.update(report.user_properties)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, peak in PEAKS.items():
        terminalreporter.write_line(f"{name:<24} {peak:5.2f} GB at most")


def main(options: list[str]) -> int:
    """Run them; returns pytest's exit status."""
    # Without a path, pytest would collect tests/.
    notebooks = [] if any(option.endswith(".ipynb") for option in options) else map(str, find([]))
    return int(pytest.main([*OPTIONS, *options, *notebooks]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
