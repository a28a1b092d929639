"""Folders of the user's own images: any format and size, splits that share no class."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_utils import TaskSampler, load
from data_utils.datasets import class_folders, folder

SUFFIXES = (".png", ".bmp", ".webp", ".gif", ".tif", ".ppm", ".JPG", ".jpeg")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(place: Path, classes: dict[str, int]) -> Path:
    """Class folders of images in every format and of several sizes; each class has its own shade."""
    for shade, (name, count) in enumerate(classes.items()):
        (place / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((20 + 3 * number, 30, 3), 20 * shade + number, np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}{SUFFIXES[number % len(SUFFIXES)]}")
    return place


BIRDS = {f"bird{number:02}": 2 + number % 4 for number in range(10)}


@pytest.fixture
def birds(tmp_path) -> Path:
    return make(tmp_path / "birds", BIRDS)


def test_all_formats_and_sizes(tmp_path):
    place = make(tmp_path / "two", {"a": 8, "b": 3})
    (place / "a" / "notes.txt").write_text("no image")
    (place / "a" / ".hidden.png").write_text("litter")
    (place / "empty").mkdir()
    data = load("folder", "all", place, size=16)
    assert data.names == ("a", "b") and data.counts.tolist() == [8, 3] and data.images.shape == (11, 3, 16, 16)
    assert data.images[:8, 0, 0, 0].tolist() == pytest.approx(range(8), abs=2)  # JPEG and WebP are near, not equal
    assert load("folder", "all", place).images.shape == (11, 3, 84, 84)


def test_greyscale_and_size_as_they_are(tmp_path):
    (tmp_path / "mine" / "a").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine" / "a" / "0.png")
    data = load("folder", "all", tmp_path / "mine", size=28, mode="L")
    assert np.array_equal(data.images.numpy()[0, 0], pixels)
    colours = load("folder", "all", tmp_path / "mine", size=28)
    assert colours.images.shape == (1, 3, 28, 28)


def test_ratios(birds):
    splits = {split: load("folder", split, birds, size=8).names for split in class_folders.SPLITS}
    assert [len(names) for names in splits.values()] == [6, 2, 2]
    assert sorted(sum(splits.values(), ())) == sorted(BIRDS)
    assert load("folder", "train", birds, size=8, seed=1).names != splits["train"]
    assert len(load("folder", "train", birds, size=8, ratios=(0.5, 0, 0.5)).names) == 5
    with pytest.raises(ValueError, match="no classes for val: 10 classes in all"):
        load("folder", "val", birds, ratios=(0.5, 0, 0.5))


@pytest.mark.parametrize("inside", [True, False])
def test_lists(birds, tmp_path, inside):
    home = birds if inside else tmp_path / "lists"
    home.mkdir(exist_ok=True)
    (home / "train.txt").write_text("bird03\nbird01\n\n")
    (home / "test.txt").write_text("bird02\n")
    options = {} if inside else {"lists": home}
    data = load("folder", "train", birds, size=8, **options)
    assert data.names == ("bird01", "bird03") and data.counts.tolist() == [3, 5]
    assert load("folder", "test", birds, size=8, **options).names == ("bird02",)
    with pytest.raises(ValueError, match="no classes for val"):
        load("folder", "val", birds, size=8, **options)
    (home / "test.txt").write_text("bird01\n")
    with pytest.raises(ValueError, match="class 'bird01' is in both train and test"):
        load("folder", "train", birds, size=8, **options)
    (home / "test.txt").write_text("ostrich\n")
    with pytest.raises(ValueError, match="test.txt lists 'ostrich', of which there are no images"):
        load("folder", "train", birds, size=8, **options)


def test_lists_and_folders_in_other_encodings(tmp_path):
    place = make(tmp_path / "mine", {"Müller": 2, "ant": 2})
    os.rename(place / "Müller", os.fsencode(place) + "/Müller".encode("latin-1"))
    (place / "train.txt").write_bytes("Müller\n".encode("utf-16"))
    assert load("folder", "train", place, size=8).names == ("Müller",)
    assert load("folder", "train", place, size=8).names == ("Müller",)  # from the cache


def test_folders_of_splits(tmp_path):
    make(tmp_path / "mine" / "train", {"a": 2, "b": 3})
    make(tmp_path / "mine" / "test", {"c": 2})
    assert load("folder", "train", tmp_path / "mine", size=8).names == ("a", "b")
    assert load("folder", "test", tmp_path / "mine", size=8).names == ("c",)
    assert load("folder", "all", tmp_path / "mine", size=8).names == ("a", "b", "c")
    make(tmp_path / "mine" / "val", {"a": 2})
    with pytest.raises(ValueError, match="class 'a' is in both train and val"):
        load("folder", "test", tmp_path / "mine", size=8)


def test_second_load_reads_the_converted_file_until_the_images_change(birds, monkeypatch):
    first = load("folder", "all", birds, size=8).images.clone()
    with monkeypatch.context() as patch:
        patch.setattr(class_folders, "read_image", None)
        assert torch.equal(load("folder", "all", birds, size=8).images, first)
    Image.new("RGB", (9, 9), "white").save(birds / "bird00" / "0.png")
    assert (load("folder", "all", birds, size=8).images[0] == 255).all()
    Image.new("RGB", (9, 9), "white").save(birds / "bird00" / "new.png")
    assert len(load("folder", "all", birds, size=8)) == len(first) + 1


def test_unequal_classes_and_too_few_images(birds):
    data = load("folder", "all", birds, size=8)
    assert len(TaskSampler(data, ways=3, shots=1, queries=1).sample()) == 4
    with pytest.raises(ValueError, match="class 'bird00' has 2 images; 1 shots \\+ 15 queries need 16"):
        TaskSampler(data)


def test_damaged_image_is_named(birds, cache):
    (birds / "bird04" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="0.png cannot be decoded"):
        load("folder", "all", birds)
    assert not list(cache.rglob("*.npy"))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"split": "dev"}, "no split 'dev'; it has train, val, test, all"),
        ({"path": None}, "needs path"),
        ({"size": 0}, "size must be at least 1"),
        ({"mode": "CMYK"}, "mode 'RGB' or 'L'"),
        ({"ratios": (0.5, 0.5)}, "three shares"),
        ({"ratios": (0.5, 0.4, 0.3)}, "add up to 1"),
    ],
)
def test_wrong_options(birds, options, words):
    with pytest.raises(ValueError, match=words):
        folder.load(**({"split": "train", "path": birds} | options))


def test_wrong_paths(tmp_path, birds):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load("folder", "train", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no train.txt, val.txt or test.txt"):
        load("folder", "train", birds, lists=tmp_path)
    with pytest.raises(ValueError, match="not a folder of class folders"):
        load("folder", "train", birds / "bird00" / "0.png")
    with pytest.raises(ValueError, match="holds no folders with images; expected is bird00/<class>/<image>"):
        load("folder", "train", birds / "bird00")
