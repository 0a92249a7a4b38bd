"""Builds folders and ledgers as values, for tests of the pure core."""

from __future__ import annotations

from datetime import UTC, datetime

from lockstep.core.checksum import checksum, content_digest
from lockstep.core.directives import parse_directives
from lockstep.core.ledger import Entry, EntryState, Hold, Ledger
from lockstep.core.migration import Folder, Kind, Migration, SqlFile, order

NOW = datetime(2026, 3, 12, 10, 2, tzinfo=UTC)


def sql_file(name: str, text: str) -> SqlFile:
    return SqlFile(name=name, text=text, checksum=checksum(text), directives=parse_directives(text, name))


def migration(version: int, text: str = "", *, down: str | None = None) -> Migration:
    text = text or f"CREATE TABLE t{version} (id bigint);"
    name = f"{version:03d}-step"
    return Migration(
        up=sql_file(f"{name}.sql", text),
        version=version,
        down=sql_file(f"{name}.down.sql", down) if down is not None else None,
    )


def repeatable(name: str, text: str) -> Migration:
    return Migration(up=sql_file(f"repeatable/{name}.sql", text), version=None)


def folder(*migrations: Migration, duplicates: tuple[tuple[str, ...], ...] = ()) -> Folder:
    return Folder(path="migrations", migrations=order(list(migrations)), duplicates=duplicates)


def entry(
    one: Migration,
    *,
    text: str | None = None,
    state: EntryState = EntryState.APPLIED,
    kind: Kind | None = None,
    verified: bool = True,
) -> Entry:
    """The ledger's entry of a migration; `text` is what was applied when that is not what is on disk."""
    applied = one.up.text if text is None else text
    return Entry(
        name=one.name,
        version=one.version,
        kind=kind or one.kind,
        state=state,
        checksum=checksum(applied),
        content_digest=content_digest(applied),
        applied_at=NOW,
        execution_ms=12,
        applied_by="postgres",
        run_id="run-1",
        verified=verified,
    )


def ledger(*entries: Entry, holds: tuple[Hold, ...] = (), occupied: int = 0) -> Ledger:
    return Ledger(entries=entries, holds=holds, salt="salt", occupied=occupied)


def hold(one: Migration) -> Hold:
    return Hold(
        version=one.version or 0,
        name=one.name,
        checksum=one.up.checksum,
        content_digest=one.up.content_digest,
        at=NOW,
        reason=None,
    )
