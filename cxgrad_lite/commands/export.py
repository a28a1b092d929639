"""Weights for the browser: ``python -m cxgrad_lite export CHECKPOINT --out X.bin`` (or ``X.json``)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from ..recipes.recipe import PRETRAINED
from ..training.checkpoints import read_header, whole_file
from .options import place

BROWSER = ("MAML", "CxGrad", "ProtoNet")  # what live/browser/methods.js can run


def add_export_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "write the weights of a checkpoint for the browser"
    parser = commands.add_parser("export", help=about, description=about)
    parser.add_argument("checkpoint", type=place, help="a .safetensors file, or the name of a shipped run")
    parser.add_argument("--out", type=place, required=True, help=".bin (float32) or .json to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    size = export(options.checkpoint, options.out)
    print(f"{options.out} written, {size / 1000:.0f} kB")


def export(checkpoint: Path, out: Path) -> int:
    """Write a checkpoint's weights and recipe, without its training history.

    A ``.bin`` is a safetensors file: eight bytes with the length of a JSON header, the header, float32 numbers. A
    ``.json`` is ``{"recipe": …, "tensors": {name: {"shape": …, "values": …}}}``.

    Args:
        checkpoint: a file, or the name of a shipped run.
        out: where to write.

    Returns:
        The size of the file in bytes.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is damaged, or neither ``.bin`` nor ``.json`` was asked for, or the browser cannot run it.
    """
    if out.suffix not in (".bin", ".json"):
        raise ValueError(f"--out must end in .bin or .json, not {out.name}")
    path = checkpoint if checkpoint.is_file() else PRETRAINED / f"{checkpoint}.safetensors"
    recipe: dict[str, Any] = read_header(path)["recipe"]
    if recipe["method"] not in BROWSER or recipe["net"]["norm"] != "batch" or recipe["net"]["conv_bias"]:
        raise ValueError(
            f"{path.name} holds {recipe['method']} with norm {recipe['net']['norm']!r}, and the browser runs only "
            f"{', '.join(BROWSER)} with batch norm and without biases of convolutions"
        )
    tensors = {name: tensor.float() for name, tensor in load_file(str(path)).items()}
    with whole_file(out) as unfinished:
        if out.suffix == ".bin":
            save_file(tensors, unfinished, metadata={"cxgrad_lite": json.dumps({"format": 1, "recipe": recipe})})
        else:
            plain = {n: {"shape": list(t.shape), "values": t.flatten().tolist()} for n, t in tensors.items()}
            unfinished.write_text(json.dumps({"recipe": recipe, "tensors": plain}), encoding="utf-8")
    return out.stat().st_size
