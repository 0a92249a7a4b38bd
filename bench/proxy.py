"""A network in between: a TCP proxy that holds back every byte for the one-way delay, and counts round trips.

The delay is latency, not throughput: each chunk is due at its own time, so a burst arrives as a burst. Threads, since
an event loop's timer has a resolution of a millisecond.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from queue import SimpleQueue
from types import TracebackType

import psycopg

from lockstep.postgres.throwaway import free_port

Chunk = tuple[float, bytes]  # (when it is due, what); empty bytes: the end of the stream


class DelayProxy:
    """Listens on a loopback port and passes everything on to `target`, `delay` seconds later in each direction.

    `trips` counts the turns of all clients: a turn begins with a client's first byte after the server's last one.
    """

    def __init__(self, target: int, delay: float) -> None:
        self.port = free_port()
        self.trips = 0
        self._target = target
        self._delay = delay
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            turn = _Turn(self)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            for source, sink, spoke in ((client, server, turn.client_spoke), (server, client, turn.server_spoke)):
                queue: SimpleQueue[Chunk] = SimpleQueue()
                threading.Thread(target=self._receive, args=(source, queue, spoke), daemon=True).start()
                threading.Thread(target=_send, args=(queue, sink), daemon=True).start()

    def _receive(self, source: socket.socket, queue: SimpleQueue[Chunk], spoke: object) -> None:
        assert callable(spoke)
        data = b"?"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            due = time.monotonic() + self._delay
            if data:
                spoke()
            queue.put((due, data))

    def __enter__(self) -> DelayProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()


class _Turn:
    """Whose turn it is on one connection."""

    def __init__(self, proxy: DelayProxy) -> None:
        self._proxy = proxy
        self._clients = False

    def client_spoke(self) -> None:
        if not self._clients:
            self._proxy.trips += 1
        self._clients = True

    def server_spoke(self) -> None:
        self._clients = False


def _send(queue: SimpleQueue[Chunk], sink: socket.socket) -> None:
    while True:
        due, data = queue.get()
        if (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        try:
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
        except OSError:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
            return


def round_trip(url: str, tries: int = 50) -> float:
    """Median time of `SELECT 1` over one connection, in seconds."""
    times = []
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(tries):
            started = time.perf_counter()
            connection.execute("SELECT 1")
            times.append(time.perf_counter() - started)
    return statistics.median(times)
