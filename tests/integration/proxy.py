"""A TCP proxy of our own: it counts round trips (turns of the client) and bytes, and it can cut the line at any of them,
let half a message through, keep everything back for a while or for ever, and be slow."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from types import TracebackType

from lockstep.postgres.throwaway import free_port


class CountingProxy:
    """Listens on a loopback port and passes everything on to `port`. `trips` counts turns of the client.

    With `cut`, the first message that holds these bytes reaches the server, and its answer is lost with the line.
    With `frozen`, the first message that holds these bytes goes nowhere, and the line stays open in silence.
    With `cut_after`, that many bytes that one side ("client" or "server") sent get through, over all connections, and
    then the line is cut: a message ends half-way. After a cut the proxy works again, unless it `stays_down`.
    With `hold_after`, so many bytes get through, and then it is a black hole: it takes from both sides, on all
    connections, and delivers nothing, until `let_go`, which delivers it, or `cut_now`. `held` tells that it began.
    With `delay`, what anybody sends arrives that many seconds later.
    `bytes` counts what got through, by who sent it; `queries` are the simple-query messages of each connection.
    """

    def __init__(
        self,
        port: int,
        *,
        cut: bytes | None = None,
        frozen: bytes | None = None,
        cut_after: tuple[str, int] | None = None,
        hold_after: tuple[str, int] | None = None,
        stays_down: bool = False,
        delay: float = 0.0,
    ) -> None:
        self._cut = cut
        self._frozen = frozen
        self._cutting = False
        self._cut_after = cut_after
        self._hold_after = hold_after
        self._stays_down = stays_down
        self._delay = delay
        self._counting = threading.Lock()
        self.bytes = {"client": 0, "server": 0}
        self.held = threading.Event()
        self.was_cut = threading.Event()
        self._open = threading.Event()  # cleared: a black hole
        self._open.set()
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
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the server is being restarted
                client.close()
                continue
            self._sockets += [client, server]
            turn = {"client": False}
            self._heard.append(bytearray())
            heard = self._heard[-1]
            for source, sink, who in ((client, server, "client"), (server, client, "server")):
                threading.Thread(target=self._pump, args=(source, sink, who, turn, heard), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, who: str, turn: dict[str, bool], heard: bytearray
    ) -> None:
        late = _Late(sink, self._delay) if self._delay else None
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
                before = self._before_the_hole(who, len(data))
                sink.sendall(data[:before])
                self._open.wait()
                rest = data[before:]
                allowed, cut = self._allowed(who, len(rest))
                (late or sink).sendall(rest[:allowed])
                if cut:
                    self.was_cut.set()
                    break
        except OSError:
            pass
        finally:
            if late is not None:
                late.end()
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    @property
    def queries(self) -> list[list[str]]:
        """The texts of all simple-query messages, connection by connection (without TLS)."""
        return [_queries(bytes(heard)) for heard in self._heard]

    def let_go(self) -> None:
        """End the black hole: what it kept is delivered."""
        self._open.set()

    def cut_now(self) -> None:
        """Cut all lines, and lose what a black hole kept. New ones are let in."""
        sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.set()

    def _before_the_hole(self, who: str, size: int) -> int:
        """How many of so many bytes come before the black hole; it opens here. 0 where there is none."""
        with self._counting:
            if self._hold_after is None or self._hold_after[0] != who:
                return 0
            left = self._hold_after[1] - self.bytes[who]
            if size < left:
                return 0
            self._hold_after = None
            self._open.clear()
            self.held.set()
            self.bytes[who] += left
            return left

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
        self._open.set()


class _Late:
    """Sends to a socket later, in order. What comes meanwhile is not kept waiting for what came before."""

    def __init__(self, sink: socket.socket, delay: float) -> None:
        self._sink = sink
        self._delay = delay
        self._waiting: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def sendall(self, data: bytes) -> None:
        self._waiting.put((time.monotonic() + self._delay, data))

    def end(self) -> None:
        """Send what is waiting, and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (one := self._waiting.get()) is not None:
            due, data = one
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                self._sink.sendall(data)


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
