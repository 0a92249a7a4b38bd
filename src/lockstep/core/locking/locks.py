"""The lock that each statement of a script takes, from its text alone.

A lock on what the text does not name (an index's table, what a foreign key references) is given in words unless the
statements before say which it is; of DO, CALL and other code nothing is claimed at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.lock_readers import NO_LOCK, READERS
from lockstep.core.locking.nodes import nodes
from lockstep.core.locking.statement_words import words
from lockstep.core.locking.table_locks import Lock
from lockstep.core.statements import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationLock:
    """The strongest lock that a statement takes on one relation."""

    relation: str  # as the statement writes it; or words for one that it does not name
    mode: Mode
    new: bool  # the relation was made in this file: nobody else waits for it
    named: bool = True  # False: `relation` is words

    @property
    def felt(self) -> bool:
        """Whether the application notices it: others' reads or writes wait."""
        return self.mode.strong and not self.new


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLocks:
    """The locks of one statement."""

    index: int  # of the statement in its script, from 0
    line: int  # of its start, from 1
    kind: str  # in words: ALTER TABLE, CREATE INDEX CONCURRENTLY, …
    locks: tuple[RelationLock, ...]  # strongest first
    unknown: str | None = None  # what it does that its text does not show, in words


def script_locks(script: Script, known: Known | None = None) -> tuple[StatementLocks, ...]:
    """Return the locks of every statement, in order. `known` is what earlier files tell; it learns this one, too."""
    known = known or Known()
    known.next_file()
    found = []
    for index, (statement, node) in enumerate(zip(script.statements, nodes(script), strict=True)):
        locks, unknown = statement_locks(statement.kind, node, known)
        found.append(
            StatementLocks(
                index=index, line=statement.line, kind=words(statement.kind, node), locks=locks, unknown=unknown
            )
        )
        known.learn(statement.kind, node)
    return tuple(found)


def statement_locks(kind: str, node: Any, known: Known) -> tuple[tuple[RelationLock, ...], str | None]:
    """Return the locks of one statement, strongest first, and what of it is unknown."""
    if kind in NO_LOCK:
        return (), None
    read = READERS.get(kind)
    if read is None:
        return (), "what it locks is not known"
    unknown = None
    locks: list[Lock] = []
    for one in read(node, known):
        if isinstance(one, str):
            unknown = one
        else:
            locks.append(one)
    return _strongest(locks, known), unknown


def _strongest(locks: list[Lock], known: Known) -> tuple[RelationLock, ...]:
    """One lock per relation, strongest first."""
    found: dict[object, RelationLock] = {}
    for target, mode in locks:
        if isinstance(target, str):
            key: object = target
            made = RelationLock(relation=target, mode=mode, new=False, named=False)
        else:
            key = known.key(target)
            made = RelationLock(relation=target.shown, mode=mode, new=known.is_new(target))
        if key not in found or found[key].mode.rank < mode.rank:
            found[key] = made
    return tuple(sorted(found.values(), key=lambda one: (not one.named, -one.mode.rank)))
