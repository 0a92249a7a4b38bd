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
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo

from lockstep.core import privacy, steps
from lockstep.core.redaction import redact
from lockstep.errors import RestoreFailed
from lockstep.postgres.archivelist import Entry, as_list, read_entries
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
    choose: Callable[[tuple[Entry, ...]], Iterable[Entry]] | None = None  # of each archive, in its order; None: all
    failed: Callable[[Entry], object] | None = None  # told of what cannot be restored; None: that ends it


def restore_stream(
    program: Program, connection: psycopg.Connection, source: Source, options: RestoreOptions, *, target: str
) -> None:
    """Restore one archive that comes as a stream. The database that `connection` is in must be empty.

    The last bytes are held back until `source` returns, so an archive that turns out to be damaged is never committed
    in a single transaction. With `options.choose` the source is read twice, the first time no further than its list.
    Raises RestoreFailed, and whatever `source` raises.
    """
    environment = environment_of(connection, program="pg_restore")
    with _chosen(options, lambda: list_stream(program, source, what=target)) as chosen:
        arguments = [*_arguments(connection, options), *chosen.words]
        with _running(program, arguments, environment, target, also=chosen.files) as process:
            process.feed(source)
            process.finish(options.failed, chosen.entries)


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
        with _chosen(options, lambda file=file: list_file(program, file, what=target)) as chosen:  # type: ignore[misc]
            # By number, since the files have no names: they vanish with us, however we end.
            words = [*common, *section, *chosen.words, f"/proc/self/fd/{file}"]
            with _running(program, words, environment, target, keep=(file,), also=chosen.files) as process:
                process.finish(options.failed, chosen.entries)


def list_stream(program: Program, source: Source, *, what: str) -> tuple[Entry, ...]:
    """Return what is in an archive that comes as a stream; it is read no further than needed. Raises RestoreFailed."""
    with tempfile.TemporaryFile() as output:
        with _running(program, ["--format=custom", "--list"], _plain(), what, output=output) as process:
            process.feed(source)
            process.finish()
        return _entries(output)


def list_file(program: Program, file: int, *, what: str) -> tuple[Entry, ...]:
    """Return what is in an archive that is an open file (its descriptor). Raises RestoreFailed."""
    words = ["--format=custom", "--list", f"/proc/self/fd/{file}"]
    with tempfile.TemporaryFile() as output:
        with _running(program, words, _plain(), what, keep=(file,), output=output) as process:
            process.finish()
        return _entries(output)


def read_whole(program: Program, source: Source, *, what: str) -> None:
    """Let pg_restore read an archive from its first byte to its last, and throw away what it says.

    That finds what a look at the table of contents does not. Raises RestoreFailed, and whatever `source` raises.
    """
    with _running(program, ["--format=custom", "--file=/dev/null"], _plain(), what) as process:
        process.feed(source)
        process.finish()


# -- inside -------------------------------------------------------------------------------------------------------


def _arguments(connection: psycopg.Connection, options: RestoreOptions) -> Iterator[str]:
    # A subscription keeps its slot's name: dropping the copy's would drop the slot of the living one.
    yield from ("--format=custom", "--no-password", "--no-subscriptions")
    if options.failed is None:
        yield "--exit-on-error"
    else:  # rows without their table would be one more failure each; only a verbose one says which entry it was
        yield from ("--no-data-for-failed-tables", "--verbose")
    if options.single_transaction:
        yield "--single-transaction"
    if not options.owners:
        yield from ("--no-owner", "--no-privileges")
    if not options.tablespaces:
        yield "--no-tablespaces"
    if options.role:
        yield f"--role={options.role}"
    yield f"--dbname={make_conninfo(network_of(connection), dbname=connection.info.dbname)}"


