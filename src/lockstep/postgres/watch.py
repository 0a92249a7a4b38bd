"""Looks at a work session from a second one while a message runs: who is in its way, and whom does it keep waiting.

The second session opens only when a message takes longer than a moment, so quick migrations cost nothing. It reads
catalogs, and may cancel what the work session runs; it never changes anything. Where it cannot be opened, the run goes
on without: then blockers stay unnamed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from lockstep.core.duration import format_ms
from lockstep.errors import LockstepError
from lockstep.postgres.connection import Session, Target, open_session

if TYPE_CHECKING:
    from lockstep.postgres.message import Part

FIRST_LOOK = 0.15  # seconds after a message was sent
INTERVAL = 0.1  # seconds between looks
#: How long a try may wait for further locks while it holds strong ones, where no max_blocking is configured.
DEFAULT_BLOCKING_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A session that a work session waited for. Its SQL is left out: it may hold data."""

    pid: int
    user: str | None  # None: a process of the server's own, an autovacuum for example
    application: str | None
    state: str | None  # active, idle in transaction, …; None where this role may not see it
    since_ms: int | None  # how long it is in this state
    autovacuum: bool = False
    wraparound: bool = False  # an autovacuum that must not be interrupted

    @property
    def text(self) -> str:
        """For a person: `pid 4711 (user alice, psql, idle in transaction for 6.0 s)`."""
        if self.pid == 0:
            return "a prepared transaction (SELECT * FROM pg_prepared_xacts)"
        if self.autovacuum:
            what = "autovacuum to prevent wraparound, which does not give way" if self.wraparound else "autovacuum"
            return f"pid {self.pid} ({what})"
        words = [f"user {self.user}" if self.user else "", self.application or ""]
        if self.state:
            words.append(f"{self.state} for {format_ms(self.since_ms)}" if self.since_ms is not None else self.state)
        return f"pid {self.pid} ({', '.join(word for word in words if word)})"

    @property
    def who(self) -> str:
        """The same without what differs each time, so that it can be counted: `alice, psql`, `autovacuum`."""
        if self.pid == 0:
            return "a prepared transaction"
        if self.autovacuum:
            return "autovacuum to prevent wraparound" if self.wraparound else "autovacuum"
        # Lockstep's own sessions carry their run's id.
        application = "lockstep" if (self.application or "").startswith("lockstep/") else self.application
        return ", ".join(word for word in (self.user, application) if word) or "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """What a migration waited for before it went through, as the audit log keeps it."""

    blockers: tuple[Blocker, ...] = ()
    ms: int = 0  # from the first try's begin to the begin of the one that held; 0: not known, or it was the first

    @property
    def details(self) -> dict[str, object]:
        """The keys of an event's details; none where nobody was in the way."""
        found: dict[str, object] = {}
        if self.blockers:
            found["waited_for"] = [blocker.text for blocker in self.blockers]
            found["waited_on"] = sorted({blocker.who for blocker in self.blockers})
        return found | ({"waited_ms": self.ms} if self.ms else {})


