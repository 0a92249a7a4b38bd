"""The manifest: the small JSON document whose existence says that a backup exists, and what is in it.

It must not know where it is stored. It holds no secret: no connection string, no user name, no setting's value.
docs/reference/backup-format.md describes each field for people who read it without Lockstep.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from lockstep.core.contents import Count, Extension, Name, SchemaSize

__all__ = ["FORMAT", "DataArchive", "Extension", "LedgerHead", "Manifest", "SchemaSize", "decode", "encode"]

FORMAT = 1  # raised only when an older Lockstep would misread the document; new optional fields do not raise it

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Moment = Annotated[datetime, Meta(tz=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHead:
    """Where a target stood: end of its ledger and of its audit log, both in one snapshot."""

    version: int | None  # newest applied version; None: nothing applied
    entries: Count  # rows of the ledger
    audit_head: str | None = None  # hash of the audit log's last row, hex
    audit_length: Count | None = None  # number of that row; rows are counted from 1 on, those that were pruned included
    #: Of what the fingerprint covers: another one now says that it was changed since. A restored copy has another one.
    schema_token: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataArchive:
    """A further archive of the same snapshot, with the rows of some large tables: they are not in the main one."""

    key: Name
    size: Annotated[int, Meta(gt=0)]  # bytes
    sha256: Digest
    plain_sha256: Digest | None = None  # as of the manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One backup. All of it was true in the snapshot that the dump was made of."""

    format: int = FORMAT
    key: Name  # of the dump, in the same bucket
    size: Annotated[int, Meta(gt=0)]  # of the dump, bytes
    sha256: Digest  # of the dump's bytes
    compression: Name  # inside the archive: zstd:1 or gzip:1
    environment: Name  # as configured
    database: Name  # its name on the server
    server_version: Name  # as the server calls it
    client_version: Name  # of pg_dump; pg_restore of the same major reads the archive
    system_identifier: str | None  # of the cluster; None where the role may not ask
    taken_at: Moment  # of the snapshot, by the server's clock, UTC
    duration_ms: Count  # of dump and upload
    schemas: tuple[str, ...]  # in the dump, sorted; the system's own are not named
    excluded_schemas: tuple[str, ...] = ()  # in the database but not in the dump; such a backup replaces no database
    ledger: LedgerHead | None = None  # None: the database had no ledger, or nobody asked
    run_id: Name  # of the run that took it
    attempt: Annotated[int, Meta(ge=1)] = 1  # a run may take its backup again when it has aged
    tool_version: Name  # Lockstep's
    encrypted_to: tuple[str, ...] = ()  # age public keys; (): not encrypted. `size` and `sha256` are of what is stored
    plain_sha256: Digest | None = None  # of the archive before encryption; None: not encrypted
    data: tuple[DataArchive, ...] = ()  # further archives, where several dumps shared the snapshot
    contents_key: str | None = None  # of the document that storage.contents describes; None: an earlier Lockstep's
    contents_sha256: Digest | None = None
    snapshot_lsn: str | None = None  # pg_current_wal_lsn() beside the snapshot; None on a standby
    schema_sizes: tuple[SchemaSize, ...] = ()
    extensions: tuple[Extension, ...] = ()  # without plpgsql
    roles: tuple[str, ...] = ()  # that own or are granted something in the dump; none that PostgreSQL brings itself
    not_covered: tuple[str, ...] = ()  # in words: what the database had and a dump does not hold

    @property
    def id(self) -> str:
        """What people call the backup: the name of its folder, `20260312T101500Z-RUN`."""
        return self.key.split("/")[-2]


def encode(manifest: Manifest) -> bytes:
    """Return the document, indented for people, ending in a newline. Its last field is the digest of all before it."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    before = text.removesuffix(b"\n}") + b",\n"
    return before + b'  "%s": "%s"\n}\n' % (_SEAL, hashlib.sha256(before).hexdigest().encode())


def decode(document: bytes) -> Manifest:
    """Read a document. Unknown fields are passed over: a later version of the same format may add some.

    Raises ValueError when it is damaged, not a manifest, or of a format that this version does not know.
    """
    try:
        head = _HEADS.decode(document)
        if head.format != FORMAT:
            raise ValueError(f"format {head.format} is not known to this version of Lockstep (it knows {FORMAT})")
        manifest = _MANIFESTS.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a manifest: {error}") from error
    if manifest.key.count("/") < 1:
        raise ValueError("not a manifest: the dump's key names no folder")
    if (head.document_sha256 or manifest.contents_key) and not _is_sealed(document):
        raise ValueError("not a manifest: its bytes are not those that were written (SHA-256 differs)")
    return manifest


def _is_sealed(document: bytes) -> bool:
    match = _SEALED.fullmatch(document)
    return match is not None and hashlib.sha256(match[1]).hexdigest().encode() == match[2]


_SEAL = b"document_sha256"
_SEALED = re.compile(rb'(.*,\n)  "%s": "([0-9a-f]{64})"\n\}\n' % _SEAL, re.DOTALL)


class _Head(msgspec.Struct):
    format: int
    document_sha256: str | None = None  # None: an earlier Lockstep's, which named no contents either


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_HEADS = msgspec.json.Decoder(_Head)
_MANIFESTS = msgspec.json.Decoder(Manifest)
