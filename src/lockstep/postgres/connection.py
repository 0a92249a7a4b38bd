"""Sessions with a target: TLS, settings that must not be inherited, poolers found out, errors without secrets.

Everything that talks to a target gets its connection here. Knows nothing of migrations.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads

from lockstep.core import redaction, steps
from lockstep.core.address import Address
from lockstep.errors import Cancelled, Unreachable, UsageError
from lockstep.postgres.poolers import session_mode_hint, shares_backends

MIN_VERSION = 140000
CONNECT_TIMEOUT = 10  # seconds
_OPTIONS_LIMIT = 8_000  # bytes; the startup packet takes 10,000 in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One database as a run sees it."""

    environment: str  # its name in lockstep.toml
    address: Address
    ledger_schema: str = "public"
    schemas: tuple[str, ...] = ("public",)  # what belongs to the team
    every_schema: bool = False  # fingerprints are of all schemas but the server's own
    role: str | None = None  # SET ROLE for everything that the run does
    backup_role: str | None = None  # the same for its backups; also where it is the same
    reader: str | None = None  # role that may read the ledger: its members look without `role`, where they lack it
    search_path: str | None = None  # for migration files; None leaves the role's own
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)  # lockstep.NAME values: secrets
    lock_timeout_ms: int = 1_000  # default for files; for one lock, in one try
    max_blocking_ms: int | None = None  # limit of a whole try, from its first lock to COMMIT; None: only while it waits
    statement_timeout_ms: int | None = None  # default for files; None: no limit
    retry_budget_ms: int = 120_000  # for lock timeouts and deadlocks

    @property
    def name(self) -> str:
        """What messages call it: `prod (db.example/app)`."""
        return f"{self.environment} ({self.address.shown})"

    @property
    def ledger(self) -> str:
        return f"{self.ledger_schema}.schema_migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the session learnt about its server while it was opened."""

    version: int  # server_version_num
    pid: int  # of the backend
    session_user: str
    current_user: str  # the effective role
    in_recovery: bool  # a standby: read-only
    settings_arrived: bool  # lockstep.* came through the startup packet and survive RESET ALL
    pooled: bool = False  # a pooler (in session mode) stands between


@dataclass(slots=True)
class Session:
    """An open connection and what is known about it. Autocommit; transactions are written out by the callers."""

    connection: psycopg.Connection
    target: Target
    facts: ServerFacts
    baseline: tuple[str, ...]  # SQL that sets the session's settings; to be sent again after every RESET ALL

    def close(self) -> None:
        self.connection.close()

    def send_settings(self) -> None:
        """Set lockstep.*, where the startup packet did not carry them; outside of a transaction.

        The values travel as COPY's data, which no server log and no pg_stat_activity shows. A role that may not make
        temporary tables sends them as bound parameters, which a server that logs parameters does show.
        """
        if self.facts.settings_arrived or not self.target.settings:
            return
        pairs = [(f"lockstep.{name}", value) for name, value in self.target.settings.items()]
        with guard(self.target, self.connection), self.connection.cursor() as cursor:
            try:
                cursor.execute("BEGIN READ WRITE; CREATE TEMP TABLE lockstep_settings (n text, v text) ON COMMIT DROP")
                with cursor.copy("COPY pg_temp.lockstep_settings (n, v) FROM STDIN") as copy:
                    for pair in pairs:
                        copy.write_row(pair)
                cursor.execute("SELECT pg_catalog.set_config(n, v, false) FROM pg_temp.lockstep_settings; COMMIT")
            except psycopg.Error:
                if self.connection.closed:
                    raise
                cursor.execute("ROLLBACK")
                calls = sql.SQL(", ").join([sql.SQL("pg_catalog.set_config(%s, %s, false)")] * len(pairs))
                cursor.execute(sql.SQL("SELECT ") + calls, [part for pair in pairs for part in pair])

    @property
    def idle(self) -> bool:
        return self.connection.info.transaction_status is TransactionStatus.IDLE


def open_session(target: Target, *, run_id: str, read_only: bool = False) -> Session:
    """Connect and make the session safe to work in.

    Raises Unreachable (no connection, or it was lost), UsageError (server too old, transaction pooler, TLS turned off).
    """
    # Settings travel in the startup packet, with a mark: of a pooler's backend that others used before, only the mark
    # tells whether they came along.
    mark = secrets.token_hex(8)
    plain = _parameters(target, run_id)
    connection = _connect(target, _parameters(target, run_id, mark), without_settings=plain)
    try:
        settings = own_settings(target, run_id, connection.info.server_version, read_only=read_only)
        if connection.info.server_version < MIN_VERSION:
            raise UsageError(
                f"{target.name}: PostgreSQL {connection.info.server_version // 10000} is older than 14, "
                "the oldest that Lockstep works with"
            )
        # The backend that the server announced is ours, so the session is set up in the same round trip. Another one
        # answers where a pooler is in between: nothing is set there before it is known to be ours alone.
        announced = connection.info.backend_pid
        own = target.reader if read_only else None
        facts = _facts(target, connection, settings, mark, only_on=announced, reader=own)
        if facts.pid != announced:
            _refuse_transaction_pooler(target, connection, facts.pid, plain)
            facts = replace(_facts(target, connection, settings, mark, reader=own), pooled=True)
        return Session(connection, target, facts, set_sql(settings))
    except BaseException:
        connection.close()
        raise


