"""Omniglot from a small archive in the official layout; test_omniglot_real.py reads the real ones."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_utils import load
from data_utils.datasets import omniglot
from data_utils.store.convert import StoreError

KOREAN = tuple(f"Korean/character{number:02}" for number in range(1, 41))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def drawings() -> dict[str, np.ndarray]:
    """For each Korean character (20, 105, 105) bool, True on paper: blocks that differ from image to image."""
    random = np.random.default_rng(0)
    return {name: random.random((20, 15, 15)).repeat(7, 1).repeat(7, 2) > 0.2 for name in KOREAN}


def png(paper: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(paper).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="session")
def members(drawings) -> dict[str, bytes]:
    return {
        f"images_background_small1/{name}/{400 + row:04}_{drawer:02}.png": png(paper)
        for row, (name, stack) in enumerate(drawings.items())
        for drawer, paper in enumerate(stack, 1)
    }


def write_zip(file: Path, members: dict[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def write_folder(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def sheet_members(drawings: dict[str, np.ndarray]) -> dict[str, bytes]:
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(["part", "alphabet", "row", "character", "file_prefix"])
    table.writerows(["images_background", "Korean", row, name[-11:], "0"] for row, name in enumerate(KOREAN))
    sheet = np.concatenate([np.concatenate(list(stack), 1) for stack in drawings.values()])  # (40 * 105, 20 * 105)
    return {"index.csv": rows.getvalue().encode(), "images_background/Korean.png": png(sheet)}


@pytest.fixture
def archive(tmp_path, members) -> Path:
    return write_zip(tmp_path / "mine" / "images_background_small1.zip", members)


def test_images_follow_the_stated_rule(archive, drawings):
    data = omniglot.load_small("val", archive)
    assert data.names == KOREAN and data.images.shape == (800, 1, 28, 28)
    assert data.counts.tolist() == [20] * 40
    ink = torch.from_numpy(np.stack([~stack for stack in drawings.values()])).reshape(800, 1, 105, 105).float() * 255
    small = torch.nn.functional.interpolate(ink, (28, 28), mode="bilinear", antialias=True)
    assert torch.equal(data.images, small.round().to(torch.uint8))


def test_every_form_gives_the_same_images(archive, tmp_path, members, drawings):
    expected = omniglot.load_small("val", archive).images
    unpacked = write_folder(tmp_path / "unpacked", members)
    litter = {f"__MACOSX/images_background_small1/{name}/._0400_01.png": b"" for name in KOREAN}
    forms = [
        archive.parent,
        str(archive),
        unpacked,
        unpacked / "images_background_small1",
        write_zip(tmp_path / "other name.zip", litter | members),
        write_zip(tmp_path / "repacked" / "omniglot.zip", sheet_members(drawings)),
        tmp_path / "repacked",
    ]
    for form in forms:
        data = load("omniglot_small", "val", form)
        assert data.names == KOREAN and torch.equal(data.images, expected), form


def test_only_the_cache_folder_is_written(tmp_path, members):
    before = set(tmp_path.rglob("*"))
    archive = write_zip(tmp_path / "a.zip", members | {"../../escaped.png": b"", "/escaped.png": b""})
    omniglot.load_small("val", archive)
    made = {file.relative_to(tmp_path).parts[0] for file in set(tmp_path.rglob("*")) - before}
    assert made == {"a.zip", "cache"} and not (tmp_path.parent / "escaped.png").exists()


FIRST = "images_background_small1/Korean/character01/0400_01.png"


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize(
    "changes, words",
    [
        ({FIRST: None}, "Korean/character01 has 19 drawings, not 20"),
        ({FIRST.replace("_01", "_21"): png(np.ones((105, 105), bool))}, "Korean/character01 has 21 drawings"),
        ({FIRST: b"no image"}, "0400_01.png cannot be decoded"),
        ({FIRST: png(np.ones((105, 105), bool))[:60]}, "0400_01.png cannot be decoded"),
        ({FIRST: png(np.ones((28, 28), bool))}, r"0400_01.png has \(28, 28\) pixels, not \(105, 105\)"),
    ],
    ids=["one missing", "one too many", "no image", "cut image", "other size"],
)
def test_damaged_drawings_are_named(tmp_path, cache, members, write, changes, words):
    changed = {name: data for name, data in (members | changes).items() if data is not None}
    with pytest.raises(ValueError, match=words):
        omniglot.load_small("val", write(tmp_path / "changed", changed))
    assert not list(cache.rglob("*.npy"))


@pytest.mark.parametrize("row", ["-1", "1", "40", "first"])
def test_wrong_rows_of_a_sheet_are_named(tmp_path, drawings, row):
    members = sheet_members(drawings)
    members["index.csv"] = members["index.csv"].replace(b",Korean,0,", f",Korean,{row},".encode())
    with pytest.raises(ValueError, match="index.csv .* row"):
        omniglot.load_small("val", write_zip(tmp_path / "omniglot.zip", members))


def test_missing_characters_are_named(tmp_path, members):
    some = {name: data for name, data in members.items() if "character07" not in name}
    with pytest.raises(ValueError, match="39 of the 40 classes were found; .* Korean/character07"):
        omniglot.load_small("val", write_zip(tmp_path / "a.zip", some))


def test_wrong_paths(tmp_path, archive):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        omniglot.load_small("val", tmp_path / "nowhere")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ValueError, match="neither a folder nor a whole archive"):
        omniglot.load_small("val", tmp_path / "text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 of the 40 classes"):
        omniglot.load_small("val", tmp_path / "empty")
    with pytest.raises(ValueError, match="b.zip: index.csv is not a table with the columns part, alphabet"):
        omniglot.load_small("val", write_zip(tmp_path / "b.zip", {"index.csv": b"class,image\nseal,1\n"}))
    archive.write_bytes(archive.read_bytes().replace(b"IDAT", b"IDAX", 1))
    with pytest.raises(ValueError, match="small1.zip is cut off, damaged"):
        omniglot.load_small("val", archive)


@pytest.mark.parametrize("name, known", [("omniglot", "evaluation"), ("omniglot_small", "train, val, test")])
def test_unknown_split(name, known):
    with pytest.raises(ValueError, match=f"no split 'dev'; it has .*{known}"):
        load(name, "dev")


def test_unknown_dataset():
    with pytest.raises(ValueError, match="there are glyphs, omniglot, omniglot_small"):
        load("imagenet", "train")


def test_glyphs_take_no_path(tmp_path):
    with pytest.raises(ValueError, match="leave out path"):
        load("glyphs", "train", tmp_path)


def forbid(*_: object) -> None:
    raise AssertionError("the images were converted a second time")


def test_second_load_reads_the_converted_file(archive, monkeypatch):
    first = omniglot.load_small("val", archive)
    monkeypatch.setattr(omniglot, "read_drawings", forbid)
    second = omniglot.load_small("val", archive)
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert first.names == second.names


def test_damaged_converted_split_is_named_and_rebuilt(archive, cache):
    first = omniglot.load_small("val", archive)
    expected = first.images.clone()
    (file,) = (cache / "converted").rglob("images.npy")
    sound = file.read_bytes()
    file.write_bytes(sound[:300_000] + bytes([sound[300_000] ^ 1]) + sound[300_001:])
    with pytest.warns(UserWarning, match=f"{file.parent.name} cannot be used .* made anew"):
        again = omniglot.load_small("val", archive)
    assert torch.equal(expected, again.images) and file.read_bytes() == sound


def test_converted_by_another_rule(archive, monkeypatch):
    omniglot.load_small("val", archive)
    monkeypatch.setattr(omniglot, "RULE", "version 2")
    with pytest.warns(UserWarning, match="version 2"):
        omniglot.load_small("val", archive)


def test_sources_are_not_confused(tmp_path, members):
    other = dict(zip(members, reversed(members.values()), strict=True))
    first = omniglot.load_small("val", write_folder(tmp_path / "a", members))
    second = omniglot.load_small("val", write_folder(tmp_path / "b", other))
    assert not torch.equal(first.images, second.images)
    (tmp_path / "a" / FIRST).write_bytes(png(np.ones((105, 105), bool)))
    assert omniglot.load_small("val", tmp_path / "a").images[0].count_nonzero() == 0


def test_cache_that_cannot_be_written(archive, monkeypatch):
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(archive / "cache"))
    with pytest.raises(StoreError, match="CXGRAD_LITE_DATA"):
        omniglot.load_small("val", archive)


def test_vinyals_lists():
    lists = {split: omniglot._listed(split) for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in lists.items()} == {"train": 1028, "val": 172, "test": 423}
    assert len({name for names in lists.values() for name in names}) == 1623
