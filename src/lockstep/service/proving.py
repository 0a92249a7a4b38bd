"""The use case "verify a backup": is what is stored what was backed up, can it be read, does it restore?

Three levels, each with all that the one below does. It reads the bucket and a throw-away server of its own. What came
of it is kept beside the backup, and told to the audit log of its environment, where `status` finds it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from lockstep import __version__
from lockstep.config import Environment, Settings
from lockstep.core.size import format_bytes
from lockstep.errors import BackupDamaged, LockstepError, RestoreFailed, UsageError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.pgrestore import read_whole
from lockstep.postgres.programs import find_program
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.filling import StoredBackup
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.restored import restore_copy, server_major
from lockstep.service.store import OpenStore, open_store, programs_of
from lockstep.storage.archive import archives_of, read_archive
from lockstep.storage.backups import Backups
from lockstep.storage.manifest import Manifest
from lockstep.storage.verification import Level, Verification

COPY = "copy"  # name of the database in the throw-away server


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a verification gave."""

    backup: str  # its id
    level: Level
    findings: tuple[str, ...]  # what is wrong, in words; () means that it holds
    text: str  # what was proven, in a few words
    server_version: str | None  # of the throw-away server; None: there was none
    duration_ms: int

    @property
    def holds(self) -> bool:
        return not self.findings


def verify_backup(
    backup: StoredBackup,
    level: Level,
    progress: Progress,
    *,
    programs: Path | None = None,
    ledger_schema: str = "public",
) -> Proof:
    """Verify one backup. A damage is a finding and not an error.

    Raises BucketError (no answer), ProgramMissing and IdentityMissing (not on this machine), RestoreRefused (the
    throw-away server lacks an extension), RestoreFailed (every byte is as stored, and a restore here failed all the
    same: a full disk, a killed program), ServerStartError: all of them mean that nothing was found out.
    """
    started = time.monotonic()
    manifest = backup.manifest
    name, what = manifest.environment, f"backup {manifest.id}"
    version = None
    findings: tuple[str, ...] = ()
    progress.started(name, f"{what}: {level.value}")
    try:
        if level is Level.DIGESTS:
            text = _digests(backup)
        elif level is Level.ARCHIVE:
            text = _archive(backup, programs)
        else:
            text, findings, version = _restored(backup, progress, programs, ledger_schema)
    except BackupDamaged as error:
        text, findings = "", (error.message,)
    except RestoreFailed as error:
        text, findings = "", judged(backup, level, error)
    took = int((time.monotonic() - started) * 1000)
    if not findings:
        progress.finished(name, what, f"{level.value}: {text}", took)
    return Proof(
        backup=manifest.id, level=level, findings=findings, text=text, server_version=version, duration_ms=took
    )


def verify_chosen(
    settings: Settings,
    run: RunInfo,
    progress: Progress,
    *,
    level: Level,
    backup: str = "latest",
    environment: str | None = None,
    every: bool = False,
) -> tuple[Proof, ...]:
    """Verify the backups that a person means: one, the newest of each environment, or every one.

    One that is damaged does not keep the others from being verified. Raises UsageError when there is none, and what
    `verify_recorded` raises.
    """
    if environment is not None:
        settings.environment(environment)
    with open_store(settings) as store:
        names = store.backups.environments() if environment is None else (environment,)
        chosen: list[Manifest] = []
        damaged: list[Proof] = []
        if every:
            for name in names:
                listing = store.backups.listing(name)
                chosen += listing.backups
                damaged += [_unreadable(key, level) for key in listing.unreadable]
        elif backup == "latest" and environment is None:
            for name in names:
                listing = store.backups.listing(name)
                newest = listing.backups[-1] if listing.backups else None
                # An older one must not stand in for one that cannot be read.
                damaged += [_unreadable(key, level) for key in listing.unreadable if not newest or key > newest.key]
                chosen += [newest] if newest else []
        else:
            if environment is None and (backup in settings.environments or backup in names):
                raise UsageError(
                    f"'{backup}' is an environment, not a backup", hint=f"lockstep backups verify latest --of {backup}"
                )
            chosen.append(store.backups.resolve(backup, environment, datetime.now(UTC)))
        if not chosen and not damaged:
            of = f" of {environment}" if environment else ""
            there = ", ".join(store.backups.environments()) if environment else ""
            raise UsageError(
                f"there is no backup{of} to verify" + (f" (there are backups of: {there})" if there else ""),
                hint=f"lockstep backup {environment or 'ENV'} takes one",
            )
        proofs = [verify_recorded(settings, store, manifest, level, run, progress) for manifest in chosen]
    return (*damaged, *proofs)


def to_verify(settings: Settings, environments: Sequence[Environment]) -> tuple[str, ...]:
    """Return the environments that have a backup, or should: a protected one without any must not be passed over."""
    with open_store(settings) as store:
        found = store.backups.environments()
    return tuple(one.name for one in environments if one.protected or one.name in found)


def damage(proofs: Sequence[Proof]) -> BackupDamaged | None:
    """Return the error that says what does not hold; None when all of it does."""
    bad = [proof for proof in proofs if not proof.holds]
    if not bad:
        return None
    problem = "; ".join(finding for proof in bad for finding in proof.findings)
    return BackupDamaged(f"not what was backed up: {problem}", what=", ".join(proof.backup for proof in bad))


def _unreadable(key: str, level: Level) -> Proof:
    return Proof(
        backup=key.split("/")[-2], level=level, findings=(f"{key}: the manifest is damaged",), text="",
        server_version=None, duration_ms=0,
    )  # fmt: skip


