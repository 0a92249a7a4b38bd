"""Recorded states: what the schema was after each run. The table `schema_migrations_states`, written and read.

It holds what was *intended*: a run adds what it changed to the state before it, so what others changed by hand stays a
difference until somebody accepts it. Decides nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lockstep.core.fingerprint import Fingerprint
from lockstep.core.runs import Ran
from lockstep.errors import LedgerError, LedgerFiltered
from lockstep.postgres.connection import WRITER, Session, guard
from lockstep.postgres.fingerprint import token_sql
from lockstep.postgres.ledger import locked, missing, query, reads_all_rows

if TYPE_CHECKING:
    from lockstep.core.changes import Touched

#: Event of a state that was recorded after a run that could not record its own.
UNRECORDED = "unrecorded"
#: Rows that keep their objects; older ones keep their digests and change sets.
KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One recorded state, without its objects."""

    id: int
    at: datetime
    event: str  # run, revert, baseline, repair, first, accepted, unrecorded
    actor: str  # role that logged in
    run_id: str | None
    version: int | None  # newest applied version then
    entries: str  # digest over the ledger's rows then
    major: int  # of the server
    schemas: tuple[str, ...]
    digest: str
    portable_digest: str
    token: str  # of the schema when it was recorded (postgres.fingerprint)
    seen_differs: bool  # the schema was not what was intended: drift that nobody accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The newest recorded state, and what the ledger is now."""

    state: State | None  # None: nothing recorded yet
    entries: str  # digest over the ledger's rows now
    empty: bool  # the ledger has no rows
    token: str  # of the schema as it is now

    @property
    def is_stale(self) -> bool:
        """The ledger went on without a state: a run was killed before it could record one, or a repair."""
        return self.state is not None and self.state.entries != self.entries


#: Every entry with its state, when it was applied, and its checksum.
_ENTRIES = (
    "encode(sha256(convert_to(coalesce((SELECT string_agg(concat_ws(' ', m.migration_name, m.checksum, m.state, "
    "(extract(epoch FROM m.applied_at) * 1000000)::int8), E'\\n' ORDER BY m.migration_name) FROM {schema}.schema_migrations m), ''), "
    "'UTF8')), 'hex')"
)
_COLUMNS = (
    "s.id, s.at, s.event, s.actor, s.run_id, s.version, s.entries, s.server_major, s.schemas, s.digest, "
    "s.portable_digest, s.token, s.seen IS NOT NULL"
)


#: The newest state, and what the ledger and the schema are now.
_RECORDED = (
    f"SELECT {_ENTRIES}, NOT EXISTS (SELECT FROM {{schema}}.schema_migrations), ({{0}}), {_COLUMNS} "  # noqa: S608  # ours
    "FROM (SELECT) one LEFT JOIN LATERAL (SELECT * FROM {schema}.schema_migrations_states ORDER BY id DESC LIMIT 1) s ON true"
)


def read_recorded(session: Session) -> Recorded:
    """Read the newest state, in one round trip. Read-only. Raises LedgerMissing, LedgerFiltered, LedgerError."""
    return _recorded(_rows(session, _RECORDED, token_sql(session))[0])


@contextmanager
def asked_recorded(session: Session) -> Iterator[Callable[[], Recorded]]:
    """Ask for what `read_recorded` reads, and let the block work at this end while the server does.

    Call what it yields after the block: it returns the answer, and raises what `read_recorded` raises. The block must not
    use the session. Raises Unreachable.
    """
    schema = sql.Identifier(session.target.ledger_schema)
    statement = sql.SQL(_RECORDED).format(token_sql(session), schema=schema)
    cursor: psycopg.Cursor[tuple[Any, ...]] | None = None
    found: list[tuple[Any, ...]] = []
    try:
        # An error of the server's may come at once or later: it is asked again, and then it is told what is wrong.
        with suppress(psycopg.Error), guard(session.target):
            with session.connection.pipeline():
                with suppress(psycopg.Error):
                    session.connection.execute("BEGIN READ ONLY")
                    session.connection.execute("SET LOCAL row_security = off")
                    cursor = session.connection.execute(statement)
                    session.connection.execute("COMMIT")
                yield lambda: _recorded(found[0]) if found else read_recorded(session)
            found += cursor.fetchall() if cursor is not None else []
    finally:
        with suppress(psycopg.Error):
            if not session.connection.closed and not session.idle:
                session.connection.execute("ROLLBACK")


