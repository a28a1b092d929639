"""Converted splits: written whole or not at all, and never used when damaged."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data_utils import TaskSampler
from data_utils.store import convert as store
from data_utils.store import reader as split_reader
from data_utils.store import writer as split_writer
from data_utils.store.convert import NewSplit, Split, SplitWriter, StoreError, fault, manifests, open_or_convert

NAMES, COUNTS, SHAPE = ("ant", "bee", "cat"), (4, 2, 3), (3, 5, 6)
IMAGES = np.random.default_rng(0).integers(0, 256, (9, *SHAPE), np.uint8)
LABELS = np.repeat([0, 1, 2], COUNTS)
KEY = "0123456789abcdef" * 4
TERMS = {"licence": "none stated", "citation": "A. Author, 2001", "source": "made here"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


def convert(new_split: NewSplit) -> None:
    with new_split(NAMES, COUNTS, SHAPE) as writer:
        for row in (8, 0, 4, 1, 2, 5, 3):  # classes in any order
            writer.put(int(LABELS[row]), IMAGES[row])
        writer.put(2, IMAGES[6])
        writer.put(2, IMAGES[7])


ROWS = [0, 1, 2, 3, 4, 5, 8, 6, 7]  # where convert puts them


def forbid(new_split: NewSplit) -> None:
    raise AssertionError("the images were converted a second time")


def make(convert=convert, split="train", key=KEY, rule="rule 1", expected=NAMES):
    return open_or_convert(Split("insects", split, key, rule, expected), convert, TERMS)


def test_conversion(home):
    data = make()
    assert data.names == NAMES and data.counts.tolist() == list(COUNTS)
    assert np.array_equal(data.images.numpy(), IMAGES[ROWS])
    folder = home / f"insects-train-{KEY[:16]}"
    assert sorted(file.name for file in folder.iterdir()) == ["images.npy", "manifest.json"]
    assert {file.name for file in home.iterdir()} == {folder.name, f"{folder.name}.lock"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.items() >= (TERMS | {"dataset": "insects", "split": "train", "key": KEY, "rule": "rule 1"}).items()
    assert manifest["counts"] == list(COUNTS) and manifest["shape"] == list(SHAPE)
    assert manifest["sha256"] == store.file_digest(folder / "images.npy")
    assert manifests() == {folder: manifest} and fault(folder) is None


def test_second_opening_reads_the_file():
    first, second = make(), make(forbid)
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert make(forbid, expected=None).names == NAMES


def test_memory_mapped_images_make_tasks():
    make()
    sampler = TaskSampler(make(forbid), ways=2, shots=1, queries=1)
    (images, _), _ = sampler.sample()[0]
    assert images.shape == (2, *SHAPE) and images.dtype == torch.float32


def test_a_file_cut_while_it_is_in_use_ends_no_program(tmp_path):
    make()
    images = make(forbid)
    sampler = TaskSampler(images, ways=2, shots=1, queries=1)
    os.truncate(images.file, 0)  # the system ends a program that reads on, with SIGBUS
    with pytest.raises(OSError, match="images.npy was cut short while it was in use; load the data again"):
        sampler.sample()
    with pytest.warns(UserWarning, match="it is made anew"):
        assert TaskSampler(make(), ways=2, shots=1, queries=1).sample()


def test_a_file_deleted_while_it_is_in_use_is_still_read():
    make()
    images = make(forbid)
    images.file.unlink()
    assert len(images.of_class(NAMES[0])) == COUNTS[0]


def test_writing_to_the_images_leaves_the_file_alone():
    make().images.zero_()
    assert make(forbid).images.any()


def test_keys_splits_and_terms(capsys):
    for key in (KEY, KEY[::-1]):
        for split in ("train", "test"):
            make(split=split, key=key)
    assert len(manifests()) == 4
    assert capsys.readouterr().err.count("please cite: A. Author, 2001") == 1


@pytest.mark.parametrize(
    "name, damage, words",
    [
        ("images.npy", lambda data: data[:-1], "has .* bytes, not"),
        ("images.npy", lambda data: data + b"x", "has .* bytes, not"),
        ("images.npy", lambda data: b"", "has 0 bytes"),
        ("images.npy", lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "content .* has changed"),
        ("images.npy", lambda data: bytes(8) + data[8:], "content .* has changed"),
        ("images.npy", None, "No such file"),
        ("manifest.json", lambda data: data[: len(data) // 2], "cannot be used"),
        ("manifest.json", lambda data: b"<html>", "cannot be used"),
        ("manifest.json", lambda data: b"[]", "manifest.json is not a table"),
        (
            "manifest.json",
            lambda data: data.replace(b'"counts": [\n  4,', b'"counts": [\n  "4",'),
            "counts is .* list",
        ),
        ("manifest.json", lambda data: data.replace(b'"names"', b'"nams"'), "names is 'None', not list"),
        ("manifest.json", lambda data: data.replace(b'"shape": [', b'"shape": [3,'), "do not fit together"),
        ("manifest.json", lambda data: data.replace(b'"counts": [\n  4,', b'"counts": [\n  5,'), "has shape"),
        ("manifest.json", None, "No such file"),
    ],
)
def test_damage_is_named_and_repaired(home, name, damage, words):
    make()
    file = home / f"insects-train-{KEY[:16]}" / name
    file.write_bytes(damage(file.read_bytes())) if damage else file.unlink()
    assert fault(file.parent) is not None
    with pytest.warns(UserWarning, match=rf"{file.parent.name} cannot be used .*{words}|{words}"):
        data = make()
    assert np.array_equal(data.images.numpy(), IMAGES[ROWS])
    assert fault(file.parent) is None and len(list(home.iterdir())) == 2


@pytest.mark.parametrize("changes", [{"rule": "rule 2"}, {"key": KEY[:16] + "0" * 48}])
def test_split_made_otherwise_is_made_anew(changes):
    make()
    with pytest.warns(UserWarning, match="rule 2|000'"):
        make(**changes)


def test_other_classes_than_expected(home):
    with pytest.raises(ValueError, match="3 classes were made that are not the 2 expected"):
        make(expected=("ant", "bee"))
    assert manifests() == {} and not list(home.glob("*.tmp"))
    make()
    with pytest.warns(UserWarning, match="3 classes that are not the 2 expected"), pytest.raises(ValueError):
        make(expected=("ant", "bee"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("image 7 cannot be decoded"), OSError("unreadable")])
def test_interrupted_conversion_leaves_nothing(home, error):
    def interrupted(new_split: NewSplit) -> None:
        with new_split(NAMES, COUNTS, SHAPE) as writer:
            writer.put(0, IMAGES[0])
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        make(interrupted)
    assert [file.suffix for file in home.iterdir()] == [".lock"]
    make()


def test_leftovers_of_a_killed_process_are_cleared(home):
    left = home / f"insects-train-{KEY[:16]}.0123.tmp"
    left.mkdir(parents=True)
    (left / "images.npy").write_bytes(b"half")
    assert manifests() == {}
    make()
    assert not left.exists()


@pytest.mark.parametrize(
    "names, counts, puts, words",
    [
        (NAMES, COUNTS, [0] * 5, "class 'ant' has more than the 4 images announced"),
        (NAMES, COUNTS, [0] * 4 + [1], "class 'bee' has 1 images, not 2"),
        (("a", "a"), (1, 1), [], "class 'a' is there twice"),
        (("a", "b"), (1, 0), [], "class 'b' has no images"),
        (("a", "b"), (1,), [], "2 classes, 1 counts"),
        ((), (), [], "0 classes"),
    ],
)
def test_wrong_counts(names, counts, puts, words):
    def wrong(new_split: NewSplit) -> None:
        with new_split(names, counts, SHAPE) as writer:
            for label in puts:
                writer.put(label, IMAGES[0])

    with pytest.raises(ValueError, match=words):
        make(wrong)
    assert manifests() == {}


@pytest.mark.parametrize("image", [IMAGES[0][:2], IMAGES[0].astype(np.int16), IMAGES[0].transpose(1, 2, 0)])
def test_wrong_images(tmp_path, image):
    with pytest.raises(ValueError, match="class 'ant': an image is"), SplitWriter(tmp_path, ["ant"], [1], SHAPE) as new:
        new.put(0, image)


def test_a_conversion_has_to_write(home):
    with pytest.raises(RuntimeError, match="exactly one split"):
        make(lambda new_split: None)
    assert manifests() == {}


def test_full_disk_is_told_before_writing(home, monkeypatch):
    full = type("Usage", (), {"free": 100})
    monkeypatch.setattr(split_writer.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(StoreError, match="810 bytes are needed, more than are free.*CXGRAD_LITE_DATA"):
        make()
    assert manifests() == {} and not list(home.glob("*.tmp"))


def test_disk_that_fills_up_while_writing(home):
    def fills_up(new_split: NewSplit) -> None:
        with new_split(NAMES, COUNTS, SHAPE) as writer:
            writer._file.close()
            writer._file = open("/dev/full", "wb", buffering=0)
            writer.put(0, IMAGES[0])

    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StoreError, match="No space left on device.*CXGRAD_LITE_DATA"):
        make(fills_up)
    assert manifests() == {} and not list(home.glob("*.tmp"))


def test_disk_that_fills_up_at_the_manifest(home, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "rename", full)
    with pytest.raises(StoreError, match="No space left on device"):
        make()
    assert manifests() == {} and not list(home.glob("*.tmp"))


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(StoreError, match="CXGRAD_LITE_DATA"):
        make()


def test_threads_convert_once():
    calls: list[int] = []

    def counted(new_split: NewSplit) -> None:
        calls.append(1)
        convert(new_split)

    opened: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: opened.append(make(counted).images)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1] and len(opened) == 4 and all(torch.equal(opened[0], images) for images in opened)


PROCESS = """
import sys, time
import numpy as np
from data_utils.store import Split, open_or_convert
def convert(new_split):
    open(sys.argv[1], "a").write("converted\\n")
    (new_split.scratch / "unpacked").touch()
    with new_split(["a"], [4], (1, 2, 2)) as writer:
        for value in range(4):
            time.sleep(0.1)
            writer.put(0, np.full((1, 2, 2), value, np.uint8))
