"""Rows of an audit log that left a database, as one object of the bucket: gzip'd JSON lines, encrypted like backups.

It must not know what a row means. The object lies in `audit-log/` of the environment's folder, which is named unlike a
backup, so nothing that lists or prunes backups takes it for one. docs/reference/backup-format.md describes it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from lockstep.storage.archive import Archive, read_archive
from lockstep.storage.bucket import Bucket
from lockstep.storage.encryption import Identity, encrypt
from lockstep.storage.folders import NAME
from lockstep.storage.multipart import MultipartStream

FOLDER = "audit-log"
FORMAT = "lockstep.audit-log/1"
LARGEST_ROW = 64 * 1024 * 1024  # bytes of one row of an audit log
_PIECE = 1024 * 1024  # bytes that are decompressed at once


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditExport:
    """One export that is in the bucket."""

    key: str
    size: int  # bytes that are stored
    sha256: str  # of them, lower-case hex
    plain_sha256: str | None  # of the gzip file before encryption; None: not encrypted
    encrypted_to: tuple[str, ...]  # age public keys


def export_key(bucket: Bucket, environment: str, *, first: int, last: int, run_id: str, encrypted: bool) -> str:
    """Return PREFIX/ENVIRONMENT/audit-log/FIRST-LAST-RUN.jsonl.gz, with .age behind it when encrypted."""
    assert NAME.fullmatch(environment) and NAME.fullmatch(run_id)
    ending = ".jsonl.gz.age" if encrypted else ".jsonl.gz"
    return f"{bucket.settings.prefix}{environment}/{FOLDER}/{first:010d}-{last:010d}-{run_id}{ending}"


def write_export(
    bucket: Bucket, key: str, head: dict[str, object], rows: Iterable[str], recipients: Sequence[str]
) -> AuditExport:
    """Store the rows, each a JSON text, behind a first line that says what they are. In constant memory; never overwrites.

    Raises BucketError; then there is no object.
    """
    with MultipartStream(bucket, key) as upload:
        plain = hashlib.sha256()
        chunks = _compressed(head, rows)
        if recipients:

            def seen() -> Iterator[bytes]:
                for chunk in chunks:
                    plain.update(chunk)
                    yield chunk

            encrypt(seen(), upload.write, recipients)
        else:
            for chunk in chunks:
                upload.write(chunk)
        made = upload.complete()
    return AuditExport(
        key=made.key,
        size=made.size,
        sha256=made.sha256,
        plain_sha256=plain.hexdigest() if recipients else None,
        encrypted_to=tuple(recipients),
    )


def read_back(bucket: Bucket, export: AuditExport) -> None:
    """Read every stored byte and compare. Raises BackupDamaged, BucketError."""
    read_archive(bucket, _archive(export).as_stored(), lambda _chunk: None)


def read_rows(
    bucket: Bucket, export: AuditExport, take: Callable[[bytes], object], *, identity: Identity | None = None
) -> None:
    """Give every line behind the first one, in order.

    Raises BackupDamaged, IdentityMissing, BucketError, ValueError (no rows of ours); only a return says that the lines were right.
    """
    reader = zlib.decompressobj(wbits=31)
    rest = b""
    lines = 0

    def write(chunk: bytes) -> None:
        nonlocal rest, lines
        full = True
        while chunk or full:
            # A piece at a time: what is compressed a thousandfold must not take a thousandfold of memory.
            piece = reader.decompress(chunk, _PIECE)
            chunk, full = reader.unconsumed_tail, len(piece) == _PIECE
            *whole, rest = (rest + piece).split(b"\n")
            if len(rest) > LARGEST_ROW:
                raise ValueError("a row that is larger than any")
            for line in whole:
                lines += 1
                if lines > 1:
                    take(line)

    read_archive(bucket, _archive(export), write, identity=identity)


def _archive(export: AuditExport) -> Archive:
    return Archive(
        key=export.key,
        size=export.size,
        sha256=export.sha256,
        plain_sha256=export.plain_sha256,
        encrypted_to=export.encrypted_to,
    )


def _compressed(head: dict[str, object], rows: Iterable[str]) -> Iterator[bytes]:
    whole = zlib.compressobj(level=6, wbits=31)
    yield whole.compress(msgspec.json.encode({"format": FORMAT, **head}) + b"\n")
    for row in rows:
        if chunk := whole.compress(row.encode() + b"\n"):
            yield chunk
    yield whole.flush()