def read_newest(session: Session) -> State | None:
    """Return the newest state, without looking at the schema; None when there is none, or the ledger went on since.

    Read-only, one round trip. Raises LedgerMissing, LedgerFiltered, LedgerError.
    """
    text = f"SELECT {_ENTRIES}, {_COLUMNS} FROM {{schema}}.schema_migrations_states s ORDER BY s.id DESC LIMIT 1"  # noqa: S608
    rows = _rows(session, text)
    if not rows:
        return None
    state = _state(rows[0][1:])
    return state if state.entries == rows[0][0] else None


def read_states(session: Session, *, limit: int = 1000) -> list[tuple[State, tuple[Ran, ...]]]:
    """Read the newest states and what ran in each, newest first. Read-only."""
    rows = _rows(
        session,
        f"SELECT {_COLUMNS}, s.migrations FROM {{schema}}.schema_migrations_states s ORDER BY s.id DESC LIMIT {{0}}",  # noqa: S608
        sql.Literal(limit),
    )
    return [(_state(row[:-1]), tuple(Ran(*one) for one in row[-1])) for row in rows]


def read_intended(session: Session, state: State) -> Fingerprint | None:
    """Return the schema that a state stands for. None: too old, its objects are no longer kept."""
    return _document(session, state, "objects")


def read_seen(session: Session, state: State) -> Fingerprint | None:
    """Return the schema as it was when the state was recorded: what was intended, but for drift."""
    return _document(session, state, "coalesce(seen, objects)")


def read_changes(session: Session, states: Sequence[State]) -> list[tuple[Touched, ...]]:
    """Return the change sets of some states, in their order; () of one that has none."""
    from lockstep.core.fingerprint_document import decode_touched  # late, as below: a state is seldom read or written

    rows = dict(
        _rows(
            session,
            "SELECT id, changes FROM {schema}.schema_migrations_states WHERE id = ANY ({0})",
            sql.Literal([state.id for state in states]),
        )
    )
    return [_readable(session, decode_touched, data) if (data := rows.get(state.id)) else () for state in states]


def write_state(
    session: Session,
    intended: Fingerprint,
    seen: Fingerprint,
    *,
    event: str,
    run_id: str | None,
    token: str,
    migrations: Sequence[Ran] = (),
    changes: Sequence[Touched] = (),
    newest: str | None = None,
) -> None:
    """Record a state, in the caller's transaction if there is one. The caller holds the target's lock.

    `newest` is the file name of the entry that the fingerprint is kept with; None: the last one applied.
    """
    from lockstep.core.fingerprint_document import encode_fingerprint, encode_touched

    differs = intended.objects != seen.objects and intended.digest != seen.digest
    digest = intended.digest
    schema = sql.Identifier(session.target.ledger_schema)
    with guard(session.target), session.connection.pipeline(), session.connection.transaction():
        session.connection.execute("SET LOCAL row_security = off")
        session.connection.execute(WRITER.encode())
        session.connection.execute(
            query("record_state", session, entries=sql.SQL(_ENTRIES).format(schema=schema)),
            (
                event,
                run_id,
                intended.major,
                list(intended.schemas),
                digest,
                intended.portable_digest,
                token,
                Jsonb([list(one) for one in migrations]),
                encode_touched(changes) if changes else None,
                encode_fingerprint(intended),
                encode_fingerprint(seen) if differs else None,
            ),
        )
        session.connection.execute(
            sql.SQL(
                "UPDATE {schema}.schema_migrations_states SET objects = NULL, seen = NULL WHERE objects IS NOT NULL AND id <= "
                "(SELECT max(id) FROM {schema}.schema_migrations_states) - %s"
            ).format(schema=schema),
            (KEPT,),
        )
        session.connection.execute(
            sql.SQL(
                "UPDATE {schema}.schema_migrations SET fingerprint_after = %s WHERE migration_name = coalesce(%s, "
                "(SELECT migration_name FROM {schema}.schema_migrations ORDER BY applied_at DESC, version DESC NULLS LAST LIMIT 1))"
            ).format(schema=schema),
            (f"pg{intended.major}:{digest}", newest),
        )


