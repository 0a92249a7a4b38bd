"""The snapshot that a backup is made of: one read-only transaction, exported, and kept open until all dumps have ended.

Its session has the environment's role and turns row level security into an error. It changes nothing and keeps no
lock: a look that takes one gives it back. What is in the database is for other modules to ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockstep.core import privacy
from lockstep.core.redaction import redact
from lockstep.errors import BackupFailed, ConfigError, Unreachable

#: Where the address says nothing else. A vanished server is noticed after 90 s, and an idle snapshot is not forgotten
#: by a firewall in between. All in seconds.
NETWORK = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6}
LOCK_WAIT_MS = 60_000  # wait for ACCESS SHARE on a table; only an ACCESS EXCLUSIVE lock makes us wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A database at one moment. Valid while `open_snapshot` is entered."""

    connection: psycopg.Connection[Any]  # in the read-only transaction that exported the snapshot
    target: str  # what messages call the database
    id: str  # for pg_dump --snapshot
    taken_at: datetime  # the server's clock, UTC
    lsn: str | None  # of the write-ahead log beside the snapshot; None on a standby
    standby: bool
    database: str
    role: str  # effective role
    set_role: str | None  # that pg_dump has to SET as well; None: the role that logged in
    superuser: bool  # the effective role
    server_version: str  # as the server calls it: 15.18 (Debian 15.18-0+deb12u1)
    server_version_num: int  # 150018
    system_identifier: str | None  # of the cluster; None where the role may not ask
    schemas: tuple[str, ...]  # sorted; without the system's own

    def is_alive(self) -> bool:
        """Ask the server. False when the connection is gone, and then it is not our fault that a dump failed."""
        try:
            self.connection.execute("SELECT")
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def looking(self) -> Iterator[psycopg.Connection[Any]]:
        """Give the connection for a few queries whose locks end with the block. Raises Unreachable and BackupFailed.

        A lock of ours that outlived them would stop pg_dump for good behind somebody who waits for ACCESS EXCLUSIVE.
        """
        with asking(self.target), self.connection.transaction(force_rollback=True):  # a savepoint
            yield self.connection


@contextmanager
def open_snapshot(conninfo: str, *, target: str, run_id: str, role: str | None = None) -> Iterator[Snapshot]:
    """Export a snapshot and keep it until the block ends. Read-only; keeps no lock; row_security is off.

    `role` is the one to SET; everything is then read with its rights alone.
    Raises Unreachable when there is no connection, ConfigError when the role cannot be set.
    """
    with _connected(conninfo, target=target, run_id=run_id) as connection:
        with asking(target):
            if role is not None:
                _take(connection, role)
            # What role or database would impose must not end an idle transaction that a long dump relies on.
            connection.execute(
                "SELECT pg_catalog.set_config(name, value, false) FROM (VALUES"
                " ('statement_timeout', '0'), ('lock_timeout', %s),"
                " ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'), ('row_security', 'off'), ('DateStyle', 'ISO'))"
                " AS wanted (name, value)"
                " WHERE pg_catalog.current_setting(name, true) IS NOT NULL",  # 17 brought transaction_timeout
                [str(LOCK_WAIT_MS)],
            )
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            facts = connection.execute(_FACTS).fetchone()
            assert facts is not None
            snapshot_id, taken_at, lsn, standby, database, actual, superuser, version, number, may_ask, schemas = facts
            identifier = connection.execute(_IDENTIFIER).fetchone() if may_ask else None
        yield Snapshot(
            connection=connection,
            target=target,
            id=snapshot_id,
            taken_at=taken_at.astimezone(UTC),
            lsn=lsn,
            standby=standby,
            database=database,
            role=actual,
            set_role=role,
            superuser=superuser,
            server_version=version,
            server_version_num=number,
            system_identifier=identifier[0] if identifier else None,
            schemas=tuple(schemas),
        )


@contextmanager
def _connected(conninfo: str, *, target: str, run_id: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:  # its text repeats the string
        raise Unreachable(target=target, reason="the connection string cannot be read") from None
    network = {name: given.get(name) or value for name, value in NETWORK.items()}
    wanted = make_conninfo(conninfo, **network, application_name=f"lockstep/{run_id}")
    try:
        connection = psycopg.connect(wanted, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        raise Unreachable(
            target=target, reason=redact(str(error), [str(given.get("password") or "")]).strip()
        ) from None
    try:
        yield connection
    finally:
        connection.close()  # ends the transaction as well; never raises, even when the server is gone


def _take(connection: psycopg.Connection[Any], role: str) -> None:
    try:
        connection.execute("SELECT pg_catalog.set_config('role', %s, false)", [role])
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege) as error:
        message = f'the backup cannot take the role "{role}": {error.diag.message_primary}'
        hint = f"log in as {role}, or as the migrator, who is a member of it (docs/how-to/roles.md makes both)"
        raise ConfigError(message, where="role", hint=hint) from None


@contextmanager
def asking(target: str) -> Iterator[None]:
    """Turn errors of our own few queries into ours."""
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        message = f"no backup was begun: a table was locked for more than {LOCK_WAIT_MS // 1000} s by another session"
        hint = "wait for the migration or the maintenance that holds it, then try again"
        raise BackupFailed(message, target=target, retryable=True, hint=hint) from error
    except psycopg.OperationalError as error:
        raise Unreachable(target=target, reason=f"the connection was lost ({error.sqlstate or 'no answer'})") from error
    except psycopg.Error as error:
        words = error.diag.message_primary if privacy.quoting() else None  # it may say what a row or a definition holds
        message = words or type(error).__name__
        raise BackupFailed(f"no backup was begun: {message} (SQLSTATE {error.sqlstate})", target=target) from error


_FACTS = """
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.transaction_timestamp(),
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_lsn()::text END,
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_database()::text, current_user::text,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
       pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
       ARRAY(SELECT nspname::text FROM pg_catalog.pg_namespace
             WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1)
"""

_IDENTIFIER = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
