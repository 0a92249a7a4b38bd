"""`backups list`: every backup of some environments, as it lies in the bucket. Read-only; no database is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.config import Settings
from lockstep.service.store import bucket_settings
from lockstep.storage.backups import Backups, ListedBackup
from lockstep.storage.bucket import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentBackups:
    """The backups of one environment."""

    environment: str
    backups: tuple[ListedBackup, ...]  # oldest first; those whose manifest cannot be read are among them


def list_backups(settings: Settings, names: Sequence[str] = ()) -> tuple[EnvironmentBackups, ...]:
    """Return the backups of the named environments, or of all that are configured or have some in the bucket.

    In promotion order, then those that are configured no more, by name. Raises UsageError for a name that is
    neither, ConfigError, BucketError.
    """
    with Bucket(bucket_settings(settings)) as bucket:
        backups = Backups(bucket)
        stored = backups.environments()
        known = [*settings.environments, *(name for name in stored if name not in settings.environments)]
        for name in names:
            if name not in known:
                settings.environment(name)  # says what there is
        wanted = [name for name in known if not names or name in names]
        found = {name: backups.listed(backups.folders(name)) if name in stored else () for name in wanted}
        return tuple(
            EnvironmentBackups(environment=name, backups=tuple(sorted(listed, key=_moment)))
            for name, listed in found.items()
        )


def _moment(one: ListedBackup) -> tuple[str, str]:
    """When it was taken: a key tells the second only, its manifest the rest."""
    exact = one.manifest.taken_at.isoformat(timespec="microseconds") if one.manifest else ""
    return one.folder.path.rstrip("/").rsplit("/", 1)[-1][:16], exact
