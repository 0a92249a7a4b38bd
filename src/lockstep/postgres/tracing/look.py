"""One look from inside a transaction, which leaves nothing behind: whatever it needs is set behind a savepoint of its own.

It must not be the first query of a transaction whose file still sets the isolation level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.rehearsal.trace import Scan, Written
from lockstep.postgres.connection import Session
from lockstep.postgres.tracing.relations import Relations, kind_of, query

#: Where the event trigger writes what it hears: `OID:reasons` for each table, until the transaction's end.
REWRITES = "lockstep_rehearsal.rewrites"

#: The version from which a session can be made to tell the server what it counted.
TELLS_SINCE = 150000

MODES: Sequence[Mode] = tuple(Mode)
#: As pg_locks writes them, weakest first.
LOCK_WORDS = [mode.value.title().replace(" ", "") + "Lock" for mode in MODES]

# A file may have a role without rights, a path that leads astray, and hardly any time left. Statements before it in a
# savepoint are undone with it: locks on catalogs and settings alike.
_OPEN = """
SAVEPOINT lockstep_look; SET LOCAL statement_timeout = 0; SET LOCAL search_path = pg_catalog, pg_temp;
"""
_CLOSE = "ROLLBACK TO SAVEPOINT lockstep_look; RELEASE SAVEPOINT lockstep_look"
_STATE = f"""
SELECT (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn)::bigint,
       pg_catalog.current_setting('{REWRITES}', true)
"""


class Counts(NamedTuple):
    """What a transaction did to one table so far."""

    scans: int = 0
    read: int = 0  # rows, by these scans
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def since(self, before: Counts) -> Counts:
        """What came on top; a TRUNCATE sets them back to 0."""
        return Counts(*(now - then if now >= then else now for now, then in zip(self, before, strict=True)))

    def scanned(self, relation: str) -> tuple[Scan, ...]:
        """The scans among them, if there are any."""
        return (Scan(relation=relation, scans=self.scans, rows=self.read),) if self.scans else ()

    def written(self, relation: str) -> tuple[Written, ...]:
        """The rows written among them, if there are any."""
        if not (self.inserted or self.updated or self.deleted):
            return ()
        return (Written(relation=relation, inserted=self.inserted, updated=self.updated, deleted=self.deleted),)


class Held(NamedTuple):
    """One relation that the transaction holds a lock on."""

    mode: Mode  # the strongest
    kind: str | None  # None: it is gone, or was
    name: str  # as it is called by now
    filenode: int
    table: int | None  # of an index
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look shows."""

    held: dict[int, Held]  # by OID
    wal: int  # position, in bytes
    reasons: dict[int, int]  # of rewrites, as the server's bits, by table


@contextmanager
def looking(session: Session, relations: Relations) -> Iterator[Look | None]:
    """Look once, and keep the look open for `sizes`. None: it failed; the transaction is what it was all the same."""
    found: Look | None = None
    try:
        with suppress(psycopg.Error, UnicodeError):
            state, held = _results(session.connection, _OPEN + _STATE + ";" + _look())
            found = Look(held=_held(held, relations), wal=state[0][0], reasons=_reasons(state[0][1]))
        yield found
    finally:
        with suppress(psycopg.Error):  # a connection that is lost is told by the next message
            session.connection.execute(_CLOSE)


def sizes(session: Session, oids: Sequence[int]) -> dict[int, int]:
    """Return the bytes of relations' main files, by OID, inside of `looking`."""
    with suppress(psycopg.Error):
        rows = session.connection.execute(
            "SELECT number, coalesce(pg_catalog.pg_relation_size(number::pg_catalog.oid::pg_catalog.regclass), 0) "
            "FROM pg_catalog.unnest(%s::bigint[]) AS given (number)",
            (list(oids),),
        ).fetchall()
        return {row[0]: row[1] for row in rows}
    return {}


def counts_before(session: Session) -> dict[int, Counts]:
    """Return what an idle session counted and has not told the server yet: only PostgreSQL 14 cannot be made to."""
    rows = session.connection.execute(
        "SELECT * FROM (SELECT oid::bigint, pg_catalog.pg_stat_get_xact_numscans(oid) scans, "
        "pg_catalog.pg_stat_get_xact_tuples_returned(oid) read, pg_catalog.pg_stat_get_xact_tuples_inserted(oid) inserted, "
        "pg_catalog.pg_stat_get_xact_tuples_updated(oid) updated, pg_catalog.pg_stat_get_xact_tuples_deleted(oid) deleted "
        "FROM pg_catalog.pg_class WHERE relkind IN ('r', 'm') AND oid >= 16384) c WHERE scans + read + inserted + updated + deleted > 0"
    ).fetchall()
    return {row[0]: Counts(*row[1:]) for row in rows}


def _look() -> str:
    return query("look").replace("{modes}", "{" + ",".join(LOCK_WORDS) + "}")


def _results(connection: psycopg.Connection, text: str) -> list[list[tuple[Any, ...]]]:
    """Run several statements; return the rows of each that has some."""
    cursor = connection.execute(text.encode())
    found = []
    while True:
        if cursor.description is not None:
            found.append(cursor.fetchall())
        if not cursor.nextset():
            return found


def _held(rows: list[tuple[Any, ...]], relations: Relations) -> dict[int, Held]:
    """Rows by OID. What belongs to a TOAST table counts as that; new ones are nobody's concern."""
    found: dict[int, Held] = {}
    for oid, rank, relkind, partition, name, filenode, table, *counts in rows:
        mode, oid = MODES[rank], relations.folded.get(oid, oid)
        known = relations.known.get(oid)
        if known is not None and known.kind == "TOAST table":
            if oid not in found or found[oid].mode.rank < mode.rank:
                found[oid] = Held(mode, known.kind, known.name, 0, known.table, Counts())
        elif name is None or not name.startswith("pg_toast."):
            kind = None if relkind is None else kind_of(relkind, partition)
            found[oid] = Held(mode, kind, name or "", filenode or 0, table, Counts(*counts))
    return {
        oid: held
        for oid, held in found.items()
        if not relations.hidden(oid, held.mode, owner.mode if (owner := found.get(held.table or 0)) else None)
    }


def _reasons(text: str | None) -> dict[int, int]:
    pairs = (one.split(":") for one in (text or "").split(",") if one)
    return {int(oid): int(bits) for oid, bits in pairs}
