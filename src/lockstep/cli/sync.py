"""Apply what is pending, environment after environment in promotion order, stopping at the first that fails.

A protected environment is backed up to S3 first, what is pending is rehearsed on that backup, and somebody has to
approve it: you are asked at a terminal, else it waits for `lockstep approve`. Each file is one transaction: it is
applied whole or not at all. One that runs outside of a transaction goes on where it stopped.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lockstep.cli import words
from lockstep.cli.asking import prompt_of
from lockstep.cli.context import Context
from lockstep.cli.terminal import error_document, show, show_json, talk, teller
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.service.rehearsal.gate import Passed
    from lockstep.service.syncing import SyncReport

EXAMPLES = """\
  lockstep sync              everything, dev before prod
  lockstep sync dev          one environment
  lockstep sync dev --to 12  up to version 12
  lockstep sync prod --approve OPS-1234  without being asked, for this reason
  lockstep sync --wait       wait for another run, then apply what is left"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    words.selection(parser)
    words.waiting(parser)
    words.overriding(parser)
    words.approving(parser)


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.syncing import summary, sync

    chosen = context.settings.chosen(arguments.environments)
    run, progress = context.new_run(), teller()
    asks = arguments.approve is not None or any(environment.protected for environment in chosen)

    def work() -> SyncReport:
        return sync(
            context.settings,
            chosen,
            context.folder,
            run,
            progress,
            to_version=arguments.to,
            include=arguments.include,
            wait_seconds=arguments.wait,
            override=arguments.override,
            prompt=prompt_of(arguments, context.settings, silent=context.as_json) if asks else None,
        )

    if context.settings.alerts.urls:
        from lockstep.service.alerting.syncs import alert_report, alerting  # late: only where they go somewhere

        with alerting(context.settings, run, progress):
            report = work()
        alert_report(context.settings, report, run, progress)
    else:
        report = work()
    error = report.error
    if context.as_json:
        rows = [
            {
                "environment": r.environment,
                "target": r.target,
                "plan": r.plan_digest,
                "applied": r.applied,
                "backup": r.backup_key,
                "rehearsal": _rehearsal(r.rehearsal),
                "audit": r.audit,
                "error": error_document(r.error) if r.error else None,
            }
            for r in report.results
        ]
        show_json("sync", {"run_id": report.run_id, "environments": rows, "not_started": report.not_started})
        return error.exit_code if error else ExitCode.DONE
    if report.not_started:
        talk(
            f"not started, because {report.results[-1].environment} failed: {', '.join(report.not_started)}",
            urgent=True,
        )
    if error is not None:
        raise error
    applied = {r.environment: len(r.applied) for r in report.results}
    text = summary(applied, whole=len(chosen) == len(context.settings.environments))
    show(f"{text}, run {report.run_id}" if any(applied.values()) else text)
    return ExitCode.DONE


def _rehearsal(passed: Passed | None) -> dict[str, object] | None:
    """What let a protected environment go on; `rehearse` describes the whole report, which lies beside the backup."""
    if passed is None:
        return None
    found = passed.rehearsal
    return {
        "outcome": found.verdict.outcome.value if found else "could not verify",
        "key": passed.key,
        "plan": found.plan_digest if found else None,
        "worst": found.worst if found else None,
        "override": passed.override,
    }
