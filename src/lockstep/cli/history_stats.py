"""`history --stats`: how long migrations, runs and waits took, the slowest first, environments side by side."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lockstep.cli.context import Context
from lockstep.cli.history import LIMIT, moment
from lockstep.cli.terminal import show, show_json, width
from lockstep.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockstep.core.trend import Compared, Timing, Trend, Waits

RUNS = 5  # of each environment that the tables show
RUNS_JSON = 100


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.trend import side_by_side
    from lockstep.service.history import trend

    now = datetime.now(UTC)
    since, until = moment(arguments.since, "--since", now), moment(arguments.until, "--until", now)
    if since is not None and until is not None and until <= since:
        raise UsageError(f"--until {arguments.until} is not after --since {arguments.since}")
    runs = RUNS_JSON if context.as_json else RUNS
    trends = [
        trend(context.settings, one, since=since, until=until, runs=runs)
        for one in context.settings.chosen(arguments.environments)
    ]
    compared = side_by_side(trends)
    if context.as_json:
        show_json("history-stats", {"environments": trends, "slowest": [row.migration_name for row in compared]})
        return ExitCode.DONE
    limit = arguments.limit or LIMIT
    if not compared:
        show("nothing was applied or reverted")
    else:
        show(times(compared[:limit], [one.environment for one in trends]))
        if len(compared) > limit:
            show(f"and {len(compared) - limit} faster ones (-n shows more)")
        show("")
        show(run_table(trends, now))
    for line in waiting(trends):
        show(line)
    return ExitCode.DONE


def times(rows: Sequence[Compared], environments: Sequence[str]) -> str:
    """Return the migrations with their newest time in each environment, and more where they ran more than once."""
    from lockstep.core.migration import label
    from lockstep.core.table import render_table
    from lockstep.core.text import printable
    from lockstep.core.trend import bar

    longest = max(row.slowest_ms for row in rows)
    cells = [
        [
            printable(label(row.migration_name)) + (" (revert)" if row.event == "revert" else ""),
            *(_time(row.by_environment.get(name)) for name in environments),
            bar(row.slowest_ms, longest),
        ]
        for row in rows
    ]
    return render_table(["migration", *environments, ""], cells, width=width())


def _time(timing: Timing | None) -> str:
    from lockstep.core.duration import format_ms

    if timing is None:
        return "–"
    text = format_ms(timing.newest_ms)
    if timing.count > 1:
        text += f" ({timing.count}×, median {format_ms(timing.median_ms)}, worst {format_ms(timing.worst_ms)})"
    return text + (f", waited {timing.waited}×" if timing.waited else "")


def run_table(trends: Sequence[Trend], now: datetime) -> str:
    """Return the newest runs of each environment: from the begin of the first event to the last one."""
    from lockstep.core.duration import format_ms
    from lockstep.core.moments import format_moment
    from lockstep.core.table import render_table
    from lockstep.core.text import printable

    rows = []
    for trend in trends:
        for run in trend.runs:
            done = [(run.applied, "applied"), (run.reverted, "reverted"), (run.failed, "failed")]
            what = ", ".join(f"{count} {word}" for count, word in done if count)
            rows.append(
                [
                    printable(run.run_id),
                    trend.environment,
                    format_moment(run.began, now),
                    format_ms(run.duration_ms),
                    what,
                ]
            )
    return render_table(["run", "environment", "began", "took", "what"], rows, width=width())


def waiting(trends: Sequence[Trend]) -> list[str]:
    """Return a line or two per environment whose migrations had to wait for locks."""
    lines: list[str] = []
    for trend in trends:
        if trend.waits.migrations:
            lines += ["", *_waits(trend.environment, trend.waits)]
    return lines


def _waits(name: str, waits: Waits) -> list[str]:
    from lockstep.core.counting import counted
    from lockstep.core.duration import format_ms
    from lockstep.core.text import printable

    gave_up = f", {waits.gave_up} of them in vain" if waits.gave_up else ""
    count = counted(waits.migrations, "migration")
    took = (
        f": {format_ms(waits.total_ms)} before the try that held, {format_ms(waits.worst_ms)} at worst"
        if waits.total_ms
        else ""
    )
    lines = [f"{name}: {count} waited for locks{gave_up}{took}"]
    if waits.blockers:
        who = ", ".join(f"{printable(one.who)} ({one.count}×)" for one in waits.blockers)
        lines.append(f"  in the way most often: {who}")
    return lines
