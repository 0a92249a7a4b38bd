"""A TCP proxy that counts round trips (turns of the client) and bytes, and can cut the line at any of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from lockstep.postgres.throwaway import free_port


class CountingProxy:
    """Listens on a loopback port and passes everything on to `port`. `trips` counts turns of the client.

    With `cut`, the first message that holds these bytes reaches the server, and its answer is lost with the line.
    With `frozen`, the first message that holds these bytes goes nowhere, and the line stays open in silence.
    With `cut_after`, that many bytes that one side ("client" or "server") sent get through, over all connections, and
    then the line is cut. After a cut the proxy works again, unless it `stays_down`.
    `bytes` counts what got through, by who sent it; `queries` are the simple-query messages of each connection.
    """

    def __init__(
        self,
        port: int,
        *,
        cut: bytes | None = None,
        frozen: bytes | None = None,
        cut_after: tuple[str, int] | None = None,
        stays_down: bool = False,
    ) -> None:
        self._cut = cut
        self._frozen = frozen
        self._cutting = False
        self._cut_after = cut_after
        self._stays_down = stays_down
        self._counting = threading.Lock()
        self.bytes = {"client": 0, "server": 0}
        self._heard: list[bytearray] = []
        self.port = free_port()
        self.trips = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            turn = {"client": False}
            self._heard.append(bytearray())
            heard = self._heard[-1]
            for source, sink, who in ((client, server, "client"), (server, client, "server")):
                threading.Thread(target=self._pump, args=(source, sink, who, turn, heard), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, who: str, turn: dict[str, bool], heard: bytearray
    ) -> None:
        try:
            while data := source.recv(65536):
                if who == "client":
                    heard += data
                if who == "client" and self._frozen and self._frozen in data:
                    while source.recv(65536):
                        pass
                    break
                if who == "client" and not turn["client"]:
                    self.trips += 1
                turn["client"] = who == "client"
                if who == "server" and self._cutting:
                    self._cutting = False
                    break
                if who == "client" and self._cut and self._cut in data:
                    self._cut, self._cutting = None, True
                allowed, cut = self._allowed(who, len(data))
                sink.sendall(data[:allowed])
                if cut:
                    break
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    @property
    def queries(self) -> list[list[str]]:
        """The texts of all simple-query messages, connection by connection (without TLS)."""
        return [_queries(bytes(heard)) for heard in self._heard]

    def _allowed(self, who: str, size: int) -> tuple[int, bool]:
        """How many of so many bytes get through, and whether the line is cut then."""
        with self._counting:
            cut = False
            if self._cut_after is not None and self._cut_after[0] == who:
                left = self._cut_after[1] - self.bytes[who]
                if cut := size >= left:
                    size, self._cut_after = left, None
                    if self._stays_down:
                        self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`, too
            self.bytes[who] += size
            return size, cut

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone would let one more in
        self._thread.join(5)
        self._listener.close()
        for one in self._sockets:
            # A socket that another thread reads from lives on after `close`: the server would not hear of the end.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _queries(data: bytes) -> list[str]:
    """Take the client's stream apart: untyped start-up packets first, then a byte of type and four of length each."""
    at = 0
    while data[at : at + 1] == b"\0":
        at += int.from_bytes(data[at : at + 4], "big")
    found = []
    while at < len(data):
        kind, size = data[at : at + 1], int.from_bytes(data[at + 1 : at + 5], "big")
        if kind == b"Q":
            found.append(data[at + 5 : at + size].decode())
        at += 1 + size
    return found
