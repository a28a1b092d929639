"""What Binder would build from environment.yml, as far as can be checked without building it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML comes with JupyterLab")

ROOT = Path(__file__).parents[2]
REPO2DOCKER = shutil.which("jupyter-repo2docker", path=str(Path(sys.executable).parent)) or shutil.which(
    "jupyter-repo2docker"
)
# Installed by pip for Binder: measured 1.3 GB with CPU wheels, of which torch takes 0.7.
MOST_GB_BESIDE_TORCH = 0.8
# Not there with CPU wheels. torch itself is left out because its CUDA build, which may be the one here, is larger.
ONLY_WITH_TORCH = re.compile(r"torch$|triton|nvidia-|cuda-")


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "environment.yml").read_text()))


@pytest.fixture(scope="module")
def pip_lines(environment: dict[str, Any]) -> list[str]:
    """The lines that pip gets, without comments."""
    (lines,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    return [line.split(" #")[0].strip() for line in lines]


def test_channels_are_free_and_python_is_named(environment: dict[str, Any]) -> None:
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    named = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    # Without a number, repo2docker takes a Python of its own choice.
    assert [entry for entry in named if re.fullmatch(r"python=3\.1[0-9]", entry)] and "pip" in named


def test_torch_comes_as_cpu_wheel_in_a_tested_version(pip_lines: list[str]) -> None:
    assert pip_lines == [
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "-c constraints.txt",
        "torch",
        "torchvision",
        "-e .[lab]",
    ]
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


@pytest.mark.skipif(REPO2DOCKER is None, reason="jupyter-repo2docker is not installed")
def test_repo2docker_reads_the_environment(environment: dict[str, Any]) -> None:
    command = [str(REPO2DOCKER), "--no-build", "--debug", "."]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    log = printed.stdout + printed.stderr
    assert printed.returncode == 0, log[-2000:]
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert f"Building conda environment for {python}" in log
    # `-e .` needs the repository to be there before the installation.
    assert 0 < log.index("COPY --chown=0:0 src/") < log.index('--file "environment.yml"')


def requirements(name: str, extra: str = "") -> list[str]:
    """Names of the installed packages that a package asks for, here and with this extra."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in distribution(name).requires or []]
    return [
        requirement.name.lower().replace("_", "-")
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    ]


def installed_bytes(name: str) -> int:
    paths = [Path(str(path.locate())) for path in distribution(name).files or []]
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


def test_what_binder_installs_beside_torch_is_small() -> None:
    pytest.importorskip("jupyterlab", reason="measures the extra [lab]")
    try:
        distribution("cxgrad-lite")
    except PackageNotFoundError:
        pytest.skip("the package is not installed here, so what it asks for is not known")
    pending, sizes = [*requirements("cxgrad-lite"), *requirements("cxgrad-lite", "lab")], {}
    while pending:
        name = pending.pop()
        if name in sizes or ONLY_WITH_TORCH.match(name):
            continue
        try:
            sizes[name] = installed_bytes(name)
        except PackageNotFoundError:
            continue  # for another system
        pending += requirements(name)
    assert {"jupyterlab", "plotly", "scipy", "torchvision"} <= set(sizes)
    assert sum(sizes.values()) < MOST_GB_BESIDE_TORCH * 1e9, sorted(sizes.items(), key=lambda item: -item[1])[:5]
