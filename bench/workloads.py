"""The workloads: which call is measured in which state, for every tool in turn, several times."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.fingerprint import tables_sql
from bench.measuring import CommandFailed, Database, Sample, added, new_database
from bench.migrations import CHANGES, TABLES, TABLES_BOTH_WAYS, Kind
from bench.proxy import DelayProxy
from bench.results import Results
from bench.tools import BACK, FLOOR, LOCKSTEP, Tool, Words
from lockstep.postgres.throwaway import ThrowawayServer

Say = Callable[[str], None]
_AT_ONCE = 100  # tables of a large schema in one migration


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is done. Tools that are not core take part in fewer rounds, so that all of it stays bounded."""

    small: int = 1_000  # migrations
    large: int = 10_000
    curve: tuple[int, ...] = (10, 100)  # what the curve of cost has below these
    few: int = 100  # migrations, through the delay, of every tool
    long: int = 5  # repetitions of calls that apply everything
    far: int = 2  # the same through the delay
    short: int = 11  # repetitions of calls that read
    large_short: int = 7  # the same with the large number
    reverts: int = 3
    tables: tuple[int, ...] = (50, 500, 5_000)  # of a schema that grows
    others_long: int = 2
    others_short: int = 5


QUICK = Sizes(
    small=40, large=60, curve=(3, 7), few=12, long=1, far=1, short=1, large_short=1, reverts=1, tables=(5, 120), others_long=1, others_short=1
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Bench:
    """All that the workloads share. `folder` holds a folder of files per tool and size."""

    tools: Sequence[Tool]
    sizes: Sizes
    folder: Path
    say: Say
    results: Results = field(default_factory=Results)
    broken: set[str] = field(default_factory=set)  # tools that failed once, and are left out from then on

    @property
    def present(self) -> list[Tool]:
        return [t for t in self.tools if t.name not in self.broken]

    @property
    def core(self) -> list[Tool]:
        return [t for t in self.present if t.core]

    def files(self, tool: Tool, count: int, kind: Kind = TABLES) -> Path:
        """The folder with a tool's first `count` migrations."""
        folder = self.folder / f"{tool.name}-{count}-{kind.name}"
        if not folder.exists():
            folder.mkdir()
            tool.lay_out(folder, 1, count, kind)
        return folder

    def in_turn(
        self, workload: str, tools: Sequence[Tool], repetitions: int, others: int | None = None
    ) -> Iterator[Tool]:
        """Every tool, interleaved, `repetitions` times (`others` for tools that are not core); each round begins
        with another one."""
        for number in range(max(repetitions, others or 0)):
            self.say(f"{workload}: {number + 1} of {repetitions}")
            for index in range(len(tools)):
                tool = tools[(index + number) % len(tools)]
                if number < (repetitions if tool.core or others is None else others) and tool.name not in self.broken:
                    yield tool

    @contextmanager
    def tried(self, tool: Tool) -> Iterator[None]:
        """Leave a peer out, with its reason, when a call of it fails; ours and the core's have to work."""
        try:
            yield
        except CommandFailed as failed:
            if tool.core:
                raise
            self.say(str(failed))
            self.broken.add(tool.name)
            self.results.absent[tool.name] = str(failed).splitlines()[0]


def start_up(bench: Bench, server: ThrowawayServer) -> None:
    """What a tool takes to say its version."""
    places = {t.name: new_database(server, t, bench.files(t, 1)) for t in bench.present}
    for tool in bench.in_turn("start-up", bench.present, bench.sizes.short, bench.sizes.others_short):
        with bench.tried(tool):
            bench.results.add("start-up (--version)", tool, places[tool.name].call(tool.version))


def warm_up(bench: Bench, server: ThrowawayServer) -> None:
    """Once before anything is measured: programs come from the disk, and Python compiles what it has not yet."""
    for tool in bench.present:
        place = new_database(server, tool, bench.files(tool, 1))
        with bench.tried(tool):
            for words in (tool.version, tool.prepare, tool.apply, tool.status):
                if words is not None:
                    place.call(words)


def from_empty(
    bench: Bench, server: ThrowawayServer, workload: str, kind: Kind = TABLES, *, all_tools: bool = True
) -> dict[str, Database]:
    """Apply all migrations to fresh databases; return the last round's."""
    tools = bench.present if all_tools else bench.core
    last: dict[str, Database] = {}
    for tool in bench.in_turn(workload, tools, bench.sizes.long, bench.sizes.others_long):
        with bench.tried(tool):
            last[tool.name] = _applied(bench, server, tool, bench.sizes.small, kind, workload)
    return last


def filled(bench: Bench, server: ThrowawayServer) -> dict[str, Database]:
    """The same for what only reads afterwards: once, not measured."""
    places = {}
    for tool in bench.in_turn("to read from", bench.present, 1):
        with bench.tried(tool):
            places[tool.name] = _applied(bench, server, tool, bench.sizes.small, TABLES, None, durable=False)
    return places


def _fresh(
    bench: Bench, server: ThrowawayServer, tool: Tool, count: int, kind: Kind, port: int | None = None, *, durable: bool = True
) -> Database:  # fmt: skip
    place = new_database(server, tool, bench.files(tool, count, kind), port=port)
    if not durable:
        place.durable(False)
    if tool.prepare is not None:
        sample = place.call(tool.prepare)
        if port is None and durable:
            bench.results.add("init, once per database", tool, sample)
    place.settle()
    return place


def _applied(
    bench: Bench, server: ThrowawayServer, tool: Tool, count: int, kind: Kind, workload: str | None, *, durable: bool = True
) -> Database:  # fmt: skip
    place = _fresh(bench, server, tool, count, kind, durable=durable)
    sample = place.call(tool.apply)
    place.expect(count)
    if workload is not None:
        bench.results.add(workload, tool, sample)
    if not durable:
        place.durable(True)
        place.settle()
    return place


def reading(
    bench: Bench, places: Mapping[str, Database], count: int, repetitions: int, kind: Kind = TABLES, *, pending: bool = True
) -> None:  # fmt: skip
    """With `count` migrations applied: nothing to do, status, and one more to apply each time."""
    with_count = f"{count:,} applied"
    tools = [t for t in bench.present if t.name in places]
    others = min(repetitions, bench.sizes.others_short)
    for what in ("no-op", "status"):
        for tool in bench.in_turn(f"{what}, {with_count}", tools, repetitions, others):
            with bench.tried(tool):
                words = tool.apply if what == "no-op" else tool.status
                bench.results.add(f"{what}, {with_count}", tool, places[tool.name].call(words))
    if not pending:
        return
    moved = _moved(bench, places, f"{count}-and-more")
    extra = dict.fromkeys(places, count)
    for tool in bench.in_turn(f"one pending, {with_count}", tools, repetitions, others):
        place = moved[tool.name]
        extra[tool.name] += 1
        with bench.tried(tool):
            tool.lay_out(place.folder, extra[tool.name], extra[tool.name], kind)
            bench.results.add(f"one pending, {with_count}", tool, place.call(tool.apply))
            place.expect(extra[tool.name])


def _moved(bench: Bench, places: Mapping[str, Database], name: str) -> dict[str, Database]:
    """Copies of the databases with folders of their own, since others go on with these."""
    moved = {}
    for tool, place in places.items():
        moved[tool] = place.clone()
        moved[tool].folder = shutil.copytree(place.folder, bench.folder / f"{tool}-{name}")
    return moved


def two_environments(bench: Bench, places: Mapping[str, Database], count: int) -> None:
    """Two databases with `count` applied: nothing to do, and one pending in both. Who knows one database is called twice."""
    firsts = _moved(bench, places, "two")
    seconds = {name: place.clone() for name, place in firsts.items()}
    for tool in bench.present:
        if tool.name in places and tool.lay_out_both is not None:
            tool.lay_out_both(firsts[tool.name].folder, count + 1, count, TABLES)  # its settings alone
            firsts[tool.name].other = seconds[tool.name].name
            seconds[tool.name] = replace(firsts[tool.name], name=seconds[tool.name].name, other=firsts[tool.name].name)
    tools = [t for t in bench.present if t.name in places]
    for workload, more in (("two environments, no-op", 0), ("two environments, one pending in both", 1)):
        extra = dict.fromkeys(places, count)
        for tool in bench.in_turn(workload, tools, bench.sizes.others_short, bench.sizes.reverts):
            first, second = firsts[tool.name], seconds[tool.name]
            with bench.tried(tool):
                if more:
                    extra[tool.name] += 1
                    tool.lay_out(first.folder, extra[tool.name], extra[tool.name], TABLES)
                    if tool.lay_out_both is not None:
                        tool.lay_out_both(first.folder, extra[tool.name], extra[tool.name], TABLES)
                calls = (
                    [first.call(tool.both)] if tool.both is not None else [p.call(tool.apply) for p in (first, second)]
                )
                bench.results.add(workload, tool, added(calls))
                for place in (first, second):
                    place.expect(extra[tool.name])


def reverting(bench: Bench, server: ThrowawayServer) -> None:
    """The ten newest taken back, then the ten before them, and so on."""
    count, workload = bench.sizes.small, f"revert {BACK} of {bench.sizes.small:,}"
    places = {}
    tools = [t for t in bench.present if t.revert is not None]
    for tool in bench.in_turn("to revert", tools, 1):
        with bench.tried(tool):
            places[tool.name] = _applied(bench, server, tool, count, TABLES_BOTH_WAYS, None, durable=False)
    newest = dict.fromkeys(places, count)
    for tool in bench.in_turn(workload, tools, bench.sizes.reverts):
        assert tool.revert is not None
        with bench.tried(tool):
            calls = [places[tool.name].call(tool.revert(newest[tool.name])) for _ in range(tool.reverts)]
            newest[tool.name] -= BACK
            places[tool.name].expect(newest[tool.name])
            bench.results.add(workload, tool, added(calls))


def curve(bench: Bench, server: ThrowawayServer) -> None:
    """From 10 to 10,000 one-line changes: from empty, nothing to do, status; and one pending behind the most."""
    sizes = bench.sizes
    for count in (*sizes.curve, sizes.small, sizes.large):
        rounds = 1 if count == sizes.large else sizes.reverts
        places = {}
        workload = f"from empty, {count:,} one-line changes"
        for tool in bench.in_turn(workload, bench.core, rounds):
            places[tool.name] = _applied(bench, server, tool, count, CHANGES, workload)
        if count != sizes.small:  # measured with tables, and more often
            reading(bench, places, count, sizes.large_short, CHANGES, pending=count == sizes.large)


def far_away(bench: Bench, server: ThrowawayServer, round_trip: float) -> None:
    """From empty, and nothing to do, through a proxy that delays; round trips are counted."""
    with DelayProxy(server.port, round_trip / 2) as proxy:
        shown = f"{round_trip * 1000:g} ms away"
        for tool in bench.in_turn(f"from empty, {shown}", bench.core, bench.sizes.far):
            place = _fresh(bench, server, tool, bench.sizes.small, TABLES, proxy.port)
            for workload, repetitions in ((f"from empty, {shown}", 1), (f"no-op, {shown}", 3)):
                for _ in range(repetitions):
                    bench.results.add(workload, tool, _counted(proxy, place, tool.apply))
            place.expect(bench.sizes.small)
        workload = f"from empty, {bench.sizes.few} migrations, {shown}"
        for tool in bench.in_turn(workload, bench.present, bench.sizes.far, 1):
            with bench.tried(tool):
                place = _fresh(bench, server, tool, bench.sizes.few, TABLES, proxy.port)
                bench.results.add(workload, tool, _counted(proxy, place, tool.apply))
                place.expect(bench.sizes.few)


def _counted(proxy: DelayProxy, place: Database, words: Words) -> Sample:
    before = proxy.trips
    sample = place.call(words)
    return replace(sample, trips=proxy.trips - before)


def schemas(bench: Bench, server: ThrowawayServer) -> None:
    """What a schema's size costs us: nothing to do, status, one pending, with that many tables as applications have them.

    Beside the floor alone: no other tool looks at the schema.
    """
    tools = [t for t in bench.core if t.name in (LOCKSTEP.name, FLOOR.name)]
    for number in bench.sizes.tables:
        shown = f"a schema of {number:,} tables"
        kind, first = Kind(name=f"schema-{number}", up=partial(_of_schema, number)), -(-number // _AT_ONCE)
        places = {}
        for tool in bench.in_turn(f"to make {shown}", tools, 1):
            places[tool.name] = _applied(bench, server, tool, first, kind, None, durable=False)
        newest = dict.fromkeys(places, first)
        for tool in bench.in_turn(shown, tools, bench.sizes.others_short):
            place = places[tool.name]
            newest[tool.name] += 1
            bench.results.add(f"no-op, {shown}", tool, place.call(tool.apply))
            bench.results.add(f"status, {shown}", tool, place.call(tool.status))
            tool.lay_out(place.folder, newest[tool.name], newest[tool.name], kind)
            bench.results.add(f"one pending, {shown}", tool, place.call(tool.apply))
            place.expect(newest[tool.name])


def _of_schema(tables: int, number: int) -> str:
    """A schema's tables, a hundred a migration; then small ones."""
    first, end = (number - 1) * _AT_ONCE, min(number * _AT_ONCE, tables)
    return tables_sql(first, end) if first < tables else TABLES.up(number)
