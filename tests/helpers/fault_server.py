"""A local web server that fails in every way a real one does."""

import hashlib
import http.server
import random
import threading
import time

from data_utils.files.sources import Source

CONTENT = random.Random(0).randbytes(1_200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html><title>Quota exceeded</title>"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next fault of ``server.script``; the last one is repeated."""

    server: "Server"

    def do_GET(self) -> None:
        script, wanted = self.server.script, self.headers.get("Range")
        self.server.ranges.append(wanted)
        fault = script.pop(0) if len(script) > 1 else script[0]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        try:
            if isinstance(fault, int):
                self.send_error(fault)
            elif fault == "redirect":
                self.answer(302, b"", Location="/elsewhere")
            elif fault == "malformed redirect":
                self.answer(302, b"", Location="http://[nowhere")
            elif fault == "stalled":
                self.server.stopped.wait(5)
            elif fault != "no answer":
                self.send_file(fault, start)
        except ConnectionError:
            self.server.hung_up += 1

    def send_file(self, fault: str, start: int) -> None:
        if fault == "empty":
            self.answer(200, b"", length=None)
        elif fault == "no content":
            self.answer(204, b"", length=None)
        elif fault == "unasked part":
            self.answer(206, CONTENT[:1000], **{"Content-Range": f"bytes 0-999/{len(CONTENT)}"})
        elif fault == "page":
            self.answer(200, PAGE)
        elif fault == "short file":
            self.answer(200, CONTENT[:1000])
        elif fault == "long file":
            self.answer(200, CONTENT + b"more")
        elif fault == "endless file":
            self.answer(200, CONTENT + bytes(10_000_000), length=None)
        elif fault == "ignores Range":
            self.answer(200, CONTENT)
        elif fault == "without length":
            self.answer(200, CONTENT, length=None)
        elif start >= len(CONTENT):
            self.answer(416, b"", **{"Content-Range": f"bytes */{len(CONTENT)}"})
        else:
            self.send_rest(fault, start)

    def send_rest(self, fault: str, start: int) -> None:
        rest = bytes(len(CONTENT) - start) if fault == "wrong bytes" else CONTENT[start:]
        first = start - 1 if fault == "wrong piece" else start
        headers = {"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
        sent = rest[: len(rest) // 2] if fault in ("cut", "slow") else rest
        self.answer(206 if start else 200, sent, len(rest), **headers)
        if fault == "slow":
            time.sleep(0.5)
            self.wfile.write(rest[len(sent) :])

    def answer(self, status: int, body: bytes, length: int | None = -1, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """The tests look at ``server.ranges`` instead."""


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str | int] = ["sound"]
        self.ranges: list[str | None] = []
        self.stopped = threading.Event()
        self.hung_up = 0

    def source(self, **changes: object) -> Source:
        facts: dict = {"size": len(CONTENT), "sha256": SHA256} | changes
        return Source("data.zip", (f"http://127.0.0.1:{self.server_port}/data.zip",), **facts)
