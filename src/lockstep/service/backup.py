"""The use case "back up": one environment's whole database into the bucket, once per attempt of a run.

Order is everything here: the object exists only after pg_dump ended well, the manifest only after the object was read
back. This module knows that order; it speaks neither SQL nor S3.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from lockstep import __version__
from lockstep.core.contents import Contents
from lockstep.errors import BackupFailed, BucketError
from lockstep.postgres.contents import read_inventory
from lockstep.postgres.dump import PgDump
from lockstep.postgres.programs import find_program
from lockstep.postgres.scope import unreadable
from lockstep.postgres.snapshot import Snapshot, open_snapshot
from lockstep.storage.backups import DUMP, Backups
from lockstep.storage.bucket import Bucket, BucketSettings
from lockstep.storage.contents import encode
from lockstep.storage.encryption import encrypt
from lockstep.storage.manifest import LedgerHead, Manifest
from lockstep.storage.multipart import MIB, MultipartStream, Uploaded

CONTENTS = "contents.json"
PROGRESS_EVERY = 8 * MIB
NAMED = 5  # of many unreadable tables in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupProgress:
    """How far a backup is."""

    size: int  # bytes of the archive so far
    elapsed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a caller gets: the backup that now exists."""

    manifest: Manifest
    reused: bool  # True: this attempt of this run had taken it before, nothing was done now


def back_up(
    *,
    target: str,
    environment: str,
    conninfo: str,
    role: str | None = None,
    bucket: BucketSettings,
    run_id: str,
    attempt: int = 1,
    exclude_schemas: Sequence[str] = (),
    encrypt_to: Sequence[str] = (),
    programs: Path | None = None,
    read_ledger: Callable[[psycopg.Connection[Any]], LedgerHead | None] | None = None,
    progress: Callable[[BackupProgress], None] | None = None,
) -> BackupReport:
    """Dump the whole database into the bucket, and return when the backup exists and its size was read back.

    Idempotent per (environment, run_id, attempt): a second call returns the first one's backup. Read-only in the
    database; it takes ACCESS SHARE locks, as every reader does. `target` is what messages call the database.
    `encrypt_to` are age public keys, checked (`parse_recipients`); with none, the archive is stored as it is.
    `read_ledger` runs inside the dump's own snapshot, with row_security off, so the manifest's ledger head is that of
    the dump. `progress` is called about every 8 MiB and once at the end. Whatever ends it early, KeyboardInterrupt
    included, leaves no object, no unfinished upload, and no process; an object without a manifest, should the very
    last step fail, is no backup and is never offered as one.

    Raises Unreachable (no connection), ProgramMissing (no pg_dump of the server's major), BackupFailed (everything
    else; `retryable` says whether the same call may work a moment later), UsageError (a name that no key can hold).
    """
    try:
        with Bucket(bucket) as opened:
            backups = Backups(opened)
            if (found := backups.find(environment, run_id=run_id, attempt=attempt)) is not None:
                return BackupReport(manifest=found, reused=True)
            started = time.monotonic()
            with open_snapshot(conninfo, target=target, run_id=run_id, role=role) as snapshot:
                excluded = tuple(name for name in snapshot.schemas if name in exclude_schemas)
                _refuse_what_cannot_be_read(snapshot, excluded)
                head = read_ledger(snapshot.connection) if read_ledger else None
                inventory = read_inventory(snapshot, exclude_schemas=excluded)
                program = find_program("pg_dump", snapshot.server_version_num, folder=programs)
                key = backups.dump_key(environment, taken_at=snapshot.taken_at, run_id=run_id)
                dump = PgDump(program, snapshot, exclude_schemas=excluded)
                upload = MultipartStream(opened, key)
                uploaded, plain_sha256 = _stream(dump, upload, encrypt_to, started, progress)
            _read_back(opened, uploaded)
            contents_key, contents_sha256 = _store_contents(opened, uploaded.key, inventory.contents)
            manifest = Manifest(
                key=uploaded.key,
                size=uploaded.size,
                sha256=uploaded.sha256,
                compression=dump.compression,
                environment=environment,
                database=snapshot.database,
                server_version=snapshot.server_version,
                client_version=program.version,
                system_identifier=snapshot.system_identifier,
                taken_at=snapshot.taken_at,
                duration_ms=_since(started),
                schemas=tuple(name for name in snapshot.schemas if name not in excluded),
                excluded_schemas=excluded,
                ledger=head,
                run_id=run_id,
                attempt=attempt,
                tool_version=__version__,
                encrypted_to=tuple(encrypt_to),
                plain_sha256=plain_sha256,
                contents_key=contents_key,
                contents_sha256=contents_sha256,
                snapshot_lsn=snapshot.lsn,
                schema_sizes=inventory.schema_sizes,
                extensions=inventory.extensions,
                roles=inventory.roles,
                not_covered=inventory.not_covered,
            )
            backups.record(manifest)
            return BackupReport(manifest=manifest, reused=False)
    except BucketError as error:
        message = f"no backup was made: {error}"
        raise BackupFailed(message, target=target, retryable=error.retryable, hint=error.hint) from error
    except OSError as error:
        # Of this machine: no space for a large part, no process.
        message = f"no backup was made: {error.strerror or type(error).__name__}"
        raise BackupFailed(message, target=target, hint="TMPDIR names the folder for parts above 16 MiB") from error


