"""pg_dump: what it will find, the snapshot it works on, and its output as a stream.

The whole database is dumped: pg_dump of one schema omits extensions and every other schema, and does not restore. A
dump that row level security would thin out is refused before it starts. No password in an argument, error or file:
the child gets it in its environment, which only the same user may read.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockstep.errors import BackupFailed, Unreachable
from lockstep.postgres.programs import Program

#: Where the address says nothing else. A vanished server is noticed after 90 s, and an idle snapshot is not forgotten
#: by a firewall in between. All in seconds.
NETWORK = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6}
LOCK_WAIT_MS = 60_000  # pg_dump's wait for ACCESS SHARE on each table; only an ACCESS EXCLUSIVE lock makes it wait
CHUNK = 1024 * 1024  # bytes read at once
STDERR_KEPT = 8192  # bytes of the end of pg_dump's talk
STOP_TIMEOUT = 5.0  # seconds for pg_dump to cancel its query on the server, then it is killed

# -- the snapshot -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A table or sequence that belongs into the dump and that the role cannot read whole."""

    name: str  # schema.table
    reason: str  # in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A database at one moment. Valid while `open_snapshot` is entered."""

    connection: psycopg.Connection[Any]  # in the read-only transaction that exported the snapshot
    target: str  # what messages call the database
    id: str  # for pg_dump --snapshot
    taken_at: datetime  # the server's clock, UTC
    database: str
    role: str  # effective role
    server_version: str  # as the server calls it: 15.18 (Debian 15.18-0+deb12u1)
    server_version_num: int  # 150018
    system_identifier: str | None  # of the cluster; None where the role may not ask
    schemas: tuple[str, ...]  # sorted; without the system's own

    def unreadable(self, *, exclude_schemas: Sequence[str] = ()) -> tuple[Unreadable, ...]:
        """Return what the role cannot read whole, by name. Read-only."""
        with _asking(self.target):
            rows = self.connection.execute(_UNREADABLE, {"excluded": list(exclude_schemas)}).fetchall()
        return tuple(Unreadable(name=name, reason=reason) for name, reason in rows)

    def is_alive(self) -> bool:
        """Ask the server. False when the connection is gone, and then it is not our fault that a dump failed."""
        try:
            self.connection.execute("SELECT")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def open_snapshot(conninfo: str, *, target: str, run_id: str) -> Iterator[Snapshot]:
    """Export a snapshot and keep it until the block ends. Read-only; takes no lock; row_security is off.

    Raises Unreachable when there is no connection.
    """
    with _connected(conninfo, target=target, run_id=run_id) as connection:
        with _asking(target):
            # What role or database would impose must not end an idle transaction that a long dump relies on.
            connection.execute(
                "SELECT pg_catalog.set_config(name, value, false) FROM (VALUES"
                " ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),"
                " ('transaction_timeout', '0'), ('row_security', 'off')) AS wanted (name, value)"
                " WHERE pg_catalog.current_setting(name, true) IS NOT NULL"  # 17 brought transaction_timeout
            )
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            facts = connection.execute(_FACTS).fetchone()
            assert facts is not None
            snapshot_id, taken_at, database, role, version, number, may_identify, schemas = facts
            identifier = connection.execute(_IDENTIFIER).fetchone() if may_identify else None
        yield Snapshot(
            connection=connection,
            target=target,
            id=snapshot_id,
            taken_at=taken_at.astimezone(UTC),
            database=database,
            role=role,
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
        raise Unreachable(target=target, reason=_redacted(str(error), given.get("password"))) from None
    try:
        yield connection
    finally:
        connection.close()  # ends the transaction as well; never raises, even when the server is gone


@contextmanager
def _asking(target: str) -> Iterator[None]:
    """Turn errors of our own few queries into ours."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise Unreachable(target=target, reason=f"the connection was lost ({error.sqlstate or 'no answer'})") from error
    except psycopg.Error as error:
        message = error.diag.message_primary or type(error).__name__
        raise BackupFailed(f"no backup was begun: {message} (SQLSTATE {error.sqlstate})", target=target) from error


_FACTS = """
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.transaction_timestamp(),
       pg_catalog.current_database()::text, current_user::text,
       pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
       ARRAY(SELECT nspname::text FROM pg_catalog.pg_namespace
             WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1)
"""

_IDENTIFIER = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"

# Members of an extension are not dumped, but for its configuration tables. A partitioned parent holds no rows of its
# own, so its policies filter nothing: pg_dump reads each leaf with COPY ONLY, by the leaf's own policies.
_UNREADABLE = """
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, reason
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'no USAGE on its schema'
        WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'no SELECT'
        WHEN c.relkind = 'r' AND pg_catalog.row_security_active(c.oid) THEN 'row level security filters it'
    END AS reason
) AS judged
WHERE c.relkind IN ('r', 'p', 'S')
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> ALL (%(excluded)s::text[])
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
        AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
        AND c.oid <> ALL (COALESCE(e.extconfig, '{}'))
  )
  AND reason IS NOT NULL
