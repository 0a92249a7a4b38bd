"""What a revert would run: the downs of applied versions, newest first; pure, like the planner."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lockstep.core.ledger import Entry, EntryState, Ledger, Progress
from lockstep.core.migration import Folder, Kind, SqlFile
from lockstep.core.planner import Reason, Refusal
from lockstep.core.resuming import doubt, ran
from lockstep.core.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertStep:
    """One migration to take back."""

    entry: Entry
    up: SqlFile | None  # the migration's file, where it is still there
    down: SqlFile  # what runs
    source: str  # "file", or "ledger" when the file is gone and the record serves
    differs: bool  # the file's down is another than the recorded one
    resume: Progress | None = None  # it was begun earlier, and goes on from here


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertPlan:
    """What a revert would run on one target, in order (newest first)."""

    steps: tuple[RevertStep, ...]
    digest: str  # SHA-256 (hex): downs and ledger


def plan_revert(
    folder: Folder,
    ledger: Ledger,
    recorded: Mapping[int, SqlFile],
    *,
    to_version: int | None = None,
    steps: int | None = None,
    only: Collection[int] = (),
) -> RevertPlan | tuple[Refusal, ...]:
    """Return the downs to run, or the reasons why it cannot be done. Exactly one of the three ways to say which is given.

    `to_version` stays applied, everything newer goes; one below the first version takes all back. `only` names versions
    that go, wherever they stand: that the others can do without them is for a trial to prove. `recorded` holds the down
    scripts that the ledger kept, by version. The file on disk wins where both exist.
    """
    versioned = [e for e in ledger.entries if e.version is not None]
    known = {e.version for e in versioned}
    if unknown := [version for version in only if version not in known]:
        return tuple(
            Refusal(
                reason=Reason.UNKNOWN_VERSION,
                message=f"version {version} is not applied here, so it cannot be reverted",
                hint="lockstep status shows what is applied",
            )
            for version in unknown
        )
    if to_version is not None and to_version > 0 and to_version not in known:
        return (
            Refusal(
                reason=Reason.UNKNOWN_VERSION,
                message=f"version {to_version} is not applied here, so it cannot be reverted to",
                hint="lockstep status shows what is applied (none takes everything back)",
            ),
        )
    newest_first = sorted(versioned, key=lambda e: e.version or 0, reverse=True)
    if only:
        chosen = [e for e in newest_first if e.version in only]
    elif to_version is not None:
        chosen = [e for e in newest_first if e.version is not None and e.version > to_version]
    else:
        chosen = newest_first[: steps or 0]
    on_disk = {m.version: m for m in folder.versioned}
    found: list[RevertStep] = []
    refusals: list[Refusal] = []
    for entry in chosen:
        version = entry.version or 0
        migration = on_disk.get(version)
        file = migration.down if migration else None
        record = recorded.get(version)
        refusal = _refusal(entry, migration.up.directives.irreversible if migration else None, file or record)
        if refusal is not None:
            refusals.append(refusal)
            continue
        down = file or record
        assert down is not None  # _refusal covers it
        differs = file is not None and entry.down_checksum is not None and file.checksum != entry.down_checksum
        found.append(
            RevertStep(
                entry=entry,
                up=migration.up if migration else None,
                down=down,
                source="file" if file else "ledger",
                differs=differs,
                resume=entry.progress,
            )
        )
    if refusals:
        return tuple(refusals)
    return RevertPlan(steps=tuple(found), digest=_digest(found, ledger))


def _refusal(entry: Entry, irreversible: str | None, down: SqlFile | None) -> Refusal | None:
    if entry.state is not EntryState.APPLIED and not (entry.progress and entry.progress.reverting):
        return Refusal(
            reason=Reason.FAILED,
            message=f"{printable(entry.name)} was started and did not finish ({ran(entry)})",
            hint="finish it first (lockstep sync ENV), or take back by hand what it did, then: "
            f"lockstep repair ENV --forget {entry.version or printable(entry.name)}",
            files=(printable(entry.name),),
        )
    if entry.kind is Kind.BASELINE:
        return Refusal(
            reason=Reason.NO_WAY_BACK,
            message=f"{printable(entry.name)} is part of the baseline: it never ran here, so there is nothing to take back",
            hint="revert to a version above the baseline",
            files=(printable(entry.name),),
        )
    if irreversible is not None:
        return Refusal(
            reason=Reason.NO_WAY_BACK,
            message=f"{printable(entry.name)} is irreversible: {irreversible}",
            hint="restore a backup instead: docs/guide.md#restore",
            files=(printable(entry.name),),
        )
    if down is None:
        return Refusal(
            reason=Reason.NO_WAY_BACK,
            message=f"{printable(entry.name)} has no down script, neither on disk nor in the ledger",
            hint="write one beside the file (NNN-name.down.sql), or restore a backup: docs/guide.md#restore",
            files=(printable(entry.name),),
        )
    if entry.progress is not None:
        settle = (
            f"look at what is left of it, then say what is true: lockstep repair ENV --record {entry.version} "
            f"(it is all still there) or --forget {entry.version} (none of it is)"
        )
        if (problem := doubt(down, entry, entry.progress, str(entry.version), settle)) is not None:
            return Refusal(reason=Reason.FAILED, message=problem[0], hint=problem[1], files=(down.name,))
    return None


def _digest(steps: list[RevertStep], ledger: Ledger) -> str:
    content = {
        "format": 1,
        "revert": [[s.entry.name, s.down.checksum] for s in steps],
        "ledger": [[e.name, e.version, e.kind.value, e.state.value, e.checksum] for e in ledger.entries],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
