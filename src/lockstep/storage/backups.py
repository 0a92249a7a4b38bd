"""The backups in a bucket: where their objects lie, which of them exist, and the mark that makes one exist.

A backup exists when its manifest does; the manifest is written last and never overwritten. Nothing here reads a
database or runs a program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from lockstep.core.contents import Contents
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.errors import BackupDamaged, BucketError, UsageError
from lockstep.storage import contents as contents_document
from lockstep.storage import rehearsals as rehearsal_document
from lockstep.storage import verification as verification_document
from lockstep.storage.archive import archives_of
from lockstep.storage.bucket import Bucket
from lockstep.storage.choice import choose
from lockstep.storage.folders import MANIFEST, NAME, BackupFolder, backup_time, folders_of
from lockstep.storage.manifest import Manifest, decode, encode
from lockstep.storage.verification import Standing, Verification, standing

DUMP = "database.dump"
CONTENTS = "contents.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The backups of one environment."""

    backups: tuple[Manifest, ...]  # oldest first
    unreadable: tuple[str, ...]  # keys of manifests that are damaged or of a later format


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBackup:
    """One backup with everything that lies beside it."""

    folder: BackupFolder
    manifest: Manifest | None  # None: damaged or of a later format
    standing: Standing

    @property
    def is_whole(self) -> bool:
        """Whether all that its manifest names lies there in full size. False where the manifest cannot be read."""
        if self.manifest is None:
            return False
        there = {item.key: item.size for item in self.folder.objects}
        contents = self.manifest.contents_key
        return (contents is None or contents in there) and all(
            there.get(archive.key) == archive.size for archive in archives_of(self.manifest)
        )


