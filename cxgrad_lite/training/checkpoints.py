"""Checkpoints in safetensors: numbers and a recipe, nothing that could run code."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..core.method import Method
from ..core.nets import Conv4
from .settings import check_header, check_method

FORMAT = 1
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def options(module: nn.Module) -> dict[str, Any]:
    """The arguments that the module was built with; each is kept as an attribute of the same name.

    Raises:
        ValueError: if one is not kept, so that the module could not be built again.
    """
    names = [name for name in inspect.signature(type(module)).parameters if name != "net"]
    for name in names:
        if not hasattr(module, name):
            kind = type(module).__name__
            raise ValueError(f"{kind} takes {name}, but does not keep it; in its __init__, write self.{name} = {name}")
    return {name: getattr(module, name) for name in names}


def recipe_of(method: Method) -> dict[str, Any]:
    """What is needed to build the method again: its name, its options and those of its network."""
    return {"method": type(method).__name__, "options": options(method), "net": options(method.net)}


def build(recipe: dict[str, Any]) -> Method:
    """A new method from a recipe; its weights are fresh.

    Raises:
        ValueError: if there is no such method, or an option does not fit (see `settings`).
    """
    return check_method(recipe["method"], recipe["options"])(Conv4(**recipe["net"]), **recipe["options"])


def save_checkpoint(path: str | Path, method: Method, **provenance: Any) -> None:
    """Write parameters and recipe to one file, under a temporary name first, so that no half-written file is left.

    Args:
        path: ends in .safetensors by custom.
        method: what to save.
        provenance: whatever should be known of this checkpoint (command, seed, accuracy, …); must fit into JSON.
    """
    state = {name: t.detach().cpu().contiguous() for name, t in method.state_dict().items()}
    header = {"format": FORMAT, "recipe": recipe_of(method), "provenance": provenance, "sha256": digest(state)}
    with whole_file(Path(path)) as unfinished:
        save_file(state, unfinished, metadata={"cxgrad_lite": json.dumps(header)})


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all numbers, in the order of their names. A flipped bit makes another weight that looks as good.

    Args:
        tensors: on the CPU, contiguous.
    """
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(tensors[name].view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


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
    try:
        header = json.loads(metadata["cxgrad_lite"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its header is not readable ({error})") from error
    if isinstance(header, dict):
        header.setdefault("sha256", "")  # older files lack it
    if isinstance(header, dict) and isinstance(header.get("format"), int) and header["format"] > FORMAT:
        raise ValueError(f"{path} was written by a newer version of cxgrad_lite; please update")
    check_header(header, path)
    return header


def load_checkpoint(path: str | Path, into: Method | None = None) -> Method:
    """The method stored in a checkpoint, or ``into`` with the stored parameters.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a checkpoint of this package, is damaged, has a setting or tensor that cannot be, or
            was made by another recipe than that of ``into``.
    """
    header = read_header(path)
    stored = header["recipe"]
    with torch.device("meta"):  # without memory: whether the file has the tensors for it comes first
        planned = build_stored(stored, path)
    recipe = recipe_of(planned)  # options that the file is too old to know have their defaults
    if into is not None and (ours := recipe_of(into)) != recipe:
        pairs = [(part, recipe[part], ours[part]) for part in recipe if recipe[part] != ours[part]]
        said, given = ", ".join(f"{p}={s}" for p, s, _ in pairs), ", ".join(f"{p}={o}" for p, _, o in pairs)
        raise ValueError(f"the recipe of {path} does not match: stored {said}; given {given}")
    numbers = load_file(str(path))
    tensors = with_positions(numbers, planned)
    check_tensors(tensors, planned.state_dict(), path)
    if header["sha256"] and header["sha256"] != digest(numbers):
        raise ValueError(f"{path} is damaged: its numbers are not those that were written (SHA-256 differs)")
    method = build_stored(stored, path) if into is None else into
    method.load_state_dict(tensors)
    return method


def build_stored(recipe: dict[str, Any], path: str | Path) -> Method:
    """`build`, with the file named where the parts of a recipe do not fit together."""
    try:
        return build(recipe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_tensors(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], where: object) -> None:
    """Check that stored tensors have the names and shapes of those wanted, and are finite numbers of floating point.

    Raises:
        ValueError: naming the tensor that is not.
    """
    for name in sorted(tensors.keys() ^ wanted.keys(), key=str):
        raise ValueError(f"{where}: {name} is {'missing' if name in wanted else 'none of its tensors'}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.shape != wanted[name].shape or tensor.dtype not in NUMBERS:
            given, needed = (
                f"{t.dtype} of shape {tuple(t.shape)}" if isinstance(t, Tensor) else type(t).__name__
                for t in (tensor, wanted[name])
            )
            raise ValueError(f"{where}: {name} must be {needed}, not {given}")
        if bad := int((~tensor.isfinite()).sum()):
            raise ValueError(f"{where}: {bad} of the {tensor.numel()} numbers in {name} are NaN or infinite")


def with_positions(state: dict[str, Tensor], method: Method) -> dict[str, Tensor]:
    """Old checkpoints name what is learned for a fast tensor by the tensor, not by its position: rates.head-bias."""
    position = {name.replace(".", "-"): str(j) for name, j in getattr(method, "position", {}).items()}
    return {".".join(position.get(part, part) for part in key.split(".")): t for key, t in state.items()}
