"""CUB-200-2011 from small archives in the official layout."""

import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path

import fault_server
import numpy as np
import pytest
from PIL import Image

from data_utils import load
from data_utils.datasets import cub
from data_utils.datasets.class_folders import IncompleteDataset
from data_utils.files import download
from data_utils.files.download import DownloadError
from data_utils.files.sources import Source

CLASSES = ("001.Black_footed_Albatross", "003.Sooty_Albatross")
OTHER = "002.Laysan_Albatross"
COUNTS = {CLASSES[0]: 3, CLASSES[1]: 2, OTHER: 2}
REAL = Path(os.environ.get("CXGRAD_LITE_TEST_DATA", ""))

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def two_classes(monkeypatch) -> None:
    monkeypatch.setattr(cub, "class_list", lambda split: CLASSES)
    monkeypatch.setattr(cub, "IMAGES", sum(COUNTS.values()))


def encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")  # without loss, whatever the name says
    return stream.getvalue()


@pytest.fixture(scope="session")
def photographs() -> dict[str, np.ndarray]:
    """By their lines in images.txt; of different sizes, one of them grey."""
    random = np.random.default_rng(0)
    names = [f"{name}/{name[4:]}_{9 - index}.jpg" for name, count in COUNTS.items() for index in range(count)]
    made = {name: random.integers(0, 256, (*random.integers(60, 200, 2), 3), np.uint8) for name in names}
    made[names[1]] = random.integers(0, 256, (90, 120), np.uint8)
    return made


@pytest.fixture(scope="session")
def members(photographs) -> dict[str, bytes]:
    lines = "".join(f"{number} {name}\n" for number, name in enumerate(photographs, 1))
    files = {f"CUB_200_2011/images/{name}": encoded(pixels) for name, pixels in photographs.items()}
    stray = {
        f"CUB_200_2011/images/{CLASSES[0]}/stray_rgb.jpg": b"stray",
        "attributes.txt": b"1 has_bill_shape::curved\n",
    }
    return stray | files | {"CUB_200_2011/images.txt": lines.encode()}


def write_folder(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tgz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def assert_same(data, photographs: dict[str, np.ndarray], reverse: bool = False) -> None:
    assert data.names == CLASSES and data.counts.tolist() == [COUNTS[name] for name in CLASSES]
    names = [name for name in photographs if not name.startswith(OTHER)]
    for row, name in enumerate(sorted(names) if reverse else names):
        image = Image.fromarray(photographs[name]).convert("RGB").resize((84, 84), Image.Resampling.BICUBIC)
        assert np.array_equal(data.images[row].permute(1, 2, 0).numpy(), np.asarray(image)), name


def test_every_form_gives_the_same_images(tmp_path, photographs, members, two_classes):
    folder = write_folder(tmp_path / "unpacked", members)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "CUB_200_2011.tgz").write_bytes(tgz(members))
    forms = [folder, folder / "CUB_200_2011", tmp_path / "archive", tmp_path / "archive" / "CUB_200_2011.tgz"]
    for form in forms:
        assert_same(load("cub", "train", form), photographs)
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == {"converted"}


def test_class_folders_without_a_list(tmp_path, photographs, members, two_classes):
    for start in ("", "CUB/train/"):
        files = {
            name.replace("CUB_200_2011/images/", start): data for name, data in members.items() if "images/" in name
        }
        folder = write_folder(tmp_path / f"folders{len(start)}", files)
        with pytest.warns(IncompleteDataset, match="no images.txt, so it cannot be checked"):
            assert_same(cub.load("train", folder), photographs, reverse=True)  # by file name


def test_incomplete_list_is_flagged(tmp_path, members, two_classes, monkeypatch):
    monkeypatch.setattr(cub, "IMAGES", 11_788)
    with pytest.warns(IncompleteDataset, match="does not list 11,788 images"):
        cub.load("train", write_folder(tmp_path / "a", members))


