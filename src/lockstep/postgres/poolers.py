"""Tells a pooler in transaction (or statement) mode from one in session mode, by whom it gives a backend to. Changes nothing there.

In transaction mode a backend belongs to a client only while a transaction is open: a lock that one run takes is not
held by it, and what is SET reaches whoever gets that backend next.
"""

from __future__ import annotations

import select
import time

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus

from lockstep.core.address import Address

PATIENCE = 3.0  # seconds; a pooler whose backends are all taken lets a client wait for minutes
_QUEUED = 0.5  # seconds without an answer: it stands in the pooler's queue
_ROUNDS = 4  # pools differ in which backend they give next

_MINE = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())"
_OTHERS = (
    "BEGIN; SELECT pg_catalog.pg_backend_pid(), (SELECT pg_catalog.date_part('epoch', query_start) "
    "FROM pg_catalog.pg_stat_activity WHERE pid = {pid})"
)


def shares_backends(first: psycopg.Connection, second: psycopg.Connection, pid: int) -> bool:
    """Whether the backend `pid`, which answered `first` outside of a transaction, is anybody's now.

    It is, when it answers `second`, or has worked for anybody else since `first` asked it last, or when `first` gets
    another one. Both connections are outside of a transaction, before and after. Raises psycopg.OperationalError when
    one is lost.
    """
    own = str(pid).encode()
    try:
        for _ in range(_ROUNDS):
            mine = _ask(first, _MINE)
            if mine is None or mine[0] != own:
                return True
            second.pgconn.send_query(_OTHERS.format(pid=pid).encode())
            try:
                others = _answer(second, _QUEUED)
            except psycopg.errors.ProtocolViolation:
                # Not even BEGIN: statement mode. Or the server has just gone, which PgBouncer reports by the same code:
                # then it has let go of `first` as well, and that raises.
                _ask(first, _MINE)
                return True
            if others is None:
                # `second` is in the pooler's queue. `first` would be behind it there, had it no backend of its own.
                mine = _ask(first, _MINE)
                others = _answer(second, 0)
                if others is None:
                    return mine is None or mine[0] != own
                others = (others[0], None)
            if others[0] == own or others[1] not in (None, mine[1] if mine else None):
                return True
            _ask(second, "ROLLBACK")
        mine = _ask(first, _MINE)
        return mine is None or mine[0] != own
    finally:
        if second.pgconn.transaction_status == TransactionStatus.INTRANS:
            _ask(second, "ROLLBACK")


def session_mode_hint(address: Address) -> str:
    """What to use in place of a pooler's address in transaction mode."""
    if address.port == "6543" or address.host.endswith(".pooler.supabase.com"):
        return (
            f"use the pooler's session mode: the same host {address.host}, port 5432 in place of "
            f"{address.port or 'this one'} (Supabase's direct host db.….supabase.co often has IPv6 only)"
        )
    return "use the server's own address, or the pooler's session mode (pool_mode = session)"


def _ask(connection: psycopg.Connection, query: str) -> tuple[bytes | None, ...] | None:
    """Send one message; return the first row of its last result, None when there is no answer within PATIENCE."""
    connection.pgconn.send_query(query.encode())
    return _answer(connection, PATIENCE)


def _answer(connection: psycopg.Connection, seconds: float) -> tuple[bytes | None, ...] | None:
    deadline = time.monotonic() + seconds
    row: tuple[bytes | None, ...] | None = None
    while True:
        connection.pgconn.consume_input()
        while connection.pgconn.is_busy():
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            ready = select.poll()  # select() takes no descriptor above 1,023
            ready.register(connection.pgconn.socket, select.POLLIN)
            ready.poll(left * 1_000)
            connection.pgconn.consume_input()
        result = connection.pgconn.get_result()
        if result is None:
            return row
        if result.status == ExecStatus.FATAL_ERROR:
            state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
            kind = psycopg.errors.ProtocolViolation if state == "08P01" else psycopg.OperationalError
            raise kind(connection.pgconn.get_error_message())
        if result.status == ExecStatus.TUPLES_OK:
            row = tuple(result.get_value(0, column) for column in range(result.nfields))
