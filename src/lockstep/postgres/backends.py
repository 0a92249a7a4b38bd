"""A run's sessions on a server, found by their name and ended: what is left of a run whose process is gone."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg

from lockstep.postgres.connection import Session, guard

POLL = 0.1  # seconds between looks at whether they are gone

# A session of the run's carries its name, that of one that looks at another a further word. Only the own role's names
# can be seen, and only its sessions can be ended: that needs no superuser.
_FIND = """\
SELECT pid, backend_start::text, coalesce(state, ''), coalesce(wait_event_type, '')
  FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
   AND (application_name = %(name)s OR pg_catalog.starts_with(application_name, %(name)s || '/'))
   AND backend_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(age)s)
"""
_END = """\
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
 WHERE pid = %(pid)s AND backend_start = %(start)s::timestamptz
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a run's sessions."""

    found: int  # that were there
    left: int  # that are still there, or may not be ended by this role


def end_backends(session: Session, run_id: str, *, older_than: float, patience: float) -> Ended:
    """End the sessions of a run in this database, and wait up to `patience` seconds until they are gone.

    `older_than`: only those that were opened so many seconds ago or earlier, by the server's own clock: a later try of
    the same run has its own. The caller's session must have the login role itself, without SET ROLE.
    """
    name = f"lockstep/{run_id}"[:63]
    started = time.monotonic()
    found: set[tuple[int, str]] = set()
    with guard(session.target):
        while True:
            # Asked again each time: one that was starting a moment ago shows a moment later.
            age = older_than + time.monotonic() - started
            rows = session.connection.execute(_FIND, {"name": name, "age": age}).fetchall()
            now = {(row[0], row[1]) for row in rows}
            for pid, start in now - found:
                try:
                    session.connection.execute(_END, {"pid": pid, "start": start})
                except psycopg.errors.InsufficientPrivilege:
                    continue
            found |= now
            if not now or time.monotonic() - started > patience:
                return Ended(found=len(found), left=len(now))
            time.sleep(POLL)
