"""Where a number comes from, in one form for every command."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..core.method import Method
from ..core.outer import Tasks
from ..training.engines import choose_engine, device_of
from ..training.loop import TrainConfig
from ..training.parallel import world_size
from .recipe import Recipe

PACKAGE = Path(__file__).parents[1]


def provenance(recipe: Recipe, method: Method, tasks: Tasks, config: TrainConfig, command: str) -> dict[str, Any]:
    """What every checkpoint and result stores: the recipe, the command, the code, and how and where it ran.

    Args:
        recipe, command: what was asked for.
        method, tasks, config: what is about to be trained; they decide which engine "auto" is.
    """
    device = device_of(method)
    machine = platform.machine()
    names = {"cpu": f"{machine} CPU, {torch.get_num_threads()} thread(s)", "mps": f"{machine} GPU (mps)"}
    return {
        "recipe": asdict(recipe),
        "command": command,
        "commit": commit(),
        "version": __version__,
        "engine": choose_engine(config.engine, config.precision, method, tasks),
        "precision": config.precision,
        "processes": world_size(),
        "device": names.get(device.type) or torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of this checkout, "-dirty" behind it if files were changed since; None where there is no checkout.

    A copy of a checkout without its history can be told by the environment variable CXGRAD_LITE_COMMIT.
    """
    if not (PACKAGE.parent / ".git").exists():  # else git would name whatever repository the package is installed in
        return os.environ.get("CXGRAD_LITE_COMMIT")
    describe = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, timeout=60).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None
