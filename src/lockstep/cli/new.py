"""Start a migration: an up and a down file with the next number, in the folder's own padding."""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep new "add invoices table"    migrations/005-add-invoices-table.sql and .down.sql"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what it does, in a few words")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.creating import new_migration

    up, down = new_migration(context.settings, arguments.name)
    paths = [str(path.relative_to(context.settings.folder)) for path in (up, down)]
    if context.as_json:
        show_json("new", {"up": paths[0], "down": paths[1]})
    else:
        show("\n".join(paths))
    return ExitCode.DONE
