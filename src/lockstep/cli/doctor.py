"""Check what Lockstep needs: this machine, the project's variables and files, each environment (TLS, pooler, clock,
role, ledger, client programs), the bucket of the backups, Prefect. For whoever sets it up, or whose deploy fails for a
reason that is not in the files.

Read-only, but for a probe object in the bucket, which is removed again. With --grants it prints SQL instead: roles that
may do what Lockstep needs, and nothing else.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import is_live, paint, show, show_json, talk
from lockstep.errors import ConfigError, ExitCode, UsageError

if TYPE_CHECKING:
    from lockstep.config import Settings
    from lockstep.core.checkup import Checkup, Outcome

EXAMPLES = """\
  lockstep doctor          everything
  lockstep doctor prod     this machine, the project, one environment, the bucket, Prefect
  lockstep doctor --json   for programs; exit 0 when there is no problem
  lockstep doctor --grants prod > roles.sql   SQL for prod's roles; read it, then: psql -f roles.sql"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument(
        "--grants",
        metavar="ENV",
        help="print the SQL for an environment's roles, for psql; nothing is checked or changed",
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    if arguments.grants is not None:
        return _grants(arguments, context)
    from lockstep.service.doctor import examine

    settings: Settings | ConfigError
    try:
        settings = context.settings
        environments = settings.chosen(arguments.environments)
    except ConfigError as error:
        settings, environments = error, ()
    if not context.as_json and is_live():
        talk("looking at everything at once; what does not answer takes some seconds …")
    found = examine(settings, environments, context.new_run())
    if context.as_json:
        show_json("doctor", _document(found))
    else:
        from lockstep.core.checkup import text_of

        show(text_of(found, _painted))
    return found.exit_code


def _grants(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.granting import grants_of

    if arguments.environments:
        raise UsageError("--grants is about one environment", hint="lockstep doctor --grants ENV")
    found = grants_of(context.settings, context.settings.environment(arguments.grants), context.new_run())
    if context.as_json:
        body = {"environment": found.environment, "sql": found.sql, "assumed": list(found.assumed), "why": found.why}
        show_json("grants", body)
        return ExitCode.DONE
    if found.why is not None:
        talk(f"the server was not asked: {found.why}", urgent=True)
    show(found.sql.rstrip("\n"))
    return ExitCode.DONE


def _painted(outcome: Outcome, word: str) -> str:
    from lockstep.core.checkup import Outcome

    colours = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.PROBLEM: "red", Outcome.NOT_CHECKED: "dim"}
    return paint(word, colours[outcome])


def _document(found: Checkup) -> dict[str, Any]:
    from lockstep.core.checkup import Outcome

    return {
        "sections": [
            {
                "name": section.name,
                "environment": section.environment,
                "checks": [
                    {
                        "name": check.name,
                        "outcome": check.outcome.value,
                        "text": check.text,
                        "remedy": check.remedy,
                        "exit_code": int(check.exit_code),
                    }
                    for check in section.checks
                ],
            }
            for section in found.sections
        ],
        "problems": found.count(Outcome.PROBLEM),
        "warnings": found.count(Outcome.WARNING),
        "not_checked": found.count(Outcome.NOT_CHECKED),
        "exit_code": int(found.exit_code),
    }
