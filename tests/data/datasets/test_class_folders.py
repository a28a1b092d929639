"""Class folders, and images of every kind in them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_utils.datasets.class_folders import class_folders, class_list, find_classes, key_of
from data_utils.files.image_files import read_image


def image(mode: str, size: tuple[int, int], kind: str = "png") -> bytes:
    channels = {"RGBA": 4, "CMYK": 4, "RGB": 3, "L": 1, "LA": 2}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode if mode in ("CMYK", "LA") else None).save(stream, kind)
    return stream.getvalue()


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_folders_and_files_are_sorted_and_hidden_files_are_left_out(tmp_path):
    touch(
        tmp_path,
        "seal/2.png",
        "seal/10.JPEG",
        "ant/b.jpg",
        "ant/._b.jpg",
        "ant/notes.txt",
        ".hidden/a.png",
        "empty/a.txt",
    )
    groups = class_folders(tmp_path)
    assert list(groups) == ["ant", "seal"]
    assert [file.name for files in groups.values() for file in files] == ["b.jpg", "10.JPEG", "2.png"]
    with pytest.raises(FileNotFoundError):
        class_folders(tmp_path / "nowhere")


def test_classes_are_found_at_one_level(tmp_path):
    touch(tmp_path, "set/train/ant/a.png", "set/test/seal/b.png", "set/test/other/ant/c.png", "set/ant.png")
    groups = find_classes(tmp_path, ["seal", "ant", "bee"])
    assert {name: [file.name for file in files] for name, files in groups.items()} == {
        "seal": ["b.png"],
        "ant": ["a.png"],
    }
    assert list(groups) == ["seal", "ant"]
    touch(tmp_path, "set/test/ant/d.png")
    with pytest.raises(ValueError, match="class ant is in two folders"):
        find_classes(tmp_path, ["ant"])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_colours_and_sizes(tmp_path, mode):
    data = image(mode, (50, 30))
    (tmp_path / "a.png").write_bytes(data)
    for wanted, channels in (("RGB", 3), ("L", 1)):
        pixels = read_image(data, 20, wanted)
        assert pixels.shape == (channels, 20, 20) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        assert np.array_equal(read_image(tmp_path / "a.png", 20, wanted), pixels)
        expected = Image.open(io.BytesIO(data)).convert(wanted).resize((20, 20), Image.Resampling.BICUBIC)
        assert np.array_equal(pixels.transpose(1, 2, 0).squeeze(), np.asarray(expected))


def test_right_size_is_kept_as_it_is():
    data = image("RGB", (20, 20))
    assert np.array_equal(read_image(data, 20).transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(data))))


def test_images_that_cannot_be_decoded_are_named(tmp_path):
    data = image("RGB", (84, 84))
    for content in (b"", b"no image", data[:1000], data[:-2000]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(ValueError, match="bad.png cannot be decoded"):
            read_image(tmp_path / "bad.png", 84)
        with pytest.raises(ValueError, match="the third cannot be decoded"):
            read_image(content, 84, where="the third")


def test_key_changes_with_the_files(tmp_path):
    touch(tmp_path, "ant/a.png", "ant/b.png")
    first = key_of(tmp_path, class_folders(tmp_path))
    assert key_of(tmp_path, class_folders(tmp_path)) == first
    (tmp_path / "ant" / "b.png").write_bytes(b"more")
    second = key_of(tmp_path, class_folders(tmp_path))
    touch(tmp_path, "ant/c.png")
    assert len({first, second, key_of(tmp_path, class_folders(tmp_path))}) == 3


def test_shipped_lists_are_disjoint():
    for dataset in ("mini_imagenet", "tiered_imagenet", "cub_cxgrad", "cifar_fs"):
        names = [name for split in ("train", "val", "test") for name in class_list(dataset, split)]
        assert len(set(names)) == len(names) > 0