def _stream(
    dump: PgDump,
    upload: MultipartStream,
    encrypt_to: Sequence[str],
    started: float,
    progress: Callable[[BackupProgress], None] | None,
) -> tuple[Uploaded, str | None]:
    """Run pg_dump into the upload. The object is completed after pg_dump's own word, and not at the stream's end.

    Also returns the SHA-256 of the archive before encryption; None when there was none.
    """
    told = 0
    plain = hashlib.sha256()

    def write(chunk: bytes) -> None:
        nonlocal told
        upload.write(chunk)
        if progress and upload.size - told >= PROGRESS_EVERY:
            told = upload.size
            progress(BackupProgress(size=told, elapsed_ms=_since(started)))

    def digested() -> Iterator[bytes]:
        for chunk in dump.chunks():
            plain.update(chunk)
            yield chunk

    with upload, dump:
        if encrypt_to:
            encrypt(digested(), write, encrypt_to)
        else:
            for chunk in dump.chunks():
                write(chunk)
        dump.finish()
        uploaded = upload.complete()
    if progress:
        progress(BackupProgress(size=uploaded.size, elapsed_ms=_since(started)))
    return uploaded, plain.hexdigest() if encrypt_to else None


def _refuse_what_cannot_be_read(snapshot: Snapshot, excluded: Sequence[str]) -> None:
    found = unreadable(snapshot, exclude_schemas=excluded)
    if not found:
        return
    named = "".join(f"\n  {item.name}: {item.reason}" for item in found[:NAMED])
    more = f"\n  and {len(found) - NAMED} more" if len(found) > NAMED else ""
    raise BackupFailed(
        f"role {snapshot.role} cannot read all of database {snapshot.database}, so no backup was begun:{named}{more}",
        target=snapshot.target,
        hint=f'back up as the owner of the tables, or: ALTER ROLE "{snapshot.role}" BYPASSRLS and '
        f'GRANT pg_read_all_data TO "{snapshot.role}"; or leave a schema out with [backup] exclude_schemas',
    )


def _store_contents(bucket: Bucket, dump_key: str, contents: Contents) -> tuple[str, str]:
    """Write the document beside the dump. An object of an earlier try that had no manifest is not in the way."""
    key = dump_key.removesuffix(DUMP) + CONTENTS
    document = encode(contents)
    digest = hashlib.sha256(document)
    if not bucket.create(key, document, sha256=digest.digest(), content_type="application/json"):
        raise BucketError(f"{key} exists already and was not overwritten", bucket=f"s3://{bucket.name}")
    return key, digest.hexdigest()


def _read_back(bucket: Bucket, uploaded: Uploaded) -> None:
    size = bucket.size(uploaded.key)
    if size != uploaded.size:
        bucket.delete(uploaded.key)
        raise BucketError(
            f"{uploaded.key} has {size} bytes instead of {uploaded.size} and was removed",
            bucket=f"s3://{bucket.name}",
            retryable=True,
        )


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
