"""`backups prune`: what retention lets go, and what interrupted backups left behind. Planned first, then carried out.

Nothing is decided here that core.retention decides. A doubt keeps: an audit log that cannot be read, a manifest that
cannot be read, an object that is locked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.retention import Because, Kept, retain
from lockstep.errors import LockstepError
from lockstep.postgres.audit import Event, References, read_references, write_event
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id
from lockstep.service.store import bucket_settings, keep
from lockstep.storage.backups import Backups, ListedBackup
from lockstep.storage.bucket import Bucket
from lockstep.storage.folders import MANIFEST, BackupFolder

LEFTOVERS_AFTER_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A folder that would go, and that the store does not let go yet."""

    folder: BackupFolder
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What is to be done with the backups of one environment."""

    environment: str
    kept: Mapping[str, frozenset[Because]] = field(default_factory=dict)  # backup -> why, oldest first
    backups: tuple[BackupFolder, ...] = ()  # that go
    leftovers: tuple[BackupFolder, ...] = ()  # of interrupted backups, that go: none of them has a manifest
    begun: tuple[BackupFolder, ...] = ()  # without a manifest, and too young to tell from a backup that is running
    locked: tuple[Locked, ...] = ()  # that would go
    unreadable: tuple[BackupFolder, ...] = ()  # with a manifest that cannot be read: for a person to judge
    skipped: LockstepError | None = None  # why nothing of this environment is pruned

    @property
    def doomed(self) -> tuple[BackupFolder, ...]:
        """All folders that go."""
        return (*self.backups, *self.leftovers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was done."""

    backups: int
    leftovers: int
    size: int  # bytes that are listed no more
    hidden: bool  # the bucket keeps old versions: these bytes are still stored


def plan_pruning(
    settings: Settings, environments: Sequence[Environment], *, leftovers_after_ms: int = LEFTOVERS_AFTER_MS
) -> tuple[PrunePlan, ...]:
    """Return what `prune` would do, environment by environment. Read-only.

    References come from the audit logs of all configured environments that can be read (a backup of one may have been
    restored into another); an environment whose own log cannot be read is skipped whole. Ages are by the store's clock.
    Raises ConfigError, BucketError.
    """
    rule = keep(settings)
    logs = {name: _references(settings, environment, rule.days) for name, environment in settings.environments.items()}
    known = [log for log in logs.values() if isinstance(log, References)]
    referenced = {backup for log in known for backup in log.backups}
    runs = {run for log in known for run in log.runs}
    plans = []
    with Bucket(bucket_settings(settings)) as bucket:
        backups = Backups(bucket)
        now = bucket.now()
        for environment in environments:
            log = logs[environment.name]
            if isinstance(log, LockstepError):
                plans.append(PrunePlan(environment=environment.name, skipped=log))
                continue
            folders = backups.folders(environment.name, with_uploads=True)
            listed = backups.listed(folders)
            why = retain(
                [_kept(one) for one in listed if one.manifest],
                last=rule.last, days=rule.days, now=now, referenced=referenced, runs=runs,
            )  # fmt: skip
            limit = now - timedelta(milliseconds=leftovers_after_ms)
            rest = [folder for folder in folders if folder.manifest_key is None]
            plans.append(
                _without_locked(
                    bucket,
                    now,
                    PrunePlan(
                        environment=environment.name,
                        kept={backup: reasons for backup, reasons in why.items() if reasons},
                        backups=tuple(one.folder for one in listed if one.manifest and not why[one.folder.id]),
                        leftovers=tuple(folder for folder in rest if folder.active <= limit),
                        begun=tuple(folder for folder in rest if folder.active > limit),
                        unreadable=tuple(one.folder for one in listed if not one.manifest),
                    ),
                )
            )
    return tuple(plans)


