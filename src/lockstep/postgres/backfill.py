"""What a backfill needs to know of its table. Reads the catalog only."""

from __future__ import annotations

from psycopg import sql

from lockstep.postgres.connection import Session, guard


def rows_of(session: Session, table: str) -> int | None:
    """Return about how many rows a table has (with its partitions), as statistics say; None where they say nothing.

    `table` is quoted as SQL; one without a schema is looked for in the usual path of the role.
    """
    if not table:
        return None
    with guard(session.target), session.connection.transaction():
        session.connection.execute("RESET search_path" if not session.target.search_path else _path(session))
        row = session.connection.execute(
            sql.SQL(
                "SELECT pg_catalog.sum(greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid)))::bigint"
                " FROM pg_catalog.pg_class c"
                " WHERE c.oid IN (SELECT relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass({0})))"
                " OR c.oid = pg_catalog.to_regclass({0})::oid"
            ).format(sql.Literal(table))
        ).fetchone()
        session.connection.execute("SET search_path = pg_catalog, pg_temp")
    return int(row[0]) if row and row[0] is not None and row[0] >= 0 else None


def _path(session: Session) -> sql.Composed:
    return sql.SQL("SELECT pg_catalog.set_config('search_path', {}, true)").format(
        sql.Literal(session.target.search_path)
    )
