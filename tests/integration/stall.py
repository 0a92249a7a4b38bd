"""Measures how long other sessions stall while something happens: what a deploy costs the people who use the database."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from types import TracebackType

import psycopg


class Stall:
    """Runs each statement again and again on a session of its own; `longest` is the longest that one of them took, in s."""

    def __init__(self, url: str, statements: Sequence[str]) -> None:
        self.longest: dict[str, float] = dict.fromkeys(statements, 0.0)
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(statement,)) for statement in statements]

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._url, autocommit=True, application_name="a-user") as connection:
            while not self._stop.is_set():
                started = time.monotonic()
                connection.execute(statement.encode())
                self.longest[statement] = max(self.longest[statement], time.monotonic() - started)
                time.sleep(0.005)

    def __enter__(self) -> Stall:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class InTheWay:
    """A session that holds its locks for a while: it runs `statement` in a transaction, and ends it after `seconds`.

    With `busy` it is at a long query all the time; else it is idle in its transaction.
    """

    def __init__(
        self, url: str, statement: str, seconds: float, application: str = "in-the-way", *, busy: bool = False
    ) -> None:
        self._connection = psycopg.connect(url, application_name=application)
        self._connection.execute(statement.encode())
        self._timer = threading.Timer(0 if busy else seconds, self._work if busy else self._connection.rollback)
        self._seconds = seconds

    def _work(self) -> None:
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            self._connection.execute("SELECT pg_sleep(%s)", (self._seconds,))
        self._connection.rollback()

    def __enter__(self) -> InTheWay:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._connection.cancel_safe()
        self._timer.join()
        self._connection.close()
