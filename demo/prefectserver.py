"""A throw-away Prefect server, with its UI, for the demo and the tests; and a worker beside it.

It must leave nothing behind: all that it starts ends with the process that started it (also on SIGKILL of that
process), and `stop` wipes its folder. It listens on a free port of 127.0.0.1 and reports to nobody.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from lockstep.errors import ServerStartError
from lockstep.postgres.throwaway import free_port

START_TIMEOUT = 300.0  # seconds; a quiet machine needs thirteen, most of it for imports and a fresh database
STOP_TIMEOUT = 20.0  # seconds
POOL = "lockstep"  # as prefect.yaml names it


class PrefectServer:
    """One running server. Use it as a context manager, or call `stop`.

    `folder` is made (mode 0700) and is removed by `stop`; it is the server's and its clients' PREFECT_HOME.

    Raises ServerStartError with the tail of the server's log when it does not come up.
    """

    def __init__(self, *, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="lockstep-prefect-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = free_port()
        self._running: list[subprocess.Popen[bytes]] = []
        self._workers = 0
        self._has_pool = False
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    # -- addresses --------------------------------------------------------------------------------------------------

    @property
    def ui_url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        """Where the API is: PREFECT_API_URL."""
        return f"{self.ui_url}/api"

    @property
    def database(self) -> Path:
        """The server's SQLite file."""
        return self.folder / "prefect.db"

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this server has in its environment: nothing of the machine's own Prefect profile."""
        return {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_PROFILES_PATH": str(self.folder / "profiles.toml"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }

    # -- a worker ---------------------------------------------------------------------------------------------------

    def start_worker(
        self, project_folder: Path, env: Mapping[str, str] | None = None, *, replace: bool = False
    ) -> subprocess.Popen[bytes]:
        """Do what a team does once: make the work pool, deploy all of the project's prefect.yaml, start a worker.

        Returns the worker's process (a warden, which ends it) when the worker polls. `env` is added to the worker's
        environment, and so to its flow runs'. With `replace` the workers that were started before end first.
        """
        if replace:
            self._end_workers()
        self.deploy(project_folder)
        return self.add_worker(project_folder, env)

    def deploy(self, project_folder: Path) -> None:
        """Deploy all of the project's prefect.yaml, into the work pool."""
        if not self._has_pool:  # each call of the command line takes five seconds
            self._prefect(project_folder, "work-pool", "create", POOL, "--type", "process", "--overwrite")
            self._has_pool = True
        self._prefect(project_folder, "--no-prompt", "deploy", "--all")

    def add_worker(
        self, project_folder: Path, env: Mapping[str, str] | None = None, *, replace: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start one more worker of what was deployed already; returns as `start_worker` does."""
        if replace:
            self._end_workers()
        self._workers += 1
        name = f"worker-{self._workers}"
        words = ["worker", "start", "--pool", POOL, "--name", name]
        self._launch(words, project_folder, {"PREFECT_WORKER_QUERY_SECONDS": "1", **(env or {})}, "worker.log")
        self._await("worker.log", lambda: self._worker_polls(name))
        return self._running[-1]

    def log(self, name: str = "worker.log", lines: int = 30) -> str:
        """Return the end of a log, for a test that failed."""
        return "\n".join((self.folder / name).read_text(errors="replace").splitlines()[-lines:])

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Ask the API: POST, JSON in, JSON out."""
        request = Request(
            f"{self.api_url}{path}", data=json.dumps(body).encode(), headers={"content-type": "application/json"}
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with urlopen(request, timeout=90) as answer:
                    return json.loads(answer.read())
            except HTTPError as error:
                if error.code != 503 or time.monotonic() > deadline:  # 503: its SQLite is busy
                    raise
            time.sleep(0.5)

    def stop(self) -> None:
        """End server, workers and what they started, and wipe the folder. Safe to call twice."""
        while self._running:
            self._end(self._running.pop())
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PrefectServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _end_workers(self) -> None:
        while len(self._running) > 1:
            self._end(self._running.pop())

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # to the warden, which takes everything with it
            process.wait(STOP_TIMEOUT)

    def _start(self) -> None:
        environment = {
            "PREFECT_UI_API_URL": self.api_url,
            "PREFECT_UI_STATIC_DIRECTORY": str(self.folder / "ui"),  # by default it writes beside the package
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.database}",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P90D",
        }
        words = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--analytics-off"]
        self._launch(words, self.folder, environment, "server.log")
        self._await("server.log", self._healthy)

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        # A worker keeps /tmp/runner_storage for itself: in the way of other users, and left behind.
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {**own, **self.environment, "TMPDIR": str(temporary), **extra}

    def _launch(self, words: Sequence[str], folder: Path, extra: Mapping[str, str], log_name: str) -> None:
        # setpriv asks the kernel to tell the warden when we die, however we die.
        warden = ["setpriv", "--pdeathsig", "TERM", sys.executable, str(Path(__file__).resolve()), str(os.getpid())]
        with (self.folder / log_name).open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    [*warden, sys.executable, "-m", "prefect", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=self._environment(extra),
                    start_new_session=True,  # Ctrl-C in the terminal is for us; we end them in our own order
                )
            )

    def _prefect(self, folder: Path, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            env=self._environment({}),
        )
        if done.returncode != 0:
            raise ServerStartError(program=f"prefect {words[0]}", log=(done.stdout + done.stderr)[-2_000:])

    def _await(self, log_name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._running[-1].poll() is None:
            try:
                if ready():
                    return
            except (URLError, OSError):
                pass
            time.sleep(0.1)
        lines = (self.folder / log_name).read_text(errors="replace").splitlines()
        raise ServerStartError(program=f"prefect ({log_name})", log="\n".join(lines[-12:]))

    def _healthy(self) -> bool:
        with urlopen(f"{self.api_url}/health", timeout=5) as answer:
            return bool(answer.status == 200)

    def _worker_polls(self, name: str) -> bool:
        workers = self.post(f"/work_pools/{POOL}/workers/filter", {})
        return any(worker["status"] == "ONLINE" and worker["name"] == name for worker in workers)


# -- the warden --------------------------------------------------------------------------------------------------------

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans of our children become ours, whatever session they are in


def _guard(parent: int, command: Sequence[str]) -> int:
    """Run a command; on SIGTERM, or when the parent is gone already, kill it with everything that it ever started."""

    def end(_signal: int, _frame: object) -> None:
        for _ in range(20):  # what is being started just now shows in the next look
            found = _descendants(os.getpid())
            if not found:
                break
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)
            _reap()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:
        return 1
    return subprocess.Popen(command).wait()


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = status.rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), sys.argv[2:]))
