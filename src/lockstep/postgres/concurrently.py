"""Looks in the catalog for what a statement outside of a transaction did, and for what a broken try left behind.

Reads only. Names are resolved as the session stands, so the caller brings it to where the file left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from psycopg import sql

from lockstep.core.rechecking import Seen
from lockstep.core.traits import Check, Recheck
from lockstep.postgres.connection import Session, guard

POLL = 0.5  # seconds between looks at a session that builds the index already


def look(session: Session, recheck: Recheck) -> Seen:
    """Return what the catalog shows. One round trip, or none where there is nothing to see."""
    match recheck.check:
        case Check.INDEX_BUILT:
            return _index(session, recheck)
        case Check.INDEX_GONE:
            return Seen(there=bool(_row(session, "SELECT pg_catalog.to_regclass({})", recheck.name)[0]))
        case Check.REINDEXED:
            return Seen(leftovers=_leftovers(session, recheck))
        case Check.DETACHED:
            attached, pending = _row(session, _PARTITION, recheck.name)
            return Seen(there=attached, whole=not pending)
        case Check.THERE | Check.GONE:
            return Seen(there=_row(session, _OBJECTS[recheck.what], recheck.name)[0])
        case Check.AGAIN | Check.UNKNOWN:
            return Seen()


def await_builders(session: Session, recheck: Recheck, seen: Seen, told: Callable[[str], None]) -> Seen:
    """Wait until nobody builds the index any more; return what is there then. A killed client's build may go on."""
    if seen.builders:
        pids = ", ".join(map(str, seen.builders))
        told(f"waits for a build of {recheck.name.strip(chr(34))} that is under way already (pid {pids})")
    while seen.builders:
        time.sleep(POLL)
        seen = look(session, recheck)
    return seen


def drop_sql(index: str) -> str:
    """SQL that drops a leftover index without blocking anybody."""
    return f"DROP INDEX CONCURRENTLY IF EXISTS {index}"


def finalise_sql(recheck: Recheck) -> str:
    """SQL that finishes a detach that got half-way."""
    return f"ALTER TABLE {recheck.table} DETACH PARTITION {recheck.name} FINALIZE"


def _row(session: Session, text: str, name: str) -> tuple[Any, ...]:
    with guard(session.target):
        row = session.connection.execute(sql.SQL(text).format(sql.Literal(name))).fetchone()
    assert row is not None
    return row


def _index(session: Session, recheck: Recheck) -> Seen:
    with guard(session.target):
        row = session.connection.execute(
            sql.SQL(_INDEX).format(name=sql.Literal(recheck.name), table=sql.Literal(recheck.table))
        ).fetchone()
    if row is None:
        return Seen()
    there, whole, fits, qualified, definition, builders = row
    return Seen(
        there=there,
        whole=whole,
        fits=fits,
        leftovers=(qualified,) if there and fits and not whole else (),
        builders=tuple(builders),
        definition=definition,
    )


# An index lives in its table's schema. A build that shows no table belongs to another role: only the name tells then.
_INDEX = """
WITH t AS (SELECT c.oid, c.relnamespace, pg_catalog.quote_ident(n.nspname) AS space
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = pg_catalog.to_regclass({table})),
     i AS (SELECT pg_catalog.to_regclass(t.space || '.' || {name})::oid AS oid FROM t)
SELECT c.oid IS NOT NULL,
       coalesce(x.indisvalid AND x.indisready AND x.indislive, true),
       coalesce(c.relkind = 'i' AND x.indrelid = t.oid, false),
       t.space || '.' || pg_catalog.quote_ident(c.relname),
       CASE WHEN x.indexrelid IS NOT NULL THEN pg_catalog.pg_get_indexdef(x.indexrelid) END,
       ARRAY(SELECT p.pid FROM pg_catalog.pg_stat_progress_create_index p
              WHERE p.datname = pg_catalog.current_database() AND p.pid <> pg_catalog.pg_backend_pid()
                AND p.relid = t.oid AND p.index_relid = i.oid)
  FROM t CROSS JOIN i
  LEFT JOIN pg_catalog.pg_class c ON c.oid = i.oid
  LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid
"""

_PARTITION = """
SELECT count(*) > 0, coalesce(bool_or(inhdetachpending), false) FROM pg_catalog.pg_inherits
 WHERE inhrelid = pg_catalog.to_regclass({})
"""

_OBJECTS = {
    "database": "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE '\"' || datname || '\"' = {0})",
    "tablespace": "SELECT EXISTS (SELECT FROM pg_catalog.pg_tablespace WHERE '\"' || spcname || '\"' = {0})",
    "subscription": "SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription WHERE '\"' || subname || '\"' = {0}"
    " AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
}


def _leftovers(session: Session, recheck: Recheck) -> tuple[str, ...]:
    """Invalid indexes that a broken REINDEX CONCURRENTLY leaves: `_ccnew` (not finished) and `_ccold` (not dropped)."""
    within = {
        "index": "x.indrelid = (SELECT indrelid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({name}))",
        "table": "x.indrelid = pg_catalog.to_regclass({name})"
        " OR x.indrelid = (SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({name}))",
        "schema": "'\"' || n.nspname || '\"' = {name}",
    }.get(recheck.what, "true")
    text = f"""
        SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
          FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT x.indisvalid AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)[0-9]*$' AND ({within})
    """  # noqa: S608  # constants; the name is a literal
    with guard(session.target):
        rows = session.connection.execute(sql.SQL(text).format(name=sql.Literal(recheck.name))).fetchall()
    return tuple(row[0] for row in rows)
