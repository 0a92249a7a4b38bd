"""Restore a backup into a throw-away server, and try there what a deploy would do: locks, times, the way back.

Nothing of the environment is changed, and nothing of the copy remains.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import paint, quiet, show, show_json, talk, teller, width
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.core.rehearsal.report import Rehearsal

EXAMPLES = """\
  lockstep rehearse prod                                      what is pending, on the newest backup
  lockstep rehearse prod --backup 20261124T101500Z-4f1d6a     on another one
  lockstep rehearse prod --fresh                              on one that is taken first
  lockstep rehearse prod --statements                         with what each statement locks, reads and writes"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    words.selection(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--backup", default="latest", help="id, a time in UTC, before:RUN (default: latest)")
    group.add_argument("--fresh", action="store_true", help="take a backup first, and rehearse on that")
    parser.add_argument("--statements", action="store_true", help="also what each statement locked, read and wrote")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from datetime import UTC, datetime

    from lockstep.core.rehearsal.rendering import rehearsal_text
    from lockstep.core.rehearsal.summary import headline
    from lockstep.core.rehearsal.verdict import Outcome
    from lockstep.service.rehearsal.rehearse import moved_on, rehearse
    from lockstep.service.safeguard import take_backup
    from lockstep.service.store import open_store

    environment = context.settings.environment(arguments.environment)
    progress = teller()
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
    moved = moved_on(
        context.settings, environment, context.folder, found, to_version=arguments.to, include=arguments.include
    )
    if context.as_json:
        show_json("rehearse", _document(found) | {"moved_on": moved})
    else:
        if moved:
            talk(f"note: {moved}")
        if quiet():
            show(f"{environment.name}: rehearsal {headline(found)}")
        else:
            show(rehearsal_text(found, width=_width(), statements=arguments.statements, paint=paint))
    tried_all = found.held is None and (found.planned or not moved)
    return ExitCode.DONE if found.verdict.outcome is Outcome.PASSED and tried_all else ExitCode.REFUSED


_WIDEST = 120  # columns; longer lines are hard to read
_WHERE_NOBODY_SEES = 100


def _width() -> int:
    return min(width() or _WHERE_NOBODY_SEES, _WIDEST)


def _document(found: Rehearsal) -> dict[str, Any]:
    """The report without the objects' definitions, which only the comparison after a deploy needs."""
    import msgspec

    from lockstep.core.rehearsal.summary import headline

    body = msgspec.to_builtins(found)
    del body["objects"]
    return {"headline": headline(found), "worst": found.worst, "rehearsal": body}
