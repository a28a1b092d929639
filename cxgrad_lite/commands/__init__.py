"""The command line: ``python -m cxgrad_lite``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ..recipes.recipe import PRETRAINED
from . import data, grade, notebooks, pretrain, train


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cxgrad_lite", description="Gradient-based few-shot learning.")
    commands = parser.add_subparsers(dest="command", required=True)
    train.add_train_commands(commands)
    data.add_data_commands(commands)
    grade.add_grade_command(commands)
    notebooks.add_notebook_commands(commands)
    about = "make the checkpoints that the notebooks load; resumes where it was stopped"
    remake = commands.add_parser("pretrain", help=about, description=about)
    remake.add_argument("--only", default="*", help="name of one run, or a pattern such as 'glyphs-*'")
    remake.add_argument("--out", type=Path, default=PRETRAINED, help="folder to write to (default: the shipped one)")
    remake.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: all cores)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    if options.command == "pretrain":
        pretrain.pretrain(options.only, options.out, options.jobs)
        return 0
    runners = {"data": data.run, "grade": grade.run, "notebooks": notebooks.run}
    return runners.get(options.command, train.run)(options)
