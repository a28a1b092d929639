"""The command line for instructors: ``python -m cxgrad_lite grade HANDINS``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..course.restore import GradingError  # noqa: F401 - errors has a row for it
from .options import place, positive

SOURCES = Path(__file__).parent.parent.parent / "notebooks" / "assignments" / "source"


def add_grade_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``grade`` to a command line.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    about = "grade hand-ins with nbgrader; can be stopped and run again"
    parser = commands.add_parser("grade", help=about, description=about)
    parser.add_argument("hand_ins", type=place, metavar="HANDINS", help="folder or zip from your learning platform")
    parser.add_argument("--assignment", action="append", default=[], help="name, may be repeated (default: all)")
    parser.add_argument("--out", type=place, default=Path("grades"), help="folder to write to (default: grades)")
    parser.add_argument("--source", type=place, default=SOURCES, help="source notebooks (default: a checkout's)")
    parser.add_argument("--seconds", type=positive, default=10, help="time limit of a cell (default: 10)")
    parser.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, help="hand-ins at a time (default: one a core)"
    )
    parser.set_defaults(run=_grade)


def _grade(options: argparse.Namespace) -> None:
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # seconds to import, for addresses in notebooks
    from ..course.grade import grade  # needs nbgrader, which the package itself does not
    from ..course.sandbox import Limits

    limits = Limits(cell_seconds=options.seconds, seconds=20 * options.seconds)
    say = lambda line: print(line, flush=True)  # noqa: E731
    grade(options.hand_ins, options.out, options.source, options.assignment, options.jobs, limits, say)
