"""Differences between two schemas as people read them: grouped under what was made or dropped whole, and explained. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import unified_diff

from lockstep.core.changes import Action, Change
from lockstep.core.fingerprint import Key

_TABLES = ("table", "view", "materialized view", "foreign table", "domain", "type")
_PARTS = frozenset({"column", "constraint", "not null constraint", "index", "trigger", "rule", "policy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference that a person has to look at, with what goes with it."""

    change: Change
    parts: tuple[Change, ...] = ()  # of a table that was made or dropped: its columns, indexes, grants, …

    @property
    def parts_text(self) -> str:
        """Return what the parts are, counted: 7 columns, 1 index."""
        counts: dict[str, int] = {}
        for part in self.parts:
            counts[part.key[0]] = counts.get(part.key[0], 0) + 1
        return ", ".join(f"{number} {_plural(kind, number)}" for kind, number in counts.items())


def _plural(kind: str, number: int) -> str:
    if number == 1 or kind in ("statistics", "default privileges"):
        return kind
    if kind.endswith("y"):
        return f"{kind[:-1]}ies"
    return f"{kind}es" if kind.endswith(("x", "ss")) else f"{kind}s"


def grouped(changes: Iterable[Change]) -> tuple[Difference, ...]:
    """Put every change under the object that was made or dropped together with it, where there is one."""
    found = tuple(changes)
    whole = {change.key: change for change in found if change.action is not Action.ALTERED}
    parts: dict[Key, list[Change]] = {}
    heads: list[Change] = []
    for change in found:
        owner = _owner(change, whole)
        if owner is None:
            heads.append(change)
        else:
            parts.setdefault(owner, []).append(change)
    return tuple(Difference(change=head, parts=tuple(parts.get(head.key, ()))) for head in heads)


def _owner(change: Change, whole: dict[Key, Change]) -> Key | None:
    """The outermost object that came or went the same way and that this one is part of."""
    for key in _owners(change):
        there = whole.get(key)
        if there is not None and there.action is change.action and there is not change:
            return _owner(there, whole) or key
    return None


def _owners(change: Change) -> Iterable[Key]:
    kind, schema, parent, _ = change.key
    if kind != "schema" and schema:
        yield ("schema", schema, "", "")
    if kind in _PARTS:
        for table in _TABLES:
            yield (table, schema, "", parent)
    elif kind in ("comment", "grant"):
        yield from _commented(schema, parent)
    elif kind == "extension version":
        yield ("extension", "", "", parent)
    elif kind == "sequence":
        one = change.after or change.before
        assert one is not None
        for mark in ("IDENTITY OF ", "OWNED BY "):
            _, found, of = one.definition.partition(mark)
            if found:
                path = of.split(".")
                # By names that need no quotes; another one is told by itself.
                yield ("table", path[0] if len(path) > 2 else schema, "", path[-2])
                yield ("column", path[0] if len(path) > 2 else schema, path[-2], path[-1])


def _commented(schema: str, of: str) -> Iterable[Key]:
    """What a comment or a grant is on: `table orders`, `column orders.note`, `function f(integer)`."""
    for words in range(1, 4):
        pieces = of.split(" ", words)
        if len(pieces) <= words:
            return
        kind, rest = " ".join(pieces[:words]), pieces[-1]
        yield (kind, schema, "", rest)
        if "." in rest and "(" not in rest:
            inside, _, name = rest.partition(".")
            yield (kind, schema, inside, name)


def definition_diff(change: Change) -> tuple[str, ...]:
    """Return the lines of a difference: the definition of what came or went, a diff of what was altered."""
    before = change.before.text.splitlines() if change.before else []
    after = change.after.text.splitlines() if change.after else []
    if change.before is None:
        return tuple(after)
    if change.after is None:
        return tuple(before)
    if len(before) <= 1 and len(after) <= 1:
        return (f"- {_or_nothing(before)}", f"+ {_or_nothing(after)}")
    lines = list(unified_diff(before, after, lineterm="", n=2))[2:]
    return tuple(line for line in lines if not line.startswith("@@"))


def _or_nothing(lines: Sequence[str]) -> str:
    return lines[0] if lines and lines[0] else "(nothing more)"
