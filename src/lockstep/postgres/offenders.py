"""The rows of a copy that are in a statement's way: how many, and the keys of some. Never anything else of a row.

Works in a transaction that the caller has opened and undoes. Each look is bounded in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from lockstep.core.locking.nodes import Relation, quote
from lockstep.core.rehearsal.violations import (
    Check,
    Duplicate,
    Misfit,
    Named,
    Null,
    Orphan,
    Violation,
    parsed_constraint,
)

TIMEOUT_MS = 5_000  # for each look
SHOWN = 3  # keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Offenders:
    """What a look found."""

    rows: int | None  # in the way; None: it took too long to count
    exact: bool = True  # False: at least that many
    keys: tuple[str, ...] = ()  # `id = 17`; of some
    groups: int | None = None  # of duplicates: how many values are there more than once
    finding: str | None = None  # SQL that finds them


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as it is on the copy."""

    name: str  # public.users, quoted where it must be
    key: str  # SQL of a text that names a row
    columns: tuple[str, ...]  # of that key; () where a row has only its place


def describe(connection: psycopg.Connection[Any], relation: Relation, without: frozenset[str]) -> Table | None:
    """Return a table and how its rows are named: by primary key, unless that has one of the columns `without`."""
    with connection.cursor() as cursor:
        row = cursor.execute(_TABLE, (relation.shown,)).fetchone()
    if row is None:
        return None
    schema, name, columns, parted = row
    shown = Relation(schema=schema, name=name).shown
    if columns and not without.intersection(columns):
        values = ", ".join(f"pg_catalog.left({quote(one)}::pg_catalog.text, 60)" for one in columns)
        label = quote(columns[0]) if len(columns) == 1 else f"({', '.join(map(quote, columns))})"
        form = "%s" if len(columns) == 1 else f"({', '.join(['%s'] * len(columns))})"
        return Table(
            name=shown, key=f"pg_catalog.format({_text(f'{label} = {form}')}, {values})", columns=tuple(columns)
        )
    if parted:
        return Table(
            name=shown,
            key=f"pg_catalog.format({_text('ctid = %s of %s')}, ctid, tableoid::pg_catalog.regclass)",
            columns=(),
        )
    return Table(name=shown, key=f"pg_catalog.format({_text('ctid = %s')}, ctid)", columns=())


_TABLE: LiteralString = """
SELECT n.nspname, c.relname, (
    SELECT pg_catalog.array_agg(a.attname::text ORDER BY pg_catalog.array_position(i.indkey::int2[], a.attnum))
    FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a
        ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
    WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid
), c.relkind = 'p'
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass(%s)
"""


def constraint_of(connection: psycopg.Connection[Any], named: Named) -> tuple[Violation, ...]:
    """Return what a constraint asks, from the catalog; () where it is not there."""
    row = connection.execute(
        "SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint "
        "WHERE conrelid = pg_catalog.to_regclass(%s) AND conname = %s",
        (named.table.shown, named.constraint),
    ).fetchone()
    return parsed_constraint(row[0], named.table) if row else ()


def offenders(connection: psycopg.Connection[Any], table: Table, violation: Violation) -> Offenders | None:
    """Return the rows that violate something; None where there are none, or they cannot be looked for."""
    if isinstance(violation, Duplicate):
        return _duplicates(connection, table, violation)
    if isinstance(violation, Misfit):
        return _misfits(connection, table, violation)
    condition = _condition(connection, table, violation)
    if condition is None:
        return None
    return _matching(connection, table, condition)


def _condition(connection: psycopg.Connection[Any], table: Table, violation: Violation) -> str | None:
    if isinstance(violation, Null):
        return f"{quote(violation.column)} IS NULL"
    if isinstance(violation, Check):
        return f"NOT ({violation.expression})"
    if isinstance(violation, Orphan):
        return _orphaned(connection, violation)
    return None


def _orphaned(connection: psycopg.Connection[Any], orphan: Orphan) -> str | None:
    columns = orphan.referenced_columns
    if not columns:
        referenced = describe(connection, orphan.referenced, frozenset())
        columns = referenced.columns if referenced else ()
    if not columns:
        return None
    row = connection.execute(_TABLE, (orphan.referenced.shown,)).fetchone()
    if row is None:
        return None
    referenced_name = Relation(schema=row[0], name=row[1]).shown
    own = [f"lockstep_row.{quote(one)}" for one in orphan.columns]
    pairs = " AND ".join(f"r.{quote(other)} = {one}" for other, one in zip(columns, own, strict=True))
    present = " AND ".join(f"{one} IS NOT NULL" for one in own)
    missing = f"{present} AND NOT EXISTS (SELECT FROM {referenced_name} AS r WHERE {pairs})"
    if orphan.full and len(own) > 1:
        some = " OR ".join(f"{one} IS NOT NULL" for one in own)
        none = " OR ".join(f"{one} IS NULL" for one in own)
        return f"(({missing}) OR (({some}) AND ({none})))"
    return missing