FIRST = f"CUB_200_2011/images/{CLASSES[0]}/Black_footed_Albatross_9.jpg"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({FIRST: None}, "images.txt lists Black_footed_Albatross_9.jpg, and 0 more, which are not there"),
        ({FIRST: b"no image"}, "Black_footed_Albatross_9.jpg cannot be decoded"),
        ({"CUB_200_2011/images.txt": b"1 ../../secret.jpg\n"}, "not CUB's list of images"),
        ({"CUB_200_2011/images.txt": b"no list\nat all of three words\n"}, "not CUB's list of images"),
        ({"CUB_200_2011/images.txt": f"1 {CLASSES[0]}/Black_footed_Albatross_9.jpg\n".encode()}, "1 of the 2 classes"),
    ],
    ids=["absent", "damaged", "outside", "no list", "class missing"],
)
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_damaged_data_are_named(tmp_path, members, two_classes, cache, kind, changes, words):
    changed = {name: data for name, data in (members | changes).items() if data is not None}
    place = tmp_path / "CUB_200_2011.tgz"
    if kind == "folder":
        place = write_folder(tmp_path / "folder", changed)
    else:
        place.write_bytes(tgz(changed))
    with pytest.raises(ValueError, match=words):
        cub.load("train", place)
    assert not list(cache.glob("converted/*/manifest.json"))


def test_cut_archive_web_page_and_wrong_paths(tmp_path, members, two_classes):
    place = tmp_path / "CUB_200_2011.tgz"
    data = tgz(members)
    for end in (100, len(data) // 2, len(data) - 4):
        place.write_bytes(data[:end])
        with pytest.raises(ValueError, match="cut off"):
            cub.load("train", place)
    place.write_bytes(fault_server.PAGE)
    with pytest.raises(ValueError, match="HTML page"):
        cub.load("train", place)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cub.load("train", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no split 'dev'"):
        cub.load("dev")


def test_links_in_the_archive_are_refused(tmp_path, members, two_classes):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo(FIRST)
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(ValueError, match="link or a device"):
        cub.load("train", tmp_path / "a.tgz")


@pytest.fixture
def server(members, two_classes, monkeypatch):
    content = tgz(members)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fault_server, "CONTENT", content)
    with fault_server.Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{name}" for name in ("official", "mirror"))
        source = Source("CUB_200_2011.tgz", urls, len(content), hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(cub, "OFFICIAL", source)
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "script",
    [["sound"], ["cut", "sound"], [404, "sound"], ["page", "page", "sound"], ["short file", "wrong bytes", "sound"]],
    ids=str,
)
def test_download_faults_that_pass(server, photographs, script):
    server.script = list(script)
    assert_same(cub.load("train"), photographs)


@pytest.mark.parametrize(
    "fault, words", [("page", "web page"), ("wrong bytes", "sha256"), ("cut", "ended"), (404, "404")]
)
def test_download_faults_that_stay(server, cache, fault, words):
    server.script = [fault]
    with pytest.raises(DownloadError, match=words):
        cub.load("train")
    assert not list(cache.glob("converted/*/manifest.json"))


def test_class_lists():
    lists = {split: cub.class_list(split) for split in ("train", "val", "test")}
    assert [len(names) for names in lists.values()] == [100, 50, 50]
    everything = sorted(name for names in lists.values() for name in names)
    assert [int(name[:3]) for name in everything] == list(range(1, 201))


@pytest.mark.skipif("CXGRAD_LITE_TEST_DATA" not in os.environ, reason="CXGRAD_LITE_TEST_DATA names no real images")
def test_real_photographs_of_the_older_set(monkeypatch):
    """Ten classes of CUB-200 (2010): other photographs than those of 2011, of classes with the same names."""
    real = REAL / "cub200_2010_first10.zip"
    with pytest.raises(ValueError, match="5 of the 100 classes"):
        cub.load("train", real)
    some = tuple(name for name in cub.class_list("train") if name < "011")
    monkeypatch.setattr(cub, "class_list", lambda split: some)
    with pytest.warns(IncompleteDataset, match="no images.txt"):
        data = cub.load("train", real)
    assert data.names == some and all(25 <= count <= 36 for count in data.counts.tolist())
