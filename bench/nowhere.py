"""A store that keeps nothing: it answers as S3 does, and throws every byte away. Only for measuring.

What a backup into it takes beside one into a real store is our own share. It checks no signature and no digest, so it
can prove nothing: the tests use a real server. Run as a process of its own: `python -m bench.nowhere` prints its port.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_CHUNK = 1024 * 1024
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


class _Sizes:
    """Bytes of each object: all that is remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def add(self, key: str, size: int) -> None:
        with self._lock:
            self._sizes[key] = self._sizes.get(key, 0) + size

    def get(self, key: str) -> int | None:
        return self._sizes.get(key)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sizes = _Sizes()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self._swallow()
        key, query = self._asked()
        if "uploads" in query:
            return self._answer(
                f"<InitiateMultipartUploadResult><Key>{key}</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            )
        return self._answer(
            f'<CompleteMultipartUploadResult><Key>{key}</Key><ETag>"e"</ETag></CompleteMultipartUploadResult>'
        )

    def do_PUT(self) -> None:
        self.sizes.add(self._asked()[0], self._swallow())
        self._answer("")

    def do_GET(self) -> None:
        if "list-type" in self._asked()[1]:
            return self._answer("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        return self._answer("<Error><Code>NoSuchKey</Code></Error>", status=404)

    def do_HEAD(self) -> None:
        size = self.sizes.get(self._asked()[0])
        self._answer("", status=404 if size is None else 200, length=size or 0)

    def do_DELETE(self) -> None:
        self._answer("", status=204)

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return parts.path, parse_qs(parts.query, keep_blank_values=True)

    def _swallow(self) -> int:
        left = size = int(self.headers.get("Content-Length") or 0)
        buffer = memoryview(bytearray(min(_CHUNK, size)))
        while left:
            taken = self.rfile.readinto(buffer[:left])
            if not taken:
                raise ConnectionError("the body ended early")
            left -= taken
        return size

    def _answer(self, body: str, *, status: int = 200, length: int | None = None) -> None:
        data = (_XML + body).encode() if body else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


def main() -> int:
    """Serve until stdin ends, that is until whoever started it has gone."""
    server = _Server(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
