"""Fingerprints and change sets as bytes: compressed JSON, for the ledger's states. Knows no table."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from lockstep.core.changes import Print, Touched
from lockstep.core.fingerprint import Fingerprint, SchemaObject, fingerprint_of

FORMAT = 1
LARGEST = 256 * 1024 * 1024  # bytes of a state that is read: fifty times that of 5,000 tables


class _Document(msgspec.Struct):
    format: int
    major: int
    schemas: list[str]
    roles: list[str]
    objects: list[tuple[str, str, str, str, str, str | None]]


def encode_fingerprint(fingerprint: Fingerprint) -> bytes:
    """Return a fingerprint as bytes: equal ones give equal bytes."""
    document = _Document(
        format=FORMAT,
        major=fingerprint.major,
        schemas=list(fingerprint.schemas),
        roles=sorted(fingerprint.roles),
        objects=[one[:6] for _, one in sorted(fingerprint.objects.items())],
    )
    return zlib.compress(msgspec.json.encode(document), 5)


def decode_fingerprint(data: bytes) -> Fingerprint:
    """Read what `encode_fingerprint` wrote. Raises ValueError when it is damaged or of a newer format."""
    document = _decoded(data, _DOCUMENTS)
    objects = (SchemaObject(*fields) for fields in document.objects)
    return fingerprint_of(objects, major=document.major, schemas=document.schemas, roles=document.roles)


class _Changes(msgspec.Struct):
    format: int
    changes: list[tuple[str, str, str, str, Print | None, Print | None]]


def encode_touched(changes: Iterable[Touched]) -> bytes:
    """Return a change set as bytes."""
    rows = [(*one.key, one.before, one.after) for one in changes]
    return zlib.compress(msgspec.json.encode(_Changes(format=FORMAT, changes=rows)), 5)


def decode_touched(data: bytes) -> tuple[Touched, ...]:
    """Read what `encode_touched` wrote. Raises ValueError."""
    rows = _decoded(data, _CHANGES).changes
    return tuple(Touched(key=(row[0], row[1], row[2], row[3]), before=row[4], after=row[5]) for row in rows)


def _decoded(data: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        opened = zlib.decompressobj()
        text = opened.decompress(data, LARGEST)
        if opened.unconsumed_tail or not opened.eof:
            raise ValueError(f"a recorded state cannot be read: cut short, or larger than {LARGEST // 2**20} MiB")
        document = decoder.decode(text)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"a recorded state cannot be read: {error}") from error
    if document.format > FORMAT:
        raise ValueError(f"a recorded state is of format {document.format}, which a newer Lockstep wrote")
    return document


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_DOCUMENTS = msgspec.json.Decoder(_Document)
_CHANGES = msgspec.json.Decoder(_Changes)
