"""The command line for instructors: ``python -m cxgrad_lite grade DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..course.grade_cells import GradingError, read_sources

if TYPE_CHECKING:
    from ..course.grading import Grade

SOURCES = Path(__file__).parent.parent.parent / "notebooks" / "assignments" / "source"


def add_grade_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``grade`` to a command line; it sets ``run``, a function from options to None.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    about = "grade assignments, DIR/STUDENT/ASSIGNMENT.ipynb, and write a table"
    parser = commands.add_parser("grade", help=about, description=about)
    parser.add_argument("folder", type=Path, metavar="DIR", help="one folder for each student")
    parser.add_argument("--source", type=Path, default=SOURCES, help="source notebooks (default: those of a checkout)")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="CSV file to write (default: grades.csv)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit of a cell (default: 10)")
    parser.add_argument("--check", action="store_true", help="only name deleted, copied and changed cells; run nothing")
    parser.set_defaults(run=_grade)


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0 after success; 1 after a failure, whose reason is then on the standard error stream.
    """
    try:
        options.run(options)
    except ModuleNotFoundError as error:
        print(f"error: grading needs {error.name}; install it with: pip install 'cxgrad-lite[lab]'", file=sys.stderr)
        return 1
    except (GradingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _grade(options: argparse.Namespace) -> None:
    from ..course.grading import grade_folder, write_csv  # needs Jupyter, which the package itself does not

    sources = read_sources(options.source)
    if options.check:
        for grade in grade_folder(options.folder, sources, check_only=True):
            print(f"{grade.student}, {grade.assignment}: {' | '.join(grade.messages) or 'whole'}")
        return
    grades = grade_folder(options.folder, sources, options.seconds)
    write_csv(_told(grades), options.out)
    print(f"{options.out} written")


def _told(grades: Iterator[Grade]) -> Iterator[Grade]:
    """The same grades, each reported when it is there: a course takes a while."""
    for grade in grades:
        print(f"{grade.student}, {grade.assignment}: {grade.total:g} of {grade.max:g}", flush=True)
        yield grade
