"""Checkpoints in safetensors: numbers and a recipe, nothing that could run code."""

from __future__ import annotations

import inspect
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..core.method import Method
from ..core.nets import Conv4
from ..core.registry import METHODS

FORMAT = 1


def options(module: nn.Module) -> dict[str, Any]:
    """The arguments that the module was built with; each is kept as an attribute of the same name."""
    parameters = inspect.signature(type(module)).parameters
    return {name: getattr(module, name) for name in parameters if name != "net"}


def recipe_of(method: Method) -> dict[str, Any]:
    """What is needed to build the method again: its name, its options and those of its network."""
    return {"method": type(method).__name__, "options": options(method), "net": options(method.net)}


def build(recipe: dict[str, Any]) -> Method:
    """A new method from a recipe; its weights are fresh."""
    if recipe["method"] not in METHODS:
        raise ValueError(f"there is no method {recipe['method']!r}; known are {', '.join(METHODS)}")
    return METHODS[recipe["method"]](Conv4(**recipe["net"]), **recipe["options"])


def save_checkpoint(path: str | Path, method: Method, **provenance: Any) -> None:
    """Write parameters and recipe to one file, under a temporary name first, so that no half-written file is left.

    Args:
        path: ends in .safetensors by custom.
        method: what to save.
        provenance: whatever should be known of this checkpoint (command, seed, accuracy, …); must fit into JSON.
    """
    header = {"format": FORMAT, "recipe": recipe_of(method), "provenance": provenance}
    state = {name: t.detach().cpu().contiguous() for name, t in method.state_dict().items()}
    with whole_file(Path(path)) as unfinished:
        save_file(state, unfinished, metadata={"cxgrad_lite": json.dumps(header)})


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes ``path`` when all is written; a file is whole or not there at all.

    Raises:
        OSError: if it could not be written, for instance because the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # its own name for every writer
    try:
        yield unfinished
        with open(unfinished, "rb") as written:
            os.fsync(written.fileno())  # else a power cut can leave the new name with old contents
        os.replace(unfinished, path)
    except (safetensors.SafetensorError, RuntimeError) as error:  # torch.save raises a RuntimeError
        raise OSError(f"{path} could not be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_header(path: str | Path) -> dict[str, Any]:
    """``{"recipe": …, "provenance": …}`` of a checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a checkpoint of this package, or is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with safetensors.safe_open(str(path), framework="pt") as stored:
            metadata = stored.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}); it may be cut short") from error
    if "cxgrad_lite" not in metadata:
        raise ValueError(f"{path} holds tensors, but no recipe of cxgrad_lite")
    header = json.loads(metadata["cxgrad_lite"])
    if header["format"] > FORMAT:
        raise ValueError(f"{path} was written by a newer version of cxgrad_lite; please update")
    return header


def load_checkpoint(path: str | Path, into: Method | None = None) -> Method:
    """The method stored in a checkpoint, or ``into`` with the stored parameters.

    Raises:
        FileNotFoundError, ValueError: see `read_header`; also if the recipe of ``into`` differs from the stored one.
    """
    stored_method = build(read_header(path)["recipe"])  # options that the file is too old to know have their defaults
    recipe, method = recipe_of(stored_method), stored_method if into is None else into
    ours = recipe_of(method)
    if ours != recipe:
        pairs = [(part, recipe[part], ours[part]) for part in recipe if recipe[part] != ours[part]]
        stored, given = ", ".join(f"{p}={s}" for p, s, _ in pairs), ", ".join(f"{p}={o}" for p, _, o in pairs)
        raise ValueError(f"the recipe of {path} does not match: stored {stored}; given {given}")
    method.load_state_dict(with_positions(load_file(str(path)), method))
    return method


def with_positions(state: dict[str, Tensor], method: Method) -> dict[str, Tensor]:
    """Old checkpoints name what is learned for a fast tensor by the tensor, not by its position: rates.head-bias."""
    position = {name.replace(".", "-"): str(j) for name, j in getattr(method, "position", {}).items()}
    return {".".join(position.get(part, part) for part in key.split(".")): t for key, t in state.items()}
