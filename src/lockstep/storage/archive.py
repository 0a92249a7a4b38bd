"""The archives of a backup, read back from the bucket: every byte that comes out was compared with the manifest's word.

It must not know what is in an archive. Whoever writes to a pipe or a file gives a `write`, and must throw away what it
got when `read_archive` raises: only its return says that all of it was right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace

from lockstep.errors import BackupDamaged, IdentityMissing
from lockstep.storage.bucket import Bucket
from lockstep.storage.download import Download
from lockstep.storage.encryption import Identity
from lockstep.storage.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive of a backup as the manifest tells of it."""

    key: str
    size: int  # bytes that are stored
    sha256: str  # of the stored bytes, lower-case hex
    plain_sha256: str | None = None  # of the archive itself; None: it is stored unencrypted
    encrypted_to: tuple[str, ...] = ()  # age public keys; (): stored unencrypted

    def as_stored(self) -> Archive:
        """The same object, to be read without decrypting it: its stored bytes can be compared without a key."""
        return replace(self, plain_sha256=None, encrypted_to=())


def archives_of(manifest: Manifest) -> tuple[Archive, ...]:
    """Return all archives of a backup, the main one first. A restore needs every one of them."""
    return (
        Archive(
            key=manifest.key,
            size=manifest.size,
            sha256=manifest.sha256,
            plain_sha256=manifest.plain_sha256,
            encrypted_to=manifest.encrypted_to,
        ),
        *(
            Archive(
                key=data.key,
                size=data.size,
                sha256=data.sha256,
                plain_sha256=data.plain_sha256,
                encrypted_to=manifest.encrypted_to,
            )
            for data in manifest.data
        ),
    )


def read_archive(
    bucket: Bucket, archive: Archive, write: Callable[[bytes], object], *, identity: Identity | None = None
) -> None:
    """Stream one archive to `write`, decrypted where the manifest says encrypted, in constant memory.

    Returns only when size and SHA-256 of all stored bytes, and of the plain bytes, were the recorded ones. A connection
    that breaks in the middle goes on where it broke, from the same object or not at all. What `write` raises comes
    out as it is, and the request is closed.

    Raises BackupDamaged (missing, other size, other bytes), IdentityMissing (encrypted, and none of the keys fits:
    found before anything is read), BucketError.
    """
    with closing(_plain(bucket, archive, identity)) as chunks:
        for chunk in chunks:
            write(chunk)


def _plain(bucket: Bucket, archive: Archive, identity: Identity | None) -> Generator[bytes]:
    if not archive.encrypted_to:
        with closing(_stored(bucket, archive)) as chunks:
            yield from chunks
        return
    if identity is None or not identity.fits(archive.encrypted_to):
        raise IdentityMissing(
            what=archive.key, encrypted_to=archive.encrypted_to, have=identity.public if identity else ()
        )
    digest = hashlib.sha256()
    with closing(_stored(bucket, archive)) as stored, closing(identity.decrypted(stored, what=archive.key)) as plain:
        for chunk in plain:
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != archive.plain_sha256:
        raise BackupDamaged("its decrypted bytes are not those that were backed up", what=archive.key)


def _stored(bucket: Bucket, archive: Archive) -> Generator[bytes]:
    """Give the object's bytes; the iterator ends without an error only when they were the recorded ones."""
    digest = hashlib.sha256()
    with Download(bucket, archive.key) as download:
        if download.size != archive.size:
            raise BackupDamaged(f"has {download.size} bytes instead of {archive.size}", what=archive.key)
        for chunk in download.chunks():
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != archive.sha256:
        raise BackupDamaged("its bytes are not those that were stored (SHA-256 differs)", what=archive.key)
