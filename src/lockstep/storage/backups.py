"""The backups in a bucket: where their objects lie, which of them exist, and the mark that makes one exist.

A backup exists when its manifest does; the manifest is written last and never overwritten. Nothing here reads a
database or runs a program.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lockstep.errors import BucketError, UsageError
from lockstep.storage.bucket import Bucket
from lockstep.storage.manifest import Manifest, decode, encode

DUMP = "database.dump"
MANIFEST = "manifest.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The backups of one environment."""

    backups: tuple[Manifest, ...]  # oldest first
    unreadable: tuple[str, ...]  # keys of manifests that are damaged or of a later format


class Backups:
    """All backups in one bucket. Every method raises BucketError when the bucket does not do its part."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def dump_key(self, environment: str, *, taken_at: datetime, run_id: str) -> str:
        """Key of the dump of a backup: PREFIX/ENVIRONMENT/YYYYmmddTHHMMSSZ-RUN/database.dump."""
        moment = taken_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        return f"{self._folder(environment)}{moment}-{_checked('run id', run_id)}/{DUMP}"

    def listing(self, environment: str) -> Listing:
        """Read every manifest of an environment. A dump without one is no backup and does not appear."""
        found: list[Manifest] = []
        unreadable: list[str] = []
        for key in self._manifest_keys(environment):
            try:
                manifest = self._read(key)
            except ValueError:
                unreadable.append(key)
            else:
                found += [manifest] if manifest else []
        return Listing(backups=tuple(found), unreadable=tuple(unreadable))

    def read(self, environment: str, backup: str) -> Manifest | None:
        """Return one backup by its id, or None when there is none. Raises BucketError when its manifest is damaged."""
        key = f"{self._folder(environment)}{_checked('backup id', backup)}/{MANIFEST}"
        try:
            return self._read(key)
        except ValueError as error:
            raise BucketError(f"{key}: {error}", bucket=self._address) from error

    def find(self, environment: str, *, run_id: str, attempt: int) -> Manifest | None:
        """Return the newest backup that this attempt of this run took, or None.

        One whose dump is not there in full size is passed over: it must not stand in for a backup.
        """
        ending = f"-{_checked('run id', run_id)}/{MANIFEST}"
        for key in reversed([key for key in self._manifest_keys(environment) if key.endswith(ending)]):
            try:
                manifest = self._read(key)
            except ValueError:
                continue
            if manifest is None or (manifest.environment, manifest.run_id) != (environment, run_id):
                continue
            if manifest.attempt == attempt and self._bucket.size(manifest.key) == manifest.size:
                return manifest
        return None

    def record(self, manifest: Manifest) -> None:
        """Write the manifest: from here on the backup exists.

        Raises BucketError when another manifest lies there already; that one is left as it is.
        """
        key = manifest.key.removesuffix(DUMP) + MANIFEST
        document = encode(manifest)
        digest = hashlib.sha256(document).digest()
        made = self._bucket.create(key, document, sha256=digest, content_type="application/json")
        # When the answer to our own write was lost, the second try finds our own document there.
        if not made and self._bucket.read(key) != document:
            raise BucketError(f"{key} exists already and was not overwritten", bucket=self._address)

    # -- inside -------------------------------------------------------------------------------------------------

    def _folder(self, environment: str) -> str:
        return f"{self._bucket.settings.prefix}{_checked('environment', environment)}/"

    def _manifest_keys(self, environment: str) -> list[str]:
        # Keys come sorted, and each begins with its time: oldest first.
        return [
            item.key for item in self._bucket.objects(self._folder(environment)) if item.key.endswith(f"/{MANIFEST}")
        ]

    def _read(self, key: str) -> Manifest | None:
        document = self._bucket.read(key)
        return None if document is None else decode(document)

    @property
    def _address(self) -> str:
        return f"s3://{self._bucket.name}"


def _checked(what: str, name: str) -> str:
    """A name that goes into a key must be one segment of it and nothing else."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{what} {name!r} cannot be part of a backup's key: letters, digits and . _ = - only")
    return name
