"""A real PgBouncer in front of a test server, in session or transaction mode. Ends with its test, however that ends."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit, urlunsplit

from lockstep.postgres.throwaway import free_port

START_TIMEOUT = 20.0  # seconds


def find_pgbouncer() -> str | None:
    """The program's path. Debian keeps it in a folder that is not on an ordinary user's PATH."""
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


class Pooler:
    """One running PgBouncer for the server and the user of `url`. Use it as a context manager.

    `size` is how many server connections it opens per database; further options go into its configuration as they are.
    """

    def __init__(self, url: str, *, mode: str, size: int = 20, **options: str) -> None:
        program = find_pgbouncer()
        assert program, "PgBouncer is not installed: apt-get install pgbouncer"
        self._url = urlsplit(url)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="lockstep-bouncer-"))
        user, password = unquote(self._url.username or ""), unquote(self._url.password or "")
        users = self.folder / "users.txt"
        users.write_text(f'"{user}" "{password}"\n')
        words = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": mode,
            "default_pool_size": str(size),
            "log_connections": "0",
            "log_disconnections": "0",
            **options,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in words.items())
        config = self.folder / "pgbouncer.ini"
        config.write_text(f"[databases]\n* = host={self._url.hostname} port={self._url.port}\n[pgbouncer]\n{lines}")
        # It refuses root. Without a logfile of its own it leaves nothing behind that a later start could not write to.
        other = next((n for n in ("nobody", "postgres") if _exists(n)), None) if os.geteuid() == 0 else None
        if other:
            for path in (self.folder, users, config):
                shutil.chown(path, other)
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=other,
                group=pwd.getpwnam(other).pw_gid if other else None,
                extra_groups=[] if other else None,
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def url(self, database: str | None = None) -> str:
        """The URL that was given, through the pooler."""
        who = self._url.netloc.rpartition("@")[0]
        path = f"/{database}" if database else self._url.path
        return urlunsplit((self._url.scheme, f"{who}@127.0.0.1:{self.port}", path, self._url.query, ""))

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End it at once: it holds nothing that is worth an orderly end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"PgBouncer did not start:\n{self.log()}")

    def __enter__(self) -> Pooler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
