"""Show what a deploy would do in each environment, in order, and the plan's digest. Read-only."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.locks import file_document, step_document
from lockstep.cli.terminal import error_document, paint, show, show_error, show_json
from lockstep.core.planner import described
from lockstep.errors import ExitCode, LockstepError

if TYPE_CHECKING:
    from lockstep.service.planning import TargetPlan

EXAMPLES = """\
  lockstep plan               every environment
  lockstep plan prod --sql    exactly what would be sent to prod (values of settings never appear in it)
  lockstep plan prod --to 12  only up to version 12"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    words.selection(parser)
    parser.add_argument("--sql", action="store_true", help="print all that would be sent for each migration")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.planning import plan_target

    plans: list[TargetPlan] = []
    refused: list[tuple[str, LockstepError]] = []
    for environment in context.settings.chosen(arguments.environments):
        try:
            one = plan_target(
                context.settings,
                environment,
                context.folder,
                to_version=arguments.to,
                include=arguments.include,
                with_sql=arguments.sql,
            )
        except LockstepError as error:
            refused.append((environment.name, error))
            continue
        plans.append(one)
        if not context.as_json:
            _print(one, protected=environment.protected)
    if context.as_json:
        errors = [{"environment": name, **error_document(refusal)} for name, refusal in refused]
        show_json("plan", {"environments": [_document(one) for one in plans], "refused": errors})
    else:
        for _, refusal in refused:
            show_error(refusal, as_json=False, contacts=[], runbook=None)
    return max((refusal.exit_code for _, refusal in refused), default=ExitCode.DONE)


def _print(one: TargetPlan, *, protected: bool) -> None:
    from lockstep.core.locking.lock_report import step_lines

    plan = one.plan
    if one.sql is not None:
        show(f"-- {one.target}, plan {plan.digest[:12]}\n{one.sql}", exact=True)
        return
    show(paint(one.target, "bold"))
    if not plan.steps:
        show("  nothing to do")
    elif protected:
        show("  backup to S3 first")
    told = False
    for number, (step, locks, hazards) in enumerate(zip(plan.steps, one.locks, one.hazards, strict=True), start=1):
        how = "again, " if step.again else ""
        down = "" if step.migration.down or step.migration.version is None else ", no way back"
        show(f"  {number}. {step.label}  ({how}{described(step)}{down})")
        for line in step_lines(locks):
            show(f"     {line}")
        for hazard in hazards:
            told = True
            show(f"     line {hazard.line}: {paint('warning', 'yellow')}: {hazard.message} [{hazard.rule}]")
    if plan.stopped_by is not None:
        show(f"  stops before {plan.stopped_by.name}: reverted here, held until its file changes")
    for notice in plan.notices:
        show(f"  note: {notice.message}")
    for step in plan.steps:
        if not step.migration.up.script().statements:
            show(f"  note: {step.name} holds no statement; once applied, it cannot be filled in any more")
    if one.backup_note:
        show(f"  note: {one.backup_note}")
    if told:
        show("  the safe ways: lockstep validate")
    show(f"  plan {plan.digest[:12]}\n")


def _document(one: TargetPlan) -> dict[str, Any]:
    plan = one.plan
    return {
        "environment": one.environment,
        "target": one.target,
        "digest": plan.digest,
        "steps": [
            {
                "migration_name": step.name,
                "version": step.migration.version,
                "checksum": step.checksum,
                "again": step.again,
                "transactional": step.migration.up.transactional,
                "statements": len(step.migration.up.script().statements),
                "reversible": step.migration.down is not None,
                **step_document(locks),
                "by_statement": file_document(locks)["statements"],
                "findings": hazards,
            }
            for step, locks, hazards in zip(plan.steps, one.locks, one.hazards, strict=True)
        ],
        "notices": [
            *({"kind": notice.kind.value, "message": notice.message} for notice in plan.notices),
            *([{"kind": "backup", "message": one.backup_note}] if one.backup_note else []),
        ],
        "stopped_by": plan.stopped_by.name if plan.stopped_by else None,
        "sql": one.sql,
    }
