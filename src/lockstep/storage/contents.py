"""The document of a backup's contents, beside its manifest: what a restored copy is compared with.

It must not know where it is stored. The manifest carries its key and its digest, so that listing backups need not read
it: a database with 50,000 tables has a long one.
"""

from __future__ import annotations

import msgspec

from lockstep.core.contents import (
    FORMAT,
    Contents,
    DatabaseSetting,
    DatabaseShape,
    SequenceContents,
    TableContents,
)

__all__ = [
    "FORMAT",
    "Contents",
    "DatabaseSetting",
    "DatabaseShape",
    "SequenceContents",
    "TableContents",
    "decode",
    "encode",
]


def encode(contents: Contents) -> bytes:
    """Return the document."""
    return msgspec.json.encode(contents) + b"\n"


def decode(document: bytes) -> Contents:
    """Read a document; unknown fields are passed over. Raises ValueError when it is damaged or of a later format."""
    try:
        head = _HEADS.decode(document)
        if head.format != FORMAT:
            raise ValueError(f"format {head.format} is not known to this version of Lockstep (it knows {FORMAT})")
        return _CONTENTS.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a list of contents: {error}") from error


class _Head(msgspec.Struct):
    format: int


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_HEADS = msgspec.json.Decoder(_Head)
_CONTENTS = msgspec.json.Decoder(Contents)
