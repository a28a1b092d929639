"""The command line: ``python -m cxgrad_lite``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .data_cli import add_data_commands
from .data_cli import run as run_data
from .grade_cli import add_grade_command
from .grade_cli import run as run_grade
from .pretraining import pretrain
from .recipes import PRETRAINED


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cxgrad_lite", description="Gradient-based few-shot learning.")
    commands = parser.add_subparsers(dest="command", required=True)
    about = "make the checkpoints that the notebooks load; resumes where it was stopped"
    remake = commands.add_parser("pretrain", help=about, description=about)
    remake.add_argument("--only", default="*", help="name of one run, or a pattern such as 'glyphs-*'")
    remake.add_argument("--out", type=Path, default=PRETRAINED, help="folder to write to")
    remake.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: all cores)")
    add_data_commands(commands)
    add_grade_command(commands)
    options = parser.parse_args()
    if options.command == "pretrain":
        pretrain(options.only, options.out, options.jobs)
    elif options.command == "grade":
        sys.exit(run_grade(options))
    else:
        sys.exit(run_data(options))


if __name__ == "__main__":
    main()
