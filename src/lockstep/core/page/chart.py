"""Charts as data, and which of them an environment's chronicle makes. Pure: nothing here knows how they are drawn.

Each is a list of bars with their numbers beside them, so that it reads on a phone, in print and without colours; the
same numbers make its table. Milliseconds everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lockstep.core.chronicle import Chronicle, Deploy, Ran, newest_deploys, rehearsed, slowest, windows
from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.moments import minute
from lockstep.core.page.document import Cell, Column, Table
from lockstep.core.text import printable

BARS = 8  # of one chart; the tables hold more


class Fill(Enum):
    """How a part of a bar is told from the others, without its colour."""

    STRONG = "strong"  # filled, dark
    SOFT = "soft"  # filled, light
    OPEN = "open"  # an outline


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one part of every bar is."""

    name: str
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of a chart."""

    label: str
    shown: str  # its number in words, at the end of the row
    values: tuple[float, ...]  # of each series, in order
    note: str = ""  # a second line


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart."""

    key: str  # small letters and dashes: stable, for addresses and Prefect's artifacts
    title: str
    description: str  # what it shows and its main finding, for whoever does not see it
    series: tuple[Series, ...]
    bars: tuple[Bar, ...]
    stacked: bool = False  # parts one behind the other; else one below the other
    limit_ms: float | None = None  # a line that no bar should cross
    limit_name: str = ""
    table: Table  # the same numbers, and more of them


def charts(chronicles: Sequence[Chronicle], *, limit_ms: float | None, rows: int) -> tuple[Chart, ...]:
    """Return all charts that there are numbers for. `limit_ms`: the longest blocking window that passes a rehearsal."""
    made = (
        deploy_times(chronicles, rows=rows),
        blocking_windows(chronicles, limit_ms=limit_ms, rows=rows),
        rehearsed_and_actual(chronicles, rows=rows),
        slowest_migrations(chronicles, rows=rows),
    )
    return tuple(one for one in made if one is not None)


def deploy_times(chronicles: Sequence[Chronicle], *, rows: int) -> Chart | None:
    """Return how long the newest deploys took, in their parts, without the wait for people."""
    found = newest_deploys(chronicles, rows)
    if not found:
        return None
    longest = max(found[:BARS], key=lambda one: one.machine_ms)
    return Chart(
        key="deploy-times",
        title="How long deploys took",
        description=f"The newest {_count(len(found[:BARS]), 'deploy')}, newest first, each divided into backup, "
        f"rehearsal and migrations. The longest took {format_ms(longest.machine_ms)}, on {longest.environment}. "
        "The wait for an approval is not part of it.",
        series=(
            Series(name="backup", fill=Fill.SOFT),
            Series(name="rehearsal", fill=Fill.OPEN),
            Series(name="migrations", fill=Fill.STRONG),
        ),
        stacked=True,
        bars=tuple(
            Bar(
                label=f"{one.environment} · {minute(one.ended)}",
                shown=format_ms(one.machine_ms),
                values=(one.backup_ms or 0, one.rehearsal_ms or 0, one.working_ms),
                note=_parts(one),
            )
            for one in found[:BARS]
        ),
        table=deploy_table(found, sum(one.deploys_left_out for one in chronicles) + _beyond(chronicles, rows)),
    )


def deploy_table(found: Sequence[Deploy], left_out: int) -> Table:
    """Return deploys in their parts, and how many older ones there are."""
    return Table(
        caption="The newest deploys and what they took, newest first",
        columns=(
            Column(text="environment"), Column(text="ended (UTC)"), Column(text="what"),
            Column(text="backup", number=True), Column(text="rehearsal", number=True),
            Column(text="approval", number=True), Column(text="migrations", number=True),
        ),
        rows=tuple(
            (
                Cell(text=one.environment), Cell(text=minute(one.ended), time=True),
                Cell(text=one.what, bad=bool(one.failed), note=one.run_id), Cell(text=_ms(one.backup_ms)),
                Cell(text=_ms(one.rehearsal_ms)), Cell(text=_ms(one.approval_ms)), Cell(text=_ms(one.working_ms)),
            )
            for one in found
        ),
        left_out=f"{_count(left_out, 'older deploy')} left out: lockstep history --stats" if left_out else "",
    )  # fmt: skip


