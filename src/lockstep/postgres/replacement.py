"""One database in the place of another: what forbids it, what it would lose, and the change of names itself.

The old database is never dropped here. Until the two renames commit, in one transaction, every failure leaves it open
and as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lockstep.core.contents import Contents
from lockstep.errors import RestoreFailed

QUIET_SECONDS = 15.0  # for sessions of the old database to end after they were told to
NAME_LIMIT = 63  # bytes of a name in PostgreSQL

_OBSTACLES = """
SELECT ARRAY(SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = current_database() ORDER BY 1),
       ARRAY(SELECT subname::text FROM pg_catalog.pg_subscription
              WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1),
       ARRAY(SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY 1),
       EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'supabase_admin'),
       (SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user),
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
       pg_catalog.pg_has_role((SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()), 'MEMBER'),
       (SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = current_database()),
       ARRAY(SELECT DISTINCT pg_catalog.pg_get_userbyid(setrole)::text FROM pg_catalog.pg_db_role_setting
              WHERE setrole <> 0
                AND setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())),
       (SELECT rolsuper OR pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER')
          FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""


def obstacles(connection: psycopg.Connection) -> tuple[str, ...]:
    """Return, in words, why the database that `connection` is in cannot be replaced by this role; () means it can.

    pg_subscription may be read by columns only; subdbid and subname are among them.
    """
    row = connection.execute(_OBSTACLES).fetchone()
    assert row is not None
    slots, subscriptions, prepared, supabase, creates, is_super, owns, template, roles, signals = row
    role = connection.execute("SELECT current_user::text, current_database()::text").fetchone()
    assert role is not None
    who, database = role
    found = []
    if supabase:
        found.append("this is a Supabase project: its services are bound to this one database, which cannot be renamed")
    if slots:
        found.append(f"replication slots belong to the database: {', '.join(slots)}")
    if subscriptions:
        found.append(f"subscriptions belong to the database: {', '.join(subscriptions)}")
    if prepared:
        found.append(f"prepared transactions wait in the database: {', '.join(prepared)}")
    if template:
        found.append(f"database {database} is a template")
    if not creates:
        found.append(f"role {who} may not create databases (CREATEDB)")
    if not owns:
        found.append(f"role {who} is not a member of the role that owns database {database}")
    if not signals:
        found.append(f"role {who} may not end the sessions of others (pg_signal_backend)")
    if roles and not is_super:
        found.append(
            f"settings of roles in this database ({', '.join(sorted(roles))}) can be copied by a superuser only"
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """What the living database would lose: rows inserted, updated or deleted since a backup, by the server's count."""

    known: bool  # False: the server's statistics do not reach back to the backup
    rows: int
    tables: tuple[tuple[str, int], ...]  # most first


_ACTIVITY = """
SELECT schemaname, relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_catalog.pg_stat_all_tables
 WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'
"""

_SINCE = """
SELECT (SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = current_database()),
       (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = current_database()),
       CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
            THEN (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) END
"""


def writes_since(
    connection: psycopg.Connection, contents: Contents | None, *, system_identifier: str | None, ledger_schema: str
) -> Writes:
    """Count what was written since the contents were read. The ledger's own rows do not count.

    The counts are those of the server's statistics: exact but for a second's delay and a crash of the server.
    """
    row = connection.execute(_SINCE).fetchone()
    assert row is not None
    since, oid, system = row
    if contents is None or (oid, since) != (contents.database.oid, contents.statistics_since):
        return Writes(known=False, rows=0, tables=())
    if system_identifier and system and system != system_identifier:
        return Writes(known=False, rows=0, tables=())
    before = {(table.schema, table.name): table.changes for table in contents.tables}
    found: list[tuple[str, int]] = []
    for schema, name, changes in connection.execute(_ACTIVITY).fetchall():
        if schema == ledger_schema and name in {"schema_migrations", "schema_migrations_log"}:
            continue
        then = before.get((schema, name), 0)
        if then is None or changes < then:
            return Writes(known=False, rows=0, tables=())
        if changes > then:
            found.append((f"{schema}.{name}", changes - then))
    found.sort(key=lambda item: (-item[1], item[0]))
    return Writes(known=True, rows=sum(count for _, count in found), tables=tuple(found))


def beside(name: str, word: str, run_id: str) -> str:
    """Return a name for a database beside `name`: `app_before_20261124-164926-b7a0`, within PostgreSQL's limit."""
    ending = f"_{word}_{run_id}"
    room = NAME_LIMIT - len(ending.encode())
    return name.encode()[: max(room, 1)].decode(errors="ignore") + ending[: NAME_LIMIT - 1]


@contextmanager
def closed(maintenance: psycopg.Connection, name: str, *, own: int, target: str) -> Iterator[None]:
    """Close a database to new connections and end its sessions, but for `own` (a backend's pid).

    When the block raises, the database is opened again. `maintenance` is in another database, in autocommit. Raises
    RestoreFailed when sessions do not end in QUIET_SECONDS.
    """
    database = sql.Identifier(name)
    try:
        maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        deadline = time.monotonic() + QUIET_SECONDS
        while left := _sessions(maintenance, name, own):
            if time.monotonic() > deadline:
                raise RestoreFailed(f"{left} sessions of database {name} did not end", target=target)
            maintenance.execute(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
                "WHERE datname = %s AND pid <> %s",
                (name, own),
            )
            time.sleep(0.1)
        yield
    except BaseException as error:
        try:
            maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
        except psycopg.Error:
            text = f"Database {name} is closed; open it again: ALTER DATABASE {name} ALLOW_CONNECTIONS true"
            raise RestoreFailed(
                f"{type(error).__name__}, and the server is gone", target=target, outcome=text
            ) from error
        raise


def change_places(maintenance: psycopg.Connection, *, current: str, fresh: str, kept: str) -> None:
    """Rename `current` to `kept` and `fresh` to `current`, in one transaction. Nobody may be connected to either."""
    with maintenance.transaction():
        for old, new in ((current, kept), (fresh, current)):
            maintenance.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
            )


def drop(maintenance: psycopg.Connection, name: str) -> None:
    """Drop a database that was made for a restore, with whoever is connected to it."""
    maintenance.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _sessions(maintenance: psycopg.Connection, name: str, own: int) -> int:
    row = maintenance.execute(
        "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = %s AND pid <> %s", (name, own)
    ).fetchone()
    assert row is not None
    return int(row[0])
