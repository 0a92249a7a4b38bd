"""Show what a DBA would look at: keys that run out, broken and missing indexes,
sessions in the way, replication, statistics, backups. Read-only; a role with
pg_monitor suffices, and what a role may not see is said."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import error_document, paint, show, show_json, show_problem
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.core.health.findings import Finding, Severity
    from lockstep.service.health import HealthReport

EXAMPLES = """\
  lockstep health                 all environments
  lockstep health prod --all      every finding, however many there are
  lockstep health prod --check    exit 4 when something is critical
  lockstep health --json          for programs, with every number"""

_COLOURS = {"critical": "red", "warning": "yellow", "info": "dim"}


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument("--all", action="store_true", help="show every finding instead of five of a kind")
    parser.add_argument(
        "--check", action="store_true", help="tell by exit code: 4 something is critical, 8 unreachable"
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.health import health

    found = health(context.settings, context.settings.chosen(arguments.environments))
    if context.as_json:
        show_json("health", {"environments": [_document(one) for one in found]})
    else:
        for place, one in enumerate(found):
            if place:
                show("")
            _show(one, everything=arguments.all)
    failed = [one.error for one in found if one.error is not None]
    if failed and len(failed) == len(found):
        return failed[0].exit_code
    return max((one.exit_code for one in found), default=ExitCode.DONE) if arguments.check else ExitCode.DONE


def _show(one: HealthReport, *, everything: bool) -> None:
    from lockstep.core.health.text import listing, summary, unjudged

    if one.error is not None:
        show_problem(one.error.message, hint=one.error.hint, more=one.error.more)
        return
    text = summary(one.findings, checks=one.checks, hidden=one.hidden, ignored=len(one.ignored))
    show(f"{one.target}: {text}")
    for line in listing(one.findings, everything=everything, paint=_paint):
        show(line)
    for line in unjudged(one.hidden):
        show(line)
    show("")
    show(f"rates: from {one.rates}")


def _paint(text: str, severity: Severity) -> str:
    return paint(text, _COLOURS[severity.value])


def _document(one: HealthReport) -> dict[str, Any]:
    from lockstep.core.health.findings import Severity

    return {
        "environment": one.environment,
        "target": one.target,
        "error": error_document(one.error) if one.error else None,
        "critical": one.count(Severity.CRITICAL),
        "warnings": one.count(Severity.WARNING),
        "checks": one.checks,
        "rates": one.rates,
        "findings": [_finding(finding) for finding in one.findings],
        "ignored": [{**_finding(each.finding), "reason": each.reason} for each in one.ignored],
        "not_judged": [{"check": each.check, "why": each.why, "fix": each.fix} for each in one.hidden],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    from lockstep.core.health.checks import BY_ID

    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "object": finding.object,
        "text": finding.text,
        "why": BY_ID[finding.check].why,
        "fix": finding.fix,
        "measures": [{"name": m.name, "value": m.value, "unit": m.unit} for m in finding.measures],
    }
