"""The hub's configurations: what can be checked without a hub."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from assignments import ROOT, build_course

HUB = ROOT / "docs" / "hub"
FOLDER = {"dirs_exist_ok": True, "ignore": shutil.ignore_patterns("__pycache__")}


class Anything(SimpleNamespace):
    """Takes any settings, as JupyterHub's configuration does."""

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, Anything())
        return self.__dict__[name]


def test_the_three_give_a_kernel_one_thread() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with JupyterLab")
    config = Anything()
    exec((HUB / "tljh.py").read_text(), {"get_config": lambda: config})
    values = yaml.safe_load((HUB / "values.yaml").read_text())["singleuser"]
    container = json.loads((HUB / "devcontainer.json").read_text())["containerEnv"]
    for environment in (config.Spawner.environment, values["extraEnv"], container):
        assert environment["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS=1" in (HUB / "Dockerfile").read_text()
    assert config.SystemdSpawner.mem_limit.rstrip("G") == values["memory"]["limit"].rstrip("G") == "2"


def test_the_images_steps_install_the_package_and_copy_no_solution(tmp_path: Path) -> None:
    # COPY and pip's line as in the image, without what needs the network.
    steps, image = (HUB / "Dockerfile").read_text(), tmp_path / "image"
    build_course(tmp_path / "build" / "course")
    copied = [
        (source, target) for line, target in re.findall(r"^COPY (.*) (\S+)$", steps, re.M) for source in line.split()
    ]
    assert len(copied) > 5
    for source, target in copied:
        path = (tmp_path if source.startswith("build/") else ROOT) / source
        (image / target).mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, image / target, **FOLDER if path.is_dir() else {})
    assert 'torch torchvision ".[lab]" jupyterhub nbgitpuller' in steps
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "."], cwd=image, check=True)
    found = subprocess.run(
        [sys.executable, "-c", "import data_utils; print(data_utils.__file__)"],
        cwd=tmp_path / "site", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(found.strip()).is_relative_to(tmp_path)
    notebooks = list(image.rglob("*.ipynb"))
    assert len(notebooks) == 4 and not [path for path in notebooks if "HIDDEN TESTS" in path.read_text()]


def test_the_sizes_are_those_measured() -> None:
    measured, shown = (ROOT / "results" / "hub.md").read_text(), (HUB / "README.md").read_text()
    rows = re.findall(r"^\| `.*\|$", measured, re.MULTILINE)
    assert len(rows) > 10 and [row for row in rows if row not in shown] == []
    assert max(int(row.split("|")[3]) for row in rows) < 2000, "the limit of 2 GB in the configurations is too low"
