"""Show the audit log: who applied, reverted, repaired or refused what, when, and how long it took. Read-only."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lockstep.postgres.audit import LoggedEvent

#: Characters of what an event is about: one long name must not widen every row.
WIDTH = 48
#: Characters of the details, which stand last and widen nothing. --json has them whole.
DETAILS = 200

EXAMPLES = """\
  lockstep history                  the newest events of every environment
  lockstep history prod -n 100      more of one
  lockstep history prod --verify    recompute the log's hash chain; exit 4 when it is broken"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument("-n", "--limit", type=words.count, default=15, metavar="N", help="how many events (default 15)")
    parser.add_argument("--verify", action="store_true", help="verify the hash chain of the whole log")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.history import history

    now = datetime.now(UTC)
    code = ExitCode.DONE
    documents = []
    for environment in context.settings.chosen(arguments.environments):
        found = history(context.settings, environment, limit=arguments.limit, verify=arguments.verify)
        if found.chain is not None and found.chain.broken_at is not None:
            code = ExitCode.DISAGREES
        if context.as_json:
            documents.append(
                {"environment": found.environment, "target": found.target, "events": found.events, "chain": found.chain}
            )
            continue
        show(found.target)
        show(table(found.events, now))
        if found.chain is not None:
            chain = found.chain
            if chain.broken_at is None:
                show(f"audit log whole: {chain.length} rows, head {chain.head[:12]}")
            else:
                talk(
                    f"audit log broken at row {chain.broken_at}: it was changed by hand, or rows are missing before it"
                )
        show("")
    if context.as_json:
        show_json("history", {"environments": documents})
    return code


def table(events: Sequence[LoggedEvent], now: datetime) -> str:
    """Return the events as a table; the last column is there when one of them has details that a person looks for."""
    from lockstep.core.duration import format_ms
    from lockstep.core.migration import label
    from lockstep.core.moments import format_moment
    from lockstep.core.table import render_table

    rows = [
        [
            str(e.id),
            format_moment(e.at, now),
            e.event,
            _short(label(e.migration_name) if e.migration_name else _about(e.event, e.details), WIDTH),
            format_ms(e.duration_ms),
            e.actor,
            e.run_id or "",
            _short(_more(e.event, e.details), DETAILS),
        ]
        for e in events
    ]
    headers = ["#", "when", "event", "what", "took", "by", "run", "details"]
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return render_table(headers, rows)


def _short(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _about(event: str, details: Mapping[str, object]) -> str:
    """What an event without a migration is about."""
    if event in ("backup", "verify", "restore"):
        return str(details.get("backup", ""))
    if event == "refuse":
        return f"lock held by {details.get('lock', '?')}"
    if event == "baseline":
        up_to = details.get("up_to")
        return f"up to {up_to}" if up_to is not None else "nothing of the folder"
    return ""


def _more(event: str, details: Mapping[str, object]) -> str:
    """What was done, and the reason that was given."""
    what = ""
    if event == "verify":
        what = f"{details.get('level', '?')}: {'holds' if details.get('ok') else 'FAILED'}"
    elif event == "restore":
        old, lost = details.get("old_database"), details.get("rows_lost")
        what = f"of {details.get('of', '?')}" + (f", the old database is {old}" if old else "")
        what += f", {lost:,} rows only there" if isinstance(lost, int) and lost else ""
    elif event == "repair":
        what = str(details.get("what") or "")
    elif event == "heal":
        what = f"dropped the invalid index {details.get('dropped', '?')}"
    elif event in ("start", "resume"):
        script = "the down script, " if details.get("revert") else ""
        what = script + ("in units" if event == "start" else "behind what was done")
    reason = str(details.get("reason") or "")
    return f"{what} ({reason})" if what and reason else what or reason
