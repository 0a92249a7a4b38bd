"""The target's lock: a session advisory lock on the work session itself.

It lives exactly as long as the backend that can change something, so no row can go stale, and it is taken outside of
any transaction, so CREATE INDEX CONCURRENTLY never waits for it. Waiting polls: a session blocked in
pg_advisory_lock holds a snapshot, which would block just that command of the holder.
"""

from __future__ import annotations

import hashlib
import time
from functools import cache

from lockstep.errors import LockHeld
from lockstep.postgres.connection import Session, guard

POLL = 0.5  # seconds between tries with --wait
#: Seconds of trying in any case: a run that has just ended may still seem to hold it. The server finds a client gone
#: within half a second (client_connection_check_interval), a pooler resets a backend after its client has left.
GRACE = 1.0


def lock_key(ledger_schema: str) -> int:
    """The lock's number. Advisory locks are per database already, so the ledger's schema makes it unique."""
    return _key(f"lockstep/{ledger_schema}.schema_migrations")


def audit_key(ledger_schema: str) -> int:
    """Number of the short transaction lock that the audit log's trigger takes."""
    return _key(f"lockstep/{ledger_schema}.schema_migrations_log")


@cache
def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


# A look into pg_locks gathers the locks of all sessions. Letting go of the lock tells for a tenth of that whether it was
# held, and a transaction's lock of the same key keeps it meanwhile, so taking it again cannot fail.


def held_sql(ledger_schema: str) -> str:
    """An SQL expression, for use in a transaction: this very session holds the lock.

    It lets go of every other advisory lock of the session, which a file may have taken and kept.
    """
    key = lock_key(ledger_schema)
    return (
        f"(CASE WHEN pg_catalog.pg_try_advisory_xact_lock({key}) THEN "
        f"CASE WHEN pg_catalog.pg_advisory_unlock({key}) THEN "
        f"CASE WHEN pg_catalog.pg_advisory_unlock_all() IS NOT NULL THEN pg_catalog.pg_try_advisory_lock({key}) "
        "ELSE false END ELSE false END ELSE false END)"
    )


def take_lock(session: Session, *, wait_seconds: float = 0.0) -> None:
    """Take the lock on this session, or raise LockHeld naming the holder. Waits up to `wait_seconds`, at least GRACE."""
    key = lock_key(session.target.ledger_schema)
    started = time.monotonic()
    with guard(session.target):
        while True:
            row = session.connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (key,)).fetchone()
            if row and row[0]:
                return
            waited = time.monotonic() - started
            if waited >= max(wait_seconds, GRACE):
                raise LockHeld(target=session.target.name, holder=_holder(session, key))
            time.sleep(POLL if waited > GRACE else POLL / 5)


def read_holder(session: Session) -> str | None:
    """Return who holds the target's lock, in words; None when nobody does. Read-only."""
    return _found(session, lock_key(session.target.ledger_schema))


def _holder(session: Session, key: int) -> str:
    return _found(session, key) or "it has just ended; try again"


def _found(session: Session, key: int) -> str | None:
    row = session.connection.execute(
        """
        SELECT a.pid, a.application_name, a.usename,
               to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')
          FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
           AND l.classid = %s AND l.objid = %s
        """,
        ((key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF),
    ).fetchone()
    if row is None:
        return None
    pid, application, user, since = row
    run = (application or "").removeprefix("lockstep/")
    return f"run {run or 'unknown'} (user {user}, pid {pid}, connected since {since})"
