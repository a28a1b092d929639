"""Pickles from strangers, read without running anything in them.

A pickle is a program, and Python's own reader calls whatever it names. A whitelist of numpy's functions, the documented
remedy, is not enough: numpy trusts the file, whose instructions can change the item size of an array's type after the
array was made and so read memory that is not its own, can ask for objects inside arrays, and can unfold a small file
until the memory is full. Here every allowed name stands for a function of this module, which accepts only what numpy
writes for arrays of numbers and of fixed-length strings. Python's version of the unpickler is used, because the one in
C reserves memory for any index that a file claims to refer to.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

EXTRA = 1 << 20  # bytes that a pickle may unfold to beyond twice its size
NDARRAY = object()  # stands for the class of arrays, which pickles name but must not call
PNG = b"\x89PNG\r\n\x1a\n"  # how every PNG file begins
_PLAIN_TYPE = re.compile(r"[|<>=]?(b1|[ui][1248]|f[248]|[SU]\d{1,6})")
_PLAIN = (str, bytes, bytearray, int, float, bool, type(None), np.ndarray)
_FAULTS = (pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, OverflowError, MemoryError)


def load_plain(stream: BinaryIO) -> Any:
    """The one object of a pickle: arrays, lists, tuples, dicts, strings, bytes, numbers, None and booleans.

    Protocols 0 to 5, written by Python 2 or 3 and numpy 1 or 2. Arrays of booleans, integers, floats and fixed-length
    strings keep their shape, type and memory order, and may be read-only; numpy scalars become Python numbers;
    strings of Python 2 become str (latin-1), whether they were text or bytes.

    Args:
        stream: open for reading in binary, seekable; read from where it stands.

    Raises:
        ValueError: if the pickle asks for anything else (its name is given), is damaged, or is no pickle.
    """
    try:
        value = _Unpickler(stream).load()
    except (*_FAULTS, struct.error) as error:
        raise ValueError(f"the pickle is damaged, cut off, or not plain data: {error}") from error
    _check_plain(value)
    return value


def png_files(stream: BinaryIO) -> Iterator[bytes]:
    """The PNG files in a pickle, one after the other; nothing else of it is kept in memory, and nothing is run.

    Each may be a string of bytes or the content of an array; one that is referred to a second time is given once.

    Raises:
        ValueError: if the pickle is damaged or is none. Files before a damaged place are still given.
    """
    try:
        for _, data, _ in pickletools.genops(stream):
            if isinstance(data, str):  # Python 2's bytes, or bytes that protocol 2 writes as text
                data = data.encode("latin-1", "replace")
            if isinstance(data, (bytes, bytearray)) and data.startswith(PNG):
                yield bytes(data)
    except (ValueError, MemoryError, struct.error) as error:
        raise ValueError(f"the pickle is damaged, cut off, or no pickle: {error}") from error


def _check_plain(value: Any) -> None:
    """Refuse the stand-ins themselves, which are no data, anywhere in what was read."""
    checked: set[int] = set()
    rest = [value]
    while rest:
        value = rest.pop()
        if type(value) in (list, tuple, dict):
            if id(value) not in checked:
                checked.add(id(value))
                rest.extend([*value, *value.values()] if type(value) is dict else value)
        elif type(value) not in _PLAIN:
            raise ValueError(f"refused: the pickle holds a {type(value).__name__}, and only plain data are read")


class _Type:
    """Stands for a numpy dtype, whose byte order a pickle sets after making it."""

    def __init__(self, code: Any, *_: Any) -> None:
        if type(code) is not str or not _PLAIN_TYPE.fullmatch(code):
            raise ValueError(
                f"the pickle holds an array of type {code!r}; only numbers and fixed-length strings are read"
            )
        self.dtype = np.dtype(code)

    def set_order(self, state: Any) -> None:
        _, order, subtype, names, fields, _, _, _, *metadata = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in (subtype, names, fields, *metadata)):
            raise ValueError("the pickle holds an array of a structured type; only numbers and strings are read")
        self.dtype = self.dtype if order in "|=" else self.dtype.newbyteorder(order)


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Python's unpickler, in which every name means a function of this class and only arrays get a state."""

    stack: list[Any]

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin-1")
        start = stream.tell()
        self.budget = 2 * (stream.seek(0, 2) - start) + EXTRA
        stream.seek(start)
        self.known: dict[str, Any] = {
            "numpy.ndarray": NDARRAY,
            "numpy.dtype": _Type,
            "_codecs.encode": self.encode,
            "builtins.bytes": self.no_bytes,
            "__builtin__.bytes": self.no_bytes,
        }
        for core in ("numpy.core", "numpy._core"):
            self.known[f"{core}.multiarray._reconstruct"] = self.blank
            self.known[f"{core}.multiarray.scalar"] = self.scalar
            self.known[f"{core}.numeric._frombuffer"] = self.array

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.known:
            raise ValueError(f"refused: the pickle asks for {module}.{name}, and only plain data are read")
        return self.known[f"{module}.{name}"]

    def encode(self, text: str, encoding: str) -> bytes:
        self.budget -= len(text)
        if encoding not in ("latin1", "latin-1") or self.budget < 0:
            raise ValueError("the pickle unfolds to far more than its own size: it was made to fill the memory")
        return text.encode("latin-1")

    def no_bytes(self) -> bytes:
        return b""

    def blank(self, kind: Any, shape: Any, code: Any) -> np.ndarray:
        if kind is not NDARRAY or shape != (0,) or code not in ("b", b"b"):
            raise ValueError("the pickle makes an array in an unusual way")
        return np.empty(0, np.int8)

    def array(self, data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
        data = self.checked(data, kind, shape)
        flat = np.frombuffer(data, kind.dtype) if len(data) else np.empty(0, kind.dtype)
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def scalar(self, kind: Any, data: Any) -> Any:
        return self.array(data, kind, (), "C").item()

    def checked(self, data: Any, kind: Any, shape: Any) -> Any:
        """The bytes of an array, once they are known to be as many as its shape and type need."""
        data = data.encode("latin-1") if isinstance(data, str) else data  # str is what Python 2 called bytes
        if not isinstance(data, (bytes, bytearray)) or not isinstance(kind, _Type) or type(shape) is not tuple:
            raise ValueError("the pickle holds an array that is not made of plain numbers")
        size = kind.dtype.itemsize
        for side in shape:
            if type(side) is not int or side < 0 or len(shape) > 32:
                raise ValueError(f"the pickle holds an array of shape {shape}")
            size *= side
        self.budget -= len(data)
        if len(data) != size or self.budget < 0:
            raise ValueError(f"the pickle holds {len(data):,} bytes for an array {shape} of {kind.dtype}")
        return data

    def load_build(self) -> None:
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, _Type):
            thing.set_order(state)
        elif isinstance(thing, np.ndarray) and not thing.size and thing.dtype == np.int8:
            _, shape, kind, fortran, data = state
            data = bytes(self.checked(data, kind, shape))
            thing.__setstate__((1, shape, kind.dtype, bool(fortran), data))  # type: ignore[arg-type]
        else:
            raise ValueError(f"refused: the pickle sets the state of a {type(thing).__name__}, or sets it twice")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        known = any(function is one for one in self.known.values()) and function is not NDARRAY
        if not known or type(arguments) is not tuple:
            raise ValueError("refused: the pickle calls what cannot be called")
        self.stack[-1] = function(*arguments)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build, pickle.REDUCE[0]: load_reduce}  # type: ignore
    for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        del dispatch[_code[0]]
