"""Which statements of a file are followed by a look from inside their transaction. Pure.

A look is a query, and the isolation level may not be set after one: until a transaction has set it, nobody looks. SET,
RESET and SHOW lock nothing, so nobody looks after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lockstep.core.locking.locks import script_locks
from lockstep.core.locking.nodes import choice, nodes
from lockstep.core.locking.statement_words import words
from lockstep.core.migration import SqlFile
from lockstep.core.units import UnitKind

_QUIET = frozenset({"variable_set_stmt", "variable_show_stmt"})
#: What only the first query of a transaction may still find otherwise.
_FIRST = frozenset(
    {"TRANSACTION", "TRANSACTION SNAPSHOT", "transaction_isolation", "transaction_read_only", "transaction_deferrable"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One statement of a file, as a trace sees it."""

    line: int  # from 1
    kind: str  # in words
    quiet: bool  # it locks nothing
    held_back: bool  # a later one of its transaction must come before any query
    alone: bool = False  # it does not run in a transaction
    names: tuple[str, ...] = ()  # of such a one: the relations that its text names, as SQL


def watched(file: SqlFile) -> tuple[Watched, ...]:
    """Return every statement of a file, in order."""
    script = file.script()
    trees = list(zip(script.statements, nodes(script), strict=True))
    firsts = [
        index for index, (one, node) in enumerate(trees) if one.kind == "variable_set_stmt" and _comes_first(node)
    ]
    names: dict[int, tuple[str, ...]] = {}
    alone = set() if file.transactional else {u.first for u in file.units() if u.kind is UnitKind.ALONE}
    if alone:
        names = {one.index: tuple(lock.relation for lock in one.locks if lock.named) for one in script_locks(script)}
    return tuple(
        Watched(
            line=one.line,
            kind=words(one.kind, node),
            quiet=one.kind in _QUIET,
            held_back=any(index < first < _end(file, index) for first in firsts),
            alone=index in alone,
            names=names.get(index, ()) if index in alone else (),
        )
        for index, (one, node) in enumerate(trees)
    )


def _comes_first(node: Any) -> bool:
    return node.name in _FIRST and not choice(node, "kind").startswith("VAR_RESET")


def _end(file: SqlFile, index: int) -> int:
    """The statement behind the transaction that a statement belongs to."""
    if file.transactional:
        return len(file.script().statements)
    return next((unit.first + unit.count for unit in file.units() if index < unit.first + unit.count), index + 1)
