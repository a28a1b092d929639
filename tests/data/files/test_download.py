"""Downloads against a local server that fails in every way a real one does."""

import email.message
import hashlib
import io
import threading
import urllib.request
import urllib.response
from dataclasses import replace
from pathlib import Path

import pytest
from fault_server import CONTENT, SHA256, Server

from data_utils.files import download
from data_utils.files.download import DownloadError, fetch
from data_utils.files.sources import Source, cache_dir

HALF = len(CONTENT) // 2


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


def rest(start: int) -> str:
    return f"bytes={start}-"


def contents(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.iterdir() if file.suffix != ".lock"}


@pytest.mark.parametrize(
    "script, ranges",
    [
        (["sound"], [None]),
        (["without length"], [None]),
        (["redirect", "sound"], [None, None]),
        (["cut", "sound"], [None, rest(HALF)]),
        (["cut", "redirect", "sound"], [None, rest(HALF), rest(HALF)]),
        (["cut", "cut", "sound"], [None, rest(HALF), rest(HALF + HALF // 2)]),
        (["cut", "ignores Range"], [None, rest(HALF)]),
        (["cut", "page", "sound"], [None, rest(HALF), rest(HALF)]),
        (["cut", "short file", "sound"], [None, rest(HALF), rest(HALF)]),
        (["cut", "wrong piece", "sound"], [None, rest(HALF), None]),
        (["cut", "wrong bytes", "sound"], [None, rest(HALF), None]),
        (["wrong bytes", "sound"], [None, None]),
        (["page", "sound"], [None, None]),
        (["short file", "sound"], [None, None]),
        (["long file", "sound"], [None, None]),
        (["endless file", "sound"], [None, None]),
        (["no answer", "sound"], [None, None]),
        (["empty", "sound"], [None, None]),
        (["no content", "sound"], [None, None]),
        (["unasked part", "sound"], [None, None]),
        (["stalled", "sound"], [None, None]),
        ([500, "sound"], [None, None]),
        ([503, 429, "sound"], [None, None, None]),
    ],
    ids=str,
)
def test_faults_that_pass(server, cache, script, ranges):
    server.script = list(script)
    assert fetch(server.source(), pause=0) == cache / "data.zip"
    assert contents(cache) == {"data.zip": CONTENT}
    assert server.ranges == ranges


@pytest.mark.parametrize(
    "fault, requests, words",
    [
        ("cut", 4, "the connection ended after"),
        ("no answer", 4, "closed connection without response"),
        ("stalled", 4, "timed out"),
        ("wrong bytes", 2, f"not {SHA256}"),
        ("page", 2, "web page"),
        ("short file", 2, "1,000 bytes, not 1,200,000"),
        ("long file", 2, "1,200,004 bytes, not 1,200,000"),
        ("endless file", 2, "more than 1,200,000 bytes"),
        (403, 1, "403 Forbidden"),
        (404, 1, "404 Not Found"),
        (500, 4, "500 Internal Server Error"),
        ("redirect", None, "redirect"),
        ("malformed redirect", 1, "no address"),
        ("empty", 2, "the server sent nothing"),
        ("no content", 2, "204 No Content"),
        ("unasked part", 2, "206 Partial Content"),
    ],
)
def test_faults_that_stay(server, cache, fault, requests, words):
    server.script = [fault]
    with pytest.raises(DownloadError) as caught:
        fetch(server.source(), pause=0)
    message = str(caught.value)
    assert words in message
    assert "data.zip could not be downloaded" in message
    assert f"put it at {cache / 'data.zip'}" in message and "path=" in message
    assert requests in (None, len(server.ranges))
    left = contents(cache)
    assert set(left) <= {"data.zip.part"} and CONTENT.startswith(left.get("data.zip.part", b""))


def test_no_network(server, cache):
    server.server_close()
    with pytest.raises(DownloadError, match="refused"):
        fetch(server.source(), pause=0)
    assert contents(cache) == {}


def test_next_call_continues(server, cache):
    server.script = ["cut"]
    with pytest.raises(DownloadError):
        fetch(server.source(), attempts=1)
    server.script = ["sound"]
    assert fetch(server.source()).read_bytes() == CONTENT
    assert server.ranges == [None, rest(HALF)]


@pytest.mark.parametrize(
    "part, ranges",
    [
        (CONTENT[:7], [rest(7)]),
        (CONTENT, []),
        (b"of another file", [rest(15), None]),
        (CONTENT + b"more", [rest(len(CONTENT) + 4), None]),
        (bytes(len(CONTENT)), [None]),
    ],
    ids=["shorter", "complete", "wrong", "longer", "wrong and complete"],
)
def test_partial_file_of_earlier(server, cache, part, ranges):
    cache.mkdir()
    (cache / "data.zip.part").write_bytes(part)
    fetch(server.source(), pause=0)
    assert contents(cache) == {"data.zip": CONTENT}
    assert server.ranges == ranges


@pytest.mark.parametrize("fault", [404, "malformed redirect"])
def test_second_address(server, fault):
    server.script = [fault, "sound"]
    source = server.source()
    both = Source(source.name, source.urls * 2, source.size, source.sha256)
    assert fetch(both).read_bytes() == CONTENT


def test_partial_file_goes_on_at_second_address(server):
    server.script = ["cut", 404, "sound"]
    source = server.source()
    fetch(Source(source.name, source.urls * 2, source.size, source.sha256), pause=0)
    assert server.ranges == [None, rest(HALF), rest(HALF)]


def test_file_put_by_hand(server, cache):
    cache.mkdir()
    (cache / "data.zip").write_bytes(CONTENT)
    assert fetch(server.source()).read_bytes() == CONTENT
    assert server.ranges == []


def test_wrong_file_in_cache_is_named_and_replaced(server, cache):
    cache.mkdir()
    (cache / "data.zip").write_bytes(b"half written")
    with pytest.warns(UserWarning, match="data.zip is not the expected file .it has 12 bytes"):
        fetch(server.source())
    assert contents(cache) == {"data.zip": CONTENT}


def test_md5(server):
    right = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert fetch(server.source(sha256=None, md5=right)).read_bytes() == CONTENT
    with pytest.warns(UserWarning, match="its md5 is"), pytest.raises(DownloadError, match="its md5 is"):
        fetch(server.source(sha256=None, md5="0" * 32), pause=0)


def test_user_is_told_that_there_is_no_checksum(server, cache):
    server.script = ["page", "cut", "sound"]
    with pytest.warns(UserWarning, match="no checksum is published for data.bin"):
        fetch(unverified(server, "data.bin"), pause=0)
    assert contents(cache) == {"data.bin": CONTENT}


def unverified(server, name: str) -> Source:
    return Source(name, server.source().urls)


@pytest.mark.parametrize("name, words", [("data.zip", "no zip file, or only the beginning"), ("data.pkl", "no pickle")])
def test_beginning_of_a_file_without_checksum(server, cache, name, words):
    with pytest.raises(DownloadError, match=words):
        fetch(unverified(server, name), pause=0)
    assert contents(cache) == {}
    (cache / name).write_bytes(CONTENT)  # as an earlier version kept it
    with pytest.warns(UserWarning, match=words), pytest.raises(DownloadError):
        fetch(unverified(server, name), pause=0)


def test_redirect_without_encryption_is_refused():
    ask = urllib.request.Request("https://example.org/a")
    redirects = download._SafeRedirects()
    with pytest.raises(download._WrongFile, match="without encryption, http://example.org/b"):
        redirects.redirect_request(ask, None, 302, "", {}, "http://example.org/b")
    assert redirects.redirect_request(ask, None, 302, "", {}, "https://example.org/b").full_url.endswith("/b")


def test_a_download_follows_no_redirect_without_encryption(server, monkeypatch):
    def redirected(self, request):
        headers = email.message.Message()
        headers["Location"] = f"http://127.0.0.1:{server.server_port}/data.zip"
        answer = urllib.response.addinfourl(io.BytesIO(), headers, request.full_url, 302)
        answer.msg = "Found"
        return answer

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", redirected)
    source = replace(server.source(), urls=("https://127.0.0.1/data.zip",))
    with pytest.raises(DownloadError, match="redirected to an address without encryption, http://127.0.0.1"):
        fetch(source, pause=0)
    assert server.ranges == [], "nothing was asked for there"


def test_partial_file_that_is_a_link_is_not_followed(server, cache, tmp_path):
    cache.mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (cache / "data.zip.part").symlink_to(tmp_path / "mine")
    fetch(server.source())
    assert (tmp_path / "mine").read_bytes() == b"mine" and contents(cache) == {"data.zip": CONTENT}


def test_proxy_is_named_without_its_password(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:secret@localhost:{server.server_port}")
    server.script = [403]
    with pytest.raises(DownloadError, match="through the proxy localhost") as caught:
        fetch(Source("data.zip", ("http://example.org/data.zip",)), pause=0)
    assert "secret" not in str(caught.value)


def test_two_at_once_download_once(server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    server.script = ["slow"]
    downloads: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: downloads.append(fetch(server.source(), attempts=1).read_bytes()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == [CONTENT] * 3
    assert server.ranges == [None]


def test_pauses_double(server, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.script = [500]
    with pytest.raises(DownloadError):
        fetch(server.source(), attempts=4, pause=1)
    assert pauses == [1, 2, 4]


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(DownloadError, match="CXGRAD_LITE_DATA may name another folder"):
        fetch(Source("data.zip", ("http://127.0.0.1:9/",)))


def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("CXGRAD_LITE_DATA", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("CXGRAD_LITE_DATA")
    assert cache_dir() == Path.home() / ".cache" / "cxgrad_lite"
