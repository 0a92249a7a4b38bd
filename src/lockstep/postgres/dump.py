"""pg_dump as a stream: started on a snapshot, ended with us, believed only at its exit status 0.

The whole database is dumped: pg_dump of one schema omits extensions and every other schema, and does not restore. No
password in an argument, error or file: the child gets it in its environment, which only the same user may read.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

from lockstep.core import steps
from lockstep.core.redaction import redact
from lockstep.errors import BackupFailed
from lockstep.postgres.children import environment_of, network_of
from lockstep.postgres.programs import Program
from lockstep.postgres.snapshot import LOCK_WAIT_MS, Snapshot

CHUNK = 256 * 1024  # bytes that are handed on at once; pg_dump writes in pieces of 4 to 64 KiB
PIPE = 1024 * 1024  # bytes that may wait between pg_dump and us
STDERR_KEPT = 8192  # bytes of the end of pg_dump's talk
STOP_TIMEOUT = 5.0  # seconds for pg_dump to cancel its query on the server, then it is killed


class PgDump:
    """One pg_dump, in custom format, of one snapshot. A context manager: leaving it ends the program, whatever it did.

    Read `chunks` to their end, then call `finish`: only that tells whether the bytes are a whole archive. Raises
    BackupFailed when the program cannot be started or did not end well.
    """

    def __init__(
        self,
        program: Program,
        snapshot: Snapshot,
        *,
        exclude_schemas: Sequence[str] = (),
        without_rows_of: Sequence[tuple[str, str]] = (),
        rows_of: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Tables are (schema, name). `rows_of` makes an archive of these tables' rows and nothing else."""
        self.compression = compression_of(program.path, program.major)
        self._program = program
        self._snapshot = snapshot
        self._excluded = tuple(exclude_schemas)
        self._without_rows_of = tuple(without_rows_of)
        self._rows_of = tuple(rows_of)
        self._talk = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._began = 0.0

    @property
    def pid(self) -> int:
        """Process id of the running program."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> PgDump:
        self._began = time.monotonic()
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
            env=environment_of(self._snapshot.connection, program="pg_dump"),
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end pg_dump in our own order
        )
        try:
            _widen(self._process)
            self._listener = threading.Thread(target=self._listen, name="lockstep-pg_dump", daemon=True)
            self._listener.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def stop(self) -> None:
        """Ask the program to end, from any thread. Its output ends then, and `finish` raises."""
        if self._process is not None:
            self._process.terminate()  # it cancels its query on the server and goes

    def end(self) -> None:
        """End the program and wait for that: asked first, killed after STOP_TIMEOUT. Fine when it has ended."""
        assert self._process is not None
        try:
            if self._process.poll() is None:
                self.stop()
                self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                self._process.kill()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive as it comes. Its end says nothing about success."""
        assert self._process is not None
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while chunk := _filled(source):
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
        lines = redact(self._talk.decode(errors="replace"), [self._snapshot.connection.info.password]).splitlines()
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
        if self._snapshot.set_role is not None:
            arguments.append(f"--role={self._snapshot.set_role}")
        if self._rows_of:
            arguments.append("--data-only")
        arguments += [f"--exclude-schema={_exactly(name)}" for name in self._excluded]
        arguments += [f"--exclude-table-data={_exactly(*table)}" for table in self._without_rows_of]
        arguments += [f"--table={_exactly(*table)}" for table in self._rows_of]
        if network := network_of(self._snapshot.connection):
            arguments.append(f"--dbname={network}")
        return arguments

    def _close(self) -> None:
        process, listener = self._process, self._listener
        assert process is not None
        try:
            self.end()
        finally:
            process.wait()
            steps.done(f"{self._snapshot.target}: pg_dump {self._program.version}", time.monotonic() - self._began)
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


def _exactly(*parts: str) -> str:
    """A pattern that matches this name alone: in double quotes nothing is a wild card, and case counts."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


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


def _filled(source: int) -> bytes:
    """The next CHUNK bytes; fewer at the end, none after it. Each piece by itself would cost those who follow more."""
    chunk = bytearray(CHUNK)
    size = 0
    with memoryview(chunk) as memory:
        while size < CHUNK and (more := os.readv(source, [memory[size:]])):
            size += more
    return bytes(chunk) if size == CHUNK else bytes(chunk[:size])


def _widen(process: subprocess.Popen[bytes]) -> None:
    """A larger pipe: fewer switches between pg_dump and us. An ordinary user may be over his share; then as it is."""
    assert process.stdout is not None
    try:
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
    except (AttributeError, PermissionError, OSError):
        return