# -- inside -------------------------------------------------------------------------------------------------------


def _recorded(row: Sequence[Any]) -> Recorded:
    return Recorded(state=None if row[3] is None else _state(row[3:]), entries=row[0], empty=row[1], token=row[2])


def _state(row: Sequence[Any]) -> State:
    return State(
        id=row[0], at=row[1], event=row[2], actor=row[3], run_id=row[4], version=row[5], entries=row[6], major=row[7],
        schemas=tuple(row[8]), digest=row[9], portable_digest=row[10], token=row[11], seen_differs=row[12],
    )  # fmt: skip


def _document(session: Session, state: State, column: str) -> Fingerprint | None:
    rows = _rows(
        session,
        f"SELECT {column} FROM {{schema}}.schema_migrations_states WHERE id = {{0}}",  # noqa: S608  # columns of ours
        sql.Literal(state.id),
    )
    if not rows or rows[0][0] is None:
        return None
    from lockstep.core.fingerprint_document import decode_fingerprint

    found = _readable(session, decode_fingerprint, rows[0][0])
    assert isinstance(found, Fingerprint)
    return found


def _readable(session: Session, decode: Any, data: bytes) -> Any:
    try:
        return decode(bytes(data))
    except ValueError as error:
        raise LedgerError(
            f"{session.target.name}: {error}",
            hint=f"update Lockstep, or record it anew: lockstep drift {session.target.environment} --accept REASON",
        ) from None


def _rows(session: Session, text: str, *parts: sql.Composable) -> list[tuple[Any, ...]]:
    with guard(session.target):
        return _rows_or_why(session, text, *parts)


def _rows_or_why(session: Session, text: str, *parts: sql.Composable) -> list[tuple[Any, ...]]:
    schema = sql.Identifier(session.target.ledger_schema)
    try:
        return _select(session, sql.SQL(text).format(*parts, schema=schema), "off")
    except psycopg.errors.UndefinedTable:
        there = session.connection.execute(
            "SELECT to_regclass(format('%%I.schema_migrations', %s::text))", (session.target.ledger_schema,)
        ).fetchone()
        if there is None or there[0] is None:
            raise missing(session) from None
        raise LedgerError(
            f"{session.target.name}: {session.target.ledger} is of an older form: it keeps no fingerprints.",
            hint=f"lockstep init {session.target.environment}",
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise locked(session) from None
    except psycopg.errors.InsufficientPrivilege:
        if not reads_all_rows(session):
            raise LedgerFiltered(
                target=session.target.name, ledger=session.target.ledger, role=session.facts.current_user
            ) from None
    return _select(session, sql.SQL(text).format(*parts, schema=schema), "on")


def _select(session: Session, statement: sql.Composed, row_security: str) -> list[tuple[Any, ...]]:
    """One message, so one round trip."""
    whole = sql.SQL("BEGIN READ ONLY; SET LOCAL row_security = {}; {}; COMMIT").format(sql.SQL(row_security), statement)
    try:
        with guard(session.target):
            cursor = session.connection.execute(whole)
            cursor.nextset()
            cursor.nextset()
            return cursor.fetchall()
    except psycopg.Error:
        if not session.connection.closed and not session.idle:
            session.connection.execute("ROLLBACK")
        raise
