"""pg_restore: an archive into a database, from a stream or from files, or read whole into nowhere.

Nothing it leaves behind is half of something where one transaction can hold it. The database must be empty: this
module never cleans. No password in an argument, and no row of anybody's in an error.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo

from lockstep.errors import RestoreFailed
from lockstep.postgres.children import environment_of, network_of
from lockstep.postgres.programs import Program

STDERR_KEPT = 16_384  # bytes of the end of pg_restore's talk
STOP_TIMEOUT = 5.0  # seconds for pg_restore to cancel its query on the server, then it is killed

#: Gives an archive's bytes to a function, and returns when all of them were given and were the right ones.
Source = Callable[[Callable[[bytes], object]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """How an archive is restored."""

    role: str | None = None  # SET ROLE; None: whoever connects
    single_transaction: bool = False  # all or nothing; holds a lock for every object until the end
    owners: bool = True  # False: everything belongs to whoever restores, and no grants
    tablespaces: bool = True  # False: everything into the database's own
    jobs: int = 1  # sessions at once; more than one needs files and forbids `single_transaction`


def restore_stream(
    program: Program, connection: psycopg.Connection, source: Source, options: RestoreOptions, *, target: str
) -> None:
    """Restore one archive that comes as a stream. The database that `connection` is in must be empty.

    The last bytes are held back until `source` returns, so an archive that turns out to be damaged is never committed
    in a single transaction. Raises RestoreFailed, and whatever `source` raises.
    """
    arguments = [*_arguments(connection, options)]
    with _running(program, arguments, environment_of(connection, program="pg_restore"), target) as process:
        process.feed(source)
        process.finish()


def restore_files(
    program: Program,
    connection: psycopg.Connection,
    main: int,
    data: Sequence[int],
    options: RestoreOptions,
    *,
    target: str,
) -> None:
    """Restore archives from open files (their descriptors), with `options.jobs` sessions at once.

    `data` are further archives with the rows of some tables: they come between the definitions and the indexes of
    `main`. Raises RestoreFailed.
    """
    environment = environment_of(connection, program="pg_restore")
    common = [*_arguments(connection, options), f"--jobs={options.jobs}"]
    steps: list[tuple[int, list[str]]] = [(main, [])]
    if data:
        steps = [(main, ["--section=pre-data"]), (main, ["--section=data"])]
        steps += [(file, ["--section=data"]) for file in data]
        steps += [(main, ["--section=post-data"])]
    for file, section in steps:
        # By number, since the files have no names: they vanish with us, however we end.
        words = [*common, *section, f"/proc/self/fd/{file}"]
        with _running(program, words, environment, target, keep=(file,)) as process:
            process.finish()


def read_whole(program: Program, source: Source, *, what: str) -> None:
    """Let pg_restore read an archive from its first byte to its last, and throw away what it says.

    That finds what a look at the table of contents does not. Raises RestoreFailed, and whatever `source` raises.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with _running(program, ["--format=custom", "--file=/dev/null"], environment, what) as process:
        process.feed(source)
        process.finish()


# -- inside -------------------------------------------------------------------------------------------------------


def _arguments(connection: psycopg.Connection, options: RestoreOptions) -> Iterator[str]:
    # A subscription keeps its slot's name: dropping the copy's would drop the slot of the living one.
    yield from ("--format=custom", "--exit-on-error", "--no-password", "--no-subscriptions")
    if options.single_transaction:
        yield "--single-transaction"
    if not options.owners:
        yield from ("--no-owner", "--no-privileges")
    if not options.tablespaces:
        yield "--no-tablespaces"
    if options.role:
        yield f"--role={options.role}"
    yield f"--dbname={make_conninfo(network_of(connection), dbname=connection.info.dbname)}"


class _Process:
    """One pg_restore at work."""

    def __init__(self, process: subprocess.Popen[bytes], program: Program, target: str, secret: str) -> None:
        self._process = process
        self._program = program
        self._target = target
        self._secret = secret
        self._talk = bytearray()
        self._listener = threading.Thread(target=self._listen, name="lockstep-pg_restore", daemon=True)
        self._listener.start()

    def feed(self, source: Source) -> None:
        """Give it what `source` gives; the last bytes only when `source` has returned."""
        assert self._process.stdin is not None
        sink = self._process.stdin.fileno()
        held: bytes = b""

        def write(chunk: bytes) -> None:
            nonlocal held
            if chunk:
                _write_all(sink, held)
                held = bytes(chunk)

        with suppress(BrokenPipeError):  # it has ended early, and `finish` says why
            source(write)
            _write_all(sink, held)
        self._process.stdin.close()

    def finish(self) -> None:
        """Wait for the end. Raises RestoreFailed unless pg_restore itself says that all went well."""
        status = self._process.wait()
        self._listener.join()
        if status != 0:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else "failed"
            raise RestoreFailed(
                f"pg_restore {self._program.version} {how}{self._reasons()}", target=self._target, killed=status < 0
            )

    def end(self) -> None:
        """End it, whatever it is doing."""
        process = self._process
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
            self._listener.join()
            for pipe in (process.stdin, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _reasons(self) -> str:
        """Its own words without DETAIL, CONTEXT and the commands, which may hold rows."""
        lines = self._talk.decode(errors="replace").splitlines()
        told = [line for line in lines if re.match(r"pg_restore: (?!while |from TOC )", line)]
        # What the server says of a row that it could not load may quote it.
        told = [re.sub(r'(COPY failed for table ".*?"): .*', r"\1", line) for line in told]
        text = "".join(f"\n  {line.removeprefix('pg_restore: ')}" for line in told[-4:])
        return text.replace(self._secret, "***") if self._secret else text

    def _listen(self) -> None:
        assert self._process.stderr is not None
        source = self._process.stderr.fileno()
        while talk := os.read(source, 4096):
            self._talk += talk
            del self._talk[:-STDERR_KEPT]


@contextmanager
def _running(
    program: Program, arguments: Sequence[str], environment: dict[str, str], target: str, keep: tuple[int, ...] = ()
) -> Iterator[_Process]:
    # setpriv asks the kernel to end pg_restore when we (this thread) die, however we die. Where it is missing, one
    # that is fed ends with its input, before the end of the archive.
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    process = subprocess.Popen(
        [*guard, str(program.path), *arguments],
        stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        env={**environment, "LC_ALL": "C"},
        pass_fds=keep,
        start_new_session=True,  # Ctrl-C in the terminal is for us; we end it in our own order
    )
    running = _Process(process, program, target, environment.get("PGPASSWORD", ""))
    try:
        yield running
    finally:
        running.end()


def _write_all(sink: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sink, rest) :]
