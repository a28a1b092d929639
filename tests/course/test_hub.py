"""The hub's configurations: what can be checked without a hub."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from assignments import ROOT

HUB = ROOT / "docs" / "hub"


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


def test_the_image_copies_files_that_are_there_and_no_solution() -> None:
    copied = [
        word for line in re.findall(r"^COPY (.*) \S+$", (HUB / "Dockerfile").read_text(), re.M) for word in line.split()
    ]
    assert len(copied) > 5
    assert [word for word in copied if not word.startswith("build/") and not (ROOT / word).exists()] == []
    assert not [word for word in copied if word.startswith("notebooks")]
