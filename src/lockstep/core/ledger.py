"""The ledger as values: entries, what is held, and what the planner needs to know about the target around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from lockstep.core.migration import Kind

if TYPE_CHECKING:
    from lockstep.core.rehearsal.stored import StoredProof

#: Lockstep's own tables in the ledger's schema.
TABLES = ("schema_migrations", "schema_migrations_log", "schema_migrations_states")


class EntryState(Enum):
    """State of an entry, as stored."""

    APPLIED = "applied"  # whole
    STARTED = "started"  # one outside of a transaction that is on its way, or whose runner died
    FAILED = "failed"  # one outside of a transaction that stopped with an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a file outside of a transaction has come. It commits with what it tells of, wherever that can be."""

    reverting: bool = False  # the down script is on its way, not the up
    units: int = 0  # units done, from the first on
    digest: str = ""  # chain over the SQL of the units done: they must be what they were
    attempted: str = ""  # digest of the next unit, which cannot run in a transaction, once it was begun
    was_there: bool = False  # what the attempted unit makes was there before it began
    target: str = ""  # what the attempted unit is about, fully qualified; of a REINDEX what was left over before it
    backfill: bool = False  # it runs in batches
    batches: int = 0  # of a backfill: batches committed
    rows: int = 0  # of a backfill: rows touched; after a kill without those of the last batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the ledger."""

    name: str  # migration_name: the file name
    version: int | None  # None for a repeatable
    kind: Kind
    state: EntryState
    checksum: str | None  # SHA-256 of the text, or what an older tool recorded
    content_digest: str | None  # over the SQL tokens
    applied_at: datetime  # UTC
    execution_ms: int | None  # measured on the server
    applied_by: str | None  # role
    run_id: str | None
    verified: bool = True  # False: recorded by an older tool, its checksum could not be recomputed
    down_checksum: str | None = None  # of the recorded down script
    statements_done: int | None = None  # statements of the file that ran
    statements_total: int | None = None
    progress: Progress | None = None  # while started or failed; None in an older tool's row
    revert_proof: StoredProof | None = None  # of its rehearsal; None: it was not rehearsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A version that was reverted and must not come back by itself."""

    version: int
    name: str
    checksum: str | None  # of the file on disk when it was reverted
    content_digest: str | None  # of its SQL: other SQL lifts the hold, another comment does not
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What one target's ledger says."""

    entries: tuple[Entry, ...] = ()  # versioned by version, then repeatables by name
    holds: tuple[Hold, ...] = ()
    salt: str = ""  # of this ledger; keys the digests of settings' values
    occupied: int = 0  # user tables in the configured schemas while there is no entry at all (else 0)

    @property
    def head(self) -> int | None:
        """The newest applied version; None when there is none."""
        versions = [e.version for e in self.entries if e.version is not None]
        return max(versions, default=None)


def applied_set(entries: Iterable[Entry]) -> frozenset[tuple[str, str | None]]:
    """Return what makes two ledgers hold the same migrations: file names, each with what the file said.

    A repeatable's checksum covers its settings' values, which rightly differ; its content digest does not.
    """
    return frozenset(
        (e.name, e.content_digest if e.kind is Kind.REPEATABLE else e.checksum)
        for e in entries
        if e.state is EntryState.APPLIED
    )
