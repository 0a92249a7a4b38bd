"""What a snapshot holds, table by table: for the document beside a backup, and of a restored copy, to compare the two.

A few queries over the catalog, however many tables there are. Small tables are counted and large ones estimated: a
backup must not read production twice. Nothing here judges what it finds, or looks at a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.contents import (
    Contents,
    DatabaseShape,
    Extension,
    SchemaSize,
    SequenceContents,
    TableContents,
)
from lockstep.core.shards import SizedTable
from lockstep.postgres.objects import count_objects
from lockstep.postgres.outside import read_outside
from lockstep.postgres.scope import DUMPED
from lockstep.postgres.serverfacts import kept_setting, read_server
from lockstep.postgres.shape import read_shape
from lockstep.postgres.snapshot import Snapshot

MIB = 1024 * 1024
COUNTED_EACH = 16 * MIB  # of a table without TOAST and indexes; a larger one is estimated
COUNTED_TOTAL = 256 * MIB  # the smallest tables first; some tenths of a second
BATCH = 250  # tables or sequences in one query: what is asked over a slow network is few questions
NAMED = 5  # of many objects of one kind in `not_covered`


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All that a manifest and the document beside it say of what is in a dump."""

    contents: Contents
    tables: tuple[SizedTable, ...]  # those of `contents`
    schema_sizes: tuple[SchemaSize, ...]  # by name
    extensions: tuple[Extension, ...]  # by name, without plpgsql
    roles: tuple[str, ...]  # that own or are granted something in the dump, by name; none that PostgreSQL brings
    not_covered: tuple[str, ...]  # in words: what the database has and the dump will not hold


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    schema: str
    name: str
    estimate: int
    heap: int  # bytes of the rows themselves
    size: int  # with TOAST
    indexes: int
    changes: int | None
    member: bool  # of an extension: its configuration


def read_inventory(snapshot: Snapshot, *, exclude_schemas: Sequence[str] = ()) -> Inventory:
    """Read all of it in the snapshot. Read-only; keeps no lock.

    A table that somebody has locked is waited for as pg_dump would. Raises Unreachable and BackupFailed.
    """
    excluded = {"excluded": list(exclude_schemas)}
    with snapshot.looking() as connection:
        tables = _tables(connection, exclude_schemas)
        contents = _contents(connection, tables, exclude_schemas, each=COUNTED_EACH, total=COUNTED_TOTAL)
        extensions = connection.execute(_EXTENSIONS).fetchall()
        found = connection.execute(_ROLES_BY_SCHEMA if exclude_schemas else _ROLES, excluded).fetchall()
        roles = tuple(name for (name,) in found)
        server = read_server(connection, (*roles, *roles_of(contents.database)))
        return Inventory(
            contents=replace(contents, server=server, outside=read_outside(connection, exclude_schemas)),
            tables=tuple(
                SizedTable(oid=t.oid, schema=t.schema, name=t.name, size=t.size, apart=not t.member) for t in tables
            ),
            schema_sizes=_sizes(snapshot, tables, exclude_schemas),
            extensions=tuple(Extension(name=name, version=version) for name, version in extensions),
            roles=roles,
            not_covered=tuple(_not_covered(connection, snapshot, contents, excluded)),
        )


def read_contents(
    connection: psycopg.Connection[Any],
    *,
    exclude_schemas: Sequence[str] = (),
    each: int | None = COUNTED_EACH,
    total: int | None = COUNTED_TOTAL,
) -> Contents:
    """Read what the caller's transaction sees of a database. Read-only; its locks last as long as that transaction.

    `each` and `total` are the bytes of table up to which rows are counted; None: whatever it takes.
    """
    return _contents(connection, _tables(connection, exclude_schemas), exclude_schemas, each=each, total=total)


# -- inside -------------------------------------------------------------------------------------------------------


