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


def look(session: Session, recheck: Recheck, target: str = "") -> Seen:
    """Return what the catalog shows. One round trip, or none where there is nothing to see.

    `target` is what an earlier try noted down (`Seen.qualified`, or the leftovers that were there before a REINDEX): a
    name without a schema may by now lead to something else.
    """
    match recheck.check:
        case Check.INDEX_BUILT:
            return _index(session, recheck)
        case Check.INDEX_GONE:
            there, whole, qualified = _row(session, _DROPPED, target or recheck.name)
            return Seen(there=there, whole=whole, qualified=qualified or target)
        case Check.REINDEXED:
            found = _leftovers(session, recheck)
            before = set(target.split("\n"))
            return Seen(qualified="\n".join(found), leftovers=tuple(one for one in found if one not in before))
        case Check.DETACHED:
            attached, pending = _row(session, _PARTITION, recheck.name)
            return Seen(there=attached, whole=not pending)
        case Check.THERE | Check.GONE:
            return Seen(there=_row(session, _OBJECTS[recheck.what], recheck.name)[0])
        case Check.AGAIN | Check.UNKNOWN:
            return Seen()


def await_builders(session: Session, recheck: Recheck, seen: Seen, told: Callable[[str], None]) -> Seen:
    """Wait until nobody builds the index any more, for the retry budget at most; return what is there then.

    A killed client's build may go on. Whoever holds the lock of a build on the table, and of that a VACUUM's is one, may
    be the builder: the index stays what it is until then.
    """
    if seen.builders:
        pids = ", ".join(map(str, seen.builders))
        told(f"waits for a build of {recheck.name.strip(chr(34))} that is under way already (pid {pids})")
    deadline = time.monotonic() + session.target.retry_budget_ms / 1_000
    while seen.builders and time.monotonic() < deadline:
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
        qualified=qualified or "",
        leftovers=(qualified,) if there and fits and not whole else (),
        builders=tuple(builders),
        definition=definition,
    )


# These run while the session stands as the file left it: names are qualified, and types cast so that no operator of
# somebody else's fits better than PostgreSQL's own.
# An index lives in its table's schema. Who builds it is read off the locks, which every role may see; only of an invalid
# index does it matter.
_INDEX = """
WITH t AS (SELECT c.oid, c.relnamespace, pg_catalog.quote_ident(n.nspname) AS space
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = pg_catalog.to_regclass({table})::oid),
     i AS (SELECT pg_catalog.to_regclass(t.space || '.' || {name})::oid AS oid FROM t)
SELECT c.oid IS NOT NULL,
       coalesce(x.indisvalid AND x.indisready AND x.indislive, true),
       coalesce(c.relkind = 'i' AND x.indrelid = t.oid, false),
       t.space || '.' || pg_catalog.quote_ident(c.relname),
       CASE WHEN x.indexrelid IS NOT NULL THEN pg_catalog.pg_get_indexdef(x.indexrelid) END,
       CASE WHEN x.indexrelid IS NULL OR x.indisvalid THEN '{{}}'::integer[] ELSE
       ARRAY(SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l
              WHERE l.locktype = 'relation' AND l.relation = t.oid AND l.mode = 'ShareUpdateExclusiveLock'
                AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
                AND l.pid <> pg_catalog.pg_backend_pid()) END
  FROM t CROSS JOIN i
  LEFT JOIN pg_catalog.pg_class c ON c.oid = i.oid
  LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid
"""

_DROPPED = """
SELECT c.oid IS NOT NULL, coalesce(x.indisvalid AND x.indisready AND x.indislive, true),
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
  FROM (SELECT pg_catalog.to_regclass({})::oid AS oid) AS named
  LEFT JOIN pg_catalog.pg_class c ON c.oid = named.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid
"""

_PARTITION = """
SELECT count(*) > 0, coalesce(bool_or(inhdetachpending), false) FROM pg_catalog.pg_inherits
 WHERE inhrelid = pg_catalog.to_regclass({})::oid
"""

_OBJECTS = {
    "database": "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE '\"' || pg_catalog.replace(datname, '\"', '\"\"') || '\"' = {0})",
    "tablespace": "SELECT EXISTS (SELECT FROM pg_catalog.pg_tablespace WHERE '\"' || pg_catalog.replace(spcname, '\"', '\"\"') || '\"' = {0})",
    "subscription": "SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription WHERE '\"' || pg_catalog.replace(subname, '\"', '\"\"') || '\"' = {0}"
    " AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
}


def _leftovers(session: Session, recheck: Recheck) -> tuple[str, ...]:
    """Invalid indexes that a broken REINDEX CONCURRENTLY leaves: `_ccnew` (not finished) and `_ccold` (not dropped)."""
    within = {
        "index": "x.indrelid = (SELECT indrelid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({name})::oid)",
        "table": "x.indrelid = pg_catalog.to_regclass({name})::oid"
        " OR x.indrelid = (SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({name})::oid)",
        "schema": "'\"' || pg_catalog.replace(n.nspname, '\"', '\"\"') || '\"' = {name}",
    }.get(recheck.what, "true")
    text = f"""
        SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
          FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT x.indisvalid AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)[0-9]*$' AND ({within})
           -- Not what somebody else is building at this moment.
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.relation = x.indrelid
                              AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_catalog.pg_backend_pid()
                              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                                                 WHERE d.datname = pg_catalog.current_database()))
    """  # noqa: S608  # constants; the name is a literal
    with guard(session.target):
        rows = session.connection.execute(sql.SQL(text).format(name=sql.Literal(recheck.name))).fetchall()
    return tuple(row[0] for row in rows)
