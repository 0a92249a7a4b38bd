"""Correct the ledger, explicitly: nothing but the ledger changes, and every correction is logged and can be taken back.

Without options it does what is safe: entries whose file was only reformatted, or that an older tool recorded, take the
file's checksum.
"""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json
from lockstep.errors import ExitCode, UsageError

EXAMPLES = """\
  lockstep repair dev                                  accept reformatted files and unverified entries
  lockstep repair prod --accept 7 --reason "typo in a comment block"
  lockstep repair prod --forget 9                      its file was removed on purpose, its effects too
  lockstep repair prod --record 12 --reason "ran psql -f by hand"
  lockstep repair prod --statement-undone 14           the CALL that broke off did nothing: it may run again
  lockstep repair prod --undo 57                       event 57 of lockstep history was a mistake"""

#: option -> what it says. The names are those of core.correction.Verb.
_SAYS = {
    "accept": "the file on disk is what the database has: record it",
    "forget": "this entry is not true: remove it",
    "record": "all of this migration is in the database: record it as applied",
    "statement-done": "the statement that was begun when a run broke off took effect: go on behind it",
    "statement-undone": "it did not take effect: it may run again",
}


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    for name, says in _SAYS.items():
        parser.add_argument(f"--{name}", action="append", default=[], metavar="VERSION|NAME", help=says)
    parser.add_argument(
        "--undo", type=words.count, metavar="EVENT", help="take back this correction (its number in history)"
    )
    parser.add_argument("--reason", help="kept in the audit log")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.correction import Verb
    from lockstep.service.correcting import repair, undo

    environment = context.settings.environment(arguments.environment)
    given = vars(arguments)
    asked = [(version, Verb(name)) for name in _SAYS for version in given[name.replace("-", "_")]]
    if arguments.undo is not None:
        if asked:
            raise UsageError("--undo stands alone", hint="correct other things in a call of their own")
        done = undo(
            context.settings, environment, number=arguments.undo, run=context.new_run(), reason=arguments.reason
        )
    else:
        done = repair(
            context.settings,
            environment,
            context.folder,
            run=context.new_run(),
            asked=asked,
            reason=arguments.reason,
        )
    if context.as_json:
        show_json("repair", {"environment": environment.name, "corrections": done})
    elif not done:
        show("nothing to repair")
    for one in () if context.as_json else done:
        way = f"lockstep repair {environment.name} --undo {one.event}"
        show(f"{one.name}: {one.what} (event {one.event}; take it back: {way})")
    return ExitCode.DONE
