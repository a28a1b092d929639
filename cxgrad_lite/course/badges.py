"""Badges and install lines: everything in a checkout that names the repository, rewritten for another address."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from . import address
from .handout import read, text

START = "notebooks/00_start_here.ipynb"
TEXTS = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml", "notebooks/assignments/*.md")
WITH_BADGES = ("notebooks/*.ipynb", "notebooks/solutions/*.ipynb")
# A badge would lead to the solutions.
WITHOUT_BADGES = ("notebooks/assignments/source/*/*.ipynb",)

COLAB_PICTURE = "https://colab.research.google.com/assets/colab-badge.svg"
BINDER_PICTURE = "https://mybinder.org/badge_logo.svg"
NBVIEWER_PICTURE = "https://raw.githubusercontent.com/jupyter/design/main/logos/Badges/nbviewer_badge.svg"
OPENING = "[![Open in Colab]("  # of the line of badges, by which an earlier one is found


def badge_line(path: str, repository: str, branch: str) -> str:
    """The three badges of a notebook, in Markdown.

    Args:
        path: of the notebook, from the top of the repository.
    """
    colab, binder, nbviewer = (
        page(path, repository, branch) for page in (address.colab, address.binder, address.nbviewer)
    )
    return (
        f"{OPENING}{COLAB_PICTURE})]({colab}) [![Open in Binder]({BINDER_PICTURE})]({binder}) "
        f"[![Just look, in nbviewer]({NBVIEWER_PICTURE})]({nbviewer})"
    )


def with_badges(markdown: str, line: str) -> str:
    """The text with this line of badges below its title, in place of an earlier one.

    Raises:
        ValueError: if the text does not open with a title.
    """
    title, *rest = markdown.split("\n")
    if not title.startswith("# "):
        raise ValueError(f"a text with badges opens with a title, '# …', not with {title[:40]!r}")
    body = "\n".join(other for other in rest if not other.startswith(OPENING)).lstrip("\n")
    return f"{title}\n\n{line}\n\n{body}"


def rewrite(root: Path, repository: str, branch: str) -> list[str]:
    """Write badges and the repository's address into every file of a checkout that has them.

    Args:
        root: top of the checkout; its ``address.py`` says what the address has been so far.
        repository: ``OWNER/NAME`` on GitHub.
        branch: that the badges open; install lines name it unless it is ``main``.

    Returns:
        the files that changed, from the top of the checkout.

    Raises:
        ValueError: if ``repository`` or ``branch`` is not of that form; nothing is written then.
    """
    if not re.fullmatch(r"[\w-]+/[\w.-]+", repository):
        raise ValueError(f"a repository is OWNER/NAME, such as {address.REPOSITORY}, not {repository!r}")
    if not re.fullmatch(r"[\w./-]+", branch):
        raise ValueError(f"a branch is a name such as main, not {branch!r}")
    home = root / "cxgrad_lite" / "address.py"
    moved = _mover(_constant(home, "REPOSITORY"), repository, branch)
    texts = {home: _with_address(home.read_text(encoding="utf-8"), repository, branch)}
    for path in _found(root, TEXTS):
        texts[path] = moved(path.read_text(encoding="utf-8"))
    readme = root / "README.md"
    texts[readme] = with_badges(texts[readme], badge_line(START, repository, branch))
    for path in _found(root, WITHOUT_BADGES):
        texts[path] = _notebook(path, moved, None)
    for path in _found(root, WITH_BADGES):
        texts[path] = _notebook(path, moved, badge_line(path.relative_to(root).as_posix(), repository, branch))
    changed = [path for path in texts if path.read_text(encoding="utf-8") != texts[path]]
    for path in changed:
        path.write_text(texts[path], encoding="utf-8", newline="\n")
    return [path.relative_to(root).as_posix() for path in changed]


def _found(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def _constant(path: Path, name: str) -> str:
    found = re.search(rf'^{name} = "([^"]*)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} has no line {name} = …")
    return found[1]


def _with_address(source: str, repository: str, branch: str) -> str:
    source = re.sub(r'^REPOSITORY = "[^"]*"', f'REPOSITORY = "{repository}"', source, count=1, flags=re.MULTILINE)
    return re.sub(r'^BRANCH = "[^"]*"', f'BRANCH = "{branch}"', source, count=1, flags=re.MULTILINE)


def _mover(old: str, repository: str, branch: str) -> Callable[[str], str]:
    """A function that puts the new address in place of the old one, in any text."""
    install = re.compile(rf'git\+https://github\.com/{re.escape(old)}(@[^\s"\\]+)?(?![\w-])')
    page = re.compile(rf"(?<![\w.-])github\.com/{re.escape(old)}(?![\w-])")
    folder = re.compile(rf"\bcd {re.escape(old.partition('/')[2])}(?![\w-])")

    def moved(markdown: str) -> str:
        markdown = install.sub(address.package(repository, branch), markdown)
        markdown = page.sub(f"github.com/{repository}", markdown)
        return folder.sub(f"cd {repository.partition('/')[2]}", markdown)

    return moved


def _notebook(path: Path, moved: Callable[[str], str], badges: str | None) -> str:
    """The text of a notebook with the new address; outputs, ids and formatting stay."""
    notebook = read(path)
    for cell in notebook["cells"]:
        cell["source"] = moved("".join(cell["source"])).splitlines(keepends=True)
    if badges is not None:
        first = notebook["cells"][0]
        first["source"] = with_badges("".join(first["source"]), badges).splitlines(keepends=True)
    return text(notebook)
