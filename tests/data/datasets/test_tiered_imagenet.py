"""tieredImageNet from small pickles in the official layout."""

import csv
import io
import os
import pickle
import threading
import tracemalloc
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import fault_server
import numpy as np
import pytest
from PIL import Image

from data_utils import load
from data_utils.datasets import class_folders, mini_imagenet, tiered_imagenet
from data_utils.datasets.class_folders import IncompleteDataset
from data_utils.datasets.tiered_imagenet import wordnet_numbers
from data_utils.files import download
from data_utils.files.download import DownloadError

CLASSES = ("n02099267", "n02099429", "n02099601")
NAMES = ("flat-coated retriever", "curly-coated retriever", "golden retriever")
COUNTS = (3, 5, 4)

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def three_classes(monkeypatch) -> None:
    monkeypatch.setattr(tiered_imagenet, "class_list", lambda split: CLASSES)
    monkeypatch.setattr(tiered_imagenet, "IMAGES", {"val": sum(COUNTS)})


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (count, 84, 84, 3), np.uint8) for count in COUNTS]


def encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def label_data(**changes: object) -> dict[str, object]:
    """Classes stand in another order than in the class list, as in the official files."""
    order = [2, 0, 1]
    numbers = np.repeat(np.arange(3, dtype=np.int32), [COUNTS[label] for label in order])
    general = np.zeros(len(numbers), np.int32)
    names = [NAMES[label] for label in order]
    return {
        "label_specific": numbers,
        "label_general": general,
        "label_specific_str": names,
        "label_general_str": ["sporting dog, gun dog"],
    } | changes


def pngs(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.frombuffer(encoded(image), np.uint8) for label in (2, 0, 1) for image in images[label]]


