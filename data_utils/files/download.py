"""Downloads into one cache folder: verified, resumed after a cut, tried again, and safe between processes."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from .locks import only_one
from .sources import CHUNK, Source, cache_dir, fault_of

TIMEOUT = 30.0  # seconds without a byte after which a connection counts as cut


class DownloadError(RuntimeError):
    """No URL delivered the file."""


class _WrongFile(Exception):
    """The server sent another file than the one asked for; the partial file is no good."""


class _WrongAnswer(_WrongFile):
    """The same, noticed before anything was written: a partial file from another URL stays."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted connection to one that anybody on the way can change."""

    def redirect_request(self, request: Any, *answer: Any) -> urllib.request.Request | None:
        if request.full_url.startswith("https:") and not str(answer[-1]).startswith("https:"):
            raise _WrongAnswer(f"the server redirected to an address without encryption, {answer[-1]}")
        return super().redirect_request(request, *answer)


def fetch(source: Source, attempts: int = 4, pause: float = 1.0) -> Path:
    """The path of a verified file in the cache folder, downloaded if it is not there yet.

    A file under its final name has passed the check of size and checksum. What arrived before a cut stays in
    ``NAME.part``, and the next attempt, or the next call, asks the server for the rest only. A second process that
    wants the same file waits for the first one (``NAME.lock``) and then uses its file.

    Args:
        source: what to download.
        attempts: tries per URL; a wrong file is fetched anew only once.
        pause: seconds before the second try, doubled before each further one.

    Raises:
        DownloadError: if no URL delivered the file; it says what happened and where to put the file by hand.
    """
    target = cache_dir() / source.name
    try:
        present = target.exists()
        fault = fault_of(target, source) if present else None
        if present and fault is None:
            return target
        if present:
            warnings.warn(f"{target} is not the expected file ({fault}); it is downloaded anew", stacklevel=2)
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(target, "downloading"):
            if not target.exists() or fault_of(target, source):  # else another process brought it meanwhile
                _download(target, source, attempts, pause)
    except OSError as error:
        raise DownloadError(f"{target} cannot be used: {error}; CXGRAD_LITE_DATA may name another folder") from error
    return target


def _download(target: Path, source: Source, attempts: int, pause: float) -> None:
    part = target.with_name(f"{target.name}.part")
    faults = []
    for url in source.urls:
        if part.is_symlink():
            part.unlink()  # what it points to is not ours to overwrite
        fault = _try(url, part, source, attempts, pause)
        if fault is None:
            os.replace(part, target)
            return
        faults.append(f"  {url}{_proxy(url)}: {fault}")
    raise DownloadError(
        f"{source.name} could not be downloaded:\n" + "\n".join(faults) + "\n"
        f"Try again later (a cut download goes on where it stopped), or get the file by other means and "
        f"put it at {target}, or pass path=… with the place where you have it."
    )


def _try(url: str, part: Path, source: Source, attempts: int, pause: float) -> str | None:
    """Fill ``part`` from one URL; None after success, else what went wrong last."""
    fault, wrong = "not tried", 0
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _transfer(url, part, source)
            if wrong_content := fault_of(part, source):
                raise _WrongFile(wrong_content)
        except _WrongFile as error:
            if not isinstance(error, _WrongAnswer):
                part.unlink(missing_ok=True)
            fault, wrong = str(error), wrong + 1
            if wrong == 2:
                return fault
        except urllib.error.HTTPError as error:
            error.close()
            fault = f"the server answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):  # these two may pass, as faults of the server do
                return fault
        except (OSError, http.client.HTTPException) as error:
            fault = str(getattr(error, "reason", None) or error) or type(error).__name__
        except ValueError as error:
            return f"the server redirected to something that is no address: {error}"
        else:
            if not source.verified:
                warnings.warn(f"no checksum is published for {source.name}: its content was not verified", stacklevel=5)
            return None
    return fault


def _transfer(url: str, part: Path, source: Source) -> None:
    """Append to ``part`` what it lacks, or begin anew where the server does not continue."""
    have = part.stat().st_size if part.exists() else 0
    if have and have == source.size:
        return  # complete, but not yet verified when an earlier process ended
    headers = {"User-Agent": "cxgrad_lite"} | ({"Range": f"bytes={have}-"} if have else {})
    with _open(urllib.request.Request(url, headers=headers), have) as answer:
        if answer.status != 200 and not (have and answer.status == 206):
            raise _WrongAnswer(f"the server answered {answer.status} {answer.reason} to a request for the whole file")
        start = have if answer.status == 206 else 0
        if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise _WrongFile("the server sent another piece of the file than the one asked for")
        total = source.size if answer.length is None else start + answer.length
        first = answer.read1(CHUNK)
        _check_answer(first, start, total, source)
        with open(part, "ab" if start else "wb") as file:
            _copy(first, answer, file, total, source.name)
    have = part.stat().st_size
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _open(request: urllib.request.Request, have: int) -> http.client.HTTPResponse:
    try:
        opener = urllib.request.build_opener(_SafeRedirects)
        answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing lies beyond what is there: the partial file is of another file
            error.close()
            raise _WrongFile(f"the server's file is not longer than the {have:,} bytes already here") from error
        raise
    return answer


def _check_answer(first: bytes, start: int, total: int | None, source: Source) -> None:
    """Refuse what cannot be the file before it replaces a good partial file or fills the disk."""
    if not first:
        raise _WrongAnswer("the server sent nothing")
    if not start and first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _WrongAnswer("the server sent a web page instead of the file")
    if total is not None and source.size is not None and total != source.size:
        wrong = _WrongFile if start else _WrongAnswer
        raise wrong(f"the server's file has {total:,} bytes, not {source.size:,}")


def _copy(first: bytes, answer: http.client.HTTPResponse, file: BinaryIO, total: int | None, name: str) -> None:
    with tqdm(desc=name, total=total, initial=file.tell(), unit="B", unit_scale=True) as bar:
        chunk = first
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            if total is not None and file.tell() > total:
                raise _WrongFile(f"the server sent more than {total:,} bytes")
            chunk = answer.read1(CHUNK)


def _proxy(url: str) -> str:
    """The proxy on the way to a URL, for messages; without the password that may be part of its address."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" (through the proxy {urllib.parse.urlsplit(proxy).hostname or 'of this system'})"
