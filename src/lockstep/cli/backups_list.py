"""Show every backup with what is known of it. Read-only; no database is asked."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lockstep.cli.context import Context
from lockstep.cli.terminal import manner, show, show_json, width, zoned
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.storage.backups import ListedBackup
    from lockstep.storage.manifest import Manifest

EXAMPLES = """\
  lockstep backups list            every environment, oldest first
  lockstep backups list prod       one environment
  lockstep backups list --json     for programs, with the keys that each is encrypted to"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "environments", nargs="*", metavar="ENV", help="environments, also former ones (default: all that have backups)"
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.listing import list_backups

    found = list_backups(context.settings, arguments.environments)
    listed = [(one.environment, backup) for one in found for backup in one.backups]
    if context.as_json:
        show_json("backups-list", {"backups": [_document(name, backup) for name, backup in listed]})
    elif listed:
        show(_table(listed, datetime.now(UTC)))
    else:
        show(f"there is no backup in {context.settings.backup_place}")
    return ExitCode.DONE


def _table(listed: list[tuple[str, ListedBackup]], now: datetime) -> str:
    from lockstep.core.size import format_bytes
    from lockstep.core.table import render_table

    rows = []
    for environment, backup in listed:
        manifest, folder = backup.manifest, backup.folder
        if manifest is None:
            rows.append([folder.id, environment, "", format_bytes(folder.size), "", "manifest cannot be read", "", ""])
            continue
        version = manifest.ledger.version if manifest.ledger else None
        ledger = "none" if manifest.ledger is None else "empty" if version is None else f"{version:03d}"
        rows.append(
            [
                folder.id, environment, zoned(manifest.taken_at, "%Y-%m-%d %H:%M:%S"), _size(manifest), ledger,
                _verified(backup, now), "age" if manifest.encrypted_to else "no", manifest.run_id,
            ]
        )  # fmt: skip
    taken = "taken" if manner.zoned else "taken (UTC)"
    return render_table(
        ["backup", "environment", taken, "size", "ledger", "verified", "encrypted", "run"], rows, width=width()
    )


def _size(manifest: Manifest) -> str:
    from lockstep.core.size import format_bytes
    from lockstep.storage.archive import archives_of

    return format_bytes(sum(archive.size for archive in archives_of(manifest)))


def _verified(backup: ListedBackup, now: datetime) -> str:
    from lockstep.core.moments import format_moment

    standing = backup.standing
    if not backup.is_whole:
        return "failed: objects are missing or cut"
    if standing.at is None:
        return "never"
    what = "failed" if standing.failed or standing.level is None else standing.level.value
    return f"{what} {format_moment(standing.at, now)}"


def _document(environment: str, backup: ListedBackup) -> dict[str, Any]:
    manifest, standing = backup.manifest, backup.standing
    return {
        "id": backup.folder.id,
        "environment": environment,
        "readable": manifest is not None,
        "whole": backup.is_whole,
        "taken_at": manifest.taken_at if manifest else None,
        "size": backup.folder.size,
        "ledger": manifest.ledger if manifest else None,
        "verified": standing.level.value if standing.level else None,
        "verified_at": standing.at,
        "failed": standing.failed,
        "encrypted_to": manifest.encrypted_to if manifest else None,
        "excluded_schemas": manifest.excluded_schemas if manifest else None,
        "run_id": manifest.run_id if manifest else None,
        "key": manifest.key if manifest else None,
    }
