"""Files against ledger, row by row. Status shows these rows and the planner decides on them, so they cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lockstep.core.checksum import checksum as digest_of
from lockstep.core.checksum import settings_digest
from lockstep.core.ledger import Entry, EntryState, Hold, Ledger
from lockstep.core.migration import Folder, Kind, Migration
from lockstep.core.text import printable


class State(Enum):
    """What one migration is on one target, in the words that status prints."""

    APPLIED = "applied"  # in ledger and on disk, checksum equal
    BASELINE = "baseline"  # declared present already
    REFORMATTED = "reformatted"  # applied; only comments or white space differ since
    UNVERIFIED = "unverified"  # applied by an older tool; its checksum could not be recomputed
    PENDING = "pending"  # on disk only
    TO_REAPPLY = "to re-apply"  # a repeatable whose content, or a setting it uses, changed
    HELD = "held"  # reverted here; waits for a changed file or --include
    OUT_OF_ORDER = "out of order"  # pending, but older than the newest applied
    CHANGED = "changed"  # applied; the SQL on disk is another
    MISSING = "missing"  # in the ledger only
    STARTED = "started"  # outside of a transaction, not finished
    FAILED = "failed"  # outside of a transaction, stopped with an error


#: States in which there is something to apply.
WAITING = frozenset({State.PENDING, State.TO_REAPPLY, State.HELD, State.OUT_OF_ORDER})
#: States of what was begun and did not finish.
BEGUN = frozenset({State.FAILED, State.STARTED})
#: States in which files and ledger disagree (exit code 4).
DISAGREEING = frozenset({State.CHANGED, State.MISSING, State.OUT_OF_ORDER, State.FAILED, State.STARTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One migration on one target."""

    name: str  # file name (the ledger's where the file is gone)
    version: int | None  # None for a repeatable
    state: State
    migration: Migration | None  # None when missing
    entry: Entry | None  # None when not in the ledger
    hold: Hold | None = None


def compare(folder: Folder, ledger: Ledger, settings: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """Return a row per migration that is on disk or in the ledger: versioned by version, then repeatables by name.

    Of two files at one number the first by name is compared; the planner refuses duplicates before it looks at rows.
    SQL is scanned only for files whose checksum differs from the ledger's.
    """
    entries = {_key(e.version, e.name): e for e in ledger.entries}
    holds = {h.version: h for h in ledger.holds}
    head = ledger.head
    rows: list[Row] = []
    seen: set[int | str] = set()
    for migration in folder.migrations:
        name, version = migration.up.name, migration.version
        key = _key(version, name)
        if key in seen:
            continue
        seen.add(key)
        entry = entries.get(key)
        hold = holds.get(version) if holds and version is not None and entry is None else None
        if hold is not None and _lifts(migration, hold):
            hold = None
        state = _state(migration, entry, hold, head, ledger.salt, settings or {})
        rows.append(Row(name=name, version=version, state=state, migration=migration, entry=entry, hold=hold))
    for key, entry in entries.items():
        if key not in seen:
            gone = State.BASELINE if entry.kind is Kind.BASELINE else _begun(entry) or State.MISSING
            rows.append(Row(name=printable(entry.name), version=entry.version, state=gone, migration=None, entry=entry))
    return tuple(sorted(rows, key=lambda row: (row.version is None, row.version or 0, row.name)))


def effective_checksum(migration: Migration, settings: Mapping[str, str], salt: str) -> str:
    """What the ledger records for a migration: its text's checksum, bound to the settings that a repeatable uses."""
    uses = migration.up.directives.uses
    if not uses:
        return migration.up.checksum
    values = {name: settings.get(name, "") for name in uses}
    return digest_of(f"{migration.up.checksum}:{settings_digest(values, salt)}")


def _lifts(migration: Migration, hold: Hold) -> bool:
    """True when the file's SQL is another than what was reverted."""
    if hold.checksum is None or hold.checksum == migration.up.checksum:
        return False
    return hold.content_digest is None or hold.content_digest != migration.up.content_digest


def _key(version: int | None, name: str) -> int | str:
    return name if version is None else version


def _state(
    migration: Migration,
    entry: Entry | None,
    hold: Hold | None,
    head: int | None,
    salt: str,
    settings: Mapping[str, str],
) -> State:
    if entry is None:
        if hold is not None:
            return State.HELD
        late = migration.version is not None and head is not None and migration.version < head
        return State.OUT_OF_ORDER if late else State.PENDING
    if (begun := _begun(entry)) is not None:
        return begun
    if entry.checksum == effective_checksum(migration, settings, salt):
        return State.BASELINE if entry.kind is Kind.BASELINE else State.APPLIED
    if not entry.verified:
        return State.UNVERIFIED
    if migration.version is None:
        return State.TO_REAPPLY
    same = entry.content_digest is not None and entry.content_digest == migration.up.content_digest
    return State.REFORMATTED if same else State.CHANGED


def _begun(entry: Entry) -> State | None:
    if entry.state is EntryState.APPLIED:
        return None
    return State.FAILED if entry.state is EntryState.FAILED else State.STARTED