class Watch:
    """One per work session. `begin` before a message, `before` and `after` around each of its parts, `look` meanwhile."""

    lenient = (
        False  # max_blocking ends only what waits itself: the file under way was let through although it takes long
    )
    apart = False  # whether messages are to be taken apart: a part for each statement of a file

    def __init__(self, target: Target, run_id: str) -> None:
        self._target = target
        self._run_id = run_id
        self._connection: psycopg.Connection | None = None
        self._broken = False
        self._deadlock_timeout_ms = 1_000
        self._pid = 0
        self.blockers: tuple[Blocker, ...] = ()  # of the message under way, newest look last
        self.cancelled: str | None = None  # why the message under way was cancelled, in words
        self.patience_over = False  # it was, because it waited for others for too long in one go

    def begin(self, session: Session, *, patience_ms: int | None, told: Callable[[str], None] | None) -> None:
        """A message is about to be sent on `session`. `patience_ms`: how long it may wait for others in one go."""
        self._pid = session.facts.pid
        # Behind a pooler a second session may have to wait for the first one to end.
        self._broken = self._broken or session.facts.pooled
        self._patience_ms = patience_ms
        self._told = told
        self._last_told = time.monotonic()
        self._sent = self._looked = time.monotonic()
        self._strong_since: float | None = None
        self._holder: str | None = None  # transaction that held strong locks at the look before
        self._waiting_since: float | None = None
        self.blockers = ()
        self.cancelled = None
        self.patience_over = False

    def before(self, part: Part) -> None:
        """A part of the message is about to be sent."""

    def after(self, session: Session, part: Part) -> None:
        """A part of the message went through."""

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        now = time.monotonic()
        due = self._sent + FIRST_LOOK if self._looked == self._sent else self._looked + INTERVAL
        if self._strong_since is not None and now < (limit := self._strong_since + self._limit_ms / 1_000):
            due = min(due, limit)
        return max(0.005, due - now)

    @property
    def next_lock_timeout_ms(self) -> int | None:
        """A lock_timeout that an ordinary autovacuum gives way to; None where none was in the way.

        It is cancelled only by a session that has waited for deadlock_timeout.
        """
        if any(b.autovacuum and not b.wraparound for b in self.blockers):
            return self._deadlock_timeout_ms + 250
        return None

    @property
    def _limit_ms(self) -> int:
        return DEFAULT_BLOCKING_MS if self._target.max_blocking_ms is None else self._target.max_blocking_ms

    def look(self) -> None:
        """Look once; cancel the message when it keeps others waiting, or waits itself, for too long."""
        if self._connection is None and not self._open():
            self._looked = time.monotonic()
            return
        before = self._looked
        try:
            waits, holder, blockers = self._read()
        except (psycopg.Error, LockstepError):
            self.close()
            self._broken = True
            return
        now = self._looked = time.monotonic()
        # It may have begun any time since the look before: the earliest moment counts.
        # Of several transactions in one message each holds its own.
        again = holder is not None and holder == self._holder and self._strong_since is not None
        self._holder = holder
        self._strong_since = self._strong_since if again else None if holder is None else before
        self._waiting_since = None if not waits else before if self._waiting_since is None else self._waiting_since
        if blockers:
            self._remember(blockers)
        blocking = 0.0 if self._strong_since is None else (now - self._strong_since) * 1_000
        waiting = 0.0 if self._waiting_since is None else (now - self._waiting_since) * 1_000
        bounded = self._target.max_blocking_ms is not None and not self.lenient
        if blocking >= self._limit_ms and (waits or bounded):
            self._cancel(f"it kept others waiting for {format_ms(self._limit_ms)} (max_blocking)")
        elif self._patience_ms is not None and waiting >= self._patience_ms:
            self.patience_over = True
            self._cancel(f"it waited for others for {format_ms(self._patience_ms)} (retry_budget)")
        elif waits and blockers and self._told is not None and now - max(self._last_told, self._waiting_since or 0) > 2:
            self._told("waits for " + ", ".join(b.text for b in blockers))
            self._last_told = now + 28  # again in half a minute

    def close(self) -> None:
        """Close the second session, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        if self._broken:
            return False
        try:
            # Without role and settings: it reads what every session may read.
            plain = replace(self._target, role=None, settings={}, lock_timeout_ms=500)
            self._connection = open_session(plain, run_id=f"{self._run_id}/watch", read_only=True).connection
            self._connection.execute("SET statement_timeout = '2s'")
            row = self._connection.execute(
                "SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'"
            ).fetchone()
            self._deadlock_timeout_ms = row[0] if row else 1_000
        except (psycopg.Error, LockstepError):
            self.close()
            self._broken = True
        return self._connection is not None

    def _read(self) -> tuple[bool, str | None, list[Blocker]]:
        """Whether the session waits, which transaction of its holds strong locks, and who is in its way."""
        assert self._connection is not None
        rows = self._connection.execute(_LOOK, {"pid": self._pid}).fetchall()
        if not rows:
            return False, None, []
        found = [
            Blocker(
                pid=r[2], user=r[3], application=r[4], state=r[5], since_ms=r[6], autovacuum=r[7], wraparound=r[8],
            )
            for r in rows
            if r[2] is not None
        ]  # fmt: skip
        return bool(rows[0][0]), rows[0][1], found

    def _remember(self, blockers: list[Blocker]) -> None:
        known = {b.pid: b for b in self.blockers}
        self.blockers = tuple({**known, **{b.pid: b for b in blockers}}.values())

    def _cancel(self, why: str) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("SELECT pg_catalog.pg_cancel_backend(%s)", (self._pid,))
        except psycopg.Error:
            return
        self.cancelled = why


# A relation that the work session itself makes is not in this session's snapshot yet, so its locks do not count.
_LOOK = """
WITH work AS MATERIALIZED (
    SELECT coalesce(wait_event_type = 'Lock', false) AS waits FROM pg_catalog.pg_stat_activity WHERE pid = %(pid)s),
strong AS MATERIALIZED (
    SELECT (
        SELECT pg_catalog.min(l.virtualtransaction) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
         WHERE l.pid = %(pid)s AND l.locktype = 'relation'
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
           AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) AS holds)
SELECT w.waits, s.holds, blocking.pid, a.usename::text, nullif(a.application_name, ''), a.state,
       (extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change) * 1000)::bigint,
       a.pid IS NOT NULL AND a.usesysid IS NULL AND coalesce(a.backend_type = 'autovacuum worker', true),
       coalesce(a.backend_type = 'autovacuum worker' AND a.query LIKE '%%(to prevent wraparound)%%', false)
  FROM work w CROSS JOIN strong s
  LEFT JOIN LATERAL (SELECT DISTINCT b.pid FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(%(pid)s)) AS b(pid)) AS blocking
    ON w.waits
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = blocking.pid
"""
