"""A server that somebody gives for rehearsals, in place of one that is started and thrown away: databases of our own in it.

Their names begin with `lockstep_rehearsal_`. They are dropped on every exit that we live to see, and those of a
rehearsal that was killed by the next one. Of the rest of the server nothing is changed, but for roles that it lacks:
they are made without any right, and dropped again. It is not isolated: what is in it may reach what its machine reaches.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from types import TracebackType
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from lockstep.core.address import Address
from lockstep.errors import RestoreRefused, Unreachable
from lockstep.postgres.connection import Target, conninfo, redact
from lockstep.postgres.prerequisites import create_stand_ins, drop_stand_ins, may_create_roles, missing_roles

PREFIX = "lockstep_rehearsal_"
NAME = "the server of [rehearsal]"


class GivenServer:
    """Our part of a given server. A context manager: leaving it drops all that was made.

    Raises Unreachable, and RestoreRefused when the role may not create databases.
    """

    isolated = False
    thrown_away = False

    def __init__(self, address: Address, *, run_id: str) -> None:
        self._target = Target(environment=NAME, address=address)
        self._run_id = run_id
        self._prefix = f"{PREFIX}{secrets.token_hex(6)}_"
        self._roles: tuple[str, ...] = ()
        self._connection: psycopg.Connection | None = None

    def __enter__(self) -> GivenServer:
        text = conninfo(self._target, run_id=self._run_id)
        try:
            # By its name the next rehearsal knows that this one is alive; on any database of the server.
            self._connection = psycopg.connect(text, autocommit=True, application_name=self._prefix)
        except psycopg.OperationalError as error:
            lines = redact(str(error), self._target).strip().splitlines()
            raise Unreachable(target=NAME, reason=lines[0] if lines else "no connection") from None
        row = self._connection.execute(
            "SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user"
        ).fetchone()
        if not row or not row[0]:
            who = self._connection.info.user
            self._connection.close()
            raise RestoreRefused(
                (f"role {who} may not create databases",), target=NAME, hint=f'ALTER ROLE "{who}" CREATEDB'
            )
        self._sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        assert connection is not None
        try:
            if connection.closed:  # it was lost meanwhile: a new one clears up
                with suppress(psycopg.Error):
                    connection = psycopg.connect(conninfo(self._target, run_id=self._run_id), autocommit=True)
            if not connection.closed:
                self._drop(connection, self._own(connection))
                drop_stand_ins(connection, self._roles)
        finally:
            connection.close()

    def name(self, database: str) -> str:
        """The name of a database of ours on the server."""
        return f"{self._prefix}{database}"

    def url(self, database: str | None = None, *, user: str | None = None, password: str | None = None) -> str:
        """The connection URL of one database of ours, or of the one that was given. Holds a password."""
        found = conninfo_to_dict(conninfo(self._target, run_id=self._run_id))
        who = quote(str(user or found.pop("user", "") or ""), safe="")
        secret = quote(str(password or found.pop("password", "") or ""), safe="")
        home = found.pop("dbname", None)
        name = self.name(database) if database is not None else str(home or "")
        rest = {key: str(value) for key, value in found.items() if value and key not in {"user", "password"}}
        for ours in ("application_name", "client_encoding"):
            rest.pop(ours, None)
        return f"postgresql://{who}:{secret}@/{quote(name, safe='')}?{urlencode(rest, quote_via=quote)}"

    def make_roles(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Make the roles that the server lacks, without any right, where that is allowed. Returns those it still lacks."""
        connection = self._connection
        assert connection is not None
        missing = missing_roles(connection, names)
        if not missing or not may_create_roles(connection):
            return missing
        create_stand_ins(connection, missing)
        self._roles = missing
        return ()

    # -- inside -------------------------------------------------------------------------------------------------

    def _own(self, connection: psycopg.Connection) -> list[str]:
        rows = connection.execute(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, %s)",
            (self._prefix,),
        ).fetchall()
        return [row[0] for row in rows]

    def _drop(self, connection: psycopg.Connection, names: list[str]) -> None:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _sweep(self) -> None:
        """Drop what a rehearsal left that was killed: databases of our own role, whose session is gone."""
        connection = self._connection
        assert connection is not None
        rows = connection.execute(_LEFT, {"prefix": PREFIX, "length": len(self._prefix)}).fetchall()
        for (name,) in rows:
            with suppress(psycopg.Error):  # another rehearsal that has just begun does the same
                self._drop(connection, [name])


# The sessions of our own role show their names; databases of other roles are those roles' business.
_LEFT = """
SELECT d.datname::text FROM pg_catalog.pg_database d
WHERE pg_catalog.starts_with(d.datname, %(prefix)s) AND pg_catalog.pg_get_userbyid(d.datdba) = current_user
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
                  WHERE a.application_name = pg_catalog.left(d.datname, %(length)s::int))
"""
