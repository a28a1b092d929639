"""The command line for data, on small folders of images and on glyphs."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data_utils
from cxgrad_lite.commands import main
from data_utils import load
from data_utils.datasets.catalogue import DATASETS, terms


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mine(tmp_path) -> Path:
    """Ten classes of three images; 6 are for training, 2 for validation, 2 for testing."""
    for number in range(10):
        (tmp_path / "mine" / f"class{number}").mkdir(parents=True)
        for image in range(3):
            pixels = np.full((9, 9, 3), 20 * number + image, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / f"class{number}" / f"{image}.png")
    return tmp_path / "mine"


def call(*words: object) -> int:
    return main(["data", *map(str, words)])


def test_list_names_all_datasets(capsys, cache):
    assert call("list") == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in data_utils.LOADERS)
    assert all(facts.licence in printed for facts in DATASETS.values())
    assert "download 169 MB, converted 184 MB" in printed and "download 1.79 GB, converted 1.27 GB" in printed
    assert "converted: " not in printed and str(cache) in printed


def test_ctrl_c_in_the_middle_of_images(mine, monkeypatch, capsys):
    usual, opened = Image.open, []

    def open_image(*arguments, **options):
        opened.append(1)
        if len(opened) == 5:
            signal.raise_signal(signal.SIGINT)
        return usual(*arguments, **options)

    monkeypatch.setattr(Image, "open", open_image)
    assert call("get", "folder", "--from", mine, "--size", 8) == 130
    said = capsys.readouterr()
    assert said.err.endswith("error: interrupted\n") and "Traceback" not in said.err
    assert call("get", "folder", "--from", mine, "--size", 8) == 0 and len(opened) > 30, "from the beginning"


def test_get_check_list_show(mine, capsys, tmp_path):
    assert call("get", "folder", "--from", mine, "--size", 8) == 0
    assert "folder train: ImageClasses(6 classes, 18 images, 3×8×8, cpu)" in capsys.readouterr().out
    assert call("check", "folder") == 0
    assert capsys.readouterr().out.count(": sound") == 3
    assert call("list") == 0
    printed = capsys.readouterr().out
    assert "converted: train, 6 classes, 18 images of 3×8×8, 3.58 kB" in printed and f"your copy: {mine}" in printed
    assert call("show", "folder", "--split", "val", "--out", tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 500


def test_show_glyphs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("show", "glyphs", "--split", "test") == 0
    assert "glyphs-test.png written" in capsys.readouterr().out and Path("glyphs-test.png").stat().st_size > 10_000
    assert call("check", "glyphs") == 0


def test_copy_is_remembered(mine):
    first = load("folder", "test", mine, size=8).images.clone()
    assert call("get", "folder", "--from", mine, "--size", 8) == 0
    assert torch.equal(load("folder", "test", size=8).images, first)
    Image.new("RGB", (9, 9), "white").save(mine / load("folder", "test", size=8).names[0] / "0.png")
    changed = load("folder", "test", size=8).images.clone()
    assert not torch.equal(changed, first)
    assert call("get", "folder", "--from", mine, "--size", 8) == 0
    shutil.rmtree(mine)
    assert torch.equal(load("folder", "test", size=8).images, changed)
    with pytest.raises(FileNotFoundError, match="nothing at .*mine"):
        load("folder", "test", size=9)


def test_damaged_split_of_a_copy_that_is_gone(mine, cache):
    assert call("get", "folder", "--from", mine, "--size", 8) == 0
    shutil.rmtree(mine)
    for file in cache.rglob("images.npy"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="has 0 bytes"), pytest.raises(FileNotFoundError, match="mine"):
        load("folder", "test", size=8)


def test_damaged_record_of_a_copy(mine, cache):
    assert call("get", "folder", "--from", mine, "--size", 8) == 0
    (cache / "converted" / "folder.json").write_text('{"path"')
    with pytest.warns(UserWarning, match="name the path of your copy of folder again"), pytest.raises(ValueError):
        load("folder", "test", size=8)


def test_get_without_a_copy_loads_by_name(monkeypatch, mine, capsys):
    calls: list[tuple] = []

    def load_stub(split, path=None, size=32):
        calls.append((split, path, size))
        return data_utils.datasets.folder.load(split, mine, size)

    import data_utils.datasets.cifar_fs
    import data_utils.datasets.folder

    monkeypatch.setattr(data_utils.datasets.cifar_fs, "load", load_stub)
    assert call("get", "cifar_fs", "--split", "val", "--size", 8) == 0
    assert call("get", "cifar_fs", "--from", mine, "--split", "val") == 0
    assert call("get", "cifar_fs", "--download", "--split", "val") == 0
    assert calls == [("val", None, 8), ("val", mine, 32), ("val", None, 32)]


@pytest.mark.parametrize(
    "words, code, told",
    [
        (("get", "folder"), 2, "needs --from PATH"),
        (("get", "cub", "--size", "84"), 2, "cub has no option 'size'"),
        (("get", "folder", "--from", "/nowhere/at/all"), 2, "there is nothing at"),
        (("check", "omniglot"), 1, "nothing of omniglot is converted; python -m cxgrad_lite data get omniglot does it"),
        (("show", "cub"), 1, "cub train is not converted; python -m cxgrad_lite data get cub does it"),
        (("show", "glyphs", "--split", "dev"), 2, "split must be one of"),
        (("show", "glyphs", "--out", "x.jpg"), 2, "must end in .png, which is what is written, not x.jpg"),
        (("show", "glyphs", "--out", "/nowhere/at/all.png"), 2, "/nowhere/at/all.png"),
    ],
)
def test_failures_are_told_in_one_sentence(words, code, told, capsys):
    assert call(*words) == code
    output = capsys.readouterr()
    assert told in output.err and output.err.startswith("error: ") and output.err.count("\n") == 1


def test_check_finds_damage(mine, cache, capsys):
    assert call("get", "folder", "--from", mine, "--size", 8) == 0
    file = next(cache.rglob("folder-val-*/images.npy"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert call("check", "folder") == 1
    output = capsys.readouterr()
    assert output.out.count(": sound") == 2 and "content of images.npy has changed" in output.out
    assert f"damaged: {file.parent}" in output.err
    (file.parent / "manifest.json").unlink()
    assert call("list") == 0 and f"damaged: {file.parent}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["get"], ["get", "nothing"], ["get", "cub", "--from", "x", "--download"], ["dance"]]
)
def test_wrong_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(*words)
    assert "usage:" in capsys.readouterr().err


def test_exit_codes_of_the_program():
    codes = {
        code: subprocess.run([sys.executable, "-m", "cxgrad_lite", "data", *words], capture_output=True).returncode
        for code, words in ((0, ["list"]), (1, ["check", "cub"]))
    }
    assert codes == {0: 0, 1: 1}


def test_options_are_checked():
    with pytest.raises(ValueError, match="omniglot has no option 'size'; it has none"):
        load("omniglot", "train", size=84)
    with pytest.raises(ValueError, match="cifar_fs has no option 'sise'; it has size"):
        load("cifar_fs", "train", sise=84)


def test_catalogue():
    assert set(DATASETS) | {"folder"} == set(data_utils.LOADERS)
    assert all(terms(name).keys() == {"licence", "citation", "homepage"} for name in DATASETS)
    assert json.dumps({name: terms(name) for name in DATASETS})
