"""Small tasks that need no data set."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from data_utils import ImageClasses, TaskSampler

# A shell's background jobs ignore these, and so would every process that a test starts and then interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def stripes() -> ImageClasses:
    """12 classes × 10 images, 1×16×16: a class is a direction and period of stripes, its images differ by noise."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    groups = []
    for c in range(12):
        angle, period = torch.tensor(c * 0.26), 3 + c % 3
        wave = torch.sin(2 * torch.pi * (x * angle.cos() + y * angle.sin()) / period)
        noisy = wave + 0.5 * torch.randn(10, 1, 16, 16, generator=generator)  # (10, 1, 16, 16)
        groups.append((f"stripes{c}", ((noisy + 2) * 60).clamp(0, 255).to(torch.uint8)))
    return ImageClasses.from_groups(groups)


@pytest.fixture()
def tasks(stripes: ImageClasses) -> TaskSampler:
    return TaskSampler(stripes, ways=3, shots=2, queries=3, tasks_per_batch=2, seed=0)


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"
