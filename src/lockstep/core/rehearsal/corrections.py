"""What was expected of a statement's locks by its text, beside what was seen: where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.lock_report import FileLocks
from lockstep.core.locking.locks import StatementLocks
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.core.rehearsal.verdict import Note

#: What a statement's text cannot name, or takes along without saying: nothing that it could be wrong about.
_TAKEN_ALONG = frozenset({"index", "TOAST table", "sequence", "partition"})


def corrections(files: Iterable[FileTrace], predicted: Iterable[FileLocks]) -> tuple[Note, ...]:
    """Return a note for each lock that was seen otherwise: `predicted SHARE on orders, seen ACCESS EXCLUSIVE`."""
    expected = {one.file: {statement.index: statement for statement in one.statements} for one in predicted}
    return tuple(note for file in files for note in _of_file(file, expected.get(file.name, {})))


def _of_file(file: FileTrace, expected: dict[int, StatementLocks]) -> Iterator[Note]:
    held: dict[str, Mode] = {}
    for one in file.statements:
        if not file.transactional:
            held.clear()
        for lock in one.locks:
            if lock.relation not in held or held[lock.relation].rank < lock.mode.rank:
                held[lock.relation] = lock.mode
        if (wanted := expected.get(one.index)) is not None:
            for words in _differences(one, wanted, held):
                yield Note(message=words, file=file.name, line=one.line)


def _differences(seen: StatementTrace, wanted: StatementLocks, held: dict[str, Mode]) -> Iterator[str]:
    named = {lock.relation: lock for lock in wanted.locks if lock.named and not lock.new}
    for relation, lock in named.items():
        found = _held(relation, held)
        if found is None:
            continue  # by another name, gone already, or not sampled
        before = max((one.mode.rank for one in seen.locks if _same(relation, one.relation)), default=-1)
        if found.rank < lock.mode.rank or lock.mode.rank < before:
            yield f"predicted {lock.mode.value} on {relation}, seen {found.value}"
    if wanted.unknown or any(not lock.named for lock in wanted.locks):
        return
    for taken in seen.locks:
        known = any(_same(one.relation, taken.relation) for one in wanted.locks)
        if taken.existed and taken.mode.strong and taken.kind not in _TAKEN_ALONG and not known:
            yield f"predicted no lock on {taken.relation}, seen {taken.mode.value}"


def _held(relation: str, held: dict[str, Mode]) -> Mode | None:
    return next((mode for name, mode in held.items() if _same(relation, name)), None)


def _same(written: str, full: str) -> bool:
    """Whether a name as a statement writes it can be this relation."""
    return full == written or ("." not in written and full.rsplit(".", 1)[-1] == written)
