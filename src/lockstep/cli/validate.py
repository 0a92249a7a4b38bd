"""Check the migration files without a database: names, gaps, duplicates, syntax, directives, lint, missing downs."""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.locks import show_files
from lockstep.cli.terminal import paint, show, show_json
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep validate            exit 7 when a file could not be applied
  lockstep validate --strict   warnings count, too (for CI)
  lockstep validate --locks    also the lock that each statement takes, and what it blocks"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="warnings count like errors")
    parser.add_argument("--locks", action="store_true", help="also show the lock that each statement takes")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.findings import Severity
    from lockstep.service.validating import validate

    findings = validate(context.settings)
    locks = show_files(context) if arguments.locks else None
    errors = sum(f.severity is Severity.ERROR for f in findings)
    warnings = len(findings) - errors
    if context.as_json:
        show_json("validate", {"findings": findings, "errors": errors, "warnings": warnings, "locks": locks})
    else:
        for finding in findings:
            colour = "red" if finding.severity is Severity.ERROR else "yellow"
            show(f"{finding.place}: {paint(finding.severity.value, colour)}: {finding.message} [{finding.rule}]")
            if finding.excerpt:
                show(finding.excerpt)
            if finding.hint:
                show("  next: " + finding.hint.replace("\n", "\n    "))
        count = len(context.settings_files())
        what = "1 file" if count == 1 else f"{count} files"
        show(f"{what} checked: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return ExitCode.REFUSED if errors or (arguments.strict and warnings) else ExitCode.DONE


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
