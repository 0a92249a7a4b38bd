"""The document of a rehearsal, beside the backup that it was made on: found again by a run that goes on or verifies.

It must not know where it is stored. It holds definitions of objects, no row of anybody's and no setting's value.
"""

from __future__ import annotations

import msgspec

from lockstep.core.rehearsal.report import FORMAT, Rehearsal


def file_name(run_id: str, attempt: int) -> str:
    """Return the name of its document: one per run and attempt."""
    return f"rehearsal-{run_id}-{attempt}.json"


def encode(rehearsal: Rehearsal) -> bytes:
    """Return the document."""
    return msgspec.json.format(msgspec.json.encode(rehearsal), indent=2) + b"\n"


def decode(document: bytes) -> Rehearsal:
    """Read a document; unknown fields are passed over. Raises ValueError when it is damaged or of a later format."""
    try:
        head = _HEADS.decode(document)
        if head.format != FORMAT:
            raise ValueError(f"format {head.format} is not known to this version of Lockstep (it knows {FORMAT})")
        return _REHEARSALS.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a rehearsal: {error}") from error


class _Head(msgspec.Struct):
    format: int


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_HEADS = msgspec.json.Decoder(_Head)
_REHEARSALS = msgspec.json.Decoder(Rehearsal)
