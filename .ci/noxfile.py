"""The tests with other versions than those in constraints.txt: Colab's, the oldest allowed, the newest there are.

Usage: make test-colab, make test-oldest or make test-newest

Environments are kept in build/versions, 6 GB each. Without the Python that a session names, nox skips the session and
says so; PYTHON=/path/to/python names another.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent
PYTHON = os.environ.get("PYTHON")
NEEDS_GB = 10  # measured with Colab's versions: 8 GB while pip holds its downloads, 5.4 GB afterwards
PANELS = [f"{ROOT}/tests/live/test_{name}.py" for name in ("panels", "training_panel", "embedding_panels")]
NOTEBOOKS = [f"{ROOT}/notebooks/{name}.ipynb" for name in ("00_start_here", "01_tasks", "02_maml", "05_cxgrad")]
PYTEST = ["-c", f"{ROOT}/pyproject.toml", "--rootdir", str(ROOT), "-p", "no:cacheprovider", "-ra"]
PYTEST += ["-n", "2", "--dist", "loadfile", "-m", "not browser and not slow"]
# Old packages use what newer ones have deprecated since.
for warning in ("DeprecationWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
    PYTEST += ["-W", f"ignore::{warning}"]

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.envdir = str(ROOT / "build" / "versions")
# Ahead of pyenv's shims, which stand for Pythons that are switched off, too.
os.environ["PATH"] = os.pathsep.join([*map(str, Path.home().glob(".pyenv/versions/3.1*/bin")), os.environ["PATH"]])


def versions(session: nox.Session) -> list[str]:
    """What is installed beside the package itself."""
    lines = str(session.run("python", "-m", "pip", "list", "--format=freeze", silent=True, log=False)).splitlines()
    return [line for line in lines if "==" in line and not line.startswith("cxgrad-lite")]


def check_versions(session: nox.Session, before: list[str], cause: str) -> None:
    changed = sorted(set(before) ^ set(versions(session)))
    if changed:
        session.error(f"{cause} changes what Colab has: {', '.join(changed)}")


def run_pytest(session: nox.Session, *paths: str) -> None:
    """These tests, and the notebooks that students open first."""
    environment = {"PYTHONPATH": f"{ROOT}/.ci", "OMP_NUM_THREADS": "1"}
    session.run("python", f"{ROOT}/.ci/check_notebooks.py", *PYTEST, *NOTEBOOKS, *paths, env=environment)


@nox.session(python=PYTHON or "3.13")
def colab(session: nox.Session) -> None:
    """The wheel beside Colab's versions; its install cell, panels and first notebooks. Colab's own page is not here."""
    folder, free_gb = Path(session.create_tmp()), shutil.disk_usage(ROOT).free / 1e9
    if free_gb < NEEDS_GB and not list(folder.parent.glob("lib/*/site-packages/torch")):
        session.skip(f"the first time needs {NEEDS_GB} GB of disk, and {free_gb:.0f} GB are free")
    # scikit-learn, tqdm and safetensors are in Colab too, whatever their version.
    session.install("-r", f"{ROOT}/.ci/colab.txt", "scikit-learn", "tqdm", "safetensors", "setuptools>=77")
    session.install("psutil", "nbval", "hypothesis", "pytest-xdist")
    session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "cxgrad-lite")
    before = versions(session)
    session.chdir(folder)  # away from the checkout, so that the wheel is imported
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", f"{ROOT}/.ci/build_package.py", "dist")
    session.install(*map(str, Path("dist").glob("*.whl")))
    check_versions(session, before, "installing the wheel")
    session.run("python", "-c", "import cxgrad_lite as c, sys; assert c.__file__.startswith(sys.prefix), c.__file__")
    run_pytest(session, *PANELS)
    if (ROOT / ".git").exists():
        run_install_cell(session, before)


def run_install_cell(session: nox.Session, before: list[str]) -> None:
    """The first cell of a notebook as it stands; git takes this checkout's last commit for the one on GitHub."""
    session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "cxgrad-lite")
    cells = json.loads(Path(NOTEBOOKS[0]).read_text(encoding="utf-8"))["cells"]
    source = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    Path("cell.ipy").write_text(source, encoding="utf-8")
    (url,) = re.findall(r"git\+(https:\S+)", source)
    here = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf", "GIT_CONFIG_VALUE_0": url}
    session.run("ipython", "--no-term-title", "--colors=NoColor", "cell.ipy", env=here)
    session.run("python", "-c", "import cxgrad_lite")
    check_versions(session, before, "the install cell")


@nox.session(python=PYTHON or "3.10")
def oldest(session: nox.Session) -> None:
    """The package and its notebooks with the lower bounds of pyproject.toml."""
    session.chdir(ROOT)
    needs = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    # torch>=2.3 becomes torch==2.3.*
    session.install(*(f"{need.replace('>=', '==')}.*" for need in needs), "-e", ".[test]", "ipykernel", "psutil")
    # The course's tests need JupyterLab and nbgrader, which have lower bounds of their own.
    run_pytest(session, "--ignore=tests/course", "tests")


@nox.session(python=PYTHON or "3.14")
def newest(session: nox.Session) -> None:
    """All of `make test` with whatever pip finds."""
    session.chdir(ROOT)
    session.install("--upgrade", "--upgrade-strategy=eager", "-e", ".[lab,test,course]", "psutil")
    session.run("python", ".ci/check.py")
