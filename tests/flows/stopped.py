"""A deploy that a worker runs, and what is needed to stop it in every way and to look at what is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from demo.prefectserver import PrefectServer
from lockstep.service.deploying import run_id_of
from tests.flows.conftest import App

T = TypeVar("T")
PATIENCE = 120.0  # seconds for what takes two or three on a quiet machine
STARTED: list[subprocess.Popen[str]] = []  # of the test under way


def eventually(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Return the first true answer of `look`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


@dataclass(kw_only=True)
class UnderWay:
    """A flow run, and the processes that carry it out."""

    app: App
    id: str
    run_id: str
    pid: int  # of the flow
    workers: list[int]  # its ancestors up to the worker, nearest first
    clock: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, app: App, **parameters: Any) -> UnderWay:
        """Create a run of the deployment; return when a worker has started its process."""
        made = create(app, **parameters)
        pid = eventually(lambda: process_of(made.id), "a process of the run")
        assert pid is not None
        return cls(
            app=app, id=str(made.id), run_id=run_id_of(made.created, made.id), pid=pid, workers=list(ancestors(pid))
        )

    def backends(self, environment: str = "dev", where: str = "true") -> list[tuple[Any, ...]]:
        """Sessions of this run: pid, application name, state, query."""
        return self.app.ask(
            environment,
            "SELECT pid, application_name, state, query FROM pg_stat_activity WHERE datname = current_database() "
            f"AND application_name LIKE 'lockstep/{self.run_id}%' AND {where}",
        )

    def at_work(self, what: str, environment: str = "dev") -> None:
        """Wait until the run is at a statement that holds this text."""
        eventually(
            lambda: self.backends(environment, f"state = 'active' AND position('{what}' in query) > 0"), f"at {what}"
        )
        self.clock = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.clock

    def gone(self, environment: str = "dev", seconds: float = 30) -> float:
        """Wait until no backend of the run is left and nobody holds an advisory lock; return the seconds since `at_work`."""
        locks = (
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        eventually(
            lambda: not self.backends(environment) and not self.app.ask(environment, locks), "the SQL's end", seconds
        )
        return self.elapsed

    def state(self) -> dict[str, Any]:
        return state_of(self.app.server, self.id)

    def ended(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for the run's final state."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        def look() -> dict[str, Any] | None:
            state = self.state()
            return state if state["type"] in final else None

        found = eventually(look, "a final state", seconds)
        assert found is not None
        return found

    def cancel(self) -> None:
        """As the UI's button does."""
        self.app.server.post(f"/flow_runs/{self.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def kill(self, how: signal.Signals) -> None:
        os.kill(self.pid, how)

    def stops(self, environment: str = "dev") -> list[dict[str, Any]]:
        """Details of the `stop` rows of this run."""
        query = "SELECT details FROM schema_migrations_log WHERE run_id = %s AND event = 'stop' ORDER BY id"
        return [row[0] for row in self.app.ask(environment, query, self.run_id)]


def create(app: App, **parameters: Any) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("deploy/deploy")
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def state_of(server: PrefectServer, flow_run: str) -> dict[str, Any]:
    rows = server.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
    found: dict[str, Any] = rows[0]["state"]
    return found


def process_of(flow_run: object) -> int | None:
    """Process id of the flow itself: the innermost that runs Prefect's engine for it."""
    mark = f"PREFECT__FLOW_RUN_ID={flow_run}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"prefect.engine" in words and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    inner = [pid for pid in found if not any(parent_of(other) == pid for other in found)]
    return inner[0] if inner else None


def flows_under_way() -> list[int]:
    """Processes of flows that a worker of the tests' own server started, however their worker ended."""
    api = os.environ["PREFECT_API_URL"].encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"prefect.engine" in (process / "cmdline").read_bytes().split(b"\0"):
                found += [int(process.name)] if b"PREFECT_API_URL=" + api in (process / "environ").read_bytes() else []
    return found


def parent_of(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def words_of(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    return []


def ancestors(pid: int) -> Iterator[int]:
    """Up to and with the worker."""
    while (pid := parent_of(pid)) > 1:
        yield pid
        words = words_of(pid)
        if "worker" in words and "start" in words and "-c" not in words:
            return


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@dataclass(kw_only=True)
class Foreground(UnderWay):
    """A deploy in a process of its own, `lockstep deploy --here`."""

    process: subprocess.Popen[str]

    @classmethod
    def begin(cls, app: App, *words: str, **variables: str) -> Foreground:
        """Start it; return when it says where its run is."""
        process = subprocess.Popen(
            [sys.executable, "-m", "lockstep", "deploy", "--here", *words],
            cwd=app.folder,
            env=app.environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        STARTED.append(process)
        assert process.stderr is not None
        said = ""
        while not (link := re.search(r"/runs/flow-run/([0-9a-f-]{36})", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        flow_run = UUID(link[1])
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            created = client.read_flow_run(flow_run).created
        assert created is not None
        return cls(
            app=app, id=link[1], run_id=run_id_of(created, flow_run), pid=process.pid, workers=[], process=process
        )

    def finish(self) -> tuple[int, str]:
        """Wait for its end: exit code, and what it said."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, out + err


def below(pid: int) -> list[int]:
    """All processes that one started, whatever became of those between."""
    parents = {int(one.name): parent_of(int(one.name)) for one in Path("/proc").glob("[0-9]*")}
    found, wanted = [], {pid}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted}
        found += sorted(wanted)
    return found
