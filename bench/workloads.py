"""The workloads: which call is measured in which state, for every tool in turn, several times."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.measuring import Database, Sample, new_database
from bench.migrations import change, table
from bench.proxy import DelayProxy
from bench.tools import Tool
from lockstep.postgres.throwaway import ThrowawayServer

Say = Callable[[str], None]
Text = Callable[[int], str]  # number -> the SQL of one migration


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is done."""

    small: int = 1_000  # migrations
    large: int = 10_000
    long: int = 5  # repetitions of calls that apply everything
    far: int = 3  # the same through the delay
    short: int = 11  # repetitions of calls that read
    large_short: int = 7  # the same with the large number


QUICK = Sizes(small=20, large=40, long=1, far=1, short=1, large_short=1)


@dataclass(slots=True)
class Results:
    """Samples by workload and tool."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, workload: str, tool: Tool, sample: Sample) -> None:
        self.samples.setdefault(workload, {}).setdefault(tool.name, []).append(sample)


@dataclass(slots=True, kw_only=True)
class Bench:
    """All that the workloads share. `folder` holds a folder of files per tool and size."""

    tools: Sequence[Tool]
    sizes: Sizes
    folder: Path
    say: Say
    results: Results = field(default_factory=Results)

    def files(self, tool: Tool, count: int, text: Text = table) -> Path:
        """The folder with a tool's first `count` migrations."""
        folder = self.folder / f"{tool.name}-{count}-{text.__name__}"
        if not folder.exists():
            tool.lay_out(folder, 1, count, text)
        return folder

    def in_turn(self, workload: str, repetitions: int) -> Iterator[Tool]:
        """Every tool, `repetitions` times, interleaved; each round begins with another one."""
        for number in range(repetitions):
            self.say(f"{workload}: {number + 1} of {repetitions}")
            for index in range(len(self.tools)):
                yield self.tools[(index + number) % len(self.tools)]


def start_up(bench: Bench, server: ThrowawayServer) -> None:
    """What a tool takes to say its version."""
    places = {t.name: new_database(server, t, bench.files(t, 1)) for t in bench.tools}
    for tool in bench.in_turn("start-up", bench.sizes.short):
        bench.results.add("start-up (--version)", tool, places[tool.name].call(tool.version))


def warm_up(bench: Bench, server: ThrowawayServer) -> None:
    """Once before anything is measured: programs come from the disk, and Python compiles what it has not yet."""
    for tool in bench.tools:
        place = new_database(server, tool, bench.files(tool, 1))
        for words in (tool.version, tool.prepare, tool.apply, tool.status):
            if words is not None:
                place.call(words)


def from_empty(bench: Bench, server: ThrowawayServer, workload: str, text: Text = table) -> dict[str, Database]:
    """Apply all migrations to fresh databases; return the last round's."""
    last: dict[str, Database] = {}
    for tool in bench.in_turn(workload, bench.sizes.long):
        place = _fresh(bench, server, tool, text)
        sample = place.call(tool.apply)
        place.expect(bench.sizes.small)
        bench.results.add(workload, tool, sample)
        last[tool.name] = place
    return last


def _fresh(bench: Bench, server: ThrowawayServer, tool: Tool, text: Text, port: int | None = None) -> Database:
    place = new_database(server, tool, bench.files(tool, bench.sizes.small, text), port=port)
    if tool.prepare is not None:
        sample = place.call(tool.prepare)
        if port is None:
            bench.results.add("init, once per database", tool, sample)
    place.settle()
    return place


def reading(bench: Bench, places: dict[str, Database], count: int, repetitions: int, text: Text = table) -> None:
    """With `count` migrations applied: nothing to do, status, and one more to apply each time."""
    with_count = f"{count:,} applied"
    for tool in bench.in_turn(f"no-op, {with_count}", repetitions):
        bench.results.add(f"no-op, {with_count}", tool, places[tool.name].call(tool.apply))
    for tool in bench.in_turn(f"status, {with_count}", repetitions):
        bench.results.add(f"status, {with_count}", tool, places[tool.name].call(tool.status))
    extra = dict.fromkeys(places, count)
    # The next files go into a copy of the folder, since others go on with this one.
    for name, place in places.items():
        place.folder = shutil.copytree(place.folder, bench.folder / f"{name}-{count}-and-more")
    for tool in bench.in_turn(f"one pending, {with_count}", repetitions):
        place = places[tool.name]
        extra[tool.name] += 1
        tool.lay_out(place.folder, extra[tool.name], extra[tool.name], text)
        bench.results.add(f"one pending, {with_count}", tool, place.call(tool.apply))
        place.expect(extra[tool.name])


def large(bench: Bench, server: ThrowawayServer) -> None:
    """The same reading with ten times as many, which each tool applied itself (once, without waiting for the disk)."""
    places = {}
    for tool in bench.tools:
        bench.say(f"{tool.name} applies {bench.sizes.large:,}")
        place = new_database(server, tool, bench.files(tool, bench.sizes.large, change))
        place.durable(False)
        if tool.prepare is not None:
            place.call(tool.prepare)
        place.call(tool.apply)
        place.expect(bench.sizes.large)
        place.durable(True)
        place.settle()
        places[tool.name] = place
    reading(bench, places, bench.sizes.large, bench.sizes.large_short, change)


def far_away(bench: Bench, server: ThrowawayServer, round_trip: float) -> None:
    """From empty, and nothing to do, through a proxy that delays; round trips are counted."""
    with DelayProxy(server.port, round_trip / 2) as proxy:
        shown = f"{round_trip * 1000:g} ms away"
        for tool in bench.in_turn(f"from empty, {shown}", bench.sizes.far):
            place = _fresh(bench, server, tool, table, proxy.port)
            for workload, repetitions in ((f"from empty, {shown}", 1), (f"no-op, {shown}", 3)):
                for _ in range(repetitions):
                    with _counted(proxy) as counted:
                        sample = place.call(tool.apply)
                    bench.results.add(workload, tool, replace(sample, trips=counted[0]))
            place.expect(bench.sizes.small)


@contextmanager
def _counted(proxy: DelayProxy) -> Iterator[list[int]]:
    counted = [0]
    before = proxy.trips
    yield counted
    counted[0] = proxy.trips - before
