"""A throw-away PostgreSQL server: started from the programs at hand, gone with its folder afterwards.

Backups are restored into one to prove them; the demo and the tests work on them. It must leave nothing behind, since
its folder may hold production data: `stop` wipes it, a watchdog does the same when the process that started it is gone
without having said so (SIGKILL), and the next server wipes what both left (a machine without power). Whom its programs run as is postgres.unprivileged's business.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from lockstep.errors import ServerStartError
from lockstep.postgres import reaper
from lockstep.postgres.programs import find_program
from lockstep.postgres.unprivileged import Identity

#: Fast to start and restore into, worthless after a crash. Durability is not what a throw-away server is for.
FAST: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
    "max_connections": "60",
}

#: For a whole database to be restored and looked at: nothing of it is replicated, vacuumed or kept.
RESTORE: Mapping[str, str] = {
    **FAST,
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_locks_per_transaction": "1024",
    "jit": "off",
}

#: For trials on what was restored, beside what the source's own settings are: the time of a statement must mean
#: something, and nothing may happen that its own session does not do.
TRIAL: Mapping[str, str] = {
    **{name: value for name, value in RESTORE.items() if name not in {"maintenance_work_mem", "jit"}},
    "wal_level": "replica",
    "full_page_writes": "on",
    "max_parallel_maintenance_workers": "0",  # workers' scans and WAL are not the session's own, and would not be seen
}

_SOCKETS = "lockstep-s-"
_LOCK = (
    "lock"  # beside the folder of the sockets: held as long as whoever started the server lives; names the other folder
)
_LONGEST = 68  # bytes of a folder for ours: a socket's path may have 107 at most, and a deep checkout is longer

START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 20.0  # seconds


class ThrowawayServer:
    """One running cluster. Use it as a context manager, or call `stop`.

    `folder` is made (mode 0700) and is removed by `stop`. With `tcp` the server listens on a free port of 127.0.0.1
    with SCRAM passwords; without, only on a socket in a folder of mode 0700, and where the kernel allows it in a
    network namespace of its own (`isolated`), so that nothing in it reaches another machine.

    Raises ServerStartError with the tail of the server's log when it does not come up.
    """

    def __init__(
        self,
        bin_dir: Path,
        *,
        folder: Path | None = None,
        tcp: bool = True,
        settings: Mapping[str, str] = FAST,
        user: str = "postgres",
    ) -> None:
        self.user = user  # the first role, a superuser
        token = secrets.token_hex(6)
        self.folder = folder or Path(tempfile.gettempdir()) / f"lockstep-pg-{token}"
        self.password = secrets.token_hex(12)
        self.port = free_port() if tcp else 5432
        self._tcp = tcp
        self._settings = settings
        self._bin = bin_dir
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        # The outer one stays ours, whoever the server runs as: what its lock names is wiped, without another question.
        self._outer = _short_folder() / f"{_SOCKETS}{token}"
        self._sockets = self._outer / "s"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        try:
            # The watchdog is there before what it wipes, so that there is no moment at which something could stay.
            self._watchdog = _watchdog(self.folder, self._outer)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=folder is not None)
            self._outer.mkdir(mode=0o700)
            self._outer.chmod(0o711)  # to pass through; who may enter the inner one is another question
            self._sockets.mkdir(mode=0o700)
            self._lock = os.open(self._outer / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if folder is None:
                os.write(self._lock, os.fsencode(self.folder))
            self._identity = Identity.find(bin_dir, (self.folder, self._sockets), offline=not tcp)
            self._initialise()
            self.start()
        except BaseException:
            self.stop()
            raise

    @classmethod
    def of_major(cls, major: int, *, programs: Path | None = None) -> ThrowawayServer:
        """Start an isolated server of a major version, tuned for a restore.

        `programs` is where its programs are looked for, as for client programs. Its superuser has a name that nobody
        has, so that every role of the source can be there what it is at home. Raises ProgramMissing too.
        """
        sweep()
        found = find_program("postgres", major * 10000, folder=programs)
        user = f"lockstep_{secrets.token_hex(4)}"
        return cls(found.path.resolve().parent, tcp=False, settings=RESTORE, user=user)

    thrown_away = True

    def name(self, database: str) -> str:
        """The name of a database in it."""
        return database

    @property
    def isolated(self) -> bool:
        """Whether the server has a network namespace of its own, in which there is no network."""
        return self._identity.offline

    # -- addresses ----------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """The connection URL of one database, password included: never print it."""
        who = user or self.user
        secret = self.password if password is None else password
        if self._tcp:
            return f"postgresql://{quote(who)}:{quote(secret)}@127.0.0.1:{self.port}/{quote(database)}"
        return (
            f"postgresql://{quote(who)}:{quote(secret)}@/{quote(database)}"
            f"?host={quote(str(self._sockets), safe='')}&port={self.port}"
        )

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start (or start again) on the same data, and wait until it accepts connections."""
        options = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets),
            "logging_collector": "off",
            **self._settings,
        }
        arguments = [str(self._bin / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        with open(self._log, "ab", opener=_not_followed) as log:
            self._process = self._identity.popen(arguments, log)
        self._tell_watchdog(str(self._process.pid))
        self._await_ready()

    def restart(self, settings: Mapping[str, str]) -> None:
        """End the server in good order, and start it again on the same data with other settings."""
        self._end(signal.SIGINT)
        self._settings = settings
        self.start()

    def kill(self) -> None:
        """End the server like a crash would: immediate shutdown, no checkpoint."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End the server and wipe its folder. Safe to call twice."""
        try:
            self._end(signal.SIGINT)
        finally:
            self._wipe()

    def _wipe(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._outer, ignore_errors=True)
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            with suppress(OSError):  # somebody ended it
                watchdog.communicate()  # closes its input: it sees that all is gone, and ends
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def __enter__(self) -> ThrowawayServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside -------------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        self._identity.own(secret)
        command = [str(self._bin / "initdb"), "-D", str(self._data), "-U", self.user, "-E", "UTF8", "--locale=C.UTF-8"]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--no-instructions"]
        with open(self._log, "wb", opener=_not_followed) as log:
            status = self._identity.popen(command, log).wait(START_TIMEOUT)
        secret.unlink()
        if status != 0:
            raise ServerStartError(program="initdb", log=self._tail())

    def _await_ready(self) -> None:
        assert self._process is not None
        ready = str(self._bin / "pg_isready")
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerStartError(program="postgres", log=self._tail())
            probe = [ready, "-q", "-h", str(self._sockets), "-p", str(self.port), "-t", "1"]
            if subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        raise ServerStartError(program="postgres", log=self._tail())

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_TIMEOUT)
        self._tell_watchdog("")  # the id may soon be another process's

    def _tell_watchdog(self, process_id: str) -> None:
        assert self._watchdog is not None
        assert self._watchdog.stdin is not None
        with suppress(OSError):
            self._watchdog.stdin.write(f"{process_id}\n".encode())

    def _tail(self) -> str:
        try:
            with open(self._log, errors="replace", opener=_not_followed) as log:
                return "\n".join(log.read().splitlines()[-12:])
        except OSError:
            return ""


def _not_followed(path: str, flags: int) -> int:
    """Open a file in the server's folder, in which the server may have put a link in its place."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _watchdog(*folders: Path) -> subprocess.Popen[bytes]:
    """Start what ends the server and wipes the folders when we are gone, however that comes."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", reaper.__file__, *map(str, folders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env={"PATH": os.defpath},
        start_new_session=True,  # Ctrl-C and the end of a terminal's session must not end it before us
    )


def sweep() -> None:
    """Wipe what servers left whose starter and watchdog were both killed, as when a machine loses its power.

    A folder that somebody holds the lock of is in use, by a process of another container perhaps.
    """
    for outer in {*Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*"), *_short_folder().glob(f"{_SOCKETS}*")}:
        try:
            if outer.lstat().st_uid != os.geteuid() or not stat.S_ISDIR(outer.lstat().st_mode):
                continue
            with (outer / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder = os.fsdecode(lock.read())
                reaper.reap([*([folder] if folder else []), str(outer)])
        except OSError:
            continue


def _short_folder() -> Path:
    """The folder for temporary files, or another one where a socket's path would be too long in it."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= _LONGEST else Path("/tmp")  # what is made in it is ours


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
