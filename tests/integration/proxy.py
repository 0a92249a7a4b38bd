"""A TCP proxy that counts round trips: how often the client's side spoke after the server's side had spoken."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

from lockstep.postgres.throwaway import free_port


class CountingProxy:
    """Listens on a loopback port and passes everything on to `port`. `trips` counts turns of the client."""

    def __init__(self, port: int) -> None:
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
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()
