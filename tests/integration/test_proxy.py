"""The proxy of the tests does what it says: what it lets through, what it keeps, and when."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.proxy import CountingProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of something that sends back what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(one: socket.socket) -> None:
        with one:
            while data := one.recv(65536):
                one.sendall(data)

    def accept() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(one,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def connect(proxy: CountingProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def read(one: socket.socket, size: int) -> bytes:
    """That many bytes, or what came until the line was cut."""
    found = b""
    while len(found) < size and (more := one.recv(size - len(found))):
        found += more
    return found


def test_a_message_ends_half_way_where_the_line_is_cut(echo: int) -> None:
    with CountingProxy(echo, cut_after=("client", 4)) as proxy, connect(proxy) as one:
        one.sendall(b"0123456789")
        assert read(one, 10) in (b"0123", b"")  # its echo may be lost with the line
        assert proxy.was_cut.wait(5) and proxy.bytes["client"] == 4


def test_a_black_hole_keeps_what_comes_until_it_lets_go(echo: int) -> None:
    with CountingProxy(echo, hold_after=("client", 4)) as proxy, connect(proxy) as one:
        one.sendall(b"0123456789")
        assert proxy.held.wait(5)
        one.settimeout(0.2)
        with pytest.raises(TimeoutError):
            read(one, 10)
        one.settimeout(5)
        proxy.let_go()
        one.sendall(b"x")
        assert read(one, 11) == b"0123456789x"


def test_what_a_black_hole_kept_is_lost_when_the_line_is_cut(echo: int) -> None:
    with CountingProxy(echo, hold_after=("server", 0)) as proxy, connect(proxy) as one:
        one.sendall(b"0123456789")
        assert proxy.held.wait(5)
        proxy.cut_now()
        assert read(one, 10) == b""
        with connect(proxy) as another:
            another.sendall(b"again")
            assert read(another, 5) == b"again", "new lines are let in"


def test_a_delay_is_one_of_each_way_and_lets_more_follow_at_once(echo: int) -> None:
    with CountingProxy(echo, delay=0.1) as proxy, connect(proxy) as one:
        began = time.monotonic()
        for number in range(5):
            one.sendall(b"%d" % number)
            time.sleep(0.01)
        assert read(one, 5) == b"01234"
        assert 0.2 <= time.monotonic() - began < 0.9, "two ways, and not five times"