ORDER BY 1
"""

# -- the program --------------------------------------------------------------------------------------------------


class PgDump:
    """One pg_dump, in custom format, of one snapshot. A context manager: leaving it ends the program, whatever it did.

    Read `chunks` to their end, then call `finish`: only that tells whether the bytes are a whole archive. Raises
    BackupFailed when the program cannot be started or did not end well.
    """

    def __init__(self, program: Program, snapshot: Snapshot, *, exclude_schemas: Sequence[str] = ()) -> None:
        self.compression = compression_of(program.path, program.major)
        self._program = program
        self._snapshot = snapshot
        self._excluded = tuple(exclude_schemas)
        self._talk = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """Process id of the running program."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> PgDump:
        # setpriv asks the kernel to end pg_dump when we (this thread) die, however we die. Where it is missing, pg_dump ends at its
        # next write, since nobody reads any more; only one that waits for a lock stays until LOCK_WAIT_MS.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        self._process = subprocess.Popen(
            [*guard, str(self._program.path), *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=_environment(self._snapshot),
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end pg_dump in our own order
        )
        try:
            _widen(self._process)
            self._listener = threading.Thread(target=self._listen, name="lockstep-pg_dump", daemon=True)
            self._listener.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive as it comes. Its end says nothing about success."""
        assert self._process is not None
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while chunk := os.read(source, CHUNK):
            yield chunk

    def finish(self) -> None:
        """Wait for the end. Returns only when pg_dump itself says that the archive is whole (exit status 0)."""
        assert self._process is not None
        assert self._listener is not None
        status = self._process.wait()
        self._listener.join()
        if status == 0:
            return
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        lines = _redacted(self._talk.decode(errors="replace"), self._snapshot.connection.info.password).splitlines()
        talk = "".join(f"\n  {line}" for line in lines[-8:])
        # Whether a second try may help is not read from the text: the server is gone, or it is not.
        lost = not self._snapshot.is_alive()
        raise BackupFailed(
            f"pg_dump {self._program.version} {how}{', and the server is gone' if lost else ''}; no backup was made.{talk}",
            target=self._snapshot.target,
            retryable=lost or status < 0,
        )

    # -- inside -------------------------------------------------------------------------------------------------

    def _arguments(self) -> list[str]:
        # pg_dump before 16 knows only a gzip level.
        compress = self.compression if self._program.major >= 16 else self.compression.removeprefix("gzip:")
        arguments = [
            "--format=custom",
            f"--compress={compress}",
            f"--snapshot={self._snapshot.id}",
            f"--lock-wait-timeout={LOCK_WAIT_MS}",
            "--no-password",
        ]
        # A pattern: in double quotes it is a name. '*' would be all schemas.
        arguments += [f'--exclude-schema="{name.replace(chr(34), chr(34) * 2)}"' for name in self._excluded]
        if network := _network(self._snapshot):
            arguments.append(f"--dbname={network}")
        return arguments

    def _end(self) -> None:
        process, listener = self._process, self._listener
        assert process is not None
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # it cancels its query on the server and goes
                process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if listener is not None and listener.ident is not None:
                listener.join()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        source = self._process.stderr.fileno()
        while talk := os.read(source, 4096):
            self._talk += talk
            del self._talk[:-STDERR_KEPT]


@cache
def compression_of(path: Path, major: int) -> str:
    """The quickest compression that this pg_dump has: zstd:1 (16 and later, where built with it), else gzip:1.

    zstd:1 costs a quarter of gzip's default in CPU. A program without it says so before it looks for a server.
    """
    if major < 16:
        return "gzip:1"
    environment = {"PATH": os.defpath, "LC_ALL": "C", "PGHOST": "/nonexistent"}
    command = [str(path), "--format=custom", "--compress=zstd:1", "--no-password"]
    answer = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=30)
    return "gzip:1" if b"compress" in answer.stderr else "zstd:1"


def _environment(snapshot: Snapshot) -> dict[str, str]:
    """The child's environment: exactly the parameters of our own connection, and none of the PG* variables around.

    So pg_dump comes to the same server, which alone knows the snapshot, when a name has several addresses too.
    """
    connection = snapshot.connection
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    for option in connection.pgconn.info:
        keyword = option.keyword.decode()
        if keyword == "sslpassword" and option.val:
            raise BackupFailed(
                "sslpassword cannot be handed to pg_dump without showing it to everybody on this machine.",
                target=snapshot.target,
                hint="use a key file without a passphrase, mode 0600",
            )
        # A client encoding would re-code the dump; a service or password file could name another server.
        if option.val and option.envvar and keyword not in {"client_encoding", "service", "servicefile", "passfile"}:
            environment[option.envvar.decode()] = option.val.decode()
    info = connection.info
    actual = {"PGHOST": info.host, "PGHOSTADDR": info.hostaddr, "PGPORT": str(info.port), "PGDATABASE": info.dbname}
    actual |= {"PGUSER": info.user, "PGPASSWORD": info.password}
    environment |= actual
    return {name: value for name, value in environment.items() if value}


def _network(snapshot: Snapshot) -> str:
    """Connection parameters that have no environment variable and are no secrets, as a connection string."""
    names = {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
    given = {option.keyword.decode(): option.val for option in snapshot.connection.pgconn.info if option.val}
    return make_conninfo(**{name: value.decode() for name, value in given.items() if name in names})


def _redacted(text: str, password: object) -> str:
    return text.replace(str(password), "***").strip() if password else text.strip()


def _widen(process: subprocess.Popen[bytes]) -> None:
    """A larger pipe: fewer switches between pg_dump and us. An ordinary user may be over his share; then as it is."""
    assert process.stdout is not None
    try:
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, CHUNK)
    except (AttributeError, PermissionError, OSError):
        return
