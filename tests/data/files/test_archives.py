"""Archives cannot write outside their folder, and damaged ones are named."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from fault_server import PAGE

from data_utils.files import archives
from data_utils.files.archives import ArchiveError, check_no_page, is_archive, unpack

FILES = {"set/a/1.png": b"one" * 1000, "set/a/2.png": b"", "set/b/3.png": bytes(range(256)) * 100}
KINDS = ["zip", "tar", "tgz"]


def write_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def write_tar(file: Path, members: dict[str, bytes], **changes: object) -> Path:
    with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for fact, value in changes.items():
                setattr(entry, fact, value)
            archive.addfile(entry, io.BytesIO(data))
    return file


def write(file: Path, members: dict[str, bytes]) -> Path:
    return (write_zip if file.suffix == ".zip" else write_tar)(file, members)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_unpack_and_read(tmp_path, kind):
    archive = write(tmp_path / f"set.{kind}", FILES)
    files = unpack(archive, tmp_path / "out")
    assert everything_below(tmp_path / "out") == FILES and len(files) == 3
    unpack(archive, tmp_path / "some", lambda name: "/b/" in name)
    assert everything_below(tmp_path / "some") == {"set/b/3.png": FILES["set/b/3.png"]}


def test_content_decides_not_the_name(tmp_path):
    archive = write_tar(tmp_path / "a.tgz", FILES).rename(tmp_path / "a.zip")
    unpack(archive, tmp_path / "out")
    assert everything_below(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "C:\\out.txt", "a\\..\\..\\out.txt", "..", "\\\\host\\x"]
)
def test_nothing_leaves_the_folder(tmp_path, kind, name):
    archive = write(tmp_path / f"set.{kind}", {"good.txt": b"", name: b"bad"})
    with pytest.raises(ArchiveError, match="leads out of the folder"):
        unpack(archive, tmp_path / "out" / "deep")
    assert [file.name for file in tmp_path.rglob("*")] == [archive.name]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "../secret"},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "../secret"},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
    ids=str,
)
def test_links_and_devices_in_tar(tmp_path, changes):
    archive = write_tar(tmp_path / "a.tar", {"entry": b""}, **changes)
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out", lambda name: False) == []


def test_link_in_zip(tmp_path):
    entry = zipfile.ZipInfo("entry")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "../secret")
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_rights_of_the_archive_are_not_taken_over(tmp_path):
    unpack(write_tar(tmp_path / "a.tar", {"entry": b"1"}, mode=0o4777), tmp_path / "out")
    assert (tmp_path / "out" / "entry").stat().st_mode & 0o7111 == 0


def test_two_entries_of_one_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("entry"))
    with pytest.raises(ArchiveError, match="two entries 'entry'"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_no_file_is_overwritten(tmp_path, kind):
    archive = write(tmp_path / f"a.{kind}", FILES)
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "1.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        unpack(archive, tmp_path)
    assert (tmp_path / "set" / "a" / "1.png").read_bytes() == b"mine"


def test_web_page_and_empty_file(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    for content, words in [(PAGE, "is an HTML page"), (b"\xef\xbb\xbf<html>", "is an HTML page"), (b"", "is empty")]:
        file.write_bytes(content)
        for action in (
            check_no_page,
            lambda file: unpack(file, tmp_path / "out"),
        ):
            with pytest.raises(ArchiveError, match=words):
                action(file)
    file.write_bytes(b"no archive " * 100)
    with pytest.raises(ArchiveError, match="no archive"):
        unpack(file, tmp_path / "out")


def test_cut_archives_are_named(tmp_path, kind):
    archive = write(tmp_path / f"a.{kind}", FILES)
    data = archive.read_bytes()
    ends = range(1, len(data) - 1024 if kind == "tar" else len(data), 97)  # the end mark of tar is padded to 10,240
    for end in [end for end in ends if kind != "tar" or end <= len(data.rstrip(b"\0"))]:
        archive.write_bytes(data[:end])
        with pytest.raises(ArchiveError, match="a.*cut off"):
            unpack(archive, tmp_path / "out" / str(len(list(tmp_path.rglob("*")))))


def test_changed_bytes_are_found(tmp_path):
    for kind in ("zip", "tgz"):  # plain tar has no checksum of the content
        archive = write(tmp_path / f"a.{kind}", FILES)
        data = bytearray(archive.read_bytes())
        data[60] ^= 255
        archive.write_bytes(data)
        with pytest.raises(ArchiveError, match="damaged"):
            unpack(archive, tmp_path / "out" / str(len(list(tmp_path.rglob("*")))))


def test_is_archive(tmp_path):
    assert all(is_archive(Path(f"a.{end}")) for end in ("zip", "tar", "tgz", "tar.gz", "ZIP"))
    (tmp_path / "text").write_text("no archive")
    assert not is_archive(tmp_path / "text")
    assert all(is_archive(write(tmp_path / f"a.{kind}", FILES).rename(tmp_path / "a")) for kind in KINDS)


def refused(archive: Path, words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        unpack(archive, archive.with_name("out"))
    assert not archive.with_name("out").exists()


def test_bombs_are_refused_before_unpacking(tmp_path, kind):
    """200 MB of zeros in an archive of less than 1 MB; a plain tar is as large as what comes out of it."""
    if kind != "tar":
        archive = write(tmp_path / f"a.{kind}", FILES | {"set/a/zeros.png": bytes(200_000_000)})
        refused(archive, r"refused: 200,.* bytes would come out of .*, 200,000,000 of them from 'set/a/zeros.png'")
        assert unpack(archive, tmp_path / "some", lambda name: "zeros" not in name)


def test_encrypted_and_unknown_compression(tmp_path):
    data = write_zip(tmp_path / "a.zip", {"x.png": b"1" * 100}).read_bytes()
    start = data.index(b"PK\x01\x02")
    for offset, value, words in ((8, 1, "'x.png' is encrypted"), (10, 97, "'x.png' is compressed by .* method 97")):
        (tmp_path / "a.zip").write_bytes(data[: start + offset] + bytes([value]) + data[start + offset + 1 :])
        refused(tmp_path / "a.zip", words)


def test_long_names(tmp_path, kind):
    refused(
        write(tmp_path / f"a.{kind}", {f"a/{'x' * 300}.png": b""}), r"its entry 'a/x+…' has a name that is too long"
    )


@pytest.mark.parametrize("header", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME], ids=str)
def test_header_that_claims_gigabytes(tmp_path, header):
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = header, 3 << 30
    (tmp_path / "a.tar").write_bytes(entry.tobuf() + bytes(100_000))
    refused(tmp_path / "a.tar", "its header 'pax' claims 3,221,225,472 bytes")


def test_archive_larger_than_the_disk(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(OSError, match="28,600 bytes are needed to unpack .*, more than are free"):
        unpack(write(tmp_path / f"a.{kind}", FILES), tmp_path / "out")
