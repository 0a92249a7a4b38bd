"""What tables hold, read in one scan of each: rows, values per column, sums over hashes that do not depend on order.

Only numbers leave the server. Foreign tables are never touched, views and materialized views hold nothing of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.ledger import TABLES
from lockstep.core.rehearsal.holding import Holding, Values, joined

#: Bytes of a table, TOAST included, up to which its values are compared; of a larger one they are counted alone.
SUMMED = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table that can hold rows, as it is in one database."""

    oid: int  # the same in all clones of that database
    schema: str
    name: str
    root: str  # the partitioned table that it is part of, else itself
    size: int  # bytes, TOAST included
    columns: tuple[Column, ...]

    @property
    def relation(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column, without generated ones."""

    number: int
    name: str
    plain: bool  # its type is one of PostgreSQL's own, whose text is cheap
    default: str | None  # SQL of it where it always gives the same value; else None
    label: str = ""  # another name to tell it by: what it was called elsewhere


def read_tables(
    connection: psycopg.Connection[Any],
    relations: Iterable[str] = (),
    *,
    ledger_schema: str,
    oids: Iterable[int] = (),
) -> tuple[Table, ...]:
    """Return the tables of these names and oids, with all partitions of a partitioned one. What is none is left out.

    A name may be as people write it, or quoted. The ledger is Lockstep's own, and no table of theirs.
    """
    names, numbers = sorted(set(relations)), sorted(set(oids))
    if not names and not numbers:
        return ()
    parameters = {"names": names, "oids": numbers, "ledger": ledger_schema, "own": list(TABLES)}
    rows = connection.execute(_TABLES, parameters).fetchall()
    columns: dict[int, list[Column]] = {row[0]: [] for row in rows}
    for oid, number, name, plain, expression, constant in connection.execute(_COLUMNS, (list(columns),)).fetchall():
        columns[oid].append(
            Column(number=number, name=name, plain=plain, default=expression if constant else None),
        )
    return tuple(
        Table(oid=oid, schema=schema, name=name, root=root, size=size, columns=tuple(columns[oid]))
        for oid, schema, name, root, size in rows
    )


def read_holdings(
    connection: psycopg.Connection[Any],
    tables: Sequence[Table],
    *,
    sums: bool,
    limit: int = SUMMED,
    caught: bool = True,
) -> dict[str, Holding]:
    """Scan tables once each, and return what they hold, by relation; a partition's under its table's name.

    `sums`: values are to be compared, of tables up to `limit` bytes. `caught`: values that cannot be read are counted
    alone; not inside a transaction, which an error ends.
    """
    found = []
    for table in tables:
        summed = sums and table.size <= limit
        try:
            found.append(_scan(connection, table, summed=summed, defaults=True))
        except (psycopg.errors.DataError, psycopg.errors.ProgrammingError, psycopg.errors.InternalError):
            if not caught:
                raise
            # A type's output function that raises, or code of somebody's in a cast: what can be counted is.
            found.append(_scan(connection, table, summed=False, defaults=False))
    return joined(found)


def left_of(connection: psycopg.Connection[Any], tables: Sequence[Table]) -> Mapping[int, frozenset[int]]:
    """Return which of these tables are still there, by oid, whatever they are called now, with their columns' numbers."""
    rows = connection.execute(_LEFT, ([table.oid for table in tables],)).fetchall()
    return {oid: frozenset(numbers) for oid, numbers in rows}


# -- inside -------------------------------------------------------------------------------------------------------


def _scan(connection: psycopg.Connection[Any], table: Table, *, summed: bool, defaults: bool) -> Holding:
    filled, own, sums = [], [], []
    for column in table.columns:
        name = sql.Identifier(column.name)
        # Of others' types the output function alone is asked: a cast to text may be anybody's code.
        as_text = sql.SQL("({})::pg_catalog.text" if column.plain else "pg_catalog.format('%s', {})")
        text = as_text.format(name)
        filled.append(sql.SQL("pg_catalog.count({})").format(name))
        if defaults and column.default is not None:
            made = sql.SQL("WHERE {} IS DISTINCT FROM {}").format(text, as_text.format(sql.SQL(column.default)))
            own.append(sql.SQL("pg_catalog.count({}) FILTER ({})").format(name, made))
        else:
            own.append(filled[-1])
        if summed:
            hashed = sql.SQL('pg_catalog.hashtextextended(({}) COLLATE pg_catalog."C", 0)').format(text)
            sums.append(sql.SQL("pg_catalog.sum({}) FILTER (WHERE {} IS NOT NULL)").format(hashed, name))
    arrays = [
        sql.SQL("ARRAY[{}]::{}[]").format(sql.SQL(", ").join(parts), kind)
        for parts, kind in ((filled, sql.SQL("int8")), (own, sql.SQL("int8")), (sums, sql.SQL("numeric")))
    ]
    statement = sql.SQL("SELECT pg_catalog.count(*), {} FROM ONLY {}").format(
        sql.SQL(", ").join(arrays), sql.Identifier(table.schema, table.name)
    )
    row = connection.execute(statement).fetchone()
    assert row is not None
    columns = {
        column.label or column.name: Values(
            number=column.number,
            filled=row[1][index],
            own=row[2][index],
            sum=int(row[3][index] or 0) if summed else None,
        )
        for index, column in enumerate(table.columns)
    }
    return Holding(relation=table.root, rows=row[0], columns=columns, summed=summed)


_TABLES = """
WITH RECURSIVE named AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND (c.oid = ANY (%(oids)s::oid[]) OR n.nspname || '.' || c.relname = ANY (%(names)s) OR pg_catalog.format('%%I.%%I', n.nspname, c.relname) = ANY (%(names)s))),
family AS (
    SELECT oid, relkind FROM named
    UNION
    SELECT i.inhrelid, c.relkind FROM family f
      JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE f.relkind = 'p' AND c.relkind IN ('r', 'p'))
SELECT c.oid, n.nspname::text, c.relname::text,
       coalesce((SELECT rn.nspname || '.' || r.relname FROM pg_catalog.pg_class r
                   JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
                  WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)), n.nspname || '.' || c.relname),
       coalesce(pg_catalog.pg_table_size(c.oid), 0)
  FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND NOT (n.nspname = %(ledger)s AND c.relname = ANY (%(own)s))
   AND NOT pg_catalog.starts_with(n.nspname, 'pg_') AND n.nspname <> 'information_schema'
 ORDER BY 2, 3
"""

# A default always gives the same value when its expression is made of constants and immutable functions alone.
_COLUMNS = """
SELECT a.attrelid, a.attnum::int, a.attname::text, a.atttypid < 16384,
       pg_catalog.format('CAST(%%s AS %%s)', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                         pg_catalog.format_type(a.atttypid, a.atttypmod)),
       d.adbin IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_catalog.regexp_matches(d.adbin::text, '\\{([A-Z_]+)', 'g') AS m
                        WHERE m[1] NOT IN ('CONST', 'FUNCEXPR', 'RELABELTYPE', 'ARRAYEXPR', 'ARRAY', 'COLLATEEXPR',
                                           'COERCETODOMAIN'))
       AND NOT EXISTS (SELECT FROM pg_catalog.regexp_matches(d.adbin::text, ':funcid (\\d+)', 'g') AS m
                         JOIN pg_catalog.pg_proc p ON p.oid = m[1]::oid WHERE p.provolatile <> 'i')
  FROM pg_catalog.pg_attribute a
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 ORDER BY a.attrelid, a.attnum
"""

_LEFT = """
SELECT c.oid, ARRAY(SELECT a.attnum::int FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::oid[])
"""
