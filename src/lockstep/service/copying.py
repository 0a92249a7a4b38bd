"""The last steps of every restore: statistics, and the proof that the copy is what was backed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from lockstep.core.counting import counted
from lockstep.postgres.copycheck import CopyCheck, check_copy
from lockstep.postgres.ledger import read_head
from lockstep.service.filling import StoredBackup
from lockstep.storage.manifest import LedgerHead


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyProof:
    """What a look at a restored copy gave."""

    check: CopyCheck
    ledger: LedgerHead | None  # of the copy; None: it has none
    differences: tuple[str, ...]  # in words; () means that the copy is what was backed up

    @property
    def text(self) -> str:
        """What was proven, in a few words."""
        tables, rows = self.check.tables, self.check.rows
        if not tables and self.ledger is None:
            return "restored; the backup carries no list to compare it with"
        words = [f"{counted(tables, 'table')}, {counted(rows, 'row')}"]
        if self.check.compared < tables:
            words.append(f"{self.check.compared:,} of them compared by exact count")
        if self.ledger is not None and self.ledger.version is not None:
            words.append(f"ledger at {self.ledger.version:03d}")
        return ", ".join(words)


def analyze(connection: psycopg.Connection[Any]) -> None:
    """Gather statistics of the whole database: a fresh copy has none, and plans without them are bad."""
    connection.execute("ANALYZE")


def prove_copy(backup: StoredBackup, connection: psycopg.Connection[Any], *, ledger_schema: str) -> CopyProof:
    """Compare a restored copy with what the backup says of itself. Read-only."""
    check = check_copy(connection, backup.contents)
    with connection.transaction():
        connection.execute("SET LOCAL row_security = off")
        head = read_head(connection, ledger_schema)
    found = LedgerHead(version=head[0], entries=head[1], audit_head=head[2], audit_length=head[3]) if head else None
    differences = list(check.differences)
    if backup.manifest.ledger is not None and found != backup.manifest.ledger:
        differences.append(f"the ledger is {_words(found)} instead of {_words(backup.manifest.ledger)}")
    return CopyProof(check=check, ledger=found, differences=tuple(differences))


def _words(head: LedgerHead | None) -> str:
    if head is None:
        return "missing"
    where = "empty" if head.version is None else f"at {head.version:03d}"
    return f"{where} ({counted(head.entries, 'entry', 'entries')}, audit log up to row {head.audit_length or 0})"
