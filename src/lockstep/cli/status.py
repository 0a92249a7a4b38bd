"""Show every migration in every environment. Read-only."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import error_document, in_colour, paint, show, show_json, show_problem, width
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.core.migration import Folder
    from lockstep.core.planner import Refusal
    from lockstep.postgres.audit import BackupRecord
    from lockstep.service.status import TargetStatus

EXAMPLES = """\
  lockstep status                 all environments
  lockstep status prod --check    exit 3 when something is pending, 4 when files and ledger disagree
  lockstep status --json          for programs"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument(
        "--check", action="store_true", help="tell by exit code: 3 pending, 4 disagreement, 8 unreachable"
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.status import parity, status

    found = status(context.settings, context.settings.chosen(arguments.environments), context.folder)
    compared = parity(context.settings, found)
    if context.as_json:
        show_json("status", {"environments": [_document(one) for one in found], "parity": compared})
    else:
        _table(found)
        for pair in compared:
            show(f"parity: {pair.text}")
        for problem in _folder_problems(context.folder):
            show_problem(problem.message, hint=problem.hint)
    unreachable = [one.error for one in found if one.error is not None]
    if unreachable and len(unreachable) == len(found):
        return unreachable[0].exit_code
    if arguments.check:
        folder = [problem.exit_code for problem in _folder_problems(context.folder)]
        apart = [ExitCode.DISAGREES for pair in compared if pair.differences]
        return max([one.exit_code for one in found] + folder + apart, default=ExitCode.DONE)
    return ExitCode.DONE


def _folder_problems(folder: Folder) -> list[Refusal]:
    if not folder.duplicates and not folder.stray:
        return []
    from lockstep.core.planner import folder_refusals  # late: 4 ms that a good folder does not need

    return folder_refusals(folder)


def _table(found: tuple[TargetStatus, ...]) -> None:
    from lockstep.core.matrix import matrix, summary

    readable = [one for one in found if one.error is None]
    columns = {one.environment: one.rows for one in readable}
    if columns:
        show(matrix(columns, now=datetime.now(UTC), paint=_colour if in_colour() else None, width=width()))
        show("")
    for one in found:
        if one.error is not None:
            show_problem(one.error.message, hint=one.error.hint, more=one.error.more)
            continue
        place = (one.target or one.environment).removeprefix(one.environment).strip(" ()")
        text = (
            summary(one.environment, one.rows)
            if one.initialised
            else f"no ledger yet → lockstep init {one.environment}"
        )
        show(f"{one.environment} ({place}): {text}")
        if one.backups is not None:
            show(f"{one.environment} backup: {_backups(one.environment, one.backups)}")


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
