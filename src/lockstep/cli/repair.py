"""Correct the ledger, explicitly and logged. Only the ledger changes, never your tables.

Without options it accepts what cannot do harm: files of which only comments or white space changed, and entries of an
older tool whose checksum could not be recomputed.
"""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep repair dev                                  accept reformatted files and unverified entries
  lockstep repair prod --accept 7 --reason "typo in a comment block"
  lockstep repair prod --forget 9                      its file was removed on purpose, its effects too
  lockstep repair prod --record 12 --reason "ran psql -f by hand: it builds an index concurrently" """


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    version = words.version
    parser.add_argument(
        "--accept", type=version, action="append", default=[], metavar="VERSION",
        help="the changed file is what the database has: record it",
    )  # fmt: skip
    parser.add_argument(
        "--forget", action="append", default=[], metavar="VERSION|NAME", help="this entry is not true: remove it"
    )
    parser.add_argument(
        "--record", type=version, action="append", default=[], metavar="VERSION",
        help="this pending migration was run by hand: record it as applied",
    )  # fmt: skip
    parser.add_argument("--reason", help="kept in the audit log")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.correcting import repair

    environment = context.settings.environment(arguments.environment)
    done = repair(
        context.settings,
        environment,
        context.folder,
        run=context.new_run(),
        accept=tuple(arguments.accept),
        forget=tuple(arguments.forget),
        record=tuple(arguments.record),
        reason=arguments.reason,
    )
    if context.as_json:
        show_json("repair", {"environment": environment.name, "corrections": done})
    elif not done:
        show("nothing to repair")
    for one in () if context.as_json else done:
        show(f"{one.name}: {one.what}")
    return ExitCode.DONE