def _tables(connection: psycopg.Connection[Any], exclude_schemas: Sequence[str]) -> list[_Table]:
    rows = connection.execute(_TABLES, {"excluded": list(exclude_schemas)}).fetchall()
    return [_Table(*row) for row in rows]


def _contents(
    connection: psycopg.Connection[Any],
    tables: Sequence[_Table],
    exclude_schemas: Sequence[str],
    *,
    each: int | None,
    total: int | None,
) -> Contents:
    counted = _counted(connection, tables, each, total)
    counted |= dict.fromkeys(_empty(connection, [table for table in tables if table.oid not in counted]), 0)
    found = connection.execute(_DATABASE, {"excluded": list(exclude_schemas)}).fetchone()
    assert found is not None
    large_objects, tablespaces, subscriptions, since, started = found
    return Contents(
        database=_recorded(read_shape(connection)),
        tables=tuple(
            TableContents(
                schema=table.schema,
                name=table.name,
                rows=counted.get(table.oid, max(table.estimate, 1)),
                # Of an extension's configuration only the rows of its filter are dumped.
                exact=table.oid in counted and not table.member,
                size=table.size,
                changes=table.changes,
            )
            for table in tables
        ),
        sequences=tuple(_sequences(connection, exclude_schemas)),
        large_objects=large_objects,
        tablespaces=tuple(tablespaces),
        subscriptions=tuple(subscriptions),
        objects=() if exclude_schemas else count_objects(connection),
        server_started=started.astimezone(UTC),
        statistics_since=since.astimezone(UTC) if since else None,
    )


def _counted(
    connection: psycopg.Connection[Any], tables: Sequence[_Table], each: int | None, total: int | None
) -> dict[int, int]:
    """Rows of the tables that are small enough, by oid."""
    chosen: list[_Table] = []
    left = total
    for table in sorted(tables, key=lambda table: table.heap):
        if (each is not None and table.heap > each) or (left is not None and table.heap > left):
            break
        left = None if left is None else left - table.heap
        chosen.append(table)
    found: dict[int, int] = {}
    for some in _batches(chosen):
        # ONLY: the rows of a child are its own. One process: production has other work for the rest.
        parts = [
            sql.SQL("SELECT {}::oid, pg_catalog.count(*) FROM ONLY {}").format(
                sql.Literal(table.oid), sql.Identifier(table.schema, table.name)
            )
            for table in some
        ]
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        found |= dict(connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall())
    return found


def _empty(connection: psycopg.Connection[Any], tables: Sequence[_Table]) -> Iterator[int]:
    """The oids of those without a row. The first row that is found answers for a table of any size."""
    for some in _batches(tables):
        parts = [
            sql.SQL("SELECT {}::oid, EXISTS (SELECT FROM ONLY {})").format(
                sql.Literal(table.oid), sql.Identifier(table.schema, table.name)
            )
            for table in some
        ]
        rows = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
        yield from (oid for oid, filled in rows if not filled)


def _sequences(connection: psycopg.Connection[Any], exclude_schemas: Sequence[str]) -> Iterator[SequenceContents]:
    rows = connection.execute(_SEQUENCES, {"excluded": list(exclude_schemas)}).fetchall()
    for some in _batches(rows):
        # Not pg_sequence_last_value: it would keep a ROW EXCLUSIVE lock that stops ALTER SEQUENCE for the whole dump.
        parts = [
            sql.SQL("SELECT {}::oid, CASE WHEN is_called THEN last_value END FROM {}").format(
                sql.Literal(oid), sql.Identifier(schema, name)
            )
            for oid, schema, name, _increment, readable in some
            if readable
        ]
        values = dict(connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()) if parts else {}
        for oid, schema, name, increment, _readable in some:
            yield SequenceContents(schema=schema, name=name, last_value=values.get(oid), increment=increment)


def _recorded(shape: DatabaseShape) -> DatabaseShape:
    """The shape as it may be stored: of a setting that an application made up the name alone, people keep keys in them."""
    settings = tuple(replace(one, setting=kept_setting(one.setting)) for one in shape.settings)
    return replace(shape, settings=settings)


