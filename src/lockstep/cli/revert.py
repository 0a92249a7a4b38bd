"""Take migrations back, newest first, with their down scripts. A protected environment is backed up to S3 first.

There the way back has to be proven, and somebody has to approve it: you are asked at a terminal, else it waits for
`lockstep approve`. A reverted version is held: deploys stop before it until its file changes or --include names it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lockstep.cli import words
from lockstep.cli.asking import prompt_of
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, teller
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.service.reverting import Reverted

EXAMPLES = """\
  lockstep revert dev --steps 1        the newest one
  lockstep revert prod --to 12         everything above version 12
  lockstep revert dev --to none        everything
  lockstep revert prod --only 11       one out of the middle, where a trial proves that the newer ones do without it
  lockstep revert prod --steps 1 --reason "order totals wrong, INC-42" """


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "--to",
        type=words.version_or_none,
        metavar="VERSION",
        help="the version that stays; all above goes (none: everything)",
    )
    group.add_argument("--steps", type=words.count, metavar="N", help="how many to take back")
    group.add_argument(
        "--only",
        type=words.version,
        metavar="VERSION",
        help="this one alone, while newer ones stay: where a trial on a copy proves that they can",
    )
    parser.add_argument("--reason", help="kept in the audit log")
    parser.add_argument(
        "--override",
        type=words.reason,
        metavar="REASON",
        help="revert although it is not proven, or loses data; the audit log keeps the reason and who gave it",
    )
    words.waiting(parser)
    words.approving(parser)


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.reverting import revert

    run, progress = context.new_run(), teller()

    def work() -> Reverted:
        return revert(
            context.settings,
            context.settings.environment(arguments.environment),
            context.folder,
            run,
            progress,
            to_version=arguments.to,
            steps=arguments.steps,
            only=arguments.only,
            override=arguments.override,
            reason=arguments.reason,
            wait_seconds=arguments.wait,
            prompt=prompt_of(arguments, context.settings, silent=context.as_json),
        )

    if context.settings.alerts.urls:
        from lockstep.service.alerting.syncs import alert_well, alerting  # late: only where they go somewhere

        with alerting(context.settings, run, progress, environment=arguments.environment):
            done = work()
        alert_well(context.settings, arguments.environment, run, progress)
    else:
        done = work()
    if context.as_json:
        rows = [{"migration_name": name, "execution_time_ms": ms} for name, ms in done.reverted]
        show_json("revert", {"environment": arguments.environment, "run_id": done.run_id, "reverted": rows})
    else:
        count = len(done.reverted)
        who = "It is held: deploys stop before it" if count == 1 else "They are held: deploys stop before them"
        show(f"{count} reverted. {who} until a file changes (or --include)." if count else "nothing to revert")
    return ExitCode.DONE
