"""What must exist before a protected environment is changed. For now: a backup; rehearsal and approval join it here."""

from __future__ import annotations

from pathlib import Path

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.size import format_bytes
from lockstep.errors import LedgerMissing
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import conninfo, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import read_head
from lockstep.service.backup import BackupReport, back_up
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.store import bucket_settings, recipients
from lockstep.storage.manifest import LedgerHead

#: Gates of the design that this version does not have. Said in every deploy of a protected environment.
MISSING_GATES = "rehearsal and approval are not part of this version yet: it goes on without them"


def take_backup(
    settings: Settings, environment: Environment, run: RunInfo, progress: Progress, *, attempt: int = 1
) -> BackupReport:
    """Back the environment up, or find the backup that this attempt of the run took before. Logged in its audit log.

    Raises BackupFailed, ProgramMissing, Unreachable, ConfigError. Nothing of the target is changed.
    """
    assert settings.backup is not None  # config refuses a protected environment without it
    target = target_of(settings, environment, with_settings=False)
    bucket = bucket_settings(settings)
    programs = settings.backup.programs

    def ledger_head(connection: psycopg.Connection) -> LedgerHead | None:
        head = read_head(connection, settings.project.ledger_schema)
        if head is None:
            return None
        return LedgerHead(version=head[0], entries=head[1], audit_head=head[2], audit_length=head[3])

    progress.started(environment.name, "backup")
    report = back_up(
        target=target.name,
        environment=environment.name,
        conninfo=conninfo(target, run_id=run.run_id),
        role=target.role,
        bucket=bucket,
        run_id=run.run_id,
        attempt=attempt,
        exclude_schemas=tuple(settings.backup.exclude_schemas),
        encrypt_to=recipients(settings),
        programs=Path(settings.resolved(programs, "backup.programs")) if programs else None,
        read_ledger=ledger_head,
    )
    if not report.reused:
        _record(settings, environment, run, report)
    manifest = report.manifest
    outcome = f"s3://{bucket.name}/{manifest.key} ({format_bytes(manifest.size)})"
    progress.finished(environment.name, "backup", outcome, None if report.reused else manifest.duration_ms)
    return report


def _record(settings: Settings, environment: Environment, run: RunInfo, report: BackupReport) -> None:
    session = open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id)
    manifest = report.manifest
    details = {"backup": manifest.id, "key": manifest.key, "size": manifest.size, "sha256": manifest.sha256}
    try:
        write_event(
            session,
            Event(
                event="backup",
                run_id=run.run_id,
                orchestrator_url=run.orchestrator_url,
                duration_ms=manifest.duration_ms,
                details=details,
            ),
        )
    except psycopg.errors.UndefinedTable:
        target = session.target
        raise LedgerMissing(target=target.name, environment=target.environment, ledger=target.ledger) from None
    finally:
        session.close()
