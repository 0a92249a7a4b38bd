"""What lies in a backup's folder, whole or not: the only judge of which objects of a bucket are ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lockstep.storage.bucket import StoredObject, Upload

MANIFEST = "manifest.json"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}")
_ID = re.compile(r"(\d{8}T\d{6}Z)-[A-Za-z0-9][A-Za-z0-9._=-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFolder:
    """One folder of an environment, named like a backup."""

    path: str  # PREFIX/ENVIRONMENT/ID/
    id: str
    objects: tuple[StoredObject, ...]
    uploads: tuple[Upload, ...] = ()  # unfinished; asked for only where leftovers are looked for

    @property
    def manifest_key(self) -> str | None:
        """The key of its manifest; None: it is no backup, but begun, or the rest of one."""
        key = f"{self.path}{MANIFEST}"
        return key if any(item.key == key for item in self.objects) else None

    @property
    def size(self) -> int:
        """Bytes of all objects, and of the parts of unfinished uploads."""
        return sum(item.size for item in self.objects) + sum(upload.size for upload in self.uploads)

    @property
    def active(self) -> datetime:
        """When something was last stored in it, by the store's clock."""
        return max([item.modified for item in self.objects] + [upload.active for upload in self.uploads])


def backup_time(backup: str) -> datetime | None:
    """Return the time in a backup's id, or None when that is none."""
    match = _ID.fullmatch(backup)
    try:
        return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def folders_of(root: str, objects: Iterable[StoredObject], uploads: Iterable[Upload] = ()) -> list[BackupFolder]:
    """Group what lies under an environment's `root` by backup, oldest first.

    Whatever is not exactly ROOT/ID/NAME is somebody else's and does not appear.
    """
    stored: dict[str, list[StoredObject]] = {}
    begun: dict[str, list[Upload]] = {}
    for item in objects:
        if (backup := _backup_of(root, item.key)) is not None:
            stored.setdefault(backup, []).append(item)
    for upload in uploads:
        if (backup := _backup_of(root, upload.key)) is not None:
            begun.setdefault(backup, []).append(upload)
    return [
        BackupFolder(
            path=f"{root}{backup}/",
            id=backup,
            objects=tuple(stored.get(backup, ())),
            uploads=tuple(begun.get(backup, ())),
        )
        for backup in sorted({*stored, *begun})
    ]


def _backup_of(root: str, key: str) -> str | None:
    backup, _, name = key.removeprefix(root).partition("/")
    return backup if key.startswith(root) and NAME.fullmatch(name) and backup_time(backup) else None
