"""Restore a backup into a throw-away server, and try there what a deploy would do: locks, times, the way back.

Nothing of the environment is changed, and nothing of the copy remains.
"""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import TerminalProgress, show, show_json
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep rehearse prod                                      what is pending, on the newest backup
  lockstep rehearse prod --backup 20261124T101500Z-4f1d6a     on another one
  lockstep rehearse prod --fresh                              on one that is taken first"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    words.selection(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--backup", default="latest", help="id, a time in UTC, before:RUN (default: latest)")
    group.add_argument("--fresh", action="store_true", help="take a backup first, and rehearse on that")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from datetime import UTC, datetime

    from lockstep.core.rehearsal.verdict import Outcome
    from lockstep.service.progress import Silent
    from lockstep.service.rehearsal.rehearse import rehearse
    from lockstep.service.safeguard import take_backup
    from lockstep.service.store import open_store

    environment = context.settings.environment(arguments.environment)
    progress = Silent() if context.as_json else TerminalProgress()
    run = context.new_run()
    with open_store(context.settings) as store:
        if arguments.fresh:
            manifest = take_backup(context.settings, environment, run, progress, reason="rehearsal").manifest
        else:
            manifest = store.backups.resolve(arguments.backup, environment.name, datetime.now(UTC))
        found = rehearse(
            context.settings, environment, context.folder, store.stored(manifest), run, progress,
            to_version=arguments.to, include=arguments.include,
        )  # fmt: skip
    if context.as_json:
        show_json("rehearse", {"rehearsal": found})
    else:
        show(f"{found.verdict.outcome.value}: {len(found.files)} migrations")
    return ExitCode.DONE if found.verdict.outcome is Outcome.PASSED else ExitCode.REFUSED
