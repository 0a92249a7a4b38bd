"""Where backups lie and how they are kept there, from the settings: the bucket, the keys they are encrypted to, the
keys that decrypt them. It asks no network; only the identity's file is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lockstep.config import Settings
from lockstep.core.duration import parse_duration
from lockstep.errors import ConfigError
from lockstep.service.filling import StoredBackup
from lockstep.settings import BackupTable, KeepTable
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket, BucketSettings
from lockstep.storage.encryption import Identity, parse_recipients
from lockstep.storage.manifest import Manifest

MOST_TAGS = 10  # of one object: Amazon S3 User Guide, "object tagging"
LEAST_LOCK = 86_400_000  # milliseconds; retention is counted in days everywhere but in the request


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore:
    """The bucket of the backups, opened."""

    bucket: Bucket
    backups: Backups
    identity: Identity | None  # None: none is configured, or it cannot be read
    trouble: ConfigError | None = None  # why it cannot be read

    def stored(self, manifest: Manifest) -> StoredBackup:
        """Return a backup with all that is needed to read it. Raises BackupDamaged (its contents), BucketError."""
        if manifest.encrypted_to and self.trouble is not None:
            raise self.trouble
        contents = self.backups.contents(manifest)
        return StoredBackup(bucket=self.bucket, manifest=manifest, contents=contents, identity=self.identity)


@contextmanager
def open_store(settings: Settings) -> Iterator[OpenStore]:
    """Open the bucket. An identity that cannot be read is an error only where it is needed.

    Raises ConfigError and BucketError.
    """
    keys, trouble = None, None
    try:
        keys = identity(settings)
    except ConfigError as error:
        trouble = error
    with Bucket(bucket_settings(settings)) as bucket:
        yield OpenStore(bucket=bucket, backups=Backups(bucket), identity=keys, trouble=trouble)


def programs_of(settings: Settings) -> Path | None:
    """Return the configured folder of PostgreSQL's programs; None: the usual places."""
    programs = settings.backup.programs if settings.backup else None
    return settings.folder / settings.resolved(programs, "backup.programs") if programs else None


def bucket_settings(settings: Settings) -> BucketSettings:
    """Return where backups go, and how they are stored there.

    Raises ConfigError when there is no [backup], a variable is not set, or a value is none that stores know.
    """
    backup = _backup(settings)
    endpoint = settings.resolved(backup.endpoint_url, "backup.endpoint_url") if backup.endpoint_url else None
    encryption = backup.server_side_encryption
    if encryption not in (None, "AES256", "aws:kms"):
        raise _bad(settings, "server_side_encryption", f'\'{encryption}\' is none; write "AES256" or "aws:kms"')
    if backup.kms_key and encryption != "aws:kms":
        raise _bad(settings, "kms_key", 'needs server_side_encryption = "aws:kms"')
    return BucketSettings(
        url=settings.resolved(backup.bucket, "backup.bucket"),
        endpoint_url=endpoint or None,
        unused_endpoint=not endpoint and bool(settings.variables.get("S3_ENDPOINT_URL")),
        region=backup.region,
        server_side_encryption=encryption,  # type: ignore[arg-type]  # compared above
        kms_key=settings.resolved(backup.kms_key, "backup.kms_key") if backup.kms_key else None,
        tags=_tags(settings, backup),
        lock_ms=_lock(settings, backup),
    )


def keep(settings: Settings) -> KeepTable:
    """Return what `prune` keeps. Raises ConfigError for numbers that would keep nothing."""
    found = _backup(settings).keep
    if found.last < 1 or found.days < 0:
        key = "last" if found.last < 1 else "days"
        raise _bad(settings, f"keep.{key}", "keep at least the last one: last = 1 or more, days = 0 or more")
    return found


def _tags(settings: Settings, backup: BackupTable) -> tuple[tuple[str, str], ...]:
    tags = tuple((name, settings.resolved(text, f"backup.tags.{name}")) for name, text in backup.tags.items())
    if len(tags) > MOST_TAGS or any(not 1 <= len(name) <= 128 or len(text) > 256 for name, text in tags):
        raise _bad(settings, "tags", "S3 allows 10 tags, names of 1 to 128 characters and values of up to 256")
    return tags


def _lock(settings: Settings, backup: BackupTable) -> int | None:
    if not backup.object_lock:
        return None
    try:
        found = parse_duration(backup.object_lock)
    except ValueError as error:
        raise _bad(settings, "object_lock", str(error)) from None
    if found < LEAST_LOCK:
        raise _bad(settings, "object_lock", 'S3 locks objects for a day or more, such as "30d"')
    return found


def _bad(settings: Settings, key: str, problem: str) -> ConfigError:
    return ConfigError(
        f"backup.{key}: {problem}",
        where=settings.where(f"backup.{key}"),
        hint="docs/reference/config.md lists every key",
    )


def recipients(settings: Settings) -> tuple[str, ...]:
    """Return the age public keys that backups are encrypted to; () when they are not.

    Raises ConfigError for a key that is none: before a backup begins.
    """
    key = "backup.encrypt_to"
    texts = [settings.resolved(text, key) for text in _backup(settings).encrypt_to]
    return parse_recipients(texts, where=settings.where(key)) if texts else ()


def identity(settings: Settings) -> Identity | None:
    """Return the keys that decrypt backups, read from their file; None when none is configured.

    Raises ConfigError when the variable is not set, or the file cannot be read or holds no key.
    """
    file = identity_file(settings)
    return None if file is None else Identity.read(file, where=settings.where("rehearsal.identity"))


def identity_file(settings: Settings) -> Path | None:
    """Return the configured file of those keys. Raises ConfigError when the variable is not set."""
    text = settings.rehearsal.identity
    return settings.folder / Path(settings.resolved(text, "rehearsal.identity")).expanduser() if text else None


def unreadable_backups(settings: Settings) -> str | None:
    """Say why this machine could not restore or rehearse the backups that it makes; None when it could.

    Not an error: a machine that backs up and cannot decrypt is a good set-up. Raises ConfigError for a bad public key.
    """
    encrypt_to = recipients(settings)
    if not encrypt_to:
        return None
    try:
        found = identity(settings)
    except ConfigError as error:
        why = str(error)
    else:
        if found is None:
            why = "[rehearsal] identity is not set"
        elif found.fits(encrypt_to):
            return None
        else:
            why = f"the keys in the file of [rehearsal] identity are those of {', '.join(found.public)}"
    return f"backups are encrypted, and this machine could neither restore nor rehearse one: {why}"


def _backup(settings: Settings) -> BackupTable:
    if settings.backup is None:
        raise ConfigError("there is no [backup]", where="lockstep.toml", hint='add [backup] with bucket = "s3://…"')
    return settings.backup
