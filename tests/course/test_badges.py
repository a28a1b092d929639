"""Every notebook leads to this repository, and one line of CONTRIBUTING makes it lead to a fork."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from cxgrad_lite.course.handout import read, text

ROOT = Path(__file__).parents[2]
BRANCH = "main"
START = "notebooks/00_start_here.ipynb"
COLAB_PICTURE = "https://colab.research.google.com/assets/colab-badge.svg"
BINDER_PICTURE = "https://mybinder.org/badge_logo.svg"
NBVIEWER_PICTURE = "https://raw.githubusercontent.com/jupyter/design/main/logos/Badges/nbviewer_badge.svg"
# A reader of an assignment must not be led to its solutions.
NO_BADGES = "notebooks/assignments/"

each_notebook = pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.stem
)


def repository(root: Path) -> str:
    """``OWNER/NAME`` on GitHub, as pyproject.toml has it."""
    (url,) = re.findall(
        r'^Repository = "https://github.com/(.*)"$', (root / "pyproject.toml").read_text(), re.MULTILINE
    )
    return str(url)


def badges(path: str, repository: str) -> str:
    """The line of badges of a notebook: Colab and nbviewer take its path as it is, Binder takes it quoted."""
    on_github = f"github/{repository}/blob/{BRANCH}/{path}"
    lab = quote(f"lab/tree/{path}", safe="")
    return (
        f"[![Open in Colab]({COLAB_PICTURE})](https://colab.research.google.com/{on_github}) "
        f"[![Open in Binder]({BINDER_PICTURE})](https://mybinder.org/v2/gh/{repository}/{BRANCH}?urlpath={lab}) "
        f"[![Just look, in nbviewer]({NBVIEWER_PICTURE})](https://nbviewer.org/{on_github})"
    )


def check_notebook(root: Path, path: Path, repository: str) -> None:
    """The badges below the title, and the cell that installs the package in Colab."""
    name, cells = path.relative_to(root).as_posix(), read(path)["cells"]
    title, blank, *rest = "".join(cells[0]["source"]).split("\n")
    assert title.startswith("# ") and blank == ""
    expected = [] if name.startswith(NO_BADGES) else [badges(name, repository)]
    assert [line for line in rest if line.startswith("[![")] == expected
    first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    lines = ["try:", "    import cxgrad_lite", "except ModuleNotFoundError:  # Colab"]
    assert first.split("\n")[:4] == [*lines, f"    %pip install -q git+https://github.com/{repository}"]


@each_notebook
def test_badges_and_install_cell(path: Path) -> None:
    check_notebook(ROOT, path, repository(ROOT))


@each_notebook
def test_a_notebook_is_written_in_the_form_it_was_read(path: Path) -> None:
    assert text(read(path)) == path.read_text(encoding="utf-8")


def test_the_readme_has_the_badges_of_the_first_notebook() -> None:
    links = re.findall(r"\]\((https:[^)]*)\)(?= |$)", badges(START, repository(ROOT)))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(links) == 3 and [link for link in links if link not in readme] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git lists the files, and this is no git checkout")
def test_the_line_in_contributing_moves_everything_to_a_fork(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in tracked.split("\0") if name and (ROOT / name).is_file()]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    old, fork = repository(ROOT), "some-one/few.shots"
    (line,) = re.findall(r"^git grep -l .*", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    line = line.replace("OWNER/NAME", fork).replace("NAME", "few.shots")
    subprocess.run("git init -q && git add --all", cwd=tmp_path, shell=True, check=True)
    subprocess.run(line, cwd=tmp_path, shell=True, check=True)
    texts = {name: (tmp_path / name).read_bytes() for name in names}
    assert [name for name, content in texts.items() if old.encode() in content] == []
    notebooks = [name for name in names if name.endswith(".ipynb")]
    assert len(notebooks) > 20
    for name in notebooks:
        check_notebook(tmp_path, tmp_path / name, fork)
        assert json.loads(texts[name].replace(fork.encode(), old.encode())) == read(ROOT / name), "nothing else changes"
    assert f"git clone https://github.com/{fork}" in (tmp_path / "CONTRIBUTING.md").read_text()
