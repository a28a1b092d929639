"""The command line for the course's files: ``python -m cxgrad_lite notebooks DIR`` and ``badges``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..course.address import BRANCH, REPOSITORY
from ..course.badges import rewrite
from ..course.handout import course

PACKAGE = Path(__file__).parent.parent


def add_notebook_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``notebooks`` and ``badges`` to a command line; each sets ``run``, a function from options to None.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    about = "copy the notebooks, without outputs, and the assignments into a folder"
    copy = commands.add_parser("notebooks", help=about, description=about)
    copy.add_argument("folder", type=Path, metavar="DIR", help="folder to write to; files that are there are kept")
    copy.set_defaults(run=_copy)

    about = "write badges and install lines into all notebooks and texts of a checkout; for a fork, name its address"
    badges = commands.add_parser("badges", help=about, description=about)
    badges.add_argument("--repository", default=REPOSITORY, metavar="OWNER/NAME", help=f"default: {REPOSITORY}")
    badges.add_argument("--branch", default=BRANCH, help=f"default: {BRANCH}")
    badges.set_defaults(run=_badges)


def files() -> dict[str, str]:
    """Name → text of what ``notebooks`` copies, from this wheel or this checkout.

    Raises:
        FileNotFoundError: if the package was installed without its notebooks.
    """
    packed, checkout = PACKAGE / "_notebooks", PACKAGE.parent / "notebooks"
    if packed.is_dir():
        paths = sorted(packed.rglob("*.ipynb"))
        return {path.relative_to(packed).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    found = course(checkout)
    if not found:
        raise FileNotFoundError(f"there are no notebooks in {packed} or {checkout}; install the package again")
    return found


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
        print(f"there already, and left as they are: {', '.join(kept)}")


def _badges(options: argparse.Namespace) -> None:
    if not (PACKAGE.parent / "notebooks").is_dir():
        raise ValueError("badges are written in a checkout of the repository, and this is an installed package")
    changed = rewrite(PACKAGE.parent, options.repository, options.branch)
    print(f"{options.repository}, branch {options.branch}: {len(changed)} files changed")
    for path in changed:
        print(f"  {path}")
