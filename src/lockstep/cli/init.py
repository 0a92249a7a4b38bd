"""Create the ledger (schema_migrations and its audit log) in each environment, or upgrade an older one in place."""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk
from lockstep.core.counting import counted
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep init            every environment
  lockstep init dev        one of them"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.initialise import initialise

    done = []
    for environment in context.settings.chosen(arguments.environments):
        result = initialise(context.settings, environment, context.folder)
        done.append((environment.name, result))
        if context.as_json:
            continue
        upgrade = result.upgrade
        if upgrade.created:
            what = f"ledger {result.ledger} created"
        elif upgrade.adopted or upgrade.unverified:
            what = (
                f"ledger {result.ledger} upgraded: {counted(upgrade.adopted, 'entry', 'entries')} verified, "
                f"{upgrade.unverified} unverified"
            )
        else:
            what = f"ledger {result.ledger} is there, {counted(result.entries, 'entry', 'entries')}"
        show(f"{result.target}: {what}")
        if result.occupied:
            tables = counted(result.occupied, "table")
            talk(
                f"{environment.name}: the database holds {tables} already. Say how far it is before the "
                f"first sync: lockstep baseline {environment.name} --version N"
            )
    made = [name for name, result in done if result.upgrade.created and not result.occupied]
    if made and not context.as_json:
        from lockstep.cli.hints import after_init

        talk(after_init(first=made[0], migrations=len(context.folder.migrations)))
    if context.as_json:
        rows = [
            {
                "environment": name,
                "target": r.target,
                "created": r.upgrade.created,
                "adopted": r.upgrade.adopted,
                "unverified": r.upgrade.unverified,
                "entries": r.entries,
            }
            for name, r in done
        ]
        show_json("init", {"environments": rows})
    return ExitCode.DONE
