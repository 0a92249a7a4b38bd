"""What the bench aims at, and whether it is met: judged from the medians, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.measuring import Sample
from bench.peers import TOOLS
from bench.results import Results, all_cpu, median, seconds, wall
from bench.tools import DBMATE, FLOOR, LOCKSTEP

START_UP = 0.1  # seconds, for lockstep --version
GROWN = 2.5  # times the time of the small number, for the large one


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """At most so many times what another tool needs for a workload."""

    workload: str
    other: str
    most: float


def judged(results: Results) -> Iterator[list[str]]:
    """A row for each aim of which something was measured: what, the figures, met or not."""
    small, large = f"{results.sizes.get('small', 0):,}", f"{results.sizes.get('large', 0):,}"
    if (start := median(results, "start-up (--version)", LOCKSTEP.name, wall)) is not None:
        yield [f"`lockstep --version` in {START_UP:g} s", f"{seconds(start)} s", _met(start <= START_UP)]
    for ratio in (
        Ratio(workload="from empty, on disk", other=DBMATE.name, most=0.75),
        Ratio(workload="from empty, on disk", other=FLOOR.name, most=1.15),
        Ratio(workload="from empty, in memory", other=DBMATE.name, most=0.75),
        Ratio(workload="from empty, in memory", other=FLOOR.name, most=1.15),
        Ratio(workload="from empty, 5 ms away", other=DBMATE.name, most=0.25),
        *(
            Ratio(workload=f"{what}, {count} applied", other=FLOOR.name, most=1.3)
            for count in (small, large) for what in ("no-op", "status")
        ),
    ):  # fmt: skip
        ours, theirs = (median(results, ratio.workload, tool, wall) for tool in (LOCKSTEP.name, ratio.other))
        if ours is not None and theirs:
            yield [
                f"{ratio.workload}: at most {ratio.most:g} × {ratio.other}",
                f"{ours / theirs:.2f} × ({seconds(ours)} s and {seconds(theirs)} s)",
                _met(ours <= ratio.most * theirs),
            ]
    yield from _less_than_all(results, "from empty, on disk", "client and server CPU", all_cpu, _peers())
    slow = [t.name for t in TOOLS if not t.compiled and t not in (LOCKSTEP, FLOOR)]
    for what in ("no-op", "status"):
        yield from _less_than_all(results, f"{what}, {small} applied", "time", wall, slow, "that is not native code")
    for what in ("no-op", "status"):
        few, many = (median(results, f"{what}, {n} applied", LOCKSTEP.name, wall) for n in (small, large))
        if few and many is not None:
            measured = f"{many / few:.2f} × ({seconds(many)} s and {seconds(few)} s)"
            yield [f"{what}: {large} applied at most {GROWN:g} × {small}", measured, _met(many <= GROWN * few)]


def _less_than_all(
    results: Results, workload: str, what: str, of: Callable[[Sample], float], others: list[str], which: str = ""
) -> Iterator[list[str]]:
    ours = median(results, workload, LOCKSTEP.name, of)
    theirs = {name: value for name in others if (value := median(results, workload, name, of)) is not None}
    if ours is None or not theirs:
        return
    best = min(theirs, key=lambda name: theirs[name])
    aim = f"{workload}: less {what} than every peer {which}".rstrip()
    ahead = [f"{name} {value:.2f} s" for name, value in theirs.items() if value <= ours]
    against = f"ahead of us: {', '.join(ahead)}" if ahead else f"the next, {best}: {theirs[best]:.2f} s"
    yield [aim, f"{ours:.2f} s; {against}", _met(not ahead)]


def _peers() -> list[str]:
    return [t.name for t in TOOLS if t not in (LOCKSTEP, FLOOR)]


def _met(yes: bool) -> str:
    return "yes" if yes else "no"