def _matching(connection: psycopg.Connection[Any], table: Table, condition: str) -> Offenders | None:
    source = f"{table.name} AS lockstep_row" if "lockstep_row." in condition else table.name
    rows = _look(connection, f"SELECT {table.key} FROM {source} WHERE {condition} LIMIT {SHOWN}")
    if rows is not None and not rows:
        return None
    keys = tuple(row[0] for row in rows or ())
    count = _look(connection, f"SELECT pg_catalog.count(*) FROM {source} WHERE {condition}")
    finding = f"SELECT {_shown_key(table)} FROM {source} WHERE {condition};".replace("lockstep_row", "o")
    if count is None:
        return Offenders(rows=len(keys) or None, exact=False, keys=keys, finding=finding) if keys else None
    return Offenders(rows=count[0][0], keys=keys, finding=finding)


def _duplicates(connection: psycopg.Connection[Any], table: Table, wanted: Duplicate) -> Offenders | None:
    conditions = [f"({wanted.where})"] if wanted.where else []
    if not wanted.nulls_equal:
        conditions += [f"{one} IS NOT NULL" for one in wanted.parts]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    names = [f"p{n}" for n in range(len(wanted.parts))]
    parts = ", ".join(f"{part} AS {name}" for part, name in zip(wanted.parts, names, strict=True))
    groups = f"SELECT {parts}, pg_catalog.count(*) AS n FROM {table.name}{where} GROUP BY {', '.join(wanted.parts)} HAVING pg_catalog.count(*) > 1"
    finding = f"SELECT {', '.join(wanted.parts)}, count(*) FROM {table.name}{where} GROUP BY {', '.join(wanted.parts)} HAVING count(*) > 1;"
    counted = _look(connection, f"SELECT pg_catalog.sum(n)::bigint, pg_catalog.count(*) FROM ({groups}) AS g")
    if counted is not None and not counted[0][1]:
        return None
    # The rows of one value, so that they can be compared.
    same = " AND ".join(f"{part} IS NOT DISTINCT FROM g.{name}" for part, name in zip(wanted.parts, names, strict=True))
    also = f" AND {' AND '.join(conditions)}" if conditions else ""
    some = _look(
        connection,
        f"SELECT k FROM (SELECT * FROM ({groups}) AS all_groups LIMIT 1) AS g, "
        f"LATERAL (SELECT {table.key} AS k FROM {table.name} WHERE {same}{also} LIMIT {SHOWN}) AS rows_of_it",
    )
    keys = tuple(row[0] for row in some or ())
    if counted is None:
        return Offenders(rows=len(keys), exact=False, keys=keys, finding=finding) if keys else None
    return Offenders(rows=counted[0][0], groups=counted[0][1], keys=keys, finding=finding)


def _misfits(connection: psycopg.Connection[Any], table: Table, wanted: Misfit) -> Offenders | None:
    """Row by row, since an expression that fails ends its statement."""
    bare = quote(wanted.table.name)
    connection.execute(
        f"""
        CREATE FUNCTION pg_temp.lockstep_misfits(ends timestamptz, OUT misfits bigint, OUT keys text[], OUT whole boolean)
        LANGUAGE plpgsql AS $lockstep$
        DECLARE
            one record;
            value {wanted.type_name};
        BEGIN
            misfits := 0; keys := '{{}}'; whole := true;
            FOR one IN SELECT o AS r, {table.key} AS k FROM {table.name} AS o LOOP
                BEGIN
                    value := (SELECT {wanted.expression} FROM (SELECT ((one.r)::{table.name}).*) AS {bare});
                EXCEPTION WHEN OTHERS THEN
                    misfits := misfits + 1;
                    IF misfits <= {SHOWN} THEN keys := keys || one.k; END IF;
                END;
                IF pg_catalog.clock_timestamp() > ends THEN whole := false; EXIT; END IF;
            END LOOP;
        END $lockstep$
        """.encode()
    )
    rows = _look(
        connection,
        "SELECT misfits, keys, whole FROM pg_temp.lockstep_misfits("
        f"pg_catalog.clock_timestamp() + interval '{TIMEOUT_MS * 9 // 10} ms')",
    )
    if not rows or not rows[0][0]:
        return None
    found, keys, whole = rows[0]
    return Offenders(rows=found, exact=whole, keys=tuple(keys))


def _shown_key(table: Table) -> str:
    return ", ".join(map(quote, table.columns)) if table.columns else "ctid"


def _look(connection: psycopg.Connection[Any], text: str) -> list[tuple[Any, ...]] | None:
    """Run a query within the time; None where it took longer, or the server refuses it."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(TIMEOUT_MS))
            connection.execute("SET LOCAL work_mem = '256MB'")
            return connection.execute(text.encode()).fetchall()
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return None


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