def roles_of(shape: DatabaseShape) -> tuple[str, ...]:
    """Return the roles that own the database itself, or for which it has settings."""
    return (shape.owner, *(one.role for one in shape.settings if one.role is not None))


def _sizes(snapshot: Snapshot, tables: Sequence[_Table], exclude_schemas: Sequence[str]) -> tuple[SchemaSize, ...]:
    found = []
    for schema in snapshot.schemas:
        if schema in exclude_schemas:
            continue
        own = [table for table in tables if table.schema == schema]
        rows, size = sum(table.estimate for table in own), sum(table.size + table.indexes for table in own)
        found.append(SchemaSize(name=schema, tables=len(own), rows=rows, size=size))
    return tuple(found)


def _not_covered(
    connection: psycopg.Connection[Any], snapshot: Snapshot, contents: Contents, excluded: dict[str, list[str]]
) -> Iterator[str]:
    row = connection.execute(_NOT_COVERED, excluded).fetchone()
    assert row is not None
    foreign, unlogged, slots, mappings, homeless, keys = row
    if foreign:
        yield f"rows of foreign tables, which are on another server: {_named(foreign)}"
    if unlogged and snapshot.standby:
        yield f"rows of unlogged tables, which a standby does not have: {_named(unlogged)}"
    if contents.subscriptions and not snapshot.superuser:
        yield f"subscriptions, which only a superuser can dump: {_named(contents.subscriptions)}"
    if slots:
        yield f"logical replication slots, which belong to the server: {_named(slots)}"
    if mappings and not snapshot.superuser:
        yield f"options of user mappings that this role may not see: {_named(mappings)}"
    if homeless:
        yield f"schemas of extensions, excluded; make them before a restore: {_named(homeless)}"
    if keys:
        yield f"what foreign keys into excluded schemas refer to: {_named(keys)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


_TABLES = sql.SQL("""
SELECT c.oid, n.nspname::text, c.relname::text, GREATEST(c.reltuples, 0)::int8,
       COALESCE(pg_catalog.pg_relation_size(c.oid), 0), COALESCE(pg_catalog.pg_table_size(c.oid), 0),
       COALESCE(pg_catalog.pg_indexes_size(c.oid), 0),
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_stat_get_tuples_inserted(c.oid)
           + pg_catalog.pg_stat_get_tuples_updated(c.oid) + pg_catalog.pg_stat_get_tuples_deleted(c.oid) END,
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
               AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND {dumped} AND (c.relpersistence <> 'u' OR NOT pg_catalog.pg_is_in_recovery())
ORDER BY n.nspname, c.relname
""").format(dumped=DUMPED)

_SEQUENCES = sql.SQL("""
SELECT c.oid, n.nspname::text, c.relname::text, s.seqincrement,
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
       AND (c.relpersistence <> 'u' OR NOT pg_catalog.pg_is_in_recovery())
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND {dumped}
ORDER BY n.nspname, c.relname
""").format(dumped=DUMPED)

_DATABASE = """
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata),
       ARRAY(SELECT DISTINCT s.spcname::text FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE s.spcname <> 'pg_global' AND n.nspname <> ALL (%(excluded)s::text[]) ORDER BY 1),
       ARRAY(SELECT s.subname::text FROM pg_catalog.pg_subscription s WHERE s.subdbid = d.oid ORDER BY 1),
       pg_catalog.pg_stat_get_db_stat_reset_time(d.oid), pg_catalog.pg_postmaster_start_time()
FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
"""

_EXTENSIONS = """
SELECT extname::text, extversion FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY extname
"""

