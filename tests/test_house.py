"""The house rules that a program can hold: sizes that a reader can take in, and imports that point one way."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "cxgrad_lite", ROOT / "data_utils")
CORE, ZOO = (ROOT / "cxgrad_lite" / room for room in ("core", "zoo"))
MOST_ENTRIES, MOST_LINES, MOST_LINES_OF_CORE, MOST_LETTERS_OF_README = 12, 250, 720, 8000
NOT_COUNTED = {"__init__.py", "py.typed", "__pycache__", ".ipynb_checkpoints"}
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_folder_fits_on_a_screen() -> None:
    # Of data, a folder may hold more: nobody reads a list of checkpoints to find their way.
    folders = {path.parent for package in PACKAGES for path in package.rglob("*.py")}
    counts = {
        folder.relative_to(ROOT).as_posix(): len({path.name for path in folder.iterdir()} - NOT_COUNTED)
        for folder in folders
    }
    assert len(counts) > 8, "too few to test anything"
    assert {name: count for name, count in counts.items() if count > MOST_ENTRIES} == {}


def test_a_file_can_be_read_in_one_sitting() -> None:
    counts = {path.relative_to(ROOT).as_posix(): lines(path) for package in PACKAGES for path in package.rglob("*.py")}
    assert {name: count for name, count in counts.items() if count > MOST_LINES} == {}


def test_the_core_is_short() -> None:
    counts = {path.name: lines(path) for path in CORE.glob("*.py")}
    assert {"maml.py", "cxgrad.py"} <= set(counts)
    assert sum(counts.values()) <= MOST_LINES_OF_CORE, counts


def test_the_readme_takes_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8")) <= MOST_LETTERS_OF_README


# --- imports


def imported(path: Path) -> set[str]:
    """Top-level names of the packages that a file imports absolutely."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {name.partition(".")[0] for name in names}


def test_methods_need_torch_and_the_standard_library_alone() -> None:
    # The contract below can only name the packages that it forbids.
    files = [*CORE.glob("*.py"), *ZOO.glob("*.py")]
    imports = {path.name: imported(path) - sys.stdlib_module_names for path in files}
    assert "torch" in imports["maml.py"] and "torch" in imports["metric.py"]
    assert {name: packages - {"torch"} for name, packages in imports.items() if packages - {"torch"}} == {}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a copy of the code of both packages."""
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "pre*"))
    return tmp_path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of this checkout, checked on the packages in ``folder``."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [LINT_IMPORTS, "--no-logo", "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("cxgrad_lite/core/nets.py", "from cxgrad_lite.live import watch_training", "Rooms import only"),
        ("cxgrad_lite/plots/draw.py", "from ..recipes import Recipe", "Rooms import only"),
        ("cxgrad_lite/training/loop.py", "from data_utils import load", "know no dataset"),
        ("data_utils/tasks.py", "from cxgrad_lite.core import Method", "Datasets know no method"),
        ("cxgrad_lite/core/nets.py", "import numpy", "Methods need PyTorch alone"),
        ("data_utils/images.py", "from .rendering import render_glyphs", "The drawing of glyphs.npz"),
    ],
)
def test_an_import_against_a_contract_is_refused(packages: Path, file: str, line: str, contract: str) -> None:
    path = packages / file
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\ndef late():\n    {line}\n", encoding="utf-8")
    report = lint_imports(packages)
    assert report.returncode == 1, report.stderr
    broken = [text for text in report.stdout.splitlines() if text.endswith("BROKEN")]
    assert [text for text in broken if contract in text], report.stdout


def test_the_copy_itself_keeps_every_contract(packages: Path) -> None:
    # Otherwise the test above could fail for the copy and not for the line.
    report = lint_imports(packages)
    assert report.returncode == 0, report.stdout