class Backups:
    """All backups in one bucket. Every method raises BucketError when the bucket does not do its part."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def dump_key(self, environment: str, *, taken_at: datetime, run_id: str) -> str:
        """Key of the dump of a backup: PREFIX/ENVIRONMENT/YYYYmmddTHHMMSSZ-RUN/database.dump."""
        moment = taken_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        return f"{self._root(environment)}{moment}-{_checked('run id', run_id)}/{DUMP}"

    # -- what there is ------------------------------------------------------------------------------------------

    def environments(self) -> tuple[str, ...]:
        """Return the names of the folders that may hold an environment's backups, sorted."""
        return tuple(
            sorted(name for name in self._bucket.folders(self._bucket.settings.prefix) if NAME.fullmatch(name))
        )

    def folders(self, environment: str, *, with_uploads: bool = False) -> list[BackupFolder]:
        """Return every folder of an environment that is named like a backup, oldest first, complete or not."""
        root = self._root(environment)
        uploads = self._bucket.uploads(root) if with_uploads else ()
        return folders_of(root, self._bucket.objects(root), uploads)

    def listing(self, environment: str) -> Listing:
        """Read every manifest of an environment. A dump without one is no backup and does not appear."""
        keys = self._manifest_keys(environment)
        read = self._manifests(keys)
        there = [manifest for manifest in read if isinstance(manifest, Manifest)]
        there.sort(key=lambda manifest: manifest.taken_at)  # keys tell the second only
        return Listing(
            backups=tuple(there),
            unreadable=tuple(key for key, manifest in zip(keys, read, strict=True) if manifest == "unreadable"),
        )

    def listed(self, folders: Iterable[BackupFolder]) -> tuple[ListedBackup, ...]:
        """Read the manifests and verifications of those folders that have a manifest, several at a time."""
        complete = [(folder, folder.manifest_key) for folder in folders]
        with_key = [(folder, key) for folder, key in complete if key is not None]
        manifests = self._manifests([key for _, key in with_key])
        proofs = self._verifications([folder for folder, _ in with_key])
        return tuple(
            ListedBackup(
                folder=folder, manifest=manifest if isinstance(manifest, Manifest) else None, standing=standing(proof)
            )
            for (folder, _), manifest, proof in zip(with_key, manifests, proofs, strict=True)
            if manifest is not None  # deleted meanwhile
        )

    def read(self, environment: str, backup: str) -> Manifest | None:
        """Return one backup by its id, or None when there is none. Raises BucketError when its manifest is damaged."""
        key = f"{self._root(environment)}{_checked('backup id', backup)}/{MANIFEST}"
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

    def resolve(self, text: str, environment: str | None, now: datetime) -> Manifest:
        """Return the backup that a person means, of one environment or of any.

        `text` is an id; `latest`; `before:RUN`: the backup that this run took (its newest attempt), else the newest one
        taken before the time in the run's id; or a time, RFC 3339 or `2026-11-24 10:15` in UTC: the newest one taken
        then or before. Raises UsageError that lists what there is when none or several are meant, and BackupDamaged
        when the one that is meant cannot be read: an older one never stands in for it.
        """
        names = self.environments() if environment is None else (environment,)
        return choose(text, {name: self.listing(name) for name in names}, now=now)

    # -- what lies beside a manifest ----------------------------------------------------------------------------

    def contents(self, manifest: Manifest) -> Contents | None:
        """Return what a backup holds; None when an earlier Lockstep took it. Raises BackupDamaged."""
        key = manifest.contents_key
        if key is None:
            return None
        document = self._bucket.read(key)
        if document is None:
            raise BackupDamaged("is not in the bucket", what=key)
        if hashlib.sha256(document).hexdigest() != manifest.contents_sha256:
            raise BackupDamaged("its bytes are not those that were stored (SHA-256 differs)", what=key)
        try:
            return contents_document.decode(document)
        except ValueError as error:
            raise BackupDamaged(str(error), what=key) from error

    def store_contents(self, folder: str, contents: Contents) -> tuple[str, str]:
        """Store what a backup holds in its folder (the dump's key without its name); return key and SHA-256."""
        key = f"{folder.rstrip('/')}/{CONTENTS}"
        document = contents_document.encode(contents)
        self._create(key, document)
        return key, hashlib.sha256(document).hexdigest()

    def verifications(self, manifest: Manifest) -> tuple[Verification, ...]:
        """Return all verifications of a backup, oldest first. One that cannot be read counts as none."""
        path = folder_of(manifest)
        root = path[: path.rindex("/", 0, -1) + 1]
        return next(iter(self._verifications(folders_of(root, self._bucket.objects(path)))), ())

    def record_verification(self, manifest: Manifest, verification: Verification) -> str:
        """Store a verification beside its manifest; return its key. None is ever overwritten."""
        document = verification_document.encode(verification)
        for again in range(100):
            key = f"{folder_of(manifest)}{verification_document.file_name(verification, again)}"
            if self._made(key, document):
                return key
        raise BucketError(f"{key} exists already and was not overwritten", bucket=self._address)

    def rehearsal(self, manifest: Manifest, run_id: str, attempt: int) -> Rehearsal | None:
        """Return the rehearsal that an attempt of a run made on a backup. One that cannot be read counts as none."""
        document = self._bucket.read(f"{folder_of(manifest)}{rehearsal_document.file_name(run_id, attempt)}")
        try:
            return None if document is None else rehearsal_document.decode(document)
        except ValueError:
            return None

    def rehearsal_at(self, key: str) -> Rehearsal | None:
        """Return the rehearsal of a key, as an audit log has it. One that cannot be read counts as none.

        So does a key that is none of a rehearsal of ours: who may write into an audit log may not read the bucket.
        """
        if not self._is_rehearsal(key):
            return None
        document = self._bucket.read(key)
        try:
            return None if document is None else rehearsal_document.decode(document)
        except ValueError:
            return None

    def _is_rehearsal(self, key: str) -> bool:
        prefix = self._bucket.settings.prefix
        environment, _, rest = key.removeprefix(prefix).partition("/")
        backup, _, name = rest.partition("/")
        return (
            key.startswith(prefix)
            and NAME.fullmatch(environment) is not None
            and backup_time(backup) is not None
            and NAME.fullmatch(name) is not None
            and name.startswith("rehearsal-")
        )

    def record_rehearsal(self, manifest: Manifest, rehearsal: Rehearsal) -> str:
        """Store a rehearsal beside the manifest of its backup; return its key. Raises BucketError when there is one.

        Definitions of objects are in clear there: beside an encrypted backup lie their digests alone.
        """
        if manifest.encrypted_to:
            rehearsal = replace(rehearsal, objects=())
        key = f"{folder_of(manifest)}{rehearsal_document.file_name(rehearsal.run_id, rehearsal.attempt)}"
        self._create(key, rehearsal_document.encode(rehearsal))
        return key

    def record(self, manifest: Manifest) -> None:
        """Write the manifest: from here on the backup exists.

        Raises BucketError when another manifest lies there already; that one is left as it is.
        """
        self._create(f"{folder_of(manifest)}{MANIFEST}", encode(manifest))

    # -- inside -------------------------------------------------------------------------------------------------

    def _root(self, environment: str) -> str:
        return f"{self._bucket.settings.prefix}{_checked('environment', environment)}/"

    def _manifest_keys(self, environment: str) -> list[str]:
        # Keys come sorted, and each begins with its time: oldest first.
        return [folder.manifest_key for folder in self.folders(environment) if folder.manifest_key]

    def _manifests(self, keys: list[str]) -> list[Manifest | Literal["unreadable"] | None]:
        """The manifests of some keys; None for one that is not there any more."""
        found: list[Manifest | Literal["unreadable"] | None] = []
        for key, document in zip(keys, self._bucket.read_all(keys), strict=True):
            try:
                found.append(None if document is None else _belonging(decode(document), key))
            except ValueError:
                found.append("unreadable")
        return found

    def _verifications(self, folders: list[BackupFolder]) -> list[tuple[Verification, ...]]:
        keys = [
            (index, item.key)
            for index, folder in enumerate(folders)
            for item in folder.objects
            if verification_document.is_file_name(item.key.removeprefix(folder.path))
        ]
        found: list[list[Verification]] = [[] for _ in folders]
        for (index, _), document in zip(keys, self._bucket.read_all([key for _, key in keys]), strict=True):
            try:
                found[index] += [verification_document.decode(document)] if document else []
            except ValueError:
                continue
        return [tuple(sorted(each, key=lambda one: one.at)) for each in found]

    def _read(self, key: str) -> Manifest | None:
        document = self._bucket.read(key)
        return None if document is None else _belonging(decode(document), key)

    def _create(self, key: str, document: bytes) -> None:
        if not self._made(key, document):
            raise BucketError(f"{key} exists already and was not overwritten", bucket=self._address)

    def _made(self, key: str, document: bytes) -> bool:
        digest = hashlib.sha256(document).digest()
        made = self._bucket.create(key, document, sha256=digest, content_type="application/json")
        # When the answer to our own write was lost, the second try finds our own document there.
        return made or self._bucket.read(key) == document

    @property
    def _address(self) -> str:
        return f"s3://{self._bucket.name}"


def folder_of(manifest: Manifest) -> str:
    """Return the folder of a backup's objects, with its slash."""
    return manifest.key[: manifest.key.rindex("/") + 1]


def _belonging(manifest: Manifest, key: str) -> Manifest:
    """A manifest that lies elsewhere than its dump would have another backup's dump restored."""
    if f"{folder_of(manifest)}{MANIFEST}" != key or key.split("/")[-3:-2] != [manifest.environment]:
        raise ValueError("not the manifest of the folder that it lies in")
    named = [manifest.key, *(one.key for one in manifest.data)]
    named += [manifest.contents_key] if manifest.contents_key is not None else []
    if any(
        one.rpartition("/")[0] != key.rpartition("/")[0] or not NAME.fullmatch(one.rpartition("/")[2]) for one in named
    ):
        raise ValueError("a manifest that names an object outside of its folder")
    return manifest


def _checked(what: str, name: str) -> str:
    """A name that goes into a key must be one segment of it and nothing else."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{what} {name!r} cannot be part of a backup's key: letters, digits and . _ = - only")
    return name