def blocking_windows(chronicles: Sequence[Chronicle], *, limit_ms: float | None, rows: int) -> Chart | None:
    """Return how long others had to reckon with waiting, as rehearsed; None where nothing was rehearsed."""
    if not rehearsed(chronicles, 1):
        return None
    found = windows(chronicles, rows)
    worst = found[0][1].window if found else None
    about = (
        f"The longest is {format_ms(worst.ms)} on {worst.relation}." if worst else "None of them keeps anybody waiting."
    )
    return Chart(
        key="blocking-windows",
        title="Blocking windows, as rehearsed",
        description=f"For how long each rehearsed migration blocks others, the longest first. {about}",
        series=(Series(name="blocking window", fill=Fill.STRONG),),
        bars=tuple(
            Bar(
                label=f"{environment} · {label(ran.name)}",
                shown=format_ms(ran.window.ms),
                values=(ran.window.ms,),
                note=f"{ran.window.relation}, {ran.window.mode}",
            )
            for environment, ran in found[:BARS]
            if ran.window is not None
        ),
        limit_ms=limit_ms if worst and limit_ms and limit_ms <= worst.ms * 4 else None,
        limit_name=f"limit {format_ms(limit_ms)}" if limit_ms else "",
        table=Table(
            caption="Blocking windows of rehearsed migrations, the longest first",
            columns=(
                Column(text="migration"), Column(text="environment"), Column(text="relation"), Column(text="lock"),
                Column(text="blocks others", number=True), Column(text="took", number=True),
            ),
            rows=tuple(
                (
                    Cell(text=label(ran.name)), Cell(text=environment), Cell(text=ran.window.relation),
                    Cell(text=ran.window.mode), Cell(text=format_ms(ran.window.ms)), Cell(text=format_ms(ran.ms)),
                )
                for environment, ran in found
                if ran.window is not None
            ),
            empty="No rehearsed migration keeps anybody waiting.",
        ),
    )  # fmt: skip


def rehearsed_and_actual(chronicles: Sequence[Chronicle], *, rows: int) -> Chart | None:
    """Return what migrations took in the rehearsal beside what they took then; None where nothing was rehearsed."""
    found = rehearsed(chronicles, rows)
    if not found:
        return None
    drawn = sorted(found, key=lambda pair: -max(pair[1].ms, pair[1].rehearsed_ms or 0))[:BARS]
    environment, ran = drawn[0]
    return Chart(
        key="rehearsed-and-actual",
        title="Rehearsed and actual",
        description="For the slowest of the migrations that were rehearsed last, the time on the copy beside the time on "
        f"the environment itself. {label(ran.name)} was rehearsed in {format_ms(ran.rehearsed_ms)} and took "
        f"{format_ms(ran.ms)} on {environment}.",
        series=(Series(name="rehearsed", fill=Fill.OPEN), Series(name="took", fill=Fill.STRONG)),
        bars=tuple(
            Bar(
                label=f"{where} · {label(one.name)}",
                shown=f"{format_ms(one.rehearsed_ms)} → {format_ms(one.ms)}",
                values=(one.rehearsed_ms or 0, one.ms),
            )
            for where, one in drawn
        ),
        table=Table(
            caption="Migrations that were rehearsed, newest first",
            columns=(
                Column(text="migration"), Column(text="environment"), Column(text="applied (UTC)"),
                Column(text="rehearsed", number=True), Column(text="took", number=True),
                Column(text="of rehearsed", number=True),
            ),
            rows=tuple(
                (
                    Cell(text=label(one.name)), Cell(text=where), Cell(text=minute(one.at), time=True),
                    Cell(text=format_ms(one.rehearsed_ms)), Cell(text=format_ms(one.ms)), Cell(text=_ratio(one)),
                )
                for where, one in found
            ),
        ),
    )  # fmt: skip


def slowest_migrations(chronicles: Sequence[Chronicle], *, rows: int) -> Chart | None:
    """Return the slowest migrations as they were last applied, each where it took longest."""
    found = slowest(chronicles, rows)
    if not found:
        return None
    environment, ran = found[0]
    return Chart(
        key="slowest-migrations",
        title="The slowest migrations",
        description=f"The slowest migrations as they were last applied, each where it took longest. The slowest is "
        f"{label(ran.name)} with {format_ms(ran.ms)} on {environment}.",
        series=(Series(name="execution time", fill=Fill.STRONG),),
        bars=tuple(
            Bar(label=f"{where} · {label(one.name)}", shown=format_ms(one.ms), values=(one.ms,))
            for where, one in found[:BARS]
        ),
        table=Table(
            caption="The slowest migrations, each where it took longest",
            columns=(
                Column(text="migration"), Column(text="environment"), Column(text="applied (UTC)"),
                Column(text="took", number=True),
            ),
            rows=tuple(
                (Cell(text=label(one.name)), Cell(text=where), Cell(text=minute(one.at), time=True), Cell(text=format_ms(one.ms)))
                for where, one in found
            ),
        ),
    )  # fmt: skip


def in_words(chart: Chart) -> str:
    """Return a chart as lines of text, for a description that stands where it cannot be seen."""
    return "\n".join(f"{printable(bar.label)}: {printable(bar.shown)}" for bar in chart.bars)


def _parts(one: Deploy) -> str:
    parts = [("backup", one.backup_ms), ("rehearsal", one.rehearsal_ms), ("migrations", one.working_ms)]
    took = [f"{name} {format_ms(ms)}" for name, ms in parts if ms]
    return " · ".join([*([one.what] if one.failed else []), *took])


def _ms(ms: int | None) -> str:
    return "–" if ms is None else format_ms(ms)


def _ratio(ran: Ran) -> str:
    return f"{ran.ms / ran.rehearsed_ms:.0%}" if ran.rehearsed_ms and ran.rehearsed_ms >= 1 else ""


def _beyond(chronicles: Sequence[Chronicle], rows: int) -> int:
    return max(0, sum(len(one.deploys) for one in chronicles) - rows)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
