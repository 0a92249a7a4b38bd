"""Back an environment's whole database up to S3, protected or not. Nothing of the database is changed.

A backup exists when its manifest does, which is written last: whatever ends this early leaves none.
"""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import detail, show, show_json, teller
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep backup prod                               now
  lockstep backup prod --reason "before the import"  kept in the audit log"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environment(parser)
    parser.add_argument("--reason", help="kept in the audit log")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.safeguard import take_backup

    environment = context.settings.environment(arguments.environment)
    progress = teller()
    manifest = take_backup(context.settings, environment, context.new_run(), progress, reason=arguments.reason).manifest
    if context.as_json:
        body = {
            "environment": environment.name,
            "run_id": manifest.run_id,
            "backup": manifest.id,
            "key": manifest.key,
            "size": manifest.size + sum(one.size for one in manifest.data),
            "taken_at": manifest.taken_at,
            "duration_ms": manifest.duration_ms,
            "ledger_version": manifest.ledger.version if manifest.ledger else None,
            "excluded_schemas": manifest.excluded_schemas,
            "not_covered": manifest.not_covered,
            "encrypted": bool(manifest.encrypted_to),
        }
        show_json("backup", body)
    else:
        for text in manifest.not_covered:
            detail(f"not in it: {text}")
        show(f"backup {manifest.id}")
    return ExitCode.DONE
