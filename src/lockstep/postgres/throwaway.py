"""A throw-away PostgreSQL server: started from the client programs at hand, gone with its folder afterwards.

It serves the demo and the tests now, and the rehearsal later. It must leave nothing behind: the server dies with the
process that started it (also on SIGKILL of that process), and `stop` wipes the folder. It runs as root as well as an
ordinary user: PostgreSQL refuses root, so root runs it in a user namespace (or as another user where there is none).
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

from lockstep.errors import ServerStartError

#: Fast to start and restore into, worthless after a crash. Durability is not what a throw-away server is for.
FAST: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
    "max_connections": "60",
}

START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 20.0  # seconds


class ThrowawayServer:
    """One running cluster. Use it as a context manager, or call `stop`.

    `folder` is made (mode 0700) and is removed by `stop`. With `tcp` the server listens on a free port of 127.0.0.1
    with SCRAM passwords; without, only on a socket inside its folder.

    Raises ServerStartError with the tail of the server's log when it does not come up.
    """

    user = "postgres"

    def __init__(
        self,
        bin_dir: Path,
        *,
        folder: Path | None = None,
        tcp: bool = True,
        settings: Mapping[str, str] = FAST,
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="lockstep-pg-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.password = secrets.token_hex(12)
        self.port = free_port() if tcp else 5432
        self._tcp = tcp
        self._settings = settings
        self._bin = bin_dir
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        # A socket's path may have 107 bytes at most; a deep checkout is longer than that.
        self._sockets = Path(tempfile.mkdtemp(prefix="lockstep-s-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._identity = _Identity.find(bin_dir, (self.folder, self._sockets))
            self._initialise()
            self.start()
        except BaseException:
            self.stop()
            raise

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
        with self._log.open("ab") as log:
            # SIGINT is PostgreSQL's fast shutdown. setpriv asks the kernel to send it when we die, however we die.
            self._process = self._identity.popen(["setpriv", "--pdeathsig", "INT", *arguments], log)
        self._await_ready()

    def kill(self) -> None:
        """End the server like a crash would: immediate shutdown, no checkpoint."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End the server and wipe its folder. Safe to call twice."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._sockets, ignore_errors=True)
        if identity := getattr(self, "_identity", None):
            identity.forget()

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
        with self._log.open("wb") as log:
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

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-12:])


class _Identity:
    """Who runs the server's programs: ourselves, root inside a user namespace, or another user than root."""

    def __init__(self, prefix: Sequence[str], user: str | None, programs: Path | None) -> None:
        self._prefix = list(prefix)
        self._user = user
        self._programs = programs  # a copy that another user may execute, or None

    @classmethod
    def find(cls, bin_dir: Path, folders: Sequence[Path]) -> _Identity:
        if os.geteuid() != 0:
            return cls([], None, None)
        if _namespaces_work():
            return cls(_NAMESPACE, None, None)
        user = next(name for name in ("postgres", "nobody") if _exists(name))
        copy = Path(tempfile.mkdtemp(prefix="lockstep-bin-"))
        copy.chmod(0o755)
        shutil.copytree(bin_dir.parent, copy / "pg", symlinks=True)
        for folder in folders:
            shutil.chown(folder, user)
        return cls([], user, copy)

    def popen(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        words = list(command)
        if self._programs:
            words = [self._translated(word) for word in words]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return subprocess.Popen(
            [*self._prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end the server in our own order
        )

    def own(self, path: Path) -> None:
        if self._user:
            shutil.chown(path, self._user)

    def forget(self) -> None:
        if self._programs:
            shutil.rmtree(self._programs, ignore_errors=True)

    def _translated(self, word: str) -> str:
        path = Path(word)
        if self._programs and path.name in {"postgres", "initdb"} and path.is_absolute():
            return str(self._programs / "pg" / "bin" / path.name)
        return word


_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")


@cache
def _namespaces_work() -> bool:
    try:
        return subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
