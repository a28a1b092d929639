"""CIFAR-FS from small archives in the official layouts, and the real one where it is present.

The environment variable CXGRAD_LITE_TEST_DATA names a folder with CIFAR-FS in one of the forms that the package reads.
"""

import csv
import functools
import hashlib
import http.server
import io
import os
import pickle
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_utils import ImageClasses, TaskSampler
from data_utils.datasets import cifar_fs
from data_utils.datasets.class_folders import SPLITS

VAL = cifar_fs.class_list("val")
ALL = sorted(name for split in SPLITS for name in cifar_fs.class_list(split))
IMAGES = {name: np.random.default_rng(i).integers(0, 256, (6, 32, 32, 3), np.uint8) for i, name in enumerate(ALL)}


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 did, like the official batches."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes


def pickled(content: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(content)
    return stream.getvalue()


def batches(images: dict[str, np.ndarray] = IMAGES) -> dict[str, bytes]:
    """train, test and meta: five images of each class in train, one in test, shuffled."""
    made = {"meta": pickled({b"fine_label_names": [name.encode() for name in ALL]})}
    for part, rows in (("train", range(5)), ("test", range(5, 6))):
        order = [(name, row) for row in rows for name in reversed(ALL)]
        data = np.stack([images[name][row].transpose(2, 0, 1).ravel() for name, row in order])
        labels = [ALL.index(name) for name, _ in order]
        files = [f"{name}_s_{row:06}.png".encode() for name, row in order]
        made[part] = pickled({b"data": data, b"fine_labels": labels, b"filenames": files})
    return made


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def pictures(folder: str) -> dict[str, bytes]:
    return {f"{folder}/{name}/{row}.png": png(image) for name in ALL for row, image in enumerate(IMAGES[name])}


def sheets() -> dict[str, bytes]:
    index, classes, members = io.StringIO(), io.StringIO(), {}
    csv.writer(index).writerow(["class", "index"])
    csv.writer(classes).writerow(["class", "sha256_of_uint8_600x32x32x3"])
    for name in VAL:
        csv.writer(index).writerows([name, row] for row in range(6))
        csv.writer(classes).writerow([name, hashlib.sha256(IMAGES[name].tobytes()).hexdigest()])
        sheet = np.zeros((32, 30 * 32, 3), np.uint8)
        sheet[:, : 6 * 32] = IMAGES[name].swapaxes(0, 1).reshape(32, 6 * 32, 3)
        stream = io.BytesIO()
        Image.fromarray(sheet).save(stream, "webp", lossless=True)
        members[f"{name}.webp"] = stream.getvalue()
    return members | {"index.csv": index.getvalue().encode(), "classes.csv": classes.getvalue().encode()}


def write_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def write_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(f"cifar-100-python/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file


def write_folder(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def accept(monkeypatch, members: dict[str, bytes]) -> None:
    for name, data in members.items():
        monkeypatch.setitem(cifar_fs.MD5, name, hashlib.md5(data).hexdigest())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch) -> None:
    """Six images a class instead of 600."""
    monkeypatch.setattr(cifar_fs, "IMAGES", 6)
    for split in SPLITS:
        digest = cifar_fs.content_digest((name, IMAGES[name]) for name in cifar_fs.class_list(split))
        monkeypatch.setitem(cifar_fs.CONTENT, split, digest)


@pytest.fixture
def official(small, tmp_path, monkeypatch) -> Path:
    accept(monkeypatch, batches())
    return write_tar(tmp_path / "cifar-100-python.tar.gz", batches())


def test_every_form_gives_the_same_images(official, tmp_path):
    expected = torch.from_numpy(np.concatenate([IMAGES[name] for name in VAL])).permute(0, 3, 1, 2)
    forms = [
        official,
        str(tmp_path),
        write_folder(tmp_path / "a" / "cifar-100-python", batches()),
        tmp_path / "a",
        write_folder(tmp_path / "b", pictures("data")),
        write_folder(tmp_path / "c", pictures("cifar100/data")),
        write_folder(tmp_path / "d", pictures(".")),
        tmp_path / "b" / "data",
        write_folder(tmp_path / "e", pictures("val")),
        write_zip(tmp_path / "f.zip", pictures("cifar100/data") | {"cifar100/data/beaver/._0.png": b""}),
        write_zip(tmp_path / "cifar_fs_val.zip", sheets()),
    ]
    for form in forms:
        data = cifar_fs.load("val", form)
        assert data.names == VAL and data.counts.tolist() == [6] * 16, form
        assert torch.equal(data.images, expected), form


def test_second_load_reads_the_converted_file(official, monkeypatch):
    first = cifar_fs.load("val", official)
    monkeypatch.setattr(cifar_fs, "read_classes", None)
    assert torch.equal(first.images, cifar_fs.load("val", official).images)
    assert len(TaskSampler(first, shots=1, queries=5).sample()) == 4


def test_size_84_follows_the_stated_rule(official):
    small, large = cifar_fs.load("val", official), cifar_fs.load("val", official, size=84)
    assert large.images.shape == (96, 3, 84, 84)
    for before, after in zip(small.images[::7], large.images[::7]):
        picture = Image.fromarray(before.permute(1, 2, 0).numpy()).resize((84, 84), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(picture), after.permute(1, 2, 0).numpy())
    assert torch.equal(cifar_fs.load("val", official).images, small.images)  # both sizes are kept


def test_wrong_size_and_split(official):
    with pytest.raises(ValueError, match="size must be at least 1 pixel, not 0"):
        cifar_fs.load("val", official, size=0)
    with pytest.raises(ValueError, match="no split 'dev'; it has train, val, test"):
        cifar_fs.load("dev", official)


PICTURE = "data/shark/3.png"


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize(
    "changes, words",
    [
        ({PICTURE: None}, "class shark has 5 images, not 6"),
        ({"data/shark/new.png": png(IMAGES["shark"][0])}, "class shark has 7 images, not 6"),
        ({PICTURE: b"no image"}, "3.png cannot be decoded"),
        ({PICTURE: png(IMAGES["shark"][0])[:900]}, "3.png cannot be decoded"),
        ({PICTURE: png(np.zeros((28, 32, 3), np.uint8))}, r"3.png has \(28, 32\) pixels"),
        ({f"data/sea/{row}.png": None for row in range(6)}, "15 of the 16 classes were found; .* sea"),
    ],
)
def test_damaged_class_folders_are_named(small, tmp_path, cache, write, changes, words):
    members = {name: data for name, data in (pictures("data") | changes).items() if data is not None}
    with pytest.raises(ValueError, match=words):
        cifar_fs.load("val", write(tmp_path / "mine", members))
    assert not list(cache.rglob("*.npy"))


def test_wrong_batches(official, tmp_path, monkeypatch, cache):
    changed = batches() | {"train": batches()["train"].replace(b"otter_s_000001", b"otter_s_000009")}
    with pytest.raises(ValueError, match="train is not the official file: its md5 is"):
        cifar_fs.load("val", write_tar(tmp_path / "changed.tar.gz", changed))
    whole = official.read_bytes()
    official.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cifar-100-python.tar.gz is cut off"):
        cifar_fs.load("val", official)
    with pytest.raises(ValueError, match="0 of the 16 classes were found"):
        cifar_fs.load("val", write_tar(tmp_path / "part.tar.gz", {"meta": b""}))
    assert not list(cache.rglob("*.npy"))


class Trap:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("trapped",))


def test_batches_run_no_code(official, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = batches() | {"meta": pickle.dumps({"fine_label_names": Trap()}, 2)}
    accept(monkeypatch, evil)
    with pytest.raises(ValueError, match="mkdir"):
        cifar_fs.load("val", write_tar(tmp_path / "evil.tar.gz", evil))
    assert not Path("trapped").exists()


def test_wrong_sheet(small, tmp_path):
    members = sheets()
    members["sea.webp"] = members["shark.webp"]
    with pytest.raises(ValueError, match="sea.webp has other pixels than classes.csv says"):
        cifar_fs.load("val", write_zip(tmp_path / "cifar_fs_val.zip", members))


def test_wrong_paths(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cifar_fs.load("val", tmp_path / "nowhere")
    (tmp_path / "page.zip").write_text("\n<!DOCTYPE html><title>Quota exceeded</title>")
    with pytest.raises(ValueError, match="page.zip is an HTML page"):
        cifar_fs.load("val", tmp_path / "page.zip")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ValueError, match="neither a folder nor a whole archive"):
        cifar_fs.load("val", tmp_path / "text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 of the 16 classes were found"):
        cifar_fs.load("val", tmp_path / "empty")


def test_other_images_are_flagged(small, tmp_path, cache):
    members = pictures("data") | {PICTURE: png(IMAGES["shark"][3] ^ 1)}
    with pytest.warns(UserWarning, match="val are not exactly those of CIFAR-100"):
        cifar_fs.load("val", write_folder(tmp_path / "mine", members))
    (manifest,) = cache.rglob("manifest.json")
    assert '"same_images_as_cifar_100": false' in manifest.read_text()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(small, tmp_path, monkeypatch):
    """A server of tmp_path/site, to which both downloads point."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(Quiet, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        for source in ("OFFICIAL", "READY_MADE"):
            old = getattr(cifar_fs, source)
            url = f"http://127.0.0.1:{server.server_port}/{old.name}"
            monkeypatch.setattr(cifar_fs, source, replace(old, urls=(url,)))
        yield tmp_path / "site"
        server.shutdown()
        thread.join()


def test_official_download(site, monkeypatch, cache):
    accept(monkeypatch, batches())
    content = write_tar(site / "cifar-100-python.tar.gz", batches()).read_bytes()
    known = replace(cifar_fs.OFFICIAL, size=len(content), md5=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar_fs, "OFFICIAL", known)
    splits = {split: cifar_fs.load(split) for split in SPLITS}
    assert {split: len(data.names) for split, data in splits.items()} == {"train": 64, "val": 16, "test": 20}
    (cache / "cifar-100-python.tar.gz").unlink()
    assert torch.equal(cifar_fs.load("val").images, splits["val"].images)  # the archive is not needed again


@pytest.mark.parametrize("members", [{"readme.txt": b"not images"}, {"cifar100/data/beaver/0.png": b"no picture"}])
def test_a_whole_zip_that_is_another(site, cache, members):
    """There is no checksum that would tell."""
    write_zip(site / "cifar100.zip", members)
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="cifar100.zip"),
    ):
        cifar_fs.load("val")
    assert not list(cache.rglob("manifest.json"))


def test_ready_made_download_when_the_official_one_fails(site, cache):
    write_zip(site / "cifar100.zip", pictures("cifar100/data"))
    with pytest.warns(UserWarning) as warned:
        assert len(cifar_fs.load("val")) == 96
    messages = [str(warning.message) for warning in warned]
    assert any("404 File not found" in message and "Now trying the ready-made" in message for message in messages)
    assert any("no checksum is published for cifar100.zip" in message for message in messages)
    (manifest,) = cache.rglob("manifest.json")
    assert cifar_fs.READY_MADE.urls[0] in manifest.read_text()


def test_class_lists():
    lists = [cifar_fs.class_list(split) for split in SPLITS]
    assert [len(names) for names in lists] == [64, 16, 20] and len(set().union(*lists)) == 100


REAL = Path(os.environ.get("CXGRAD_LITE_TEST_DATA", ""))
needs_real = pytest.mark.skipif(
    "CXGRAD_LITE_TEST_DATA" not in os.environ, reason="CXGRAD_LITE_TEST_DATA names no folder with the real images"
)
MEANS = (0.5070751592371323, 0.48654887331495095, 0.4409178433670343)


@pytest.fixture
def real(tmp_path_factory, monkeypatch) -> dict[str, ImageClasses]:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path_factory.getbasetemp() / "real"))
    return {split: cifar_fs.load(split, REAL) for split in SPLITS}


@needs_real
def test_real_sizes(real):
    assert [len(data.names) for data in real.values()] == [64, 16, 20]
    for split, data in real.items():
        assert data.names == cifar_fs.class_list(split)
        assert data.images.shape[1:] == (3, 32, 32) and (data.counts == 600).all()


@needs_real
def test_real_channel_means(real):
    """The published means of CIFAR-100's train part, which is images 0-499 of each class."""
    total = torch.zeros(3, dtype=torch.float64)
    for data in real.values():
        train = data.images.reshape(-1, 600, 3, 32, 32)[:, :500]  # (classes, 500, 3, 32, 32)
        for images in train:
            total += images.sum((0, 2, 3))
    means = total / (100 * 500 * 32 * 32 * 255)
    assert means.tolist() == pytest.approx(MEANS, abs=1e-12)


@needs_real
def test_real_twins_across_splits(real):
    """CIFAR-100 has the same image under two labels; some of these pairs are in different splits."""
    classes: dict[bytes, set[str]] = {}
    for split, data in real.items():
        for image, label in zip(data.images.numpy(), data.labels.tolist()):
            classes.setdefault(image.tobytes(), set()).add(f"{split}/{data.names[label]}")
    across = [names for names in classes.values() if len({name.split("/")[0] for name in names}) > 1]
    pairs = sorted(tuple(sorted(name.split("/")[1] for name in names)) for names in across)
    counted = {pair: pairs.count(pair) for pair in pairs}
    assert counted == {
        ("otter", "seal"): 7,
        ("baby", "girl"): 4,
        ("snake", "worm"): 2,
        ("crab", "spider"): 1,
        ("shark", "whale"): 1,
    }


@needs_real
def test_real_size_84(real):
    data = cifar_fs.load("val", REAL, size=84)
    assert data.images.shape == (9600, 3, 84, 84)
    means = [images.images.float().mean((0, 2, 3)) for images in (data, real["val"])]
    assert torch.allclose(*means, atol=0.3)  # of 255
