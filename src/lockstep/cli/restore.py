"""Restore a backup from S3 into an empty database, or, with --replace, in the place of one that is not.

BACKUP is an id of `lockstep backups list`, `latest`, `before:RUN` (the backup that a run took before it changed
anything) or a time in UTC. --into is an environment of lockstep.toml, a postgresql:// URL, or ${NAME} for a variable
of .env that holds one.

The copy is compared with what was backed up before it counts as restored. With --replace it is restored beside the
database first; then the two change names in one transaction, and the old one is kept, closed to connections. It asks
for the database's name, unless --yes-i-mean gives it.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import detail, show, show_json, talk, teller
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockstep.service.restoring import Replacement, RestoreReport

EXAMPLES = """\
  lockstep restore latest --into '${COPY_URL}'               the newest backup, into an empty database
  lockstep restore before:20261124-164926-b7a0 --into prod --replace
                                                            production as it was before that run
  lockstep restore "2026-11-24 10:15" --of prod --into '${COPY_URL}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP", help="an id, latest, before:RUN, or a time in UTC")
    parser.add_argument("--into", required=True, metavar="ENV|URL", help="where to: an environment, a URL, or ${NAME}")
    parser.add_argument("--of", metavar="ENV", help="whose backup (default: of --into, else the only one that has any)")
    parser.add_argument(
        "--replace", action="store_true", help="take the place of a database that is not empty; the old one is kept"
    )
    parser.add_argument(
        "--yes-i-mean", metavar="DATABASE", help="the name of the database to replace, instead of being asked for it"
    )
    parser.add_argument("--jobs", type=words.count, metavar="N", help="sessions at once (default: as it pays)")
    parser.add_argument(
        "--no-owner", action="store_true", help="everything belongs to the role that restores, and no grants"
    )
    words.waiting(parser)


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.project import destination
    from lockstep.service.restoring import RestoreChoices, chosen_line, restore
    from lockstep.service.store import open_store, programs_of

    settings = context.settings
    into = destination(settings, arguments.into)
    whose = arguments.of or (into.environment if into.environment in settings.environments else None)
    if arguments.of:
        settings.environment(arguments.of)
    with open_store(settings) as store:
        manifest = store.backups.resolve(arguments.backup, whose, datetime.now(UTC))
        backup = store.stored(manifest)
        if not context.as_json:
            talk(f"{chosen_line(manifest, arguments.backup)} → {into.name}")
        report = restore(
            backup,
            into,
            context.new_run(),
            teller(),
            RestoreChoices(
                replace=arguments.replace,
                confirm=_confirmation(arguments.yes_i_mean, ask=not context.as_json),
                jobs=arguments.jobs,
                owners=not arguments.no_owner,
                programs=programs_of(settings),
                wait_seconds=arguments.wait,
            ),
        )
    if context.as_json:
        show_json("restore", _document(report))
        return ExitCode.DONE
    _tell(report, into.environment if into.environment in settings.environments else None)
    return ExitCode.DONE


def _confirmation(given: str | None, *, ask: bool) -> Callable[[Replacement], None]:
    def confirm(replacement: Replacement) -> None:
        from lockstep.service.restoring import loss, refuse_unless_named

        name = replacement.database
        if ask:
            for line in loss(replacement):
                talk(line, urgent=True)
        answer = given
        if answer is None and ask and sys.stdin.isatty():
            sys.stderr.write(f"Type {name} to replace it, anything else to leave it as it is: ")
            sys.stderr.flush()
            answer = sys.stdin.readline().strip()
        refuse_unless_named(replacement, answer, hint=f"--replace --yes-i-mean {quote(name)}")

    return confirm


def _tell(report: RestoreReport, environment: str | None) -> None:
    from lockstep.service.replacing import afterwards
    from lockstep.service.restoring import took

    for notice in report.notices:
        talk(f"note: {notice}")
    show(f"{report.target}: backup {report.backup} is restored: {report.proof.text} ({took(report)})")
    for line in afterwards(report):
        detail(line)
    if environment is not None and report.proof.ledger is not None:
        detail(f"next: lockstep plan {environment}")


def _document(report: RestoreReport) -> dict[str, object]:
    lost = report.lost
    return {
        "backup": report.backup,
        "target": report.target,
        "database": report.database,
        "duration_ms": report.duration_ms,
        "tables": report.proof.check.tables,
        "rows": report.proof.check.rows,
        "tables_compared": report.proof.check.compared,
        "ledger_version": report.proof.ledger.version if report.proof.ledger else None,
        "old_database": report.kept,
        "rows_written_since": lost.rows if lost and lost.known else None,
        "roles_created": report.stand_ins,
        "notices": report.notices,
    }
