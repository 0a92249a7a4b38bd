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
from lockstep.core.ledger import TABLES
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
          FROM pg_catalog.pg_roles WHERE rolname = current_user),
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
         WHERE a.datname = current_database() AND r.rolsuper -- backend_type is hidden from others
           AND a.pid <> pg_catalog.pg_backend_pid()),
       (SELECT spcname FROM pg_catalog.pg_tablespace t JOIN pg_catalog.pg_database d ON d.dattablespace = t.oid
         WHERE d.datname = current_database() AND t.spcname <> 'pg_default'
           AND NOT pg_catalog.has_tablespace_privilege(t.oid, 'CREATE'))
"""


def obstacles(connection: psycopg.Connection) -> tuple[str, ...]:
    """Return, in words, why the database that `connection` is in cannot be replaced by this role; () means it can.

    pg_subscription may be read by columns only; subdbid and subname are among them.
    """
    row = connection.execute(_OBSTACLES).fetchone()
    assert row is not None
    slots, subscriptions, prepared, supabase, creates, is_super, owns, template, roles, signals, guarded, space = row
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
    if guarded and not is_super:
        found.append(f"{guarded} sessions of superusers are in the database, which {who} cannot end")
    if space is not None:
        found.append(f"role {who} may not create in tablespace {space}, where the database lies")
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
SELECT s.schemaname, s.relname, s.n_tup_ins + s.n_tup_upd + s.n_tup_del
  FROM pg_catalog.pg_stat_all_tables s JOIN pg_catalog.pg_class c ON c.oid = s.relid
 WHERE s.schemaname !~ '^pg_' AND s.schemaname <> 'information_schema' AND c.relkind = 'r'
"""

_SINCE = """
SELECT (SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = current_database()),
       (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = current_database()),
       CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
            THEN (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) END,
       pg_catalog.pg_postmaster_start_time()
"""


def writes_since(
    connection: psycopg.Connection, contents: Contents | None, *, system_identifier: str | None, ledger_schema: str
) -> Writes:
    """Count what was written since the contents were read. The ledger's own rows do not count.

    The counts are those of the server's statistics, which lag by a second and do not count TRUNCATE, definitions and
    large objects. After a restart of the server nothing is known.
    """
    row = connection.execute(_SINCE).fetchone()
    assert row is not None
    since, oid, system, started = row
    # A crash, and a standby that took over, begin to count anew without a word in stats_reset.
    known = contents and (contents.database.oid, contents.statistics_since, contents.server_started)
    if contents is None or known != (oid, since, started):
        return Writes(known=False, rows=0, tables=())
    if system_identifier and system and system != system_identifier:
        return Writes(known=False, rows=0, tables=())
    before = {(table.schema, table.name): table.changes for table in contents.tables}
    found: list[tuple[str, int]] = []
    for schema, name, changes in connection.execute(_ACTIVITY).fetchall():
        if schema == ledger_schema and name in TABLES:
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
                # Autovacuum gives way to a rename by itself; a superuser's session that is about to end may not be ended.
                "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
                "JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid CROSS JOIN pg_catalog.pg_roles me "
                "WHERE a.datname = %s AND a.pid <> %s "
                "AND me.rolname = current_user AND (me.rolsuper OR NOT r.rolsuper)",
                (name, own),
            )
            time.sleep(0.1)
        yield
    except BaseException as error:
        try:
            maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
        except psycopg.Error:
            text = f"Database {name} may be closed. {opening(name)}"
            raise RestoreFailed(
                f"{type(error).__name__}, and the server is gone", target=target, outcome=text
            ) from error
        raise


def opening(name: str) -> str:
    """How a database that was left closed is opened, for people."""
    statement = f"ALTER DATABASE {sql.Identifier(name).as_string()} ALLOW_CONNECTIONS true;"
    return f"To open it, in another database of the server: {statement}"


def exists(maintenance: psycopg.Connection, name: str) -> bool:
    """Whether the server has a database of this name."""
    return maintenance.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)).rowcount > 0


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
        "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = %s AND pid <> %s AND usesysid IS NOT NULL",
        (name, own),
    ).fetchone()
    assert row is not None
    return int(row[0])