split = Split("numbers", "train", "0" * 64, "rule 1", ("a",))
print(open_or_convert(split, convert, {}).images.sum().item())
"""


def test_processes_convert_once(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "calls")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].split()[-1] for process in both]
    assert outputs == ["24", "24"] and (tmp_path / "calls").read_text() == "converted\n"


def test_killed_process_leaves_nothing_that_counts(tmp_path, home):
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "calls")]
    with subprocess.Popen(command) as process:
        while not list(home.glob("*.tmp/images.npy")):
            time.sleep(0.02)
        process.kill()
    assert manifests() == {} and list(home.glob("*.tmp/unpacked"))
    assert subprocess.run(command, capture_output=True, text=True).stdout.split()[-1] == "24"
    assert len(manifests()) == 1 and not list(home.glob("*.tmp"))


def test_large_file_is_sampled(home, monkeypatch):
    for name, value in {"WHOLE": 100, "BLOCKS": 3, "BLOCK": 20}.items():
        monkeypatch.setattr(split_reader, name, value)
    make()
    file = home / f"insects-train-{KEY[:16]}" / "images.npy"
    sound = file.read_bytes()
    file.write_bytes(sound[:300] + bytes([sound[300] ^ 1]) + sound[301:])  # between two samples
    make(forbid)
    assert "SHA-256" in str(fault(file.parent))
    for place in (0, 19, len(sound) // 2, len(sound) - 20, len(sound) - 1):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.warns(UserWarning, match="has changed"):
            make()
