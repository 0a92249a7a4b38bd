"""Check the migration files without a database: names, gaps, duplicates, syntax, directives, lint, missing downs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.locks import show_files
from lockstep.cli.terminal import paint, show, show_json, talk
from lockstep.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lockstep.core.findings import Report

EXAMPLES = """\
  lockstep validate                                exit 7 when a file could not be applied
  lockstep validate --strict                       warnings count, too (for CI)
  lockstep validate --strict --base origin/main    and what would go wrong once this branch is merged
  lockstep validate --locks                        also the lock that each statement takes, and what it blocks
  lockstep validate --format sarif > found.sarif   for code scanning; also: github, junit"""

FORMATS = ("text", "json", "sarif", "github", "junit")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="warnings count like errors")
    parser.add_argument("--base", metavar="REV", help="compare with this git revision, the branch to merge into")
    parser.add_argument(
        "--unapplied",
        type=words.version,
        action="append",
        default=[],
        metavar="VERSION",
        help="this version of REV is applied nowhere, so it may be changed or removed; may be repeated",
    )
    parser.add_argument("--format", choices=FORMATS, help="how findings are written (default: text)")
    parser.add_argument("--locks", action="store_true", help="also show the lock that each statement takes")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    if context.as_json and arguments.format not in (None, "json"):
        raise UsageError(f"--json and --format {arguments.format} ask for two documents", hint="leave one of them away")
    chosen = "json" if context.as_json else arguments.format or "text"
    arguments.json = context.as_json = chosen == "json"  # an error that comes later is a document, too
    if arguments.locks and chosen not in ("text", "json"):
        raise UsageError(f"--locks has no place in --format {chosen}", hint="leave --locks away, or use --format json")
    if arguments.unapplied and arguments.base is None:
        raise UsageError("--unapplied belongs to --base", hint="lockstep validate --base origin/main --unapplied 7")

    from lockstep.core.findings import Severity
    from lockstep.service.validating import validate

    report = validate(context.settings, arguments.base, arguments.unapplied)
    if report.base and not report.base.migrations and not context.as_json:
        talk(f"{report.base.revision} has no migration in {report.path or '.'}: every file counts as new")
    locks = show_files(context) if arguments.locks else None
    _show(report, locks, chosen, strict=arguments.strict)
    refused = report.count(Severity.ERROR) or (arguments.strict and report.findings)
    return ExitCode.REFUSED if refused else ExitCode.DONE


def _show(report: Report, locks: list[dict[str, Any]] | None, chosen: str, *, strict: bool) -> None:
    from lockstep.core import finding_formats as formats
    from lockstep.core.findings import Severity

    if chosen == "json":
        body = {
            "findings": report.findings,
            "errors": report.count(Severity.ERROR),
            "warnings": report.count(Severity.WARNING),
            "base": report.base,
            "locks": locks,
        }
        show_json("validate", body)
    elif chosen == "sarif":
        show(formats.sarif(report))
    elif chosen == "github":
        show(formats.github(report))
    elif chosen == "junit":
        show(formats.junit(report, strict=strict))
    else:
        for finding in report.findings:
            colour = "red" if finding.severity is Severity.ERROR else "yellow"
            show(f"{finding.place}: {paint(finding.severity.value, colour)}: {finding.message} [{finding.rule}]")
            if finding.excerpt:
                show(finding.excerpt)
            if finding.hint:
                show("  next: " + finding.hint.replace("\n", "\n    "))
        show(formats.summary(report))
