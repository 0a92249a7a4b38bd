"""Where backups lie and how they are kept there, from the settings: the bucket, the keys they are encrypted to, the
keys that decrypt them. It asks no network; only the identity's file is read."""

from __future__ import annotations

from pathlib import Path

from lockstep.config import Settings
from lockstep.errors import ConfigError
from lockstep.settings import BackupTable
from lockstep.storage.bucket import BucketSettings
from lockstep.storage.encryption import Identity, parse_recipients


def bucket_settings(settings: Settings) -> BucketSettings:
    """Return where backups go. Raises ConfigError when there is no [backup] or a variable is not set."""
    backup = _backup(settings)
    endpoint = settings.resolved(backup.endpoint_url, "backup.endpoint_url") if backup.endpoint_url else None
    return BucketSettings(
        url=settings.resolved(backup.bucket, "backup.bucket"), endpoint_url=endpoint or None, region=backup.region
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
    text = settings.rehearsal.identity
    if not text:
        return None
    key = "rehearsal.identity"
    file = settings.folder / Path(settings.resolved(text, key)).expanduser()
    return Identity.read(file, where=settings.where(key))


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
