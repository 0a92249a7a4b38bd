"""A bad line to the S3 server: an HTTP proxy that does harm to chosen requests and passes all others on unchanged.

The host header stays as the client wrote it, since the signature covers it. What it lets through is answered by the
real server, so every fault here is one that a real store, or the network before it, can have.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

_HEAD_ENDS = b"\r\n\r\n"
_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for."""

    kind: str  # create, part, complete, abort, put, get, head, list or delete
    key: str  # with the bucket's name before it
    part: int = 0  # number of a part


@dataclass(slots=True)
class Line:
    """One request on its way: what a fault may do to it."""

    client: socket.socket
    head: bytes
    body: bytearray  # what has come with the head
    size: int  # bytes of the whole body
    forward: Callable[[bytes], bytes]  # sends a whole request to the server, returns the whole answer

    def rest(self) -> bytes:
        """The whole body."""
        while len(self.body) < self.size:
            self.body += _received(self.client)
        return bytes(self.body)

    def answered(self) -> bytes:
        """What the server answers to the whole request. Empty when it died meanwhile."""
        return self.forward(self.head + self.rest())


#: Does what it likes with a request; when it returns, the connection is closed.
Fault = Callable[[Line], object]


def refuses(status: int, code: str) -> Fault:
    """The store answers an error, and does nothing."""

    def act(line: Line) -> None:
        line.rest()
        text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
        line.client.sendall(head + text)

    return act


def is_slow(seconds: float) -> Fault:
    """All goes well, later."""

    def act(line: Line) -> None:
        time.sleep(seconds)
        line.client.sendall(line.answered())

    return act


def loses_the_answer(line: Line) -> None:
    """The server does its work, and nobody hears of it."""
    line.answered()


def cuts_the_answer(after: int) -> Fault:
    """So many bytes of the answer's body arrive."""

    def act(line: Line) -> None:
        head, _, body = line.answered().partition(_HEAD_ENDS)
        line.client.sendall(head + _HEAD_ENDS + body[:after])

    return act


def cuts_the_body(line: Line) -> None:
    """Half of the request's body arrives at the server."""
    line.forward(line.head + line.rest()[: line.size // 2])


def stalls(line: Line) -> None:
    """Nothing comes, and the connection stays, until the client loses patience."""
    line.rest()
    with contextlib.suppress(OSError):
        while line.client.recv(_PIECE):
            pass


def first(act: Callable[[], object]) -> Fault:
    """Something happens in the middle of the body: half of it has arrived when the rest goes on."""

    def fault(line: Line) -> None:
        line.rest()
        with contextlib.suppress(OSError):
            line.forward(line.head + bytes(line.body[: line.size // 2]))
        act()

    return fault


@dataclass(slots=True)
class _Rule:
    kind: str
    fault: Fault
    times: int
    key: str
    part: int

    def concerns(self, request: Request) -> bool:
        return (
            self.times > 0
            and request.kind == self.kind
            and request.key.endswith(self.key)
            and self.part in (0, request.part)
        )


@dataclass(slots=True)
class FaultyStore:
    """Listens on a loopback port and passes requests on to the S3 server at `port`, but for those that `on` names."""

    port: int
    seen: list[Request] = field(default_factory=list)  # in order, those that were harmed included
    harmed: int = 0  # requests that met a fault
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sockets: list[socket.socket] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def on(self, kind: str, fault: Fault, *, times: int = 1_000_000, key: str = "", part: int = 0) -> None:
        """Let the next `times` requests of a kind (to keys that end with `key`; of one part) meet a fault."""
        self._rules.append(_Rule(kind, fault, times, key, part))

    def count(self, kind: str) -> int:
        """How many requests of a kind came."""
        return sum(request.kind == kind for request in self.seen)

    def __enter__(self) -> FaultyStore:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    # -- inside -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request per connection: the answer says so, and a fault may end it as it likes."""
        with contextlib.closing(client), contextlib.suppress(OSError):
            line = self._read(client)
            request = _understood(line.head)
            with self._lock:
                self.seen.append(request)
                rule = next((rule for rule in self._rules if rule.concerns(request)), None)
                if rule is not None:
                    rule.times -= 1
                    self.harmed += 1
            if rule is not None:
                rule.fault(line)
            else:
                client.sendall(line.answered())
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _read(self, client: socket.socket) -> Line:
        data = bytearray()
        while _HEAD_ENDS not in data:
            data += _received(client)
        head, _, body = bytes(data).partition(_HEAD_ENDS)
        if re.search(rb"(?im)^expect:", head):  # not signed
            head = re.sub(rb"(?im)^expect:[^\r\n]*\r\n", b"", head)
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = re.sub(rb"(?im)^connection:[^\r\n]*\r\n", b"", head) + b"\r\nConnection: close"
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        return Line(client, head + _HEAD_ENDS, bytearray(body), int(length[1]) if length else 0, self._forward)

    def _forward(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port)) as server:
            self._sockets.append(server)
            server.sendall(data)
            if len(data) < _size(data):
                server.shutdown(socket.SHUT_WR)
            answer = bytearray()
            with contextlib.suppress(ConnectionError):
                while piece := server.recv(_PIECE):
                    answer += piece
            return bytes(answer)


def _size(data: bytes) -> int:
    """Bytes of a whole request that begins like this."""
    head, _, _ = data.partition(_HEAD_ENDS)
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return len(head) + len(_HEAD_ENDS) + (int(length[1]) if length else 0)


def _received(client: socket.socket) -> bytes:
    data = client.recv(_PIECE)
    if not data:
        raise ConnectionError("the client has gone")
    return data


def _understood(head: bytes) -> Request:
    method, target = head.split(b" ", 2)[:2]
    parts = urlsplit(target.decode())
    query = parse_qs(parts.query, keep_blank_values=True)
    key = unquote(parts.path).strip("/")
    match method:
        case b"POST":
            return Request("create" if "uploads" in query else "complete", key)
        case b"PUT":
            return Request("part", key, int(query["partNumber"][0])) if "partNumber" in query else Request("put", key)
        case b"DELETE":
            return Request("abort" if "uploadId" in query else "delete", key)
        case b"HEAD":
            return Request("head", key)
        case _:
            return Request("list" if "list-type" in query else "get", key)
