"""`history prune`: which rows of an audit log go, what keeps the rest, and where they are exported to."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lockstep.cli.context import Context
from lockstep.cli.history import moment
from lockstep.cli.terminal import show, show_json, teller
from lockstep.core.counting import counted
from lockstep.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lockstep.service.auditpruning import LogPruned


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.auditpruning import LogPruned, plan_log_pruning, prune_log

    names = arguments.environments[1:]
    before = moment(arguments.before, "--before", datetime.now(UTC))
    if len(names) != 1 or before is None:
        raise UsageError(
            "history prune needs one environment and --before",
            hint="lockstep history prune ENV --before TIME --dry-run says what would go",
        )
    environment = context.settings.environment(names[0])
    if arguments.dry_run:
        done = LogPruned(plan=plan_log_pruning(context.settings, environment, before))
    else:
        progress = teller()
        done = prune_log(context.settings, environment, before, context.new_run(), progress, reason=arguments.reason)
    if context.as_json:
        plan = done.plan
        show_json(
            "history-prune",
            {
                "dry_run": arguments.dry_run, "environment": plan.environment, "target": plan.target, "before": plan.before,
                "first": plan.first, "newest": plan.newest, "up_to": plan.up_to if plan.rows else None,
                "rows": plan.rows, "stops": plan.stops, "export": done.export, "anchor": done.anchor,
            },
        )  # fmt: skip
    else:
        _show(done, dry=arguments.dry_run)
    return ExitCode.DONE


def _show(done: LogPruned, *, dry: bool) -> None:
    plan = done.plan
    name = plan.environment
    old = max(0, plan.wanted - plan.first + 1)
    before = f"{plan.before:%Y-%m-%d %H:%M} UTC"
    if not old:
        show(f"{name}: no row of the audit log is older than {before}")
        return
    verb = "would be exported and removed" if dry else "exported and removed"
    if plan.rows:
        show(f"{name}: {counted(plan.rows, 'row')} {verb}: {plan.first} to {plan.up_to} of {plan.newest}")
    else:
        show(
            f"{name}: nothing {'would go' if dry else 'went'}, though {counted(old, 'row is', 'rows are')} older than {before}"
        )
    if plan.up_to < plan.wanted:
        for stop in plan.stops:
            show(f"  from row {stop.number} on all stays: {stop.why}")
    if done.anchor is not None:
        show(f"  the chain goes on from the anchor, event {done.anchor}: lockstep history {name} --verify")
