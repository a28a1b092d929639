"""What pip installs: a small pure wheel with data, checkpoints and notebooks, and without the answers."""

from __future__ import annotations

import email
import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
from assignments import SOURCES

import cxgrad_lite
from cxgrad_lite.commands.notebooks import files
from cxgrad_lite.course import handout

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
PACKED = "cxgrad_lite/_notebooks/"
MOST_MB = 15
ANSWER = re.compile(r"BEGIN (?:SOLUTION|HIDDEN TESTS)(.*?)END (?:SOLUTION|HIDDEN TESTS)", re.DOTALL)
NOT_SOURCE = {"__pycache__", ".ipynb_checkpoints", "_notebooks", "autograded", "feedback", "release", "submitted"}
NOT_SOURCE |= {"doodles"}  # what notebook 10 draws


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Both archives: ``sdist`` names its files, ``wheel`` is open, ``path`` is the wheel's."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, str(ROOT / ".ci" / "build_package.py"), str(out)], check=True)
    (sdist,), (path,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return SimpleNamespace(sdist=names, wheel=zipfile.ZipFile(path), path=path)


def metadata(built: SimpleNamespace) -> Message:
    (name,) = (name for name in built.wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(built.wheel.read(name))


def sources(*folders: str) -> set[str]:
    """The files in these folders of the checkout."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    names = {path.relative_to(ROOT) for path in paths if path.suffix not in {".pyc", ".partial", ".db"}}
    return {name.as_posix() for name in names if not NOT_SOURCE & set(name.parts)}


# --- the archives


def test_the_wheel_is_pure_and_small(built: SimpleNamespace) -> None:
    assert built.path.name == f"cxgrad_lite-{cxgrad_lite.__version__}-py3-none-any.whl"
    assert built.path.stat().st_size < MOST_MB * 1e6
    assert not [name for name in built.wheel.namelist() if name.endswith((".so", ".pyd", ".dll", ".pyc"))]


def test_the_wheel_holds_both_packages_and_the_notebooks_and_nothing_else(built: SimpleNamespace) -> None:
    names = {name for name in built.wheel.namelist() if ".dist-info/" not in name}
    expected = sources("cxgrad_lite", "data_utils")
    assert {
        "data_utils/datasets/glyphs.npz",
        "cxgrad_lite/recipes/pretrained/inner_rates.json",
        "cxgrad_lite/py.typed",
    } <= expected
    assert names == expected | {PACKED + name for name in handout.course(NOTEBOOKS)}


def test_the_wheel_gives_no_answer_away(built: SimpleNamespace) -> None:
    names = [name for name in built.wheel.namelist() if "assignments/" in name]
    released = [json.loads(built.wheel.read(name)) for name in names]
    text = "\n".join("".join(cell["source"]) for notebook in released for cell in notebook["cells"])
    cells = [cell for source in SOURCES.values() for cell in source]
    regions = [region for cell in cells for region in ANSWER.findall(cell.source)]
    regions += [cell.source for cell in cells if cell.is_essay]
    answers = [line.strip() for region in regions for line in region.split("\n") if len(line.strip()) > 25]
    assert len(names) == 4 and len(answers) > 100, "too few to test anything"
    assert [line for line in answers if line in text] == []
    # Nor is a source notebook elsewhere in the wheel.
    every = [built.wheel.read(name) for name in built.wheel.namelist() if name.endswith(".ipynb")]
    assert not [notebook for notebook in every if b"BEGIN SOLUTION" in notebook or b"HIDDEN TESTS" in notebook]


def test_the_source_archive_holds_what_make_test_needs(built: SimpleNamespace) -> None:
    folders = ("cxgrad_lite", "data_utils", "tests", "notebooks", "benchmarks", "docs", "results", ".ci", ".github")
    top = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert {"Makefile", "constraints.txt", "environment.yml", "LICENSE", "setup.py"} <= top
    assert (sources(*folders) | top) - built.sdist == set()


# --- what the wheel says about itself


def test_metadata(built: SimpleNamespace) -> None:
    facts = metadata(built)
    assert (facts["Name"], facts["Version"]) == ("cxgrad-lite", cxgrad_lite.__version__)
    assert f"\nversion: {cxgrad_lite.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert facts["Requires-Python"] == ">=3.10"
    assert facts["Description-Content-Type"] == "text/markdown" and facts.get_payload()
    (name,) = (name for name in built.wheel.namelist() if name.endswith("entry_points.txt"))
    assert "cxgrad-lite = cxgrad_lite.__main__:main" in built.wheel.read(name).decode()


def test_the_licence_is_named_and_enclosed(built: SimpleNamespace) -> None:
    facts = metadata(built)
    assert (facts["License-Expression"], facts.get_all("License-File")) == ("MIT", ["LICENSE"])
    (name,) = (name for name in built.wheel.namelist() if name.endswith("/licenses/LICENSE"))
    assert built.wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_installing_replaces_no_kernel(built: SimpleNamespace) -> None:
    # In Colab, a lower bound above its version or a hard need of JupyterLab would upgrade what the kernel runs on.
    always = [line for line in metadata(built).get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(always) >= 9
    assert [line for line in always if re.search(r"<|==|~=|!=", line)] == []
    assert [line for line in always if line.startswith(("jupyter", "notebook", "ipython", "ipykernel"))] == []


# --- installed


@pytest.fixture(scope="module")
def installed(built: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    quiet = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", folder, built.path], check=True)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="pip puts the script elsewhere on Windows")
def test_the_installed_command_copies_the_notebooks(installed: Path, tmp_path: Path) -> None:
    mine = tmp_path / "02_maml.ipynb"
    mine.write_text("my own work")
    script, env = installed / "bin" / "cxgrad-lite", os.environ | {"PYTHONPATH": str(installed)}
    printed = subprocess.run([script, "notebooks", tmp_path], cwd=installed, env=env, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    course = handout.course(NOTEBOOKS)
    written = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(tmp_path.rglob("*.ipynb"))
    }
    assert written == course | {"02_maml.ipynb": "my own work"}
    assert f"{len(course) - 1} notebooks written" in printed.stdout and "02_maml.ipynb" in printed.stdout


def test_a_folder_of_the_same_name_hides_nothing(tmp_path: Path) -> None:
    # Beside a clone, its folder is on Python's path, and has no __init__.py.
    (tmp_path / "cxgrad_lite").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", "from importlib.util import find_spec as f; print(f('cxgrad_lite').origin)"]
    printed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(ROOT / "cxgrad_lite" / "__init__.py")


# --- the files of the course


def test_a_checkout_gives_the_same_files() -> None:
    assert files() == handout.course(NOTEBOOKS)


def test_the_course_is_whole_and_unanswered() -> None:
    course = {name: json.loads(text) for name, text in files().items()}
    assert {"00_start_here.ipynb", "solutions/04_solutions.ipynb", "assignments/a1_episodes.ipynb"} <= set(course)
    code = [cell for notebook in course.values() for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 100
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def zipped() -> dict[str, str]:
    """Name → text of what the course zip holds."""
    return runpy.run_path(str(ROOT / ".ci" / "build_course.py"))["files"]()


@pytest.mark.parametrize("course", [files, zipped], ids=["wheel", "zip"])
def test_links_lead_to_files_that_are_there(course: Callable[[], dict[str, str]]) -> None:
    texts = course()
    links = [(name, target) for name, text in texts.items() for target in relative_links(name, text)]
    assert len(links) > 15, "too few to test anything"
    broken = [(name, target) for name, target in links if os.path.normpath(Path(name).parent / target) not in texts]
    assert broken == []


def relative_links(name: str, text: str) -> list[str]:
    """Targets of the links and pictures in prose that lead to another file of the course."""
    if name.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"""(?:\]\(|(?:src|href)=")(?!\w+:|#)([^)"#\s]+)""", text)


def test_release_versions_are_nbgraders() -> None:
    """The steps of nbgrader's generate_assignment, without its database, give the same notebooks."""
    preprocessors = pytest.importorskip("nbgrader.preprocessors")
    import nbformat

    names = "LockCells ClearSolutions ClearOutput ClearHiddenTests ClearMarkScheme ComputeChecksums CheckCellMetadata"
    paths = sorted(NOTEBOOKS.glob("assignments/source/*/*.ipynb"))
    assert len(paths) == 4
    for path in paths:
        notebook, resources = nbformat.read(path, as_version=4), {"nbgrader": {}}
        for name in names.split():
            notebook, resources = getattr(preprocessors, name)().preprocess(notebook, resources)
        assert handout.released(handout.read(path)) == json.loads(nbformat.writes(notebook))


@pytest.mark.parametrize(
    "source",
    ["### BEGIN HIDDEN TESTS\nassert f(3) == 9", "### BEGIN SOLUTION\nx = 3", "x = 3\n### END SOLUTION"],
)
def test_a_region_without_its_other_end_is_not_handed_out(source: str) -> None:
    facts = {"grade": False, "solution": True, "locked": False, "grade_id": "a"}
    text = "### BEGIN SOLUTION\n### END SOLUTION\n" + source
    cell = {"cell_type": "code", "metadata": {"nbgrader": facts}, "source": text, "outputs": [], "execution_count": 1}
    with pytest.raises(ValueError, match="BEGIN|handed out"):
        handout.released({"cells": [cell], "metadata": {}})


# --- forks


def test_the_workflow_runs_targets_that_exist() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with JupyterLab")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    lines = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {name: {entry["target"] for entry in job["strategy"]["matrix"]["include"]} for name, job in jobs.items()}
    assert {"test", "test-browser", "test-colab"} <= named["test"]
    assert named["by-hand"] == {"test-slow", "test-oldest", "test-newest"}
    assert set.union(*named.values()) <= {target for line in lines for target in line.split()}
    for job in jobs.values():
        assert [step["run"] for step in job["steps"] if "run" in step] == ["make ${{ matrix.target }}"]
        assert job["runs-on"] == "ubuntu-latest"
        uses = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
        assert uses == ["actions/checkout", "actions/setup-python"]


def test_lower_bounds_have_the_form_that_the_oldest_versions_are_read_from() -> None:
    # The session `oldest` turns torch>=2.3 into torch==2.3.*
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert listed
    needs = re.findall(r'"(.*?)"', listed[1])
    assert len(needs) > 8 and [need for need in needs if not re.fullmatch(r"[\w-]+>=\d+(\.\d+)*", need)] == []
