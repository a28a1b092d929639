"""Omniglot's real archives, where they are present.

The environment variable CXGRAD_LITE_TEST_DATA names a folder with images_background_small1.zip,
images_background_small2.zip, and all of Omniglot (the official archives or the repack omniglot.zip).
"""

import functools
import http.server
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_utils import load
from data_utils.datasets import omniglot
from data_utils.datasets.omniglot import read_drawings
from data_utils.files.archives import unpack

REAL = Path(os.environ.get("CXGRAD_LITE_TEST_DATA", ""))
pytestmark = pytest.mark.skipif(
    "CXGRAD_LITE_TEST_DATA" not in os.environ, reason="CXGRAD_LITE_TEST_DATA names no folder with the real archives"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shared_cache(tmp_path_factory, monkeypatch) -> None:
    """One cache for all tests that only read the real images."""
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path_factory.getbasetemp() / "real"))


@pytest.mark.parametrize(
    "split, classes", [("train", 1028), ("val", 172), ("test", 423), ("background", 964), ("evaluation", 659)]
)
def test_real_sizes(shared_cache, split, classes):
    data = load("omniglot", split, REAL)
    assert len(data.names) == classes and data.counts.tolist() == [20] * classes
    assert list(data.names) == sorted(data.names)
    assert (data.images.amax((1, 2, 3)) > 0).all()  # ink in every image
    assert data.images.float().mean() < 30  # much more paper than ink


@pytest.mark.parametrize(
    "split, classes, alphabets",
    [
        ("train", 96, {"Balinese", "Early_Aramaic", "Greek", "Latin"}),
        ("val", 40, {"Korean"}),
        ("test", 106, {"Japanese_(katakana)", "Sanskrit", "Tagalog"}),
    ],
)
def test_real_small_splits(shared_cache, split, classes, alphabets):
    data = load("omniglot_small", split, REAL)
    assert len(data.names) == classes and data.counts.tolist() == [20] * classes
    assert {name.split("/")[0] for name in data.names} == alphabets
    full = load("omniglot", "background", REAL).select(data.names)
    assert torch.equal(data.images, full.images)


def test_real_small_archives_share_greek_and_latin(tmp_path):
    names = [name.split("/", 1)[1] for split in ("train", "val", "test") for name in omniglot._listed(split)]
    for number in "12":
        unpack(REAL / f"images_background_small{number}.zip", tmp_path / number)
    one, two = (dict(read_drawings(tmp_path / number, names)) for number in "12")
    assert (len(one), len(two)) == (136, 156)
    shared = set(one) & set(two)
    assert {name.split("/")[0] for name in shared} == {"Greek", "Latin"} and len(shared) == 50
    assert all(np.array_equal(one[name], two[name]) for name in shared)


def test_real_download_end_to_end(cache, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=REAL)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        for part in ("images_background_small1", "images_background_small2"):
            url = f"http://127.0.0.1:{server.server_port}/{part}.zip"
            monkeypatch.setitem(omniglot.SOURCES, part, replace(omniglot.SOURCES[part], urls=(url,)))
        data = {split: load("omniglot_small", split) for split in ("train", "val", "test")}
        server.shutdown()
        thread.join()
    assert [len(images) for images in data.values()] == [1920, 800, 2120]
    assert torch.equal(
        data["test"].images, load("omniglot_small", "test", REAL / "images_background_small2.zip").images
    )
    (cache / "images_background_small2.zip").unlink()
    assert torch.equal(load("omniglot_small", "test").images, data["test"].images)  # the archive is not needed again
