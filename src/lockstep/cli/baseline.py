"""Declare what an existing database has already, so that the first sync starts behind it. Only the ledger changes."""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep baseline prod --version 12   migrations up to 12 are in prod already
  lockstep baseline dev --version none  dev has tables of its own, but nothing of the folder yet"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    parser.add_argument(
        "--version", type=words.version_or_none, required=True, help="the newest version that is present, or none"
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.correcting import baseline

    environment = context.settings.environment(arguments.environment)
    done = baseline(context.settings, environment, context.folder, version=arguments.version, run=context.new_run())
    if context.as_json:
        show_json("baseline", {"environment": environment.name, "corrections": done})
    else:
        for one in done:
            show(f"{one.name}: {one.what}")
    return ExitCode.DONE