def write_pickles(folder: Path, items: list, labels: dict, start: str = "", protocol: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{start}val_images_png.pkl").write_bytes(pickle.dumps(items, protocol))
    (folder / f"{start}val_labels.pkl").write_bytes(pickle.dumps(labels, protocol))
    return folder


def assert_same(data, images: list[np.ndarray]) -> None:
    assert data.names == CLASSES and data.counts.tolist() == list(COUNTS)
    assert np.array_equal(data.images.numpy(), np.concatenate(images).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles(tmp_path, images, three_classes, protocol):
    items = pngs(images)
    items[0] = items[0].reshape(-1, 1)  # as older versions of OpenCV return them
    items[1] = items[1].tobytes()
    assert_same(
        load("tiered_imagenet", "val", write_pickles(tmp_path / "a", items, label_data(), "", protocol)), images
    )


def test_every_form_gives_the_same_images(tmp_path, images, three_classes):
    official = write_pickles(tmp_path / "zenodo", pngs(images), label_data(), "tiered-imagenet-")
    write_pickles(tmp_path / "ren" / "tiered-imagenet", pngs(images), label_data())
    for label, name in enumerate(CLASSES):
        (tmp_path / "imagenet" / "train" / name).mkdir(parents=True)
        for index, image in enumerate(images[label]):
            (tmp_path / "imagenet" / "train" / name / f"{name}_{index}.PNG").write_bytes(encoded(image))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in official.iterdir():
            archive.write(file, f"tiered/{file.name}")
    for form in ("zenodo", "ren", "ren/tiered-imagenet", "imagenet", "imagenet/train", "a.zip"):
        assert_same(tiered_imagenet.load("val", tmp_path / form), images)
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == {"converted"}


def test_class_names_explained_by_the_files_beside(tmp_path, images, three_classes):
    other = [f"{NAMES[label]} of the file" for label in (2, 0, 1)]
    folder = write_pickles(tmp_path / "a", pngs(images), label_data(label_specific_str=other), "tiered-imagenet-")
    with pytest.raises(ValueError, match="the first unknown one is 'golden retriever of the file'"):
        tiered_imagenet.load("val", folder)
    (folder / "tiered-imagenet-class_names.txt").write_text("".join(f"{name} of the file\n" for name in NAMES))
    (folder / "tiered-imagenet-synsets.txt").write_text("".join(f"{number}\n" for number in CLASSES))
    assert_same(tiered_imagenet.load("val", folder), images)


def test_fewer_images_are_flagged(tmp_path, images, three_classes, monkeypatch, cache):
    monkeypatch.setattr(tiered_imagenet, "IMAGES", {"val": 1000})
    with pytest.warns(IncompleteDataset, match="12 of 1,000 images are there in val"):
        tiered_imagenet.load("val", write_pickles(tmp_path / "a", pngs(images), label_data()))
    assert '"complete": false' in next(cache.glob("converted/*/manifest.json")).read_text()


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_wrong_images_are_refused(tmp_path, monkeypatch, images, three_classes, cache):
    monkeypatch.chdir(tmp_path)
    good = pngs(images)
    cases = [
        ([*good, good[0].copy()], "more images than the 12 labels"),
        (good[:-1], "holds 11 images, and val_labels.pkl has 12 labels"),
        ([*good[:5], good[5][:2000], *good[6:]], "image 5 cannot be decoded"),
        ([*good[:5], "text", *good[6:]], "holds 11 images, and val_labels.pkl has 12 labels"),
        ([*good[:5], good[5].astype(float), *good[6:]], "holds 11 images, and val_labels.pkl has 12 labels"),
        ([*good[:5], Runs(), *good[6:]], "holds 11 images, and val_labels.pkl has 12 labels"),
        ([], "holds 0 images"),
    ]
    for number, (items, words) in enumerate(cases):
        with pytest.raises(ValueError, match=words):
            tiered_imagenet.load("val", write_pickles(tmp_path / str(number), items, label_data()))
    assert not list(cache.glob("converted/*/manifest.json")) and not (tmp_path / "ran").exists()


def test_wrong_labels_are_refused(tmp_path, images, three_classes):
    numbers = np.asarray(label_data()["label_specific"])
    cases = [
        ({"label_specific": numbers + 1}, "not one number from 0 to 2 per image"),
        ({"label_specific": numbers * 1.0}, "not one number from 0 to 2 per image"),
        ({"label_specific": numbers[:4]}, "not one number from 0 to 2 per image"),
        ({"label_specific_str": NAMES[:2]}, "2 class names are not the 3 of val: one is missing or there twice"),
        ({"label_specific_str": ["seal", *NAMES[1:]]}, "the first unknown one is 'seal'"),
        ({"label_specific_str": 3}, "does not hold the labels"),
    ]
    for number, (changes, words) in enumerate(cases):
        with pytest.raises(ValueError, match=words):
            tiered_imagenet.load("val", write_pickles(tmp_path / str(number), pngs(images), label_data(**changes)))
    folder = write_pickles(tmp_path / "alone", pngs(images), label_data())
    (folder / "val_labels.pkl").unlink()
    with pytest.raises(ValueError, match="val_labels.pkl is missing"):
        tiered_imagenet.load("val", folder)


def test_wrong_paths(tmp_path, three_classes):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tiered_imagenet.load("val", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 of the 3 classes were found"):
        tiered_imagenet.load("val", tmp_path / "empty")
    with pytest.raises(ValueError, match="no split 'dev'"):
        tiered_imagenet.load("dev")
    (tmp_path / "a.tar").write_bytes(fault_server.PAGE)
    with pytest.raises(ValueError, match="HTML page"):
        tiered_imagenet.load("val", tmp_path / "a.tar")
    (tmp_path / "b" / "val_images_png.pkl").parent.mkdir()
    for name in ("val_images_png.pkl", "val_labels.pkl"):
        (tmp_path / "b" / name).write_bytes(fault_server.PAGE)
    with pytest.raises(ValueError, match="HTML page"):
        tiered_imagenet.load("val", tmp_path / "b")


@pytest.fixture
def server(tmp_path, cache, images, three_classes, monkeypatch):
    """Serves the images; the labels are in the cache already."""
    content = pickle.dumps(pngs(images), 2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fault_server, "CONTENT", content)
    with fault_server.Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        local = [
            replace(source, urls=(f"http://127.0.0.1:{server.server_port}/file",))
            for source in tiered_imagenet.sources("val")
        ]
        monkeypatch.setattr(tiered_imagenet, "sources", lambda split: tuple(local))
        cache.mkdir()
        (cache / "tiered-imagenet-val_labels.pkl").write_bytes(pickle.dumps(label_data(), 2))
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "script",
    [["sound"], ["cut", "sound"], ["page", "sound"], ["without length"], ["cut", 503, "redirect", "sound"]],
    ids=str,
)
def test_download_faults_that_pass(server, images, script):
    server.script = list(script)
    with pytest.warns(UserWarning, match="no checksum is published for tiered-imagenet-val_images_png.pkl"):
        assert_same(tiered_imagenet.load("val"), images)
    assert_same(tiered_imagenet.load("val"), images)  # without a further warning


@pytest.mark.parametrize(
    "fault, words", [("page", "web page"), ("cut", "ended"), ("stalled", "timed out"), (404, "404")]
)
def test_download_faults_that_stay(server, cache, fault, words):
    server.script = [fault]
    with pytest.raises(DownloadError, match=words):
        tiered_imagenet.load("val")
    assert not list(cache.glob("converted/*/manifest.json"))


@pytest.mark.parametrize("fault", ["short file", "wrong bytes", "empty", "no content", "unasked part"])
def test_wrong_download_without_checksum_is_not_kept(server, cache, fault):
    server.script = [fault]
    with pytest.raises(DownloadError, match="no pickle|sent nothing|204|206"):
        tiered_imagenet.load("val")
    assert not list(cache.glob("*_images_png.pkl*[!k]"))


def test_other_pickle_is_set_aside(server, cache, images, monkeypatch):
    whole = fault_server.CONTENT
    monkeypatch.setattr(fault_server, "CONTENT", pickle.dumps(pngs(images)[:-1], 2))
    with pytest.warns(UserWarning, match="no checksum"), pytest.raises(ValueError, match="pkl.rejected now, and the"):
        tiered_imagenet.load("val")
    assert not list(cache.glob("converted/*/manifest.json"))
    monkeypatch.setattr(fault_server, "CONTENT", whole)
    with pytest.warns(UserWarning, match="no checksum"):
        assert_same(tiered_imagenet.load("val"), images)


def test_conversion_uses_bounded_memory(tmp_path, monkeypatch, three_classes):
    monkeypatch.setattr(tiered_imagenet, "IMAGES", {"val": 6000})
    random = np.random.default_rng(0)
    png = np.frombuffer(encoded(random.integers(0, 256, (84, 84, 3), np.uint8)), np.uint8)  # 21 kB
    labels = label_data(label_specific=np.arange(6000) % 3)
    folder = write_pickles(tmp_path / "a", [png.copy() for _ in range(6000)], labels, protocol=4)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert len(tiered_imagenet.load("val", folder)) == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000  # the images are 127 MB as files, and as much again converted


def test_class_lists():
    lists = {split: tiered_imagenet.class_list(split) for split in ("train", "val", "test")}
    assert [len(names) for names in lists.values()] == [351, 97, 160]
    assert len({name for names in lists.values() for name in names}) == 608
    assert sum(tiered_imagenet.IMAGES.values()) == 779_165
    mini = {split: set(mini_imagenet.class_list(split)) for split in ("train", "val", "test")}
    assert len(set().union(*mini.values()) & set().union(*lists.values())) == 58
    assert len(mini["train"] & set(lists["test"])) == 13


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_class_names(split):
    table = Path(class_folders.__file__).with_name("splits") / "tiered_imagenet_categories.csv"
    rows = [row for row in csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))) if row["split"] == split]
    numbers = [row["wnid"] for row in rows]
    for names in (
        numbers,
        [row["wordnet_name"] for row in rows],
        [row["wordnet_name"].split(",")[0].replace(" ", "_") for row in rows],
    ):
        assert wordnet_numbers(names, split) == numbers
    with pytest.raises(ValueError, match="there twice"):
        wordnet_numbers([*numbers[:-1], numbers[0]], split)
