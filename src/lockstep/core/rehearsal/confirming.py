"""The locks that the text of a file promises beside those that a rehearsal saw: what it confirms, and what it corrects.

Pure. Only strong locks on what was there before are compared, relation by relation: nobody waits for the others. What
the text does not show (DO, CALL, functions) is no promise, and a sample that missed a lock is no correction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.locks import RelationLock, StatementLocks
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace, TracedLock


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One relation on which a rehearsal saw another lock than the text promises."""

    line: int  # of the statement, from 1
    kind: str  # of the statement, in words
    relation: str
    predicted: Mode | None  # None: none at all
    seen: Mode | None

    @property
    def text(self) -> str:
        """In one line: `line 3, CREATE INDEX: predicted SHARE on orders, seen ACCESS EXCLUSIVE`."""
        predicted = "no strong lock" if self.predicted is None else self.predicted.value
        seen = "none" if self.seen is None else self.seen.value
        return f"line {self.line}, {self.kind}: predicted {predicted} on {self.relation}, seen {seen}"


def corrections(predicted: Iterable[StatementLocks], trace: FileTrace) -> tuple[Correction, ...]:
    """Compare the locks of a script with those of its trace, statement by statement."""
    promises = {one.index: one for one in predicted}
    held: dict[str, Mode] = {}
    found: list[Correction] = []
    for statement in trace.statements:
        promise = promises.get(statement.index)
        if promise is not None and promise.unknown is None:
            found += _statement(promise, statement, held)
        for lock in statement.locks:
            if lock.relation not in held or held[lock.relation].rank < lock.mode.rank:
                held[lock.relation] = lock.mode
    return tuple(found)


def _statement(promise: StatementLocks, statement: StatementTrace, held: dict[str, Mode]) -> list[Correction]:
    in_words = {lock.mode for lock in promise.locks if not lock.named}
    seen = [lock for lock in statement.locks if lock.existed]
    found: list[Correction] = []
    missed: list[RelationLock] = []
    met: set[str] = set()
    for lock in promise.locks:
        if lock.new or not lock.named:
            continue
        one = next((one for one in seen if _same(lock.relation, one.relation)), None)
        if one is None:
            missed.append(lock)
            continue
        met.add(one.relation)
        if _differs(lock.mode, one.mode, sampled=statement.sampled):
            found.append(_correction(statement, lock.relation, lock.mode, one.mode))
    rest = [one for one in seen if one.relation not in met and one.mode.strong and _counts(one, seen)]
    for lock in missed:
        # Called otherwise by now: what was renamed is seen under its old name.
        other = next((one for one in rest if one.mode is lock.mode), None)
        if other is not None:
            rest.remove(other)
        elif lock.mode.strong and not statement.sampled and not _held(lock, held):
            found.append(_correction(statement, lock.relation, lock.mode, None))
    return found + [_correction(statement, one.relation, None, one.mode) for one in rest if one.mode not in in_words]


def _differs(predicted: Mode, seen: Mode, *, sampled: bool) -> bool:
    """Whether it matters. Of a sample, only what is stronger: it may have missed the rest."""
    return (predicted.strong or seen.strong) and (seen.rank > predicted.rank if sampled else seen is not predicted)


def _held(lock: RelationLock, held: dict[str, Mode]) -> bool:
    """Whether it, or something that it may be the new name of, is locked as strongly by an earlier statement."""
    known = [mode for name, mode in held.items() if _same(lock.relation, name)] or list(held.values())
    return any(mode.rank >= lock.mode.rank for mode in known)


def _counts(one: TracedLock, seen: list[TracedLock]) -> bool:
    """Indexes and TOAST come along with their table, partitions with what they are a part of."""
    if one.kind in ("index", "TOAST table", "sequence"):
        return False
    return one.kind != "partition" or not any(other.kind == "table" and other.mode is one.mode for other in seen)


def _same(written: str, full: str) -> bool:
    return written == full or full.endswith(f".{written}")


def _correction(statement: StatementTrace, relation: str, predicted: Mode | None, seen: Mode | None) -> Correction:
    return Correction(line=statement.line, kind=statement.kind, relation=relation, predicted=predicted, seen=seen)
