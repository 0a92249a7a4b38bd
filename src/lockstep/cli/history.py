"""Show the audit log: who applied, reverted, repaired or refused what, when, and how long it took. Read-only."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep history                  the newest events of every environment
  lockstep history prod -n 100      more of one
  lockstep history prod --verify    recompute the log's hash chain; exit 4 when it is broken"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument("-n", "--limit", type=words.count, default=15, metavar="N", help="how many events (default 15)")
    parser.add_argument("--verify", action="store_true", help="verify the hash chain of the whole log")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.duration import format_ms
    from lockstep.core.migration import label
    from lockstep.core.moments import format_moment
    from lockstep.core.table import render_table
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
        rows = [
            [
                str(e.id),
                format_moment(e.at, now),
                e.event,
                label(e.migration_name) if e.migration_name else _about(e.event, dict(e.details)),
                format_ms(e.duration_ms),
                e.actor,
                e.run_id or "",
            ]
            for e in found.events
        ]
        show(found.target)
        show(render_table(["#", "when", "event", "what", "took", "by", "run"], rows))
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


def _about(event: str, details: dict[str, object]) -> str:
    if event == "backup":
        return str(details.get("backup", ""))
    if event == "refuse":
        return f"lock held by {details.get('lock', '?')}"
    if event == "baseline":
        up_to = details.get("up_to")
        return f"up to {up_to}" if up_to is not None else "nothing of the folder"
    return ""
