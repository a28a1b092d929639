"""What the options of several commands mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    return whole(text, 1)


def whole(text: str, least: int = 0, most: int = 1_000_000) -> int:
    """A whole number in a range, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text[:80]!r}")
    return number


def place(text: str) -> Path:
    """A path that is not empty, for argparse."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must name a file or folder, not {text!r}")
    return Path(text)


def choose_device(name: str) -> torch.device:
    """A device by name; "auto" is a GPU if there is one.

    Raises:
        ValueError: if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"there is no device {name!r}; cpu, cuda, cuda:1, mps and auto are known") from error
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if (
        not present.get(device.type, False)
        or device.type == "cuda"
        and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ValueError(f"torch finds no device {name!r} on this machine; --device cpu always works")
    return device
