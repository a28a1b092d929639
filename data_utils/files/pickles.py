"""A reader of pickles that runs nothing: numeric arrays, lists, tuples, dicts, strings, bytes, numbers, None, bools.

A pickle is a program, and Python's own reader calls whatever it names. Datasets arrive as pickles from strangers, so
this reader knows only the few names that arrays and bytes need, calls stand-ins of its own for them, and refuses
every other name and instruction with a ValueError. Protocols 0 to 5, written by Python 2 or 3 and numpy 1 or 2.
Strings of Python 2 become str (latin-1), whether they were text or bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Iterator
from types import MethodType
from typing import Any, BinaryIO

import numpy as np

from .pickle_arrays import Makers, Type

LARGE = 1 << 20  # characters; longer strings are not kept for a second use, because no writer of arrays shares them
SMALL = 64  # characters; the same for what the items of a streamed list may share
_PLAIN = (str, bytes, bytearray, int, float, bool, type(None), np.ndarray, list, tuple, dict)
_NO_LIST = "the pickle does not hold a list"


def load_plain(stream: BinaryIO) -> Any:
    """The one object of a pickle.

    Arrays of booleans, integers, floats and fixed-length strings keep their shape, type and memory order; they may be
    read-only. numpy scalars become Python numbers.

    Args:
        stream: open for reading in binary, seekable; read from where it stands.

    Raises:
        ValueError: if the pickle asks for anything else (its name is given), is damaged, or is no pickle.
    """
    reader = _Reader(stream)
    while not reader.stopped:
        reader.step()
    _check_plain(reader.value)
    return reader.value


def stream_list(stream: BinaryIO) -> Iterator[Any]:
    """The items of a pickle that is one list, one after the other, in bounded memory.

    Up to 1,000 items, which is what Python writes at a time, are in memory; the list itself never is. An item that
    refers back to large parts of an earlier one is refused: lists of independent images have none.

    Args:
        stream: as in `load_plain`.

    Raises:
        ValueError: as in `load_plain`, or if the pickle is not a list. Items before a damaged place are still given.
    """
    reader = _Reader(stream)
    while not reader.stopped:
        reader.step()
        items = reader.take()
        _check_plain(items)
        yield from items
    if type(reader.value) is not list:
        raise ValueError(_NO_LIST)


def _check_plain(value: Any) -> None:
    """Refuse the stand-ins themselves, which are no data, anywhere in what was read."""
    seen: set[int] = set()
    left = [value]
    while left:
        value = left.pop()
        if type(value) in (list, tuple, dict) and id(value) not in seen:
            seen.add(id(value))
            left.extend([*value, *value.values()] if type(value) is dict else value)
        elif type(value) not in _PLAIN:
            raise ValueError(f"refused: the pickle holds a {type(value).__name__}, and only plain data are read")


class _Bounded:
    """A stream that knows how much is left, so that a forged length cannot make Python reserve memory for it."""

    def __init__(self, stream: BinaryIO) -> None:
        start = stream.tell()
        self.size = stream.seek(0, io.SEEK_END) - start
        stream.seek(start)
        self.stream, self.left = stream, self.size

    def read(self, length: int) -> bytes:
        if length > self.left:
            raise ValueError(f"the pickle is cut off or damaged: {length:,} bytes asked for, {self.left:,} left")
        self.left -= length
        return self.stream.read(length)

    def readline(self) -> bytes:
        line = self.stream.readline()
        self.left -= len(line)
        return line


class _Memo(dict[int, Any]):
    """What later instructions may refer to; what is dropped still counts."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.fresh: list[int] = []
        self.first_time = True

    def __len__(self) -> int:  # protocol 4 numbers its entries by the length
        return self.count

    def __setitem__(self, key: int, value: Any) -> None:
        self.count = max(self.count, key + 1)
        parts = value if isinstance(value, tuple) else (value,)
        if not any(isinstance(part, (str, bytes, bytearray)) and len(part) > LARGE for part in parts):
            super().__setitem__(key, value)
            self.fresh.append(key)

    def drop_items(self) -> None:
        """Keep only what items written by numpy share: names, types, short strings, and tuples first used early on."""
        for key in self.fresh:
            value = self.get(key)
            tuple_kept = type(value) is tuple and self.first_time and all(map(_is_small, value))
            if not tuple_kept and not _is_small(value):
                self.pop(key, None)
        self.fresh.clear()
        self.first_time = False


def _is_small(value: Any) -> bool:
    short = isinstance(value, (str, bytes)) and len(value) <= SMALL
    return short or isinstance(value, (int, Type, MethodType, type))


_Python = pickle._Unpickler  # type: ignore[attr-defined]  # the only version whose instructions can be replaced
_KEPT = """PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4
FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES
BINBYTES8 BYTEARRAY8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST APPEND APPENDS DICT EMPTY_DICT SETITEM
SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"""


class _Reader(_Python):  # type: ignore[misc, valid-type]
    """Python's own unpickler, with only the instructions that plain data need."""

    def __init__(self, stream: BinaryIO) -> None:
        bounded = _Bounded(stream)
        super().__init__(bounded, encoding="latin-1")
        self.memo, self.makers = _Memo(), Makers(2 * bounded.size + LARGE)
        self.stopped, self.value = False, None
        self._unframer = pickle._Unframer(bounded.read, bounded.readline)  # type: ignore[attr-defined]
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append

    def step(self) -> None:
        """Carry out one instruction."""
        code = self.read(1)[0]
        if code not in self.dispatch:
            name = next((known.name for known in pickletools.opcodes if ord(known.code) == code), f"number {code}")
            raise ValueError(f"refused: the pickle has the instruction {name}, or it is damaged, or no pickle at all")
        try:
            self.dispatch[code](self)  # type: ignore[arg-type]
        except (pickle.UnpicklingError, LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
            raise ValueError(f"the pickle is damaged or not plain data: {error}") from error

    def take(self) -> list[Any]:
        """The finished items of the outermost list, which is then empty."""
        bottom = self.metastack[0] if self.metastack else self.stack
        if bottom and type(bottom[0]) is not list:
            raise ValueError(_NO_LIST)
        if self.metastack or len(self.stack) != 1 or not self.stack[0]:
            return []
        items = self.stack[0].copy()
        self.stack[0].clear()
        self.memo.drop_items()
        return items

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.makers.by_name:
            raise ValueError(f"refused: the pickle asks for {module}.{name}, and only plain data are read")
        return self.makers.by_name[f"{module}.{name}"]

    def load_stop(self) -> None:
        self.value, self.stopped = self.stack.pop(), True

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(struct.unpack("<Q", self.read(8))[0])))

    def load_reduce(self) -> None:
        arguments, maker = self.stack.pop(), self.stack[-1]
        if not isinstance(maker, MethodType) or type(arguments) is not tuple:
            raise ValueError("refused: the pickle calls what cannot be called")
        self.stack[-1] = maker(*arguments)

    def load_build(self) -> None:
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, Type):
            thing.build(state)
        elif isinstance(thing, np.ndarray):
            self.makers.fill(thing, state)
        else:
            raise ValueError(f"refused: the pickle sets the state of a {type(thing).__name__}")

    dispatch = {  # type: ignore[assignment]
        getattr(pickle, name)[0]: _Python.dispatch[getattr(pickle, name)[0]] for name in _KEPT.split()
    } | {
        pickle.STOP[0]: load_stop,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
    }
