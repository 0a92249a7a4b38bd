"""A way back's proof as the ledger keeps it with its migration, and whether it may be relied on later. Pure.

The document holds names and counts, no value of anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lockstep.core.rehearsal.proof import Dropped, RevertProof, Standing, losses_text


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProof:
    """What a rehearsal found out about one migration's way back, before it was applied."""

    standing: Standing
    down_checksum: str | None  # of the script that was tried
    backup: str  # id of the backup that it was tried on
    at: datetime  # when the rehearsal ended
    ms: float | None = None  # what the down took there
    text: str = ""  # all of it in one line
    losses: str = ""  # in words; "" when nothing is lost
    drops: tuple[Dropped, ...] = ()  # what the down drops, for a look at what it holds by now

    def covers(self, down_checksum: str) -> bool:
        """Tell whether it proves the way back by this very script."""
        return self.standing is Standing.PROVEN and self.down_checksum == down_checksum


def proof_document(proof: RevertProof, *, backup: str, at: datetime) -> dict[str, object]:
    """Return what the ledger's column holds."""
    return {
        "standing": proof.standing.value,
        "down_checksum": proof.down_checksum,
        "backup": backup,
        "at": at.isoformat(timespec="seconds"),
        "ms": None if proof.ms is None else round(proof.ms, 1),
        "text": proof.text,
        "losses": losses_text(proof.losses),
        "drops": [[one.relation, one.column] for one in proof.drops],
    }


def stored_proof(document: Mapping[str, Any] | None) -> StoredProof | None:
    """Return what a document says; None for none, and for one that a newer Lockstep wrote in another form."""
    if document is None:
        return None
    try:
        return StoredProof(
            standing=Standing(document["standing"]),
            down_checksum=None if document["down_checksum"] is None else str(document["down_checksum"]),
            backup=str(document["backup"]),
            at=datetime.fromisoformat(document["at"]).astimezone(UTC),
            ms=None if document.get("ms") is None else float(document["ms"]),
            text=str(document.get("text", "")),
            losses=str(document.get("losses", "")),
            drops=tuple(
                Dropped(relation=str(relation), column=None if column is None else str(column))
                for relation, column in document.get("drops", ())
            ),
        )
    except (AttributeError, KeyError, ValueError, TypeError, OverflowError):
        return None