def refuse_standby(session: Session) -> None:
    """Raise UsageError when the server is a standby."""
    if session.facts.in_recovery:
        raise UsageError(
            f"{session.target.name}: this is a standby, which cannot be changed", hint="use the primary's address"
        )


def conninfo(target: Target, *, run_id: str) -> str:
    """Return libpq's connection string for a client program of the same target: TLS as for sessions, no settings.

    It holds the password: pass it on by environment, never by argument.
    """
    return make_conninfo(**_parameters(replace(target, settings={}), run_id))


class guard:  # noqa: N801  # reads as a statement: `with guard(target):`
    """Turn psycopg's loss of a connection into Unreachable; let every other error through.

    psycopg has a ProgrammingError for a COPY that has more answers than one, as one has whose session was ended behind a
    pooler: given the `connection`, what says no SQLSTATE when that is gone is a loss as well.
    """

    def __init__(self, target: Target, connection: psycopg.Connection | None = None) -> None:
        self._target = target
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        gone = (
            isinstance(error, psycopg.ProgrammingError)
            and error.sqlstate is None
            and self._connection is not None
            and self._connection.closed
        )
        if gone or (isinstance(error, psycopg.OperationalError | psycopg.InternalError) and is_lost(error)):
            text = redact(str(error), self._target).strip().splitlines()
            raise Unreachable(
                target=self._target.name,
                reason=f"the connection was lost: {text[0] if text else 'no reason given'}",
                hint=f"try again; lockstep status {self._target.environment} shows what is applied",
            ) from None


def is_lost(error: psycopg.Error) -> bool:
    """No SQLSTATE (libpq's own), class 08 (connection), 57P01–57P03 and 57P05 (the server ended the session).

    psycopg itself has an InternalError for more answers than there were questions: a pooler adds one of its own to that
    of a session that was ended.
    """
    state = error.sqlstate
    return state is None or state.startswith("08") or state in {"57P01", "57P02", "57P03", "57P05"}


def redact(text: str, target: Target) -> str:
    """Take the target's secrets out of a text from outside (libpq's errors, a program's stderr)."""
    return redaction.redact(text, _secrets(target))


def _secrets(target: Target) -> set[str]:
    """Passwords, the settings' values, and the longer elements of values that are lists."""
    given = (target.address.password, target.address.options.get("sslpassword", ""), os.environ.get("PGPASSWORD", ""))
    found = {*given, *map(quote, given)}
    for value in target.settings.values():
        found |= redaction.elements(value)
    return found


def _parameters(target: Target, run_id: str, mark: str | None = None) -> dict[str, str]:
    """Parameters for libpq; with `mark`, the target's settings and the mark are among them where they can be."""
    parameters = target.address.parameters()
    parameters.setdefault("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT", str(CONNECT_TIMEOUT)))
    parameters["application_name"] = f"lockstep/{run_id}"[:63]
    parameters["client_encoding"] = "UTF8"
    parameters.update({"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"})
    parameters["tcp_user_timeout"] = "60000"  # keepalives do not help while something sent is not acknowledged
    local = stays_local(target.address)
    if not local:
        mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE")
        if mode == "disable":
            raise UsageError(
                f"{target.name}: sslmode=disable would send the password and all data in clear over the network",
                hint="remove sslmode=disable; the server must offer TLS (a tunnel to localhost is fine, too)",
            )
        if mode in {None, "allow", "prefer"}:
            root = parameters.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
            known = root or (Path.home() / ".postgresql" / "root.crt").exists()
            parameters["sslmode"] = "verify-full" if known else "require"
    if mark and (options := _startup_options(target.settings, mark)):
        parameters["options"] = f"{parameters.get('options', '')} {options}".strip()
    return parameters


def stays_local(address: Address) -> bool:
    """True when neither the address nor libpq's variables lead to another machine."""
    elsewhere = Address(host=os.environ.get("PGHOST", "") if not address.host else "").is_local
    numeric = Address(host=os.environ.get("PGHOSTADDR", "") if "hostaddr" not in address.options else "").is_local
    service = bool(os.environ.get("PGSERVICE")) and not address.host
    return address.is_local and elsewhere and numeric and not service