def prune(
    settings: Settings,
    plans: Sequence[PrunePlan],
    removed: Callable[[str, BackupFolder], object] = lambda *_: None,
    *,
    run: RunInfo | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> Pruned:
    """Remove what the plans say; `removed` is told each environment and folder that has gone. Safe to repeat.

    A backup loses its manifest first, so a half-deleted one is no backup and the next `prune` finds its rest; a
    leftover that got a manifest meanwhile stays. Raises ConfigError, BucketError: what was removed until then is told.
    Each environment's audit log tells of it, too; where that cannot be, `note` hears of it.
    """
    hidden = False
    counts = {"backups": 0, "leftovers": 0, "size": 0}
    with Bucket(bucket_settings(settings)) as bucket:
        for plan in plans:
            gone: dict[str, list[str]] = {"backups": [], "leftovers": []}
            try:
                for kind, folders in (("backups", plan.backups), ("leftovers", plan.leftovers)):
                    for folder in folders:
                        if kind == "leftovers" and bucket.size(f"{folder.path}{MANIFEST}") is not None:
                            continue
                        hidden |= _remove(bucket, folder)
                        counts[kind] += 1
                        counts["size"] += folder.size
                        gone[kind].append(folder.id)
                        removed(plan.environment, folder)
            finally:  # also of what was removed before an error
                if any(gone.values()):
                    _log(settings, plan.environment, gone, run, note)
    return Pruned(hidden=hidden, **counts)


# -- inside -----------------------------------------------------------------------------------------------------------


def _references(settings: Settings, environment: Environment, days: int) -> References | LockstepError:
    try:
        session = open_session(
            target_of(settings, environment, with_settings=False), run_id=new_run_id(), read_only=True
        )
        try:
            return read_references(session, days=days)
        finally:
            session.close()
    except LockstepError as error:
        return error


def _log(
    settings: Settings,
    name: str,
    gone: Mapping[str, Sequence[str]],
    run: RunInfo | None,
    note: Callable[[str], object],
) -> None:
    """Tell the environment's audit log. The removal stands without it."""
    run = run or RunInfo(run_id=new_run_id())
    event = Event(event="remove", run_id=run.run_id, orchestrator_url=run.orchestrator_url, details=dict(gone))
    try:
        session = open_session(target_of(settings, settings.environment(name), with_settings=False), run_id=run.run_id)
        try:
            write_event(session, event)
        finally:
            session.close()
    except (LockstepError, psycopg.Error) as error:
        why = error.message.splitlines()[0] if isinstance(error, LockstepError) else f"SQLSTATE {error.sqlstate}"
        note(f"{name}: the removal is not in the audit log, which could not be written: {why}")


def _kept(one: ListedBackup) -> Kept:
    manifest = one.manifest
    assert manifest is not None
    standing = one.standing
    return Kept(
        id=one.folder.id,
        taken_at=manifest.taken_at,
        run_id=manifest.run_id,
        strength=standing.level.strength if standing.level else 0,
        failed=standing.failed or not one.is_whole,
    )


def _without_locked(bucket: Bucket, now: datetime, plan: PrunePlan) -> PrunePlan:
    locked = []
    for folder in plan.doomed:
        until = max(filter(None, (bucket.locked_until(item.key) for item in folder.objects)), default=None)
        if until is not None and until > now:
            locked.append(Locked(folder=folder, until=until))
    held = {one.folder.path for one in locked}
    return replace(
        plan,
        backups=tuple(folder for folder in plan.backups if folder.path not in held),
        leftovers=tuple(folder for folder in plan.leftovers if folder.path not in held),
        locked=tuple(locked),
    )


def _remove(bucket: Bucket, folder: BackupFolder) -> bool:
    """Remove a folder, the manifest first; return whether the bucket keeps old versions of it."""
    hidden = False
    for item in sorted(folder.objects, key=lambda item: item.key != folder.manifest_key):
        hidden |= not bucket.delete(item.key)
    for upload in folder.uploads:
        bucket.abort_upload(upload.key, upload.id)
    return hidden
