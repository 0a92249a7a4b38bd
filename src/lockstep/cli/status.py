"""Show every migration in every environment. Read-only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import error_document, paint, show, show_json, talk
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.core.approval import Request
    from lockstep.core.migration import Folder
    from lockstep.core.planner import Refusal
    from lockstep.postgres.audit import BackupRecord
    from lockstep.service.parity import RecordedParity
    from lockstep.service.status import TargetStatus

EXAMPLES = """\
  lockstep status                 all environments
  lockstep status prod --check    exit 3 when something is pending, 4 when files and ledger disagree
  lockstep status --watch         again every 5 seconds, until Ctrl-C
  lockstep status --json          for programs"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument(
        "--check", action="store_true", help="tell by exit code: 3 pending, 4 disagreement, 8 unreachable"
    )
    parser.add_argument(
        "--watch",
        type=words.seconds,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="look again every so many seconds (default: 5), until Ctrl-C; the last look decides the exit code",
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.status import parity, status

    environments = context.settings.chosen(arguments.environments)
    if arguments.watch is not None:
        from lockstep.cli.status_watch import watch  # late: what most calls do not need

        return watch(context, environments, every=arguments.watch, check=arguments.check)
    found = status(context.settings, environments, context.folder)
    compared = parity(context.settings, found)
    if context.as_json:
        show_json("status", {"environments": [_document(one) for one in found], "parity": compared})
    else:
        results, trouble = lines(found, compared, context.folder)
        for line in results:
            show(line)
        for line in trouble:
            talk(line)
    return code(found, compared, context.folder, check=arguments.check)


def code(found: Sequence[TargetStatus], compared: Sequence[RecordedParity], folder: Folder, *, check: bool) -> ExitCode:
    """Return what a look ends with."""
    unreachable = [one.error for one in found if one.error is not None]
    if unreachable and len(unreachable) == len(found):
        return unreachable[0].exit_code
    if not check:
        return ExitCode.DONE
    wrong = [problem.exit_code for problem in _folder_problems(folder)]
    apart = [ExitCode.DISAGREES for pair in compared if pair.differences]
    return max([one.exit_code for one in found] + wrong + apart, default=ExitCode.DONE)


def _folder_problems(folder: Folder) -> list[Refusal]:
    if not folder.duplicates and not folder.stray:
        return []
    from lockstep.core.planner import folder_refusals  # late: 4 ms that a good folder does not need

    return folder_refusals(folder)


def lines(
    found: Sequence[TargetStatus], compared: Sequence[RecordedParity], folder: Folder
) -> tuple[list[str], list[str]]:
    """Return what a look prints: results, and what is wrong."""
    from lockstep.core.matrix import matrix

    results: list[str] = []
    trouble: list[str] = []
    columns = {one.environment: one.rows for one in found if one.error is None}
    if columns:
        results += [matrix(columns, now=datetime.now(UTC), paint=_colour if sys.stdout.isatty() else None), ""]
    for one in found:
        if one.error is None:
            results += _environment(one)
            continue
        trouble.append(f"{paint('error:', 'red', sys.stderr)} {one.error.message}")
        trouble += [f"  next: {one.error.hint}"] if one.error.hint else []
        trouble += [f"  more: docs/guide.md#{one.error.more}"] if one.error.more else []
    results += [f"parity: {pair.text}" for pair in compared]
    for problem in _folder_problems(folder):
        trouble.append(f"{paint('error:', 'red', sys.stderr)} {problem.message}\n  next: {problem.hint}")
    return results, trouble


def _environment(one: TargetStatus) -> list[str]:
    from lockstep.core.matrix import summary

    name = one.environment
    place = (one.target or name).removeprefix(name).strip(" ()")
    text = summary(name, one.rows) if one.initialised else f"no ledger yet → lockstep init {name}"
    found = [f"{name} ({place}): {text}"]
    if one.backups is not None:
        found.append(f"{name} backup: {_backups(name, one.backups)}")
        found.append(f"{name} rehearsal: {_rehearsal(one)}")
    for request in one.waiting:
        run = request.run_id
        found.append(f"{name}: run {run} waits for approval {_since(request)}")
        found.append(f"  → lockstep approve {run}, or: lockstep reject {run} --reason …")
    return found


def _since(request: Request) -> str:
    from lockstep.core.moments import format_moment

    now = datetime.now(UTC)
    since, until = (format_moment(at, now).strip() for at in (request.at, request.expires_at))
    by = f", asked by {words.safe(request.by)}" if request.by else ""
    count = len(request.what)
    return f"since {since}, until {until}{by}: {count} {'migration' if count == 1 else 'migrations'}"


def _rehearsal(one: TargetStatus) -> str:
    from lockstep.core.moments import format_moment

    if one.rehearsed is None:
        return "none recorded"
    return f"{format_moment(one.rehearsed.at, datetime.now(UTC)).strip()}, {words.safe(one.rehearsed.outcome)}"


def _backups(environment: str, record: BackupRecord) -> str:
    from lockstep.core.moments import format_moment

    now = datetime.now(UTC)
    if record.taken_at is None:
        return f"none recorded → lockstep backup {environment}"
    words = [format_moment(record.taken_at, now).strip()]
    if record.verified_at is None:
        words.append("never verified → lockstep backups verify")
    elif record.ok:
        words.append(f"verified {format_moment(record.verified_at, now).strip()} ({record.level})")
    else:
        words.append(f"FAILED its verification {format_moment(record.verified_at, now).strip()} ({record.level})")
    return ", ".join(words)


def _colour(state: str, text: str) -> str:
    good = {"applied", "baseline", "reformatted"}
    return paint(text, "green" if state in good else "yellow" if state in {"pending", "to re-apply", "held"} else "red")


def _document(one: TargetStatus) -> dict[str, Any]:
    return {
        "environment": one.environment,
        "target": one.target,
        "initialised": one.initialised,
        "error": error_document(one.error) if one.error else None,
        "backups": {
            "taken_at": one.backups.taken_at,
            "verified_at": one.backups.verified_at,
            "verified_level": one.backups.level,
            "verified_ok": one.backups.ok if one.backups.verified_at else None,
        }
        if one.backups
        else None,
        "rehearsal": {
            "at": one.rehearsed.at,
            "run_id": one.rehearsed.run_id,
            "outcome": one.rehearsed.outcome,
        }
        if one.rehearsed
        else None,
        "waiting": [
            {
                "run_id": each.run_id,
                "since": each.at,
                "until": each.expires_at,
                "by": each.by,
                "migrations": each.what,
                "rehearsal": each.headline,
                "two_person": each.two_person,
                "url": each.url,
                "approve": f"lockstep approve {each.run_id}",
                "reject": f"lockstep reject {each.run_id} --reason REASON",
            }
            for each in one.waiting
        ],
        "schema": {
            "digest": f"pg{one.schema.major}:{one.schema.digest}",
            "recorded_at": one.schema.at,
            "drift": one.schema.seen_differs,
        }
        if one.schema
        else None,
        "migrations": [
            {
                "migration_name": row.name,
                "version": row.version,
                "state": row.state.value,
                "applied_at": row.entry.applied_at if row.entry else None,
                "execution_time_ms": row.entry.execution_ms if row.entry else None,
                "checksum": row.entry.checksum if row.entry else row.migration.up.checksum if row.migration else None,
            }
            for row in one.rows
        ],
    }
