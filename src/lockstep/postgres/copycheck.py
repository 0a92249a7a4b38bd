"""A restored copy against what the backup's contents say: rows, sequences, indexes. Read-only.

It must not judge what a difference means: it names each one.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from lockstep.core.contents import Contents, SequenceContents, TableContents
from lockstep.postgres.objects import count_objects

AT_ONCE = 100  # tables counted by one query


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCheck:
    """What a look at a restored copy gave."""

    tables: int
    rows: int  # counted in the copy
    compared: int  # tables whose rows were counted when the backup was taken, so that the numbers had to be equal
    differences: tuple[str, ...]  # in words; () means that the copy is what was backed up


def check_copy(connection: psycopg.Connection, contents: Contents | None) -> CopyCheck:
    """Count every table of the copy, and compare. `contents` None (an older backup): only indexes are looked at.

    One query per AT_ONCE tables. Rows that a policy would hide are an error, so the role must see all of them.
    """
    differences = list(_invalid_indexes(connection))
    tables = rows = compared = 0
    expected = contents.tables if contents else ()
    for batch in (expected[start : start + AT_ONCE] for start in range(0, len(expected), AT_ONCE)):
        counts = _counts(connection, batch)
        for table in batch:
            name = f"{table.schema}.{table.name}"
            count = counts.get((table.schema, table.name))
            if count is None:
                differences.append(f"table {name} is missing")
                continue
            tables += 1
            rows += count
            if table.exact:
                compared += 1
                if count != table.rows:
                    differences.append(f"table {name} has {count:,} rows instead of {table.rows:,}")
            elif not count and table.rows:
                differences.append(f"table {name} is empty, and was not")
    differences += _sequences(connection, contents.sequences if contents else ())
    differences += _objects(connection, contents) if contents else []
    return CopyCheck(tables=tables, rows=rows, compared=compared, differences=tuple(differences))


def _counts(connection: psycopg.Connection, tables: tuple[TableContents, ...]) -> dict[tuple[str, str], int]:
    there = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "JOIN ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS wanted (s, t) "
        "ON (wanted.s, wanted.t) = (n.nspname::text, c.relname::text)",
        ([table.schema for table in tables], [table.name for table in tables]),
    ).fetchall()
    if not there:
        return {}
    # ONLY: the rows of inheritance's children are counted with the children.
    counts = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, {}, pg_catalog.count(*) FROM ONLY {}").format(
            sql.Literal(schema), sql.Literal(table), sql.Identifier(schema, table)
        )
        for schema, table in there
    )
    with connection.transaction():
        connection.execute("SET LOCAL row_security = off")
        return {(schema, table): count for schema, table, count in connection.execute(counts).fetchall()}


def _objects(connection: psycopg.Connection, contents: Contents) -> list[str]:
    found = []
    if contents.objects:
        there = {one.kind: one.count for one in count_objects(connection)}
        for one in contents.objects:
            if there.get(one.kind, 0) < one.count:
                found.append(f"{there.get(one.kind, 0):,} {one.kind} instead of {one.count:,}")
    row = connection.execute("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata").fetchone()
    if row and row[0] < contents.large_objects:
        found.append(f"{row[0]:,} large objects instead of {contents.large_objects:,}")
    return found


def _invalid_indexes(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT i.indexrelid::regclass::text FROM pg_catalog.pg_index i "
        "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1"
    ).fetchall()
    return [f"index {row[0]} is not valid" for row in rows]


def _sequences(connection: psycopg.Connection, expected: tuple[SequenceContents, ...]) -> list[str]:
    if not expected:
        return []
    rows = connection.execute("SELECT schemaname, sequencename, last_value FROM pg_catalog.pg_sequences").fetchall()
    values = {(schema, name): value for schema, name, value in rows}
    found = []
    for sequence in expected:
        name = f"{sequence.schema}.{sequence.name}"
        if (sequence.schema, sequence.name) not in values:
            found.append(f"sequence {name} is missing")
            continue
        value = values[sequence.schema, sequence.name]
        if sequence.last_value is None:
            continue
        # The dump read it a moment after the contents were read, so it may be ahead; behind, it would hand out again
        # what is taken.
        behind = value is None or (value - sequence.last_value) * (1 if sequence.increment > 0 else -1) < 0
        if behind:
            found.append(f"sequence {name} stands at {value} instead of {sequence.last_value}")
    return found