#: Beside the settings in the startup packet. No setting of a user can have this name.
_MARK = "lockstep_session.mark"


def _startup_options(settings: Mapping[str, str], mark: str) -> str:
    def escape(text: str) -> str:
        return "".join("\\" + c if c in "\\ \t\n\r\f\v" else c for c in text)

    if not settings:
        return ""
    text = " ".join(f"-c lockstep.{name}={escape(value)}" for name, value in settings.items())
    text += f" -c {_MARK}={mark}"
    # The server takes the packet's bytes as they are: in a database of another encoding they would be garbled.
    return text if text.isascii() and len(text) <= _OPTIONS_LIMIT else ""


def _json(text: str | bytes) -> Any:
    """A JSON value of the server's, which knows neither Python's limit for digits nor that for depth."""
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 1_000 else float(digits))
    except RecursionError:
        return None


def _connect(
    target: Target, parameters: Mapping[str, str], *, without_settings: Mapping[str, str] | None = None
) -> psycopg.Connection:
    """Connect. Poolers may refuse `options`: then, before any password is asked for, `without_settings` is tried."""
    try:
        with steps.step(f"{target.name}: connecting"):
            connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        set_json_loads(_json, connection)
        if steps.listening():
            from lockstep.postgres.spoken import SpokenCursor

            connection.cursor_factory = SpokenCursor
        return connection
    except psycopg.OperationalError as error:
        asked = error.pgconn is not None and (error.pgconn.used_password or error.pgconn.needs_password)
        late = isinstance(error, psycopg.errors.ConnectionTimeout)
        if without_settings is not None and without_settings != parameters and not asked and not late:
            return _connect(target, without_settings)
        lines = [line.strip() for line in redact(str(error), target).splitlines() if line.strip()]
        used_password = bool(error.pgconn and error.pgconn.used_password)
        needs_password = bool(error.pgconn and error.pgconn.needs_password)
        reason, hint = lines[0] if lines else "no connection", None
        if needs_password:
            hint = "no password was given: put the whole URL into .env"
        elif used_password:
            hint = "check user, password and database name in .env (special characters may stand as they are)"
            if parameters.get("sslcert"):
                hint += ", and whether the client certificate is this user's"
        elif not late and (told := _about_now(parameters)) is not None:
            hint = told
        elif not late and parameters.get("sslmode") in {"require", "verify-ca", "verify-full"}:
            cause, hint = _about_tls(parameters)
            reason = f"{reason}: {cause}" if cause else reason
        raise Unreachable(target=target.name, reason=reason, hint=hint) from None
    except psycopg.Error as error:
        raise UsageError(f"{target.name}: {redact(str(error), target).strip()}", hint="lockstep config") from None


#: What a server says to everybody for a while, by SQLSTATE.
_FOR_A_WHILE = {
    "57P03": "it takes no connections now: it is starting, stopping or recovering. Wait a moment, then try again",
    "53300": "every connection that it allows is in use: wait, end some (SELECT * FROM pg_stat_activity), or raise "
    "max_connections; then try again",
}


def _about_now(parameters: Mapping[str, str]) -> str | None:
    """The remedy, where a server that was reached refuses everybody for a while."""
    from lockstep.postgres.handshake import refused_with  # late: only a failure needs it

    return _FOR_A_WHILE.get(refused_with(parameters) or "")


def _about_tls(parameters: Mapping[str, str]) -> tuple[str | None, str]:
    """The cause, where it is TLS, and the remedy of a connection that was refused before a password was asked for."""
    from lockstep.postgres.handshake import try_tls  # late: only a failure needs it

    tried = try_tls(parameters)
    if tried.trouble is not None:
        return tried.trouble.cause, tried.trouble.remedy
    if not tried.reached:
        return None, (
            "lockstep config shows the address; a server on another machine has to offer TLS "
            f"(sslmode={parameters['sslmode']}), or be reached through a tunnel to localhost"
        )
    if parameters.get("channel_binding") == "require":
        return None, (
            "channel_binding=require needs a password that the server keeps for scram-sha-256, and nobody in between who "
            "ends TLS: a proxy, a pooler, or somebody who should not be there"
        )
    return None, (
        "TLS works, so it is the server's pg_hba.conf: it may want a client certificate (sslcert=FILE and sslkey=FILE in the "
        "URL), or not know this user, database or address"
    )


def opening_sql(target: Target, *, run_id: str) -> str | None:
    """Return the SQL that opens the target's database, when it takes no connections; else None.

    libpq gives no SQLSTATE for that, so another database of the server is asked: one more try with the same password.
    """
    parameters = _parameters(replace(target, settings={}), run_id)
    home = "template1" if parameters.get("dbname") == "postgres" else "postgres"
    try:
        with psycopg.connect(**{**parameters, "dbname": home, "connect_timeout": "3"}, autocommit=True) as other:  # type: ignore[arg-type]
            name = parameters.get("dbname") or other.info.user
            row = other.execute(
                "SELECT pg_catalog.format('ALTER DATABASE %%I ALLOW_CONNECTIONS true;', datname) "
                "FROM pg_catalog.pg_database WHERE datname = %s AND NOT datallowconn",
                (name,),
            ).fetchone()
    except psycopg.Error:
        return None
    return str(row[0]) if row else None


