"""The command line: ``python -m cxgrad_lite``. One parser; `errors` says what each exception comes to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import recipes  # noqa: F401 - says it if another data_utils hides ours
from . import compare, data, evaluate, export, grade, notebooks, sweep, train
from .errors import exit_code


def build_parser() -> argparse.ArgumentParser:
    """Every command sets ``run``, a function from options to an exit code, or to None for success."""
    parser = argparse.ArgumentParser(prog="python -m cxgrad_lite", description="Gradient-based few-shot learning.")
    commands = parser.add_subparsers(dest="command", required=True)
    train.add_train_commands(commands)
    evaluate.add_evaluate_command(commands)
    compare.add_compare_command(commands)
    sweep.add_sweep_commands(commands)
    data.add_data_commands(commands)
    grade.add_grade_command(commands)
    notebooks.add_notebook_commands(commands)
    export.add_export_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 good, 1 failed, 2 wrong input, 130 interrupted, 143 or 129 ended."""
    return exit_code(lambda: run(arguments))


def run(arguments: Sequence[str] | None) -> int | None:
    options = build_parser().parse_args(arguments)
    outcome: int | None = options.run(options)
    return outcome
