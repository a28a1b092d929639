"""Stand-ins for the functions of numpy and Python by which pickles make arrays: each checks what it is given.

numpy's own functions trust a pickle; these accept only what numpy itself writes for arrays of plain numbers and of
fixed-length strings, so that no object, no code and no memory beyond the file's own size can come in with them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

_PLAIN_TYPE = re.compile(r"[|<>=]?(b1|[ui][1248]|f[248]|[SU]\d{1,6})")


class Type:
    """Stands for a numpy dtype while a pickle is read."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if type(code) is not str or not _PLAIN_TYPE.fullmatch(code):
            raise ValueError(
                f"the pickle holds an array of type {code!r}; only numbers and fixed-length strings are read"
            )
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        version, order, subtype, names, fields, _, _, _, *metadata = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in (subtype, names, fields, *metadata)):
            raise ValueError("the pickle holds an array of a structured type; only numbers and strings are read")
        self.dtype = self.dtype if order in "|=" else self.dtype.newbyteorder(order)


class Makers:
    """The stand-ins, by the names that pickles call them by; ``budget`` bounds what a small file can unfold to."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.by_name: dict[str, Any] = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": self.type,
            "_codecs.encode": self.encode,
        }
        for core in ("numpy.core", "numpy._core"):
            self.by_name[f"{core}.multiarray._reconstruct"] = self.blank
            self.by_name[f"{core}.multiarray.scalar"] = self.scalar
            self.by_name[f"{core}.numeric._frombuffer"] = self.array
        for builtins in ("builtins", "__builtin__"):
            self.by_name[f"{builtins}.bytes"] = self.no_bytes

    def spend(self, length: int) -> None:
        self.budget -= length
        if self.budget < 0:
            raise ValueError("the pickle unfolds to far more than its own size: it was made to fill the memory")

    def type(self, *arguments: Any) -> Type:
        return Type(*arguments)

    def encode(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"the pickle encodes a string as {encoding!r}")
        self.spend(len(text))
        return text.encode("latin-1")

    def no_bytes(self) -> bytes:
        return b""

    def blank(self, kind: Any, shape: Any, code: Any) -> np.ndarray:
        if kind is not np.ndarray or shape != (0,) or code not in ("b", b"b"):
            raise ValueError("the pickle makes an array in an unusual way")
        return np.empty(0, np.int8)

    def fill(self, blank: np.ndarray, state: Any) -> None:
        """What ``ndarray.__setstate__`` does, once the state is known to be harmless."""
        _, shape, kind, fortran, data = state
        if blank.size or blank.dtype != np.int8:
            raise ValueError("the pickle fills an array twice")
        data = data.encode("latin-1") if isinstance(data, str) else data  # str is what Python 2 called bytes
        self.check(data, kind, shape)
        blank.__setstate__((1, shape, kind.dtype, bool(fortran), bytes(data)))  # type: ignore[arg-type]

    def array(self, data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
        self.check(data, kind, shape)
        flat = np.frombuffer(data, kind.dtype) if len(data) else np.empty(0, kind.dtype)
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def scalar(self, kind: Any, data: Any) -> Any:
        data = data.encode("latin-1") if isinstance(data, str) else data
        return self.array(data, kind, (), "C").item()

    def check(self, data: Any, kind: Any, shape: Any) -> None:
        if not isinstance(data, (bytes, bytearray)) or not isinstance(kind, Type) or type(shape) is not tuple:
            raise ValueError("the pickle holds an array that is not made of plain numbers")
        size = kind.dtype.itemsize
        for side in shape:
            if type(side) is not int or side < 0 or len(shape) > 32:
                raise ValueError(f"the pickle holds an array of shape {shape}")
            size *= side
        if len(data) != size:
            raise ValueError(f"the pickle holds {len(data):,} bytes for an array {shape} of {kind.dtype}")
        self.spend(len(data))
