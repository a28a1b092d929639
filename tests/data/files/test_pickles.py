"""Pickles are read without running what they say."""

import array
import collections
import contextlib
import datetime
import functools
import io
import os
import pickle
import subprocess
import tracemalloc

import numpy as np
import pytest

from data_utils.files.pickles import PNG, _Unpickler, load_plain, png_files

PROTOCOLS = range(6)
PLAIN = {
    "numbers": [0, 255, 65_536, -1, -(2**40), 2**100, 1.5, float("inf"), True, False, None],
    "text": ["", "a", "naïve ✓", "long" * 1000],
    "bytes": [b"", b"a", bytes(range(256)) * 2, bytes(300_000)],
    "nested": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {1: {"a": [[]]}}],
}
ARRAYS = [
    np.arange(256, dtype=np.uint8),
    np.arange(24).reshape(2, 3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(5, dtype=">i4"),
    np.array([0.5], np.float32),
    np.array([True, False]),
    np.zeros((0, 3), np.int16),
    np.array(7),
    np.array(["n01532829", "x"]),
    np.array([b"ab", b"c"]),
    np.arange(200_000, dtype=np.uint8),
    np.arange(20)[::2],
]


def read(data: bytes) -> object:
    return load_plain(io.BytesIO(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data(protocol):
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN


def test_bytearray():
    assert read(pickle.dumps([bytearray(b"abc")], 5)) == [bytearray(b"abc")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"], ids=["numpy 2", "numpy 1"])
def test_arrays(protocol, core):
    data = pickle.dumps(ARRAYS, protocol)
    if protocol < 4:  # later protocols write the length before the name
        data = data.replace(b"numpy._core", core).replace(b"numpy.core", core)
    for one, expected in zip(read(data), pickle.loads(pickle.dumps(ARRAYS, protocol)), strict=True):
        assert one.dtype == expected.dtype and one.shape == expected.shape
        assert np.array_equal(one, expected)
        assert one.flags.f_contiguous == (expected.flags.f_contiguous or expected.ndim == 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_numbers_and_strings(protocol):
    scalars = [np.int64(3), np.uint8(255), np.float32(0.5), np.bool_(True), np.str_("ab"), np.bytes_(b"ab")]
    assert read(pickle.dumps(scalars, protocol)) == [3, 255, 0.5, True, "ab", b"ab"]


def test_list_that_holds_itself():
    one: list = [1]
    one.append(one)
    copy = read(pickle.dumps(one))
    assert copy[0] == 1 and copy[1] is copy


def test_shared_array_stays_shared():
    one = np.arange(3)
    first, second = read(pickle.dumps([one, one]))
    assert first is second and np.array_equal(first, one)


# What Python 2 and numpy 1 write for {"data": numpy.array([0, 128, 255], "u1"), "names": ["a\xff"]}.
PYTHON2 = {
    2: b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
    b"\x87Rq\x05(K\x01K\x03\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
    b"\xff\xffK\x00tb\x89U\x03\x00\x80\xfftbU\x05namesq\x08]q\tU\x02a\xffau.",
    0: b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nR"
    b"p7\n(I1\n(I3\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
    b"S'\\x00\\x80\\xff'\np15\ntp16\nbsS'names'\np17\n(lp18\nS'a\\xff'\np19\nas.",
}


@pytest.mark.parametrize("protocol", PYTHON2)
def test_python_2(protocol):
    batch = read(PYTHON2[protocol])
    assert batch["data"].tolist() == [0, 128, 255] and batch["data"].dtype == np.uint8
    assert batch["names"] == ["a\xff"]


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Rebuilt:
    def __setstate__(self, state) -> None:
        raise AssertionError("the state was set")


class Keyed:
    def __getnewargs_ex__(self):
        return (), {"a": 1}

    def __new__(cls, a=0):
        return super().__new__(cls)


rebuilt = Rebuilt()
rebuilt.a = 1
HOSTILE = {
    "os.system": Calls(os.system, "touch ran"),
    "builtins.eval": Calls(eval, "open('ran', 'w')"),
    "builtins.exec": Calls(exec, "open('ran', 'w')"),
    "builtins.open": Calls(open, "ran", "w"),
    "builtins.getattr": Calls(getattr, "a", "upper"),
    "builtins.print": [1, {"a": Calls(print, "ran")}],
    "subprocess.Popen": Calls(subprocess.Popen, ["touch", "ran"]),
    "functools.partial": functools.partial(os.system, "touch ran"),
    "collections.OrderedDict": collections.OrderedDict(a=1),
    "datetime.date": datetime.date(2021, 1, 1),
    "array._array_reconstructor": array.array("d", [1.0]),
    "object array": np.array([1, "a", None], object),
    "numpy.load": Calls(np.load, "ran"),
    "numpy.fromfile": Calls(np.fromfile, "ran"),
    "class": Rebuilt,
    "state of a class": rebuilt,
    "new with keywords": Keyed(),
    "set": {1, 2},
    "frozenset": frozenset([1]),
    "complex": 1j,
    "structured array": np.zeros(2, [("a", "i4"), ("b", "O")]),
    "datetime array": np.zeros(2, "M8[s]"),
    "memory-mapped kind": Calls(np.ndarray, (10**6,)),
    "dtype of a class": Calls(np.dtype, Rebuilt),
    "codec": Calls(__import__("_codecs").encode, "uryyb", "rot13"),
    "function": os.system,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name, protocol, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(HOSTILE[name], protocol)
    with pytest.raises(ValueError) as caught:
        read(data)
    assert list(png_files(io.BytesIO(pickle.dumps([PNG, HOSTILE[name]], protocol)))) == [PNG]
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr().out == ""
    if "." in name and protocol > 2:
        assert f"asks for {name}" in str(caught.value).replace("_io.", "io.").replace("posix", "os").replace(
            "nt.", "os."
        ).replace(" io.", " builtins.")


def reconstruct(state: bytes, kind: bytes = b"cnumpy\nndarray\n") -> bytes:
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + kind + b"K\x00\x85U\x01b\x87R" + state


BYTE_TYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
OPCODES = {
    "dotted name": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "attribute of an allowed module": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "old instance": b"(S'touch ran'\nios\nsystem\n.",
    "object instruction": b"(cos\nsystem\nS'touch ran'\no.",
    "persistent": b"Pname\n.",
    "persistent on the stack": b"K\x01Q.",
    "extension": b"\x82\x01.",
    "buffer": b"\x80\x05\x97.",
    "call of a string": b"U\x01aU\x01b\x85R.",
    "call of an array class": b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.",
    "state of a list": b"]}b.",
    "kind of array": reconstruct(b".", b"U\x01a"),
    "negative side": reconstruct(b"(K\x01J\xff\xff\xff\xff\x85" + BYTE_TYPE + b"\x89U\x00tb."),
    "huge array of few bytes": reconstruct(b"(K\x01J\xff\xff\xff\x7f\x85" + BYTE_TYPE + b"\x89U\x01atb."),
    "two bytes for one": reconstruct(b"(K\x01K\x01\x85" + BYTE_TYPE + b"\x89U\x02aatb."),
    "list for bytes": reconstruct(b"(K\x01K\x01\x85" + BYTE_TYPE + b"\x89]K\x01atb."),
    "filled twice": reconstruct((b"(K\x01K\x01\x85" + BYTE_TYPE + b"\x89U\x01atb") * 2 + b"."),
    "object type": reconstruct(b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R\x89U\x08aaaaaaaatb."),
    "forged length": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "forged length of a bytearray": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
    "forged frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",
    "unknown memo": b"h\x05.",
    "nothing on the stack": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "unknown protocol": b"\x80\x77.",
    "empty file": b"",
    "web page": b"<!DOCTYPE html>",
    "unhashable key": b"}]K\x01s.",
    "array class as a value": b"cnumpy\nndarray\n.",
    "function as a value": b"]c_codecs\nencode\na.",
    "type as a value": b"]" + BYTE_TYPE + b"a.",
}


@pytest.mark.parametrize("name", OPCODES)
def test_hostile_instructions_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        load_plain(io.BytesIO(OPCODES[name]))
    with contextlib.suppress(ValueError):
        assert list(png_files(io.BytesIO(OPCODES[name]))) == []
    assert list(tmp_path.iterdir()) == []


def test_small_file_cannot_fill_the_memory():
    text = "é" * 500_000
    start = b"\x80\x02X" + len(text.encode()).to_bytes(4, "little") + text.encode() + b"q\x00]"
    call = b"c_codecs\nencode\nh\x00U\x06latin1\x86Ra"
    assert len(read(start + call + b".")[0]) == 500_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="fill the memory"):
        read(start + call * 1000 + b".")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truncated_pickles_are_refused(protocol):
    data = pickle.dumps(ARRAYS[:3] + [PLAIN["nested"]], protocol)
    for end in range(len(data) - 1):
        with pytest.raises(ValueError):
            read(data[:end])


def pngs(count: int, length: int = 200) -> list[np.ndarray]:
    start, random = np.frombuffer(PNG, np.uint8), np.random.default_rng(0)
    return [np.concatenate([start, random.integers(0, 256, n % length, np.uint8)]) for n in range(count)]


@pytest.mark.parametrize("protocol", range(1, 6))
@pytest.mark.parametrize("count", [0, 1, 2, 1000, 1001, 3500])
def test_stream_gives_every_png_file(protocol, count):
    items = pngs(count)
    assert list(png_files(io.BytesIO(pickle.dumps(items, protocol)))) == [item.tobytes() for item in items]
    assert list(png_files(io.BytesIO(pickle.dumps([item.tobytes() for item in items], protocol)))) == [
        item.tobytes() for item in items
    ]


def test_stream_of_python_2():
    one = PYTHON2[2][2:-1].replace(b"U\x03\x00\x80\xff", b"U\x08" + PNG)
    assert list(png_files(io.BytesIO(b"\x80\x02](" + one + one + b"e."))) == [PNG] * 2


def test_stream_stops_at_damage():
    data = pickle.dumps(pngs(3000), 2)
    with pytest.raises(ValueError, match="cut off"):
        list(png_files(io.BytesIO(data[: len(data) // 2])))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_stream_uses_bounded_memory(protocol, tmp_path):
    pixels = np.concatenate([pngs(1)[0], np.random.default_rng(0).integers(0, 256, 992, np.uint8)])
    with open(tmp_path / "list.pkl", "wb") as file:
        pickle.dump([pixels.copy() for _ in range(20_000)], file, protocol)
    tracemalloc.start()
    with open(tmp_path / "list.pkl", "rb") as file:
        total = sum(len(item) for item in png_files(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 20_000_000 and peak < 1_000_000


def test_forged_index_takes_no_memory():
    tracemalloc.start()
    assert read(b"\x80\x02K\x01r\xff\xff\xff\xff.") == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_only_known_names_are_found():
    reader = _Unpickler(io.BytesIO(b""))
    assert len(reader.known) == 11
    with pytest.raises(ValueError, match="os.system"):
        reader.find_class("os", "system")
