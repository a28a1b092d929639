"""The command line for the course: ``python -m cxgrad_lite notebooks DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..course.handout import course
from .options import place

PACKAGE = Path(__file__).parent.parent


def add_notebook_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``notebooks`` to a command line; it sets ``run``, a function from options to None.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    about = "copy the notebooks, without outputs, and the assignments into a folder"
    copy = commands.add_parser("notebooks", help=about, description=about)
    copy.add_argument("folder", type=place, metavar="DIR", help="folder to write to; files already in it are kept")
    copy.set_defaults(run=_copy)


def files() -> dict[str, str]:
    """Name → text of every file that ``notebooks`` copies, from this wheel or this checkout.

    Raises:
        FileNotFoundError: if the package was installed without its notebooks.
    """
    packed, checkout = PACKAGE / "_notebooks", PACKAGE.parent / "notebooks"
    if packed.is_dir():
        paths = sorted(packed.rglob("*.ipynb"))
        return {path.relative_to(packed).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    texts = course(checkout)
    if not texts:
        raise FileNotFoundError(f"there are no notebooks in {packed} or {checkout}; install the package again")
    return texts


def _copy(options: argparse.Namespace) -> None:
    texts = files()
    kept = [name for name in texts if (options.folder / name).exists()]
    for name, text in texts.items():
        path = options.folder / name
        if name not in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{options.folder}: {len(texts) - len(kept)} notebooks written")
    if kept:
        print(f"not overwritten: {', '.join(kept)}")
