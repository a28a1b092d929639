"""miniImageNet from small files in the official layouts; real images where CXGRAD_LITE_TEST_DATA names them."""

import csv
import hashlib
import io
import os
import pickle
import tarfile
import threading
import zipfile
from pathlib import Path

import fault_server
import numpy as np
import pytest
import torch
from PIL import Image

from data_utils import load
from data_utils.datasets import class_folders, mini_imagenet
from data_utils.datasets.class_folders import IncompleteDataset
from data_utils.files import download
from data_utils.files.download import DownloadError
from data_utils.files.sources import Source

CLASSES = ("n01930112", "n01981276", "n02099601")
PER_CLASS = 4
REAL = Path(os.environ.get("CXGRAD_LITE_TEST_DATA", ""))

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def three_classes(monkeypatch) -> None:
    monkeypatch.setattr(mini_imagenet, "class_list", lambda split: CLASSES)
    monkeypatch.setattr(mini_imagenet, "IMAGES", PER_CLASS)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(3, 4, 84, 84, 3) uint8: class, image, height, width, colour."""
    return np.random.default_rng(0).integers(0, 256, (3, PER_CLASS, 84, 84, 3), np.uint8)


def encoded(pixels: np.ndarray, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def pickled(images: np.ndarray, protocol: int = 2, **changes: object) -> bytes:
    """Rows of the classes are interleaved, as no reader may rely on their order."""
    rows = {name: [3 * index + label for index in range(PER_CLASS)] for label, name in enumerate(CLASSES)}
    data = {"image_data": images.swapaxes(0, 1).reshape(-1, 84, 84, 3), "class_dict": rows} | changes
    return pickle.dumps(data, protocol)


def members(images: np.ndarray, start: str = "") -> dict[str, bytes]:
    return {
        f"{start}{name}/{name}{index:08}.png": encoded(images[label, index])
        for label, name in enumerate(CLASSES)
        for index in range(PER_CLASS)
    }


def ravi_members(images: np.ndarray) -> dict[str, bytes]:
    files = {name.split("/")[1]: data for name, data in members(images).items()}
    table = "filename,label\n" + "".join(f"{name},{name[:9]}\n" for name in files)
    return {f"images/{name}": data for name, data in files.items()} | {"test.csv": table.encode()}


def write_folder(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def write_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file


def assert_same(data, images: np.ndarray) -> None:
    assert data.names == CLASSES and data.counts.tolist() == [PER_CLASS] * 3
    assert np.array_equal(data.images.numpy(), images.reshape(-1, 84, 84, 3).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("protocol", range(6))
def test_pickle(tmp_path, images, three_classes, protocol):
    (tmp_path / "mini-imagenet-cache-test.pkl").write_bytes(pickled(images, protocol))
    assert_same(load("mini_imagenet", "test", tmp_path), images)
    assert_same(load("mini_imagenet", "test", tmp_path / "mini-imagenet-cache-test.pkl"), images)


def test_every_form_gives_the_same_images(tmp_path, images, three_classes):
    litter = {"__MACOSX/n01930112/._n0193011200000000.png": b"litter", "README.txt": b"", "n01930112/.DS_Store": b""}
    other = {"train/n99999999/a.png": b"of another split"}
    forms = [
        write_folder(tmp_path / "flat", members(images) | litter),
        write_folder(tmp_path / "cxgrad", members(images, "mini_imagenet_full_size/test/") | other),
        tmp_path / "cxgrad" / "mini_imagenet_full_size",
        tmp_path / "cxgrad" / "mini_imagenet_full_size" / "test",
        write_folder(tmp_path / "ravi", ravi_members(images)),
        write_zip(tmp_path / "flat.zip", members(images) | litter),
        write_tar(tmp_path / "cxgrad.tar.gz", members(images, "set/test/") | other),
        write_zip(tmp_path / "ravi.zip", ravi_members(images)),
    ]
    for form in forms:
        assert_same(load("mini_imagenet", "test", form), images)
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == {"converted"}  # nothing unpacked is left


def test_other_sizes_are_resized_as_the_authors_did(tmp_path, three_classes):
    random = np.random.default_rng(1)
    sizes = [(100, 60), (30, 84), (200, 300), (84, 84)]
    pixels = {name: [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes] for name in CLASSES}
    for name, stack in pixels.items():
        write_folder(tmp_path / "mine", {f"{name}/{index}.png": encoded(image) for index, image in enumerate(stack)})
    data = mini_imagenet.load("test", tmp_path / "mine")
    for row, image in enumerate(image for stack in pixels.values() for image in stack):
        expected = np.asarray(Image.fromarray(image).resize((84, 84), Image.Resampling.BICUBIC))
        assert np.array_equal(data.images[row].permute(1, 2, 0).numpy(), expected)


def sheet_members(images: np.ndarray) -> dict[str, bytes]:
    rows, files = io.StringIO(), {}
    table = csv.writer(rows)
    table.writerow(["class", "index", "filename"])
    for label, name in enumerate(CLASSES):
        sheet = np.zeros((96, 25 * 96, 3), np.uint8)
        for index, image in enumerate(images[label]):
            table.writerow([name, index, f"{name}{index:08}.jpg"])
            sheet[:84, 96 * index : 96 * index + 84] = image[:1, :1]  # of one colour, which JPEG keeps nearly
        files[f"{name}.jpg"] = encoded(sheet, "jpeg")
    return files | {"index.csv": rows.getvalue().encode()}


def test_class_sheets_are_flagged(tmp_path, images, three_classes):
    write_zip(tmp_path / "mini_imagenet_test.zip", sheet_members(images))
    with pytest.warns(IncompleteDataset, match="encoded a second time.*Say so beside results"):
        data = mini_imagenet.load("test", tmp_path)
    colours = torch.from_numpy(images[:, :, 0, 0].reshape(-1, 3))
    assert (data.images.float().mean((2, 3)) - colours).abs().max() < 12
    mini_imagenet.load("test", tmp_path)  # not said a second time


def test_fewer_images_are_flagged(tmp_path, images, three_classes, cache):
    some = {name: data for name, data in members(images).items() if not name.endswith("n0193011200000003.png")}
    with pytest.warns(IncompleteDataset, match="n01930112 has 3 of 4 images, and 11 of 12 are there in test"):
        data = mini_imagenet.load("test", write_folder(tmp_path / "some", some))
    assert data.counts.tolist() == [3, 4, 4]
    manifest = next(cache.glob("converted/*/manifest.json")).read_text()
    assert '"complete": false' in manifest and "non-commercial" in manifest and "Ravi" in manifest


FIRST = "n01930112/n0193011200000000.png"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({FIRST: b"no image"}, "n0193011200000000.png cannot be decoded"),
        (
            {FIRST: encoded(np.random.default_rng(0).integers(0, 256, (84, 84, 3), np.uint8))[:5000]},
            "n0193011200000000.png cannot be decoded",
        ),
        ({"n01930112/more.png": encoded(np.zeros((84, 84, 3), np.uint8))}, "has 5 images; miniImageNet has 4 chosen"),
        ({"train/n01930112/a.png": b"", "test/n01930112/a.png": b""}, None),
    ],
    ids=["no image", "cut image", "too many", "elsewhere too"],
)
def test_damaged_folders_are_named(tmp_path, cache, images, three_classes, changes, words):
    folder = write_folder(tmp_path / "changed", members(images) | changes)
    if words is None:  # the same class deeper down is not looked at
        assert_same(mini_imagenet.load("test", folder), images)
        return
    with pytest.raises(ValueError, match=words):
        mini_imagenet.load("test", folder)
    assert not list(cache.glob("converted/*/manifest.json"))


def test_class_in_two_folders(tmp_path, images, three_classes):
    both = members(images, "train/") | members(images, "test/")
    with pytest.raises(ValueError, match="class n01930112 is in two folders"):
        mini_imagenet.load("test", write_folder(tmp_path / "both", both))


def test_missing_class_and_wrong_paths(tmp_path, images, three_classes):
    some = {name: data for name, data in members(images).items() if "n01981276" not in name}
    with pytest.raises(ValueError, match="2 of the 3 classes were found; the first one missing is n01981276"):
        mini_imagenet.load("test", write_folder(tmp_path / "some", some))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mini_imagenet.load("test", tmp_path / "nowhere")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ValueError, match="neither a folder nor a whole archive"):
        mini_imagenet.load("test", tmp_path / "text")
    with pytest.raises(ValueError, match="no split 'dev'; it has train, val, test"):
        mini_imagenet.load("dev", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 of the 3 classes"):
        mini_imagenet.load("test", tmp_path / "empty")


def test_ravi_list_with_absent_or_outside_files(tmp_path, images, three_classes):
    files = ravi_members(images)
    del files["images/n0193011200000002.png"]
    with pytest.raises(ValueError, match="lists n0193011200000002.png, and 0 more, which are not there"):
        mini_imagenet.load("test", write_folder(tmp_path / "ravi", files))
    files["test.csv"] = b"filename,label\n../secret.png,n01930112\n"
    with pytest.raises(ValueError, match="not a list of files and labels"):
        mini_imagenet.load("test", write_folder(tmp_path / "ravi2", files))


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "mini-imagenet-cache-test.pkl"])
@pytest.mark.parametrize("content, words", [(fault_server.PAGE, "HTML page"), (b"", "is empty")], ids=["page", "empty"])
def test_web_page_saved_as_the_data(tmp_path, three_classes, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        mini_imagenet.load("test", tmp_path / name)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"class_dict": Runs()}, r"refused: the pickle asks for \w+.mkdir"),
        ({"image_data": np.zeros((12, 84, 84), np.uint8)}, "its images are uint8 of shape"),
        ({"image_data": np.zeros((12, 84, 84, 3))}, "its images are float64"),
        ({"class_dict": {CLASSES[0]: list(range(12))}}, "1 classes that are not the 3"),
        ({"class_dict": dict(zip(CLASSES, [[0, 1], [2, 3], [4, 5]]))}, "every image one class"),
        ({"class_dict": dict(zip(CLASSES, [range(0), range(0), range(0)]))}, "refused"),
        ({"class_dict": []}, "not a pickle of miniImageNet"),
    ],
    ids=["code", "grey", "float", "one class", "unused rows", "ranges", "list"],
)
def test_wrong_pickles_are_refused(tmp_path, monkeypatch, images, three_classes, changes, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pkl").write_bytes(pickled(images, **changes))
    with pytest.raises(ValueError, match=words):
        mini_imagenet.load("test", tmp_path / "mine.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def server(images, three_classes, monkeypatch):
    content = pickled(images)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fault_server, "CONTENT", content)
    with fault_server.Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url, md5 = (
            f"http://127.0.0.1:{server.server_port}/file",
            hashlib.md5(content, usedforsecurity=False).hexdigest(),
        )
        source = Source("mini-imagenet-cache-test.pkl", (url,), len(content), md5=md5)
        monkeypatch.setitem(mini_imagenet.SOURCES, "test", source)
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "script",
    [
        ["sound"],
        ["cut", "sound"],
        ["page", "sound"],
        ["short file", "sound"],
        ["wrong bytes", "sound"],
        ["cut", "wrong piece", "sound"],
        ["redirect", 503, "stalled", "sound"],
    ],
    ids=str,
)
def test_download_faults_that_pass(server, cache, images, script):
    server.script = list(script)
    assert_same(mini_imagenet.load("test"), images)
    (cache / "mini-imagenet-cache-test.pkl").unlink()
    assert_same(mini_imagenet.load("test"), images)  # the download is not needed again


@pytest.mark.parametrize(
    "fault, words",
    [
        ("page", "web page"),
        ("short file", "1,000 bytes"),
        ("wrong bytes", "its md5 is"),
        ("cut", "ended"),
        (404, "404"),
    ],
)
def test_download_faults_that_stay(server, cache, fault, words):
    server.script = [fault]
    with pytest.raises(DownloadError, match=words):
        mini_imagenet.load("test")
    assert not list(cache.glob("converted/*/manifest.json"))


def test_class_lists():
    lists = {split: mini_imagenet.class_list(split) for split in mini_imagenet.SOURCES}
    assert {split: len(names) for split, names in lists.items()} == {"train": 64, "val": 16, "test": 20}
    assert len({name for names in lists.values() for name in names}) == 100
    table = Path(class_folders.__file__).with_name("splits") / "mini_imagenet_names.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    for split, names in lists.items():
        assert tuple(sorted(row["wnid"] for row in rows if row["split"] == split)) == names


@pytest.mark.skipif("CXGRAD_LITE_TEST_DATA" not in os.environ, reason="CXGRAD_LITE_TEST_DATA names no real images")
@pytest.mark.parametrize("split, classes, count", [("val", 16, 300), ("test", 20, 600)])
def test_real_sheets(cache, split, classes, count):
    """Reduced and encoded a second time, but real: the mean colours of the train split are about 0.47, 0.45, 0.40."""
    with pytest.warns(IncompleteDataset):
        data = load("mini_imagenet", split, REAL)
    assert data.names == mini_imagenet.class_list(split) and data.counts.tolist() == [count] * classes
    means = data.images.float().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.47, 0.45, 0.40]), atol=0.05)
    padding = (data.images[:, :, :, -1].float() - data.images[:, :, :, -2].float()).abs().mean()
    assert padding < 12  # a column of padding would differ from its neighbour by far more
