"""The matrix migrations × environments as text: what `status` prints and the nightly report shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from lockstep.core.comparison import BEGUN, DISAGREEING, WAITING, Row, State
from lockstep.core.counting import counted
from lockstep.core.migration import label
from lockstep.core.moments import format_moment
from lockstep.core.table import render_table


def cell(row: Row | None, now: datetime) -> str:
    """One cell: the state in words, with the time where it is applied."""
    if row is None:
        return "—"
    if row.entry is None:
        return row.state.value
    return f"{words(row)}  {format_moment(row.entry.applied_at, now)}"


def words(row: Row) -> str:
    """The state; of what was begun also how far it came: `failed 2/3`."""
    progress = row.entry.progress if row.entry is not None else None
    if row.state in BEGUN and progress is not None and progress.backfill:
        return f"{row.state.value} {counted(progress.rows, 'row')}"
    if row.state in BEGUN and row.entry is not None and row.entry.statements_total:
        return f"{row.state.value} {row.entry.statements_done or 0}/{row.entry.statements_total}"
    return row.state.value


def names(columns: Mapping[str, Sequence[Row]]) -> list[tuple[str, int | None]]:
    """Every migration of any environment once, in order: (file name, version)."""
    seen: dict[int | str, tuple[str, int | None]] = {}
    for rows in columns.values():
        for row in rows:
            seen.setdefault(row.name if row.version is None else row.version, (row.name, row.version))
    return sorted(seen.values(), key=lambda item: (item[1] is None, item[1] or 0, item[0]))


def row_of(rows: Sequence[Row], name: str, version: int | None) -> Row | None:
    """The row of one migration: by version, or by name for a repeatable."""
    return next((r for r in rows if (r.version == version if version is not None else r.name == name)), None)


def matrix(
    columns: Mapping[str, Sequence[Row]],
    *,
    now: datetime,
    paint: Callable[[str, str], str] | None = None,
    width: int | None = None,
) -> str:
    """Return the table. `paint(state, padded cell)` may colour cells; `width`: of the terminal, in cells."""
    environments = list(columns)
    # A version is a number and a repeatable's name a text, so either is a key.
    indexed = [{(r.name if r.version is None else r.version): r for r in columns[e]} for e in environments]
    # A run applies many migrations within a minute, and no more than that is shown.
    moments: dict[datetime, str] = {}

    def shown(row: Row | None) -> str:
        if row is None or row.entry is None:
            return cell(row, now)
        minute = row.entry.applied_at.replace(second=0, microsecond=0)
        if minute not in moments:
            moments[minute] = format_moment(minute, now)
        return f"{words(row)}  {moments[minute]}"

    table = [
        [label(name), *[shown(rows.get(name if version is None else version)) for rows in indexed]]
        for name, version in names(columns)
    ]
    if not table:
        return "there are no migrations yet (lockstep new NAME makes the first)"
    states = {s.value for s in WAITING | DISAGREEING} | {"applied", "baseline", "reformatted", "unverified"}

    def decorate(column: int, padded: str) -> str:
        state = _DONE.sub("", padded.split("  ", 1)[0].strip())
        return paint(state, padded) if paint and column and state in states else padded

    return render_table(["migration", *environments], table, decorate if paint else None, width=width)


_DONE = re.compile(r" (?:\d+/\d+|[\d,]+ rows?)$")


def summary(environment: str, rows: Sequence[Row]) -> str:
    """One sentence about an environment, with the next command where there is something to do."""
    wrong = [r for r in rows if r.state in DISAGREEING]
    waiting = [r for r in rows if r.state in WAITING and r.state not in DISAGREEING]
    if wrong:
        if all(r.state in BEGUN and r.migration and r.entry and r.entry.progress for r in wrong):
            what = f"{label(wrong[0].name)} was begun and did not finish"
            if any(r.entry and r.entry.progress and r.entry.progress.attempted for r in wrong):
                return f"{what}, in the middle of a statement → lockstep plan {environment} says how to go on"
            back = any(r.entry and r.entry.progress and r.entry.progress.reverting for r in wrong)
            return f"{what} → lockstep {'revert' if back else 'sync'} {environment}{' --steps 1' if back else ''} goes on with it"
        listed = ", ".join(f"{label(r.name)} {r.state.value}" for r in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return f"files and ledger disagree: {listed}{more} → lockstep plan {environment}"
    if waiting:
        count = f"{len(waiting)} pending"
        first = waiting[0]
        if first.state is State.HELD:
            return (
                f"{count}, held at {label(first.name)} (reverted here) → mend its file, "
                f"or: lockstep sync {environment} --include {first.version}"
            )
        return f"{count} → lockstep sync {environment}"
    return "up to date"
