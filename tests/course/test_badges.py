"""The repository's address is in one place, and one command moves everything to another."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from cxgrad_lite.commands import notebooks as notebook_cli
from cxgrad_lite.course import address
from cxgrad_lite.course.badges import OPENING, badge_line, rewrite, with_badges
from cxgrad_lite.course.handout import read, text

ROOT = Path(__file__).parents[2]
FORK, BRANCH = "some-one/few.shots", "autumn/2027"
WRITTEN = {".md", ".py", ".toml", ".cff", ".yml", ".sh", ".ipynb", ".txt", ".in"}
SKIPPED = {"build", "dist", "runs", "data", "__pycache__"}


@cache
def checkout_files() -> list[Path]:
    """Every file of the checkout that a person writes; hidden folders other than .ci and .github are tools'."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in SKIPPED and (name[0] != "." or name in {".ci", ".github"})]
        found += [Path(folder, name).relative_to(ROOT) for name in names if Path(name).suffix in WRITTEN]
    return found


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """A copy of the checkout, without its data."""
    for name in checkout_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def contents(root: Path) -> dict[str, str]:
    return {str(name): (root / name).read_text(encoding="utf-8") for name in checkout_files()}


def test_nothing_names_the_old_address_after_a_move(fork: Path) -> None:
    before = [name for name, content in contents(fork).items() if address.REPOSITORY in content]
    assert {"README.md", "pyproject.toml", "CITATION.cff", "cxgrad_lite/address.py"} <= set(before)
    changed = rewrite(fork, FORK, BRANCH)
    assert set(before) <= set(changed)
    assert [name for name, content in contents(fork).items() if address.REPOSITORY in content] == []


def test_there_and_back_again(fork: Path) -> None:
    rewrite(fork, address.REPOSITORY, address.BRANCH)
    here = contents(fork)
    assert rewrite(fork, address.REPOSITORY, address.BRANCH) == [], "a second time, nothing is left to do"
    there = rewrite(fork, FORK, BRANCH)
    assert len(there) > 10
    assert set(rewrite(fork, address.REPOSITORY, address.BRANCH)) == set(there)
    assert contents(fork) == here


def test_only_sources_change_in_a_notebook(fork: Path) -> None:
    names = [name for name in checkout_files() if name.suffix == ".ipynb"]
    assert len(names) > 8
    before = {name: read(fork / name) for name in names}
    rewrite(fork, FORK, BRANCH)
    for name, old in before.items():
        new = read(fork / name)
        differ = [i for i, (a, b) in enumerate(zip(old["cells"], new["cells"])) if a != b]
        assert differ in ([0, 1], [1]), "the badges in the first cell, the address in the second"
        for cell in [*old["cells"], *new["cells"]]:
            cell["source"] = ""
        assert old == new


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_written_in_the_form_it_was_read(path: Path) -> None:
    assert text(read(path)) == path.read_text(encoding="utf-8")


def test_notebooks_have_badges_and_assignments_have_none(fork: Path) -> None:
    rewrite(fork, FORK, BRANCH)
    for path in fork.glob("notebooks/**/*.ipynb"):
        name, lines = path.relative_to(fork).as_posix(), "".join(read(path)["cells"][0]["source"]).split("\n")
        expected = [] if "/assignments/" in name else [badge_line(name, FORK, BRANCH)]
        assert [line for line in lines if line.startswith(OPENING)] == expected
        assert lines[0].startswith("# ") and lines[1] == ""


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_begins_with_the_install_cell(path: Path) -> None:
    code = ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    lines = ["try:", "    import cxgrad_lite", "except ModuleNotFoundError:  # Colab"]
    assert code[0].split("\n")[:4] == [*lines, f"    %pip install -q {address.package()}"]


def test_install_lines_name_the_fork_and_its_branch(fork: Path) -> None:
    rewrite(fork, FORK, BRANCH)
    paths = list(fork.glob("notebooks/**/*.ipynb"))
    for path in paths:
        code = ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "code"]
        assert re.findall(r"git\+\S+", code[0]) == [f"git+https://github.com/{FORK}@{BRANCH}"]
    rewrite(fork, FORK, "main")
    for path in paths:
        assert f'-q git+https://github.com/{FORK}"' in path.read_text(encoding="utf-8").replace("\\n", "")


def test_readme_commands_name_the_fork(fork: Path) -> None:
    rewrite(fork, FORK, BRANCH)
    readme = (fork / "README.md").read_text(encoding="utf-8")
    assert f"git clone https://github.com/{FORK}\ncd few.shots\n" in readme
    assert badge_line("notebooks/00_start_here.ipynb", FORK, BRANCH) in readme.split("\n")[:4]


def test_addresses() -> None:
    # What each service documents: Colab and nbviewer take a path, Binder a quoted one; a branch may hold a slash.
    path = "notebooks/02_maml.ipynb"
    assert address.colab(path, "a/b", "main") == f"https://colab.research.google.com/github/a/b/blob/main/{path}"
    assert address.nbviewer(path, "a/b", "x/y") == f"https://nbviewer.org/github/a/b/blob/x/y/{path}"
    binder = address.binder(path, "a/b", "x/y")
    assert binder == "https://mybinder.org/v2/gh/a/b/x%2Fy?urlpath=lab%2Ftree%2Fnotebooks%2F02_maml.ipynb"
    assert unquote(binder).endswith("lab/tree/" + path)
    assert address.package("a/b", "main") == "git+https://github.com/a/b"
    assert address.package("a/b", "x") == "git+https://github.com/a/b@x"


@pytest.mark.parametrize("repository", ["noslash", "a/b/c", "https://github.com/a/b", "a/b c", "/b", 'a/"'])
def test_a_wrong_repository_is_refused_before_anything_is_written(fork: Path, repository: str) -> None:
    before = contents(fork)
    with pytest.raises(ValueError, match="OWNER/NAME"):
        rewrite(fork, repository, "main")
    with pytest.raises(ValueError, match="branch"):
        rewrite(fork, FORK, 'main" && x')
    assert contents(fork) == before


def test_badges_go_below_a_title() -> None:
    once = with_badges("# T\n\n**Promise.**\n", OPENING + "1")
    assert once == f"# T\n\n{OPENING}1\n\n**Promise.**\n"
    assert with_badges(once, OPENING + "2") == f"# T\n\n{OPENING}2\n\n**Promise.**\n"
    with pytest.raises(ValueError, match="title"):
        with_badges("no title", OPENING)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    notebook_cli.add_notebook_commands(parser.add_subparsers())
    return notebook_cli.run(parser.parse_args(arguments))


def test_the_command(fork: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(notebook_cli, "PACKAGE", fork / "cxgrad_lite")
    assert run("badges", "--repository", FORK) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{FORK}, branch main: ") and "  notebooks/02_maml.ipynb\n" in out
    assert json.loads((fork / "notebooks" / "02_maml.ipynb").read_text(encoding="utf-8"))
    assert run("badges", "--repository", "nonsense") == 1
    assert capsys.readouterr().err.startswith("error: a repository is OWNER/NAME")


def test_an_installed_package_has_no_badges_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook_cli, "PACKAGE", tmp_path / "cxgrad_lite")
    assert run("badges", "--repository", FORK) == 1
    assert capsys.readouterr().err.startswith("error: badges are written in a checkout")