def verify_recorded(
    settings: Settings, store: OpenStore, manifest: Manifest, level: Level, run: RunInfo, progress: Progress
) -> Proof:
    """Verify one backup, and record what came of it. Raises what `verify_backup` raises; then nothing is recorded."""
    programs = programs_of(settings)
    try:
        backup = store.stored(manifest)
    except BackupDamaged as error:  # its list of contents
        proof = Proof(
            backup=manifest.id, level=level, findings=(error.message,), text="", server_version=None, duration_ms=0
        )
    else:
        schema = settings.project.ledger_schema
        proof = verify_backup(backup, level, progress, programs=programs, ledger_schema=schema)
    record_proof(settings, store.backups, manifest, proof, run, progress)
    return proof


def record_proof(
    settings: Settings, backups: Backups, manifest: Manifest, proof: Proof, run: RunInfo, progress: Progress
) -> None:
    """Keep what a verification gave beside the backup, and tell it to the audit log. Raises BucketError."""
    backups.record_verification(
        manifest,
        Verification(
            level=proof.level,
            ok=proof.holds,
            at=datetime.now(UTC),
            duration_ms=proof.duration_ms,
            run_id=run.run_id,
            server_version=proof.server_version,
            findings=proof.findings,
            tool_version=__version__,
        ),
    )
    _log(settings, manifest, proof, run, progress)


def _log(settings: Settings, manifest: Manifest, proof: Proof, run: RunInfo, progress: Progress) -> None:
    """Tell the environment's audit log. A verification stands without it: it may run where no database is reached."""
    environment = settings.environments.get(manifest.environment)
    if environment is None:
        return
    details = {"backup": proof.backup, "level": proof.level.value, "ok": proof.holds}
    event = Event(
        event="verify",
        run_id=run.run_id,
        orchestrator_url=run.orchestrator_url,
        duration_ms=proof.duration_ms,
        details=details | ({"findings": list(proof.findings[:10])} if proof.findings else {}),
    )
    try:
        session = open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id)
        try:
            write_event(session, event)
        finally:
            session.close()
    except (LockstepError, psycopg.Error) as error:
        why = error.message.splitlines()[0] if isinstance(error, LockstepError) else f"SQLSTATE {error.sqlstate}"
        progress.note(environment.name, f"status will not know of it, the audit log could not be written: {why}")


def judged(backup: StoredBackup, level: Level, failed: RestoreFailed) -> tuple[str, ...]:
    """Tell damage from trouble of this machine. A backup is never called damaged because a disk was full here."""
    try:
        _digests(backup)
    except BackupDamaged as error:
        return (error.message,)
    if level is Level.ARCHIVE and not failed.killed:
        return (f"pg_restore cannot read it, though every byte is as stored: {failed.reason}",)
    if not failed.killed and (refused := _sql_error(failed.reason)) is not None:
        raise RestoreFailed(
            f"it does not restore cleanly: {refused}",
            target=failed.target,
            outcome="Every stored byte is the one that was stored: what it holds breaks its own rules",
            hint="production is like that as well: look there for the rows or definitions that the error is about, "
            "mend them, and take another backup",
        )
    raise RestoreFailed(
        f"it could not be verified, which says nothing about it: {failed.reason}",
        target=failed.target,
        outcome="Every stored byte is the one that was stored",
        hint="a server that is killed or a full disk (TMPDIR) are causes on this machine; --level archive needs neither",
    )


#: What is of the machine that restores, and not of what is restored.
_OF_MACHINE = re.compile(
    r"no space left|could not (extend|write|open|read|create|load|access|fsync|resize)\b(?! unique index)|out of (shared )?memory"
    r"|terminating|cancell?ing|connection|recovery|too many|disk|not available|permission denied",
    re.IGNORECASE,
)
#: Errors that name objects, and quote no value.
_OF_OBJECTS = re.compile(r"violate|could not create unique index|does not exist|already exists|must be|cannot")


def _sql_error(reason: str) -> str | None:
    """The server's error that ended a restore, where it is about what is restored; without a value. None: there is none."""
    match = re.search(r"could not execute query: ERROR:\s+(.*)", reason)
    if match is None or _OF_MACHINE.search(match[1]):
        return None
    return match[1] if _OF_OBJECTS.search(match[1]) else "the server refuses one of its definitions"


def _digests(backup: StoredBackup) -> str:
    for archive in archives_of(backup.manifest):
        # What is encrypted is compared as it is stored: that needs no key.
        read_archive(backup.bucket, archive.as_stored(), lambda _chunk: None)
    return f"{format_bytes(backup.size)} as stored"


def _archive(backup: StoredBackup, programs: Path | None) -> str:
    program = find_program("pg_restore", backup.major * 10000, folder=programs)
    for archive in archives_of(backup.manifest):
        read_whole(
            program,
            lambda write, archive=archive: read_archive(backup.bucket, archive, write, identity=backup.identity),  # type: ignore[misc]
            what=archive.key,
        )
    return f"{format_bytes(backup.size)} as stored, read whole by pg_restore {program.version}"


def _restored(
    backup: StoredBackup, progress: Progress, programs: Path | None, ledger_schema: str
) -> tuple[str, tuple[str, ...], str]:
    with ThrowawayServer.of_major(server_major(backup, programs), programs=programs) as server:
        copy = restore_copy(
            backup,
            server,
            COPY,
            ledger_schema=ledger_schema,
            programs=programs,
            tell=lambda text: progress.note(backup.manifest.environment, text),
            far=lambda text, share: progress.under_way(
                backup.manifest.environment, f"backup {backup.manifest.id}", f"restored: {text}", share
            ),
        )
    for notice in copy.notes:
        progress.note(backup.manifest.environment, notice)
    return copy.proof.text, copy.proof.differences, copy.server_version
