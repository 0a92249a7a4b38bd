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
    With `cut_after`, that many bytes that one side ("client" or "server") sent get through, over all connections, and
    then the line is cut. After a cut the proxy works again, unless it `stays_down`.
    `bytes` counts what got through, by who sent it.
    """

    def __init__(
        self,
        port: int,
        *,
        cut: bytes | None = None,
        cut_after: tuple[str, int] | None = None,
        stays_down: bool = False,
    ) -> None:
        self._cut = cut
        self._cutting = False
        self._cut_after = cut_after
        self._stays_down = stays_down
        self._counting = threading.Lock()
        self.bytes = {"client": 0, "server": 0}
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
            for source, sink, who in ((client, server, "client"), (server, client, "server")):
                threading.Thread(target=self._pump, args=(source, sink, who, turn), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, who: str, turn: dict[str, bool]) -> None:
        try:
            while data := source.recv(65536):
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
        self._listener.close()
        for one in self._sockets:
            # A socket that another thread reads from lives on after `close`: the server would not hear of the end.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
