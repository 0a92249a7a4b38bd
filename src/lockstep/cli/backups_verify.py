"""Prove backups: every byte is the one that was stored, pg_restore reads it whole, it restores and is what was
backed up.

BACKUP is an id, `latest` (the default), `before:RUN`, or a time in UTC. A restored copy lives in a throw-away server
on this machine, which needs PostgreSQL's server programs of the backup's major version and disk space for the
database (TMPDIR says where); it is wiped afterwards. What came of it is kept beside the backup.
"""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, teller
from lockstep.errors import BackupDamaged, ExitCode

EXAMPLES = """\
  lockstep backups verify                       the newest backup of each environment that has any, restored
  lockstep backups verify latest --of prod
  lockstep backups verify --all --level digests every stored byte of every backup"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backup", nargs="?", metavar="BACKUP", default="latest", help="an id, latest, before:RUN, a time"
    )
    parser.add_argument("--of", metavar="ENV", help="whose backup")
    parser.add_argument("--all", action="store_true", help="every backup instead of one")
    parser.add_argument(
        "--level",
        choices=("digests", "archive", "restored"),
        default="restored",
        help="how strong a proof: the stored bytes; also read whole by pg_restore; also restored and compared (default)",
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.proving import verify_chosen
    from lockstep.storage.verification import Level

    proofs = verify_chosen(
        context.settings,
        context.new_run(),
        teller(),
        level=Level(arguments.level),
        backup=arguments.backup,
        environment=arguments.of,
        every=arguments.all,
    )
    if context.as_json:
        rows = [
            {
                "id": proof.backup,
                "level": proof.level.value,
                "ok": proof.holds,
                "findings": proof.findings,
                "server_version": proof.server_version,
                "duration_ms": proof.duration_ms,
            }
            for proof in proofs
        ]
        show_json("backups-verify", {"backups": rows})
    else:
        for proof in proofs:
            for finding in proof.findings:
                show(f"{proof.backup}: {finding}")
        good = sum(proof.holds for proof in proofs)
        show(f"{good} of {len(proofs)} {'holds' if good == 1 else 'hold'} ({arguments.level})")
    if bad := [proof for proof in proofs if not proof.holds]:
        if not context.as_json:
            ids = ", ".join(proof.backup for proof in bad)
            raise BackupDamaged("not what was backed up; take a new one now: lockstep backup ENV", what=ids)
        return ExitCode.REFUSED
    return ExitCode.DONE