def own_settings(target: Target, run_id: str, version: int, *, read_only: bool) -> dict[str, str]:
    """Return all that must not come from a role's or a server's defaults: name -> value, none of them a user's."""
    values = {
        "application_name": f"lockstep/{run_id}"[:63],
        # The server's side: libpq's keepalives do not free the locks of a client that vanished.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "60000",
        "client_connection_check_interval": "500",
        "statement_timeout": "0",
        "lock_timeout": str(target.lock_timeout_ms),
        "idle_in_transaction_session_timeout": "60000",
        "idle_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if read_only else "off",
        "default_transaction_deferrable": "off",
        "standard_conforming_strings": "on",
        "row_security": "on",
        "DateStyle": "ISO",
        # Nothing that others may create in public is resolved by our own statements.
        "search_path": "pg_catalog, pg_temp",
    }
    if version >= 170000:
        values["transaction_timeout"] = "0"
    return values


#: Before Lockstep's own statements write to the ledger, in their transaction: a trigger on it refuses all others of a run.
WRITER = "SET LOCAL lockstep_session.writer = 'on'"


def set_sql(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return settings as SET statements, which cost the server half of what as many set_config do."""
    lists = {"search_path"}
    return tuple(f"SET {name} = {value if name in lists else repr(value)}" for name, value in settings.items())


def _facts(
    target: Target,
    connection: psycopg.Connection,
    settings: Mapping[str, str],
    mark: str,
    *,
    only_on: int | None = None,
    reader: str | None = None,
) -> ServerFacts:
    """Set the session's settings, take the role, and read what the session is: one round trip.

    With `only_on` nothing is set unless that backend answers. Members of `reader` who may not take the role keep their own.
    """
    where = "" if only_on is None else f" WHERE pg_catalog.pg_backend_pid() = {only_on}"
    calls = ", ".join(f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in settings.items())
    words: list[sql.Composable] = [sql.SQL(f"SELECT {calls}{where}")]  # constants of ours, and the run id
    if target.role:
        take = sql.SQL("SELECT pg_catalog.set_config('role', {}, false)" + where).format(sql.Literal(target.role))
        if reader is not None:
            take += sql.SQL(" WHERE " if only_on is None else " AND ") + sql.SQL(_UNLESS_READER).format(
                role=sql.Literal(target.role), reader=sql.Literal(reader)
            )
        words.append(take)
    probe = f"pg_catalog.current_setting('{_MARK}', true) IS NOT DISTINCT FROM '{mark}'" if target.settings else "true"
    words.append(
        sql.SQL(
            "SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.pg_backend_pid(), session_user::text, "
            f"current_user::text, pg_catalog.pg_is_in_recovery(), {probe}"
        )
    )
    try:
        with guard(target):
            cursor = connection.execute(sql.SQL(";").join(words))
            while cursor.nextset():
                pass
            row = cursor.fetchone()
    except psycopg.errors.QueryCanceled:
        raise Cancelled(target=target.name, environment=target.environment) from None
    except psycopg.Error as error:
        hint = f'check role = "{target.role}" of this environment in lockstep.toml' if target.role else None
        raise UsageError(f"{target.name}: {redact(str(error.diag.message_primary), target)}", hint=hint) from None
    assert row is not None
    return ServerFacts(
        version=row[0],
        pid=row[1],
        session_user=row[2],
        current_user=row[3],
        in_recovery=row[4],
        settings_arrived=row[5],
    )


_UNLESS_READER = """(NOT EXISTS (
    SELECT FROM pg_catalog.pg_roles WHERE rolname = {reader} AND pg_catalog.pg_has_role(session_user, oid, 'MEMBER'))
OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role} AND pg_catalog.pg_has_role(session_user, oid, 'MEMBER')))"""


def _refuse_transaction_pooler(
    target: Target, first: psycopg.Connection, pid: int, parameters: Mapping[str, str]
) -> None:
    """Behind a pooler: refuse one that gives the backend of this session to others between transactions."""
    second = _connect(target, parameters)
    try:
        with guard(target):
            shared = shares_backends(first, second, pid)
    finally:
        second.close()
    if shared:
        raise UsageError(
            f"{target.name}: this address leads through a pooler in transaction mode, "
            "where a lock taken by one run is not held by it. Nothing was changed.",
            hint=session_mode_hint(target.address),
        )