def _plain() -> dict[str, str]:
    """The environment of a pg_restore that asks no server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _entries(output: IO[bytes]) -> tuple[Entry, ...]:
    output.seek(0)
    return read_entries(output.read().decode(errors="surrogateescape"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    words: tuple[str, ...] = ()
    files: tuple[int, ...] = ()  # that the program must have open
    entries: Mapping[int, Entry] = field(default_factory=dict)  # by their number


@contextmanager
def _chosen(options: RestoreOptions, listed: Callable[[], tuple[Entry, ...]]) -> Iterator[_Chosen]:
    """A file without a name that says what of an archive is wanted."""
    if options.choose is None:
        yield _Chosen()
        return
    with tempfile.TemporaryFile() as file:
        entries = tuple(options.choose(listed()))
        file.write(as_list(entries).encode(errors="surrogateescape"))
        file.flush()
        yield _Chosen(
            words=(f"--use-list=/proc/self/fd/{file.fileno()}",),
            files=(file.fileno(),),
            entries={entry.number: entry for entry in entries},
        )


class _Process:
    """One pg_restore at work."""

    def __init__(self, process: subprocess.Popen[bytes], program: Program, target: str, secret: str) -> None:
        self._process = process
        self._program = program
        self._target = target
        self._secret = secret
        self._talk = bytearray()
        self._failed: dict[int, None] = {}  # numbers of entries
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

    def finish(
        self, failed: Callable[[Entry], object] | None = None, entries: Mapping[int, Entry] | None = None
    ) -> None:
        """Wait for the end. Raises RestoreFailed unless pg_restore itself says that all went well.

        `failed` is told which of `entries` did not; rows that could not be loaded are a failure in any case.
        """
        status = self._process.wait()
        self._listener.join()
        bad = [found for one in self._failed if (found := (entries or {}).get(one)) is not None]
        if status == 1 and failed is not None and bad and not any(one.kind == "TABLE DATA" for one in bad):
            for entry in bad:
                failed(entry)
        elif status != 0:
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
        told = [line for line in lines if re.match(r"pg_restore: (?:error|warning|fatal|hint|detail):", line)]
        # What the server says of a row that it could not load may quote it.
        told = [re.sub(r'(COPY failed for table ".*?"): .*', r"\1", line) for line in told]
        if not privacy.quoting():
            told = [re.sub(r"(ERROR|FATAL): .*", r"\1", line) for line in told]
        text = "".join(f"\n  {line.removeprefix('pg_restore: ')}" for line in told[-4:])
        return redact(text, [self._secret])

    def _listen(self) -> None:
        assert self._process.stderr is not None
        source = self._process.stderr.fileno()
        line = b""
        while talk := os.read(source, 4096):
            *lines, line = (line + talk).split(b"\n")
            for one in lines:
                self._note(one.decode(errors="surrogateescape"))
            self._talk += talk
            del self._talk[:-STDERR_KEPT]

    def _note(self, line: str) -> None:
        """Keep which entry failed: what failed is told below a line that names it, though not its schema."""
        if match := re.match(r"pg_restore: from TOC entry (\d+);", line):
            self._failed[int(match[1])] = None


@contextmanager
def _running(
    program: Program,
    arguments: Sequence[str],
    environment: dict[str, str],
    target: str,
    *,
    keep: tuple[int, ...] = (),  # files that it reads instead of a stream
    also: tuple[int, ...] = (),  # further files that it reads
    output: IO[bytes] | None = None,  # for what it prints
) -> Iterator[_Process]:
    # setpriv asks the kernel to end pg_restore when we (this thread) die, however we die. Where it is missing, one
    # that is fed ends with its input, before the end of the archive.
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    process = subprocess.Popen(
        [*guard, str(program.path), *arguments],
        stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
        stdout=output if output is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        env={**environment, "LC_ALL": "C"},
        pass_fds=(*keep, *also),
        start_new_session=True,  # Ctrl-C in the terminal is for us; we end it in our own order
    )
    running = _Process(process, program, target, environment.get("PGPASSWORD", ""))
    try:
        with steps.step(f"{target}: pg_restore {program.version}"):
            yield running
    finally:
        running.end()


def _write_all(sink: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sink, rest) :]