# pg_shdepend knows the owners, grantees and policies' roles of objects of every kind, default privileges and user
# mappings among them. It does not know the role that made the cluster, which owns what superusers made. What belongs
# to an extension is not dumped, and whose an extension is neither.
_ROLES_WHERE = sql.SQL("""
SELECT r.rolname::text AS name
FROM pg_catalog.pg_shdepend s
JOIN pg_catalog.pg_database d ON d.oid = s.dbid AND d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND r.rolname !~ '^pg_'
  AND s.deptype <> 'p'  -- pinned, before 15: no object
  AND s.classid <> 'pg_catalog.pg_extension'::regclass
  AND NOT (s.deptype = 'o' AND EXISTS (
      SELECT FROM pg_catalog.pg_depend m
      WHERE m.classid = s.classid AND m.objid = s.objid AND m.objsubid = 0 AND m.deptype = 'e'))
""")
_FIRST_OWNED = {
    "pg_class": "relowner",
    "pg_proc": "proowner",
    "pg_type": "typowner",
    "pg_namespace": "nspowner",
    "pg_largeobject_metadata": "lomowner",
    "pg_publication": "pubowner",
    "pg_event_trigger": "evtowner",
    "pg_foreign_server": "srvowner",
    "pg_foreign_data_wrapper": "fdwowner",
    "pg_operator": "oprowner",
    "pg_collation": "collowner",
    "pg_ts_config": "cfgowner",
    "pg_ts_dict": "dictowner",
    "pg_statistic_ext": "stxowner",
    "pg_default_acl": "defaclrole",
}
_FIRST = sql.SQL(" OR ").join(
    sql.SQL(
        "EXISTS (SELECT FROM pg_catalog.{catalog} o WHERE o.{owner} = 10 AND o.oid >= 16384 AND NOT EXISTS ("
        "SELECT FROM pg_catalog.pg_depend m WHERE m.classid = {named}::regclass AND m.objid = o.oid"
        " AND m.deptype = 'e'))"
    ).format(catalog=sql.Identifier(catalog), owner=sql.Identifier(owner), named=sql.Literal(f"pg_catalog.{catalog}"))
    for catalog, owner in _FIRST_OWNED.items()
)
_ROLES = sql.SQL(
    "{where} UNION SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = 10 AND ({first}) ORDER BY 1"
).format(where=_ROLES_WHERE, first=_FIRST)
_ROLES_BY_SCHEMA = sql.SQL("""
{where}
  AND CASE WHEN s.deptype <> 'p' THEN
      COALESCE((pg_catalog.pg_identify_object(s.classid, s.objid, 0)).schema, '') <> ALL (%(excluded)s::text[]) END
  AND NOT (s.classid = 'pg_catalog.pg_namespace'::regclass AND s.objid IN (
      SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = ANY (%(excluded)s::text[])))
UNION SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = 10 AND ({first})
ORDER BY 1
""").format(where=_ROLES_WHERE, first=_FIRST)

_NOT_COVERED = sql.SQL("""
SELECT ARRAY(SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'f' AND {dumped} ORDER BY 1),
       ARRAY(SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND {dumped} ORDER BY 1),
       ARRAY(SELECT slot_name::text FROM pg_catalog.pg_replication_slots
             WHERE database = pg_catalog.current_database() AND NOT temporary ORDER BY 1),
       ARRAY(SELECT pg_catalog.format('%%s for %%I', usename, srvname) FROM pg_catalog.pg_user_mappings
             WHERE umoptions IS NULL ORDER BY 1),
       ARRAY(SELECT pg_catalog.format('%%I of %%I', n.nspname, e.extname)
             FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
             WHERE n.nspname = ANY (%(excluded)s::text[]) ORDER BY 1),
       ARRAY(SELECT pg_catalog.format('%%s on %%s', k.conname, k.conrelid::regclass)
             FROM pg_catalog.pg_constraint k
             JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_class t ON t.oid = k.confrelid JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace
             WHERE k.contype = 'f' AND m.nspname = ANY (%(excluded)s::text[])
               AND n.nspname <> ALL (%(excluded)s::text[]) ORDER BY 1)
""").format(dumped=DUMPED)
