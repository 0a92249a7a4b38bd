"""What must exist before a protected environment is changed: a backup that can be relied on."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.duration import format_ms
from lockstep.core.size import format_bytes
from lockstep.errors import BackupFailed, BucketError, ConfigError, Unreachable, UsageError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Target, conninfo, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import read_token, token_query
from lockstep.postgres.ledger import read_head
from lockstep.postgres.programs import find_program
from lockstep.postgres.snapshot import open_snapshot
from lockstep.service.backup import BackupReport, back_up
from lockstep.service.coverage import LeftOut, left_out
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.store import bucket_settings, programs_of, recipients
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from lockstep.storage.manifest import LedgerHead, Manifest

MOST_BACKUPS = 5  # that one run takes of an environment before it gives up
MOST_JOBS = 16  # each holds 24 MiB of parts and one connection


def take_backup(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    progress: Progress,
    *,
    attempt: int = 1,
    reason: str | None = None,
) -> BackupReport:
    """Back the environment up, or find the backup that this attempt of the run took before. Logged in its audit log.

    One that cannot be relied on any more (see `stale`) is not used again: another one is taken.
    Where there is no audit log, or the role may not write it, that is told and the backup stands.
    Raises BackupFailed, ProgramMissing, Unreachable, ConfigError. Nothing of the target is changed.
    """
    name = environment.name
    target = target_of(settings, environment, with_settings=False)
    bucket = bucket_settings(settings)
    backup = settings.backup
    assert backup is not None  # bucket_settings refuses that

    def ledger_head(connection: psycopg.Connection) -> LedgerHead | None:
        head = read_head(connection, settings.project.ledger_schema)
        if head is None:
            return None
        token = connection.execute(token_query(connection.info.server_version, settings.project.schemas)).fetchone()
        return LedgerHead(
            version=head[0],
            entries=head[1],
            audit_head=head[2],
            audit_length=head[3],
            schema_token=token[0] if token else None,
        )

    progress.started(name, "backup")
    report = back_up(
        target=target.name,
        environment=name,
        conninfo=conninfo(target, run_id=run.run_id),
        role=target.backup_role,
        bucket=bucket,
        run_id=run.run_id,
        attempt=attempt,
        exclude_schemas=tuple(backup.exclude_schemas),
        own_schemas=_own_schemas(settings),
        encrypt_to=recipients(settings),
        jobs=dump_jobs(settings),
        programs=programs_of(settings),
        read_ledger=ledger_head,
        progress=lambda news: progress.under_way(name, "backup", str(news), news.known_share),
        note=lambda text: progress.note(name, text),
        may_reuse=lambda found: stale(settings, environment, run, found) is None,
    )
    manifest = report.manifest
    if not report.reused:
        _record(settings, environment, run, report, progress, reason)
    size = manifest.size + sum(one.size for one in manifest.data)
    outcome = f"s3://{bucket.name}/{manifest.key} ({format_bytes(size)})"
    progress.finished(name, "backup", outcome, None if report.reused else manifest.duration_ms)
    return report


def stale(
    settings: Settings, environment: Environment, run: RunInfo, manifest: Manifest, *, at_any_age: bool = False
) -> str | None:
    """Say why a backup can no longer be relied on: too old by now, or the schema was changed since. None: it can.

    `at_any_age`: its age was overridden, so another one would be no younger.
    Raises Unreachable, ConfigError.
    """
    age = round((datetime.now(UTC) - manifest.taken_at).total_seconds() * 1_000)
    limit = settings.rehearsal.max_backup_age_ms
    if age > limit and not at_any_age:
        return f"the backup is {format_ms(age)} old by now (max_backup_age is {format_ms(limit)})"
    before = manifest.ledger.schema_token if manifest.ledger else None
    if before is None:
        return None
    session = open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id, read_only=True)
    try:
        now = read_token(session)
    finally:
        session.close()
    return None if now == before else "the schema was changed since the backup"


def refuse_restless(target: str, why: str, tries: int) -> None:
    """Raise BackupFailed when backups were taken again too often: something changes the schema all the time."""
    if tries < MOST_BACKUPS:
        return
    raise BackupFailed(
        f"{why}, after {tries} backups in one run: nothing was applied",
        target=target,
        retryable=False,
        hint="find out what changes the schema all the time: lockstep drift shows it",
    )


def preflight(settings: Settings, environment: Environment, run: RunInfo, progress: Progress) -> None:
    """Look whether the environment could be backed up and rehearsed: role, programs, bucket. Leaves nothing behind.

    An environment that is not reachable is told and let through: it is its own turn that needs it.
    Raises BackupFailed, ProgramMissing and ConfigError, as its backup would.
    """
    target = target_of(settings, environment, with_settings=False)
    bucket = bucket_settings(settings)
    recipients(settings)
    dump_jobs(settings)
    try:
        version, _ = look(settings, target, run)
        find_program("pg_dump", version, folder=programs_of(settings))
        if settings.rehearsal.server is None:
            find_program("postgres", version, folder=programs_of(settings))  # of the server that it is rehearsed on
    except Unreachable as error:
        progress.note(environment.name, f"not looked at beforehand: {error.reason}")
    try:
        with Bucket(bucket) as opened:
            # A backup's first step, taken back; the answer to a HEAD would not say why it was refused.
            key = Backups(opened).dump_key(environment.name, taken_at=datetime.now(UTC), run_id=run.run_id)
            upload = opened.begin_upload(key)
            opened.abort_upload(key, upload)
            opened.size(key)
    except BucketError as error:
        message = f"no backup could be made: {error}"
        raise BackupFailed(message, target=target.name, retryable=error.retryable, hint=error.hint) from error


def look(settings: Settings, target: Target, run: RunInfo) -> tuple[int, LeftOut]:
    """Look whether the role can read all that a backup holds. Returns the server's version and what is left out.

    Read-only. Raises BackupFailed with the grants that are missing, Unreachable, ConfigError.
    """
    exclude = tuple(settings.backup.exclude_schemas) if settings.backup else ()
    with open_snapshot(
        conninfo(target, run_id=run.run_id), target=target.name, run_id=run.run_id, role=target.backup_role
    ) as snapshot:
        found = left_out(snapshot, exclude_schemas=exclude, own_schemas=_own_schemas(settings))
        return snapshot.server_version_num, found


def dump_jobs(settings: Settings) -> int:
    """Return how many dumps a backup runs at once. Raises ConfigError."""
    assert settings.backup is not None
    jobs = settings.backup.jobs
    if not 1 <= jobs <= MOST_JOBS:
        where = settings.where("backup.jobs")
        raise ConfigError(f"backup.jobs: {jobs} is none; 1 to {MOST_JOBS}", where=where, hint="jobs = 4")
    return jobs


def _own_schemas(settings: Settings) -> tuple[str, ...]:
    return (*settings.project.schemas, settings.project.ledger_schema)


def _record(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    report: BackupReport,
    progress: Progress,
    reason: str | None,
) -> None:
    target = target_of(settings, environment, with_settings=False)
    try:
        session = open_session(target, run_id=run.run_id)
    except UsageError as error:
        if target.backup_role == target.role:
            raise
        # Whoever only backs up may not take the role that writes.
        why = error.message.removeprefix(f"{target.name}: ")
        progress.note(environment.name, f"the backup is not in the audit log: {why}")
        return
    manifest = report.manifest
    details = {"backup": manifest.id, "key": manifest.key, "size": manifest.size, "sha256": manifest.sha256}
    if reason:
        details["reason"] = reason
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
        progress.note(environment.name, "the backup is not in the audit log: there is no ledger yet")
    except psycopg.errors.InsufficientPrivilege:
        progress.note(
            environment.name, f"the backup is not in the audit log: {session.facts.current_user} may not write it"
        )
    except psycopg.errors.ReadOnlySqlTransaction:
        progress.note(environment.name, "the backup is not in the audit log: this server is a standby")
    finally:
        session.close()
