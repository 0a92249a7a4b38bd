"""Where alerts arrive in tests: a webhook on loopback, and an SMTP server that keeps what it is given. Both real."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """A webhook. `answer` is the status it gives, after it refused `refuses`; `got` is what came: (path, document)."""

    def __init__(self) -> None:
        self.answer = 200
        self.refuses = 0  # so many requests get a 503 first
        self.got: list[tuple[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                receiver.got.append((self.path, json.loads(raw)))
                self._reply()

            def do_GET(self) -> None:
                receiver.got.append((self.path, None))
                self._reply()

            def _reply(self) -> None:
                if receiver.refuses > 0:
                    receiver.refuses -= 1
                    self.send_response(503)
                else:
                    self.send_response(receiver.answer)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def subjects(self) -> list[str]:
        return [document["subject"] for _, document in self.got if document is not None]

    def await_subjects(self, fits: Callable[[list[str]], bool], seconds: float) -> list[str]:
        """Wait until what came fits, or the time is over; return the subjects."""
        deadline = time.monotonic() + seconds
        while not fits(self.subjects) and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.subjects

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Mail(socketserver.StreamRequestHandler):
    server: _MailServer

    def handle(self) -> None:
        self._say(220, "sink")
        while line := self.rfile.readline():
            word = line.split(None, 1)[0].upper() if line.split() else b""
            if word == b"DATA":
                self._say(354, "go on")
                lines = []
                while (part := self.rfile.readline()) not in {b".\r\n", b""}:
                    lines.append(part)
                self.server.got.append(b"".join(lines).decode("utf-8", "replace"))
                self._say(250, "kept")
            elif word == b"QUIT":
                self._say(221, "bye")
                return
            else:
                self._say(250, "ok")

    def _say(self, code: int, text: str) -> None:
        self.wfile.write(f"{code} {text}\r\n".encode())


class _MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.got: list[str] = []
        super().__init__(("127.0.0.1", 0), _Mail)


class MailSink:
    """An SMTP server. `got` holds each message as it came."""

    def __init__(self) -> None:
        self._server = _MailServer()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def got(self) -> list[str]:
        return self._server.got

    def url(self, to: str) -> str:
        """Its address as Apprise takes it."""
        port = self._server.server_address[1]
        return f"mailto://127.0.0.1:{port}/?from=lockstep@example.com&to={to}&format=text"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A webhook for as long as the block lasts."""
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def mailing() -> Iterator[MailSink]:
    """An SMTP server for as long as the block lasts."""
    made = MailSink()
    try:
        yield made
    finally:
        made.close()
