"""Which differences do not count: by a rule of the team's with a reason, or because environments rightly differ there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lockstep.core.kinds import ABSENT_ROLES, KINDS, MAY_DIFFER

if TYPE_CHECKING:
    from lockstep.core.changes import Change
    from lockstep.core.fingerprint import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the team's: all that it names must fit."""

    reason: str
    kind: str | None = None
    object: str | None = None  # glob over schema.name or schema.table.name; what is part of a match matches
    schema: str | None = None
    environments: tuple[str, ...] = ()  # (): all

    def fits(self, key: Key, environments: Iterable[str]) -> bool:
        """Tell whether the rule is about this object, in any of these environments."""
        if self.environments and not set(self.environments) & set(environments):
            return False
        if self.kind is not None and key[0] != self.kind:
            return False
        if self.schema is not None and key[1] != self.schema:
            return False
        return self.object is None or any(fnmatchcase(path, self.object) for path in paths(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """One difference that does not count, and why."""

    change: Change
    reason: str


def paths(key: Key) -> tuple[str, ...]:
    """Return what an object may be called in a rule: itself, and what it is part of."""
    kind, schema, parent, name = key
    start = f"{schema}." if schema else ""
    if kind in ("comment", "grant"):
        # Their parent is a kind and a name, which may be a table's column.
        words = next((k for k in sorted(KINDS, key=len, reverse=True) if parent.startswith(f"{k} ")), "")
        of = parent[len(words) + 1 :]
        of = of if words != "schema" else ""
        return tuple(f"{start}{part}".rstrip(".") for part in _prefixes(of)) or (schema,)
    own = f"{start}{parent}.{name}" if parent else f"{start}{name}".rstrip(".")
    if not parent:
        return (own,)
    # Of all that is part of a table only an index has a name in the schema.
    return (own, f"{start}{name}", f"{start}{parent}") if kind == "index" else (own, f"{start}{parent}")


def _prefixes(name: str) -> tuple[str, ...]:
    if "(" in name or "." not in name:
        return (name,)
    return (name, name.split(".", 1)[0])


def sift(
    changes: Iterable[Change], rules: Sequence[Rule], environments: Sequence[str]
) -> tuple[list[Change], list[Ignored]]:
    """Part the differences that count from those that a rule takes out."""
    kept: list[Change] = []
    out: list[Ignored] = []
    for change in changes:
        rule = next((rule for rule in rules if rule.fits(change.key, environments)), None)
        if rule is None:
            kept.append(change)
        else:
            out.append(Ignored(change=change, reason=rule.reason))
    return kept, out


def sift_parity(
    changes: Iterable[Change], kinds: Sequence[str], left_roles: frozenset[str], right_roles: frozenset[str]
) -> tuple[list[Change], list[Ignored]]:
    """Part what two environments may rightly differ in: whole kinds, and grants to roles that one side lacks."""
    kept: list[Change] = []
    out: list[Ignored] = []
    for change in changes:
        kind = change.key[0]
        if kind in kinds:
            reason = MAY_DIFFER.get(kind, "drift.parity_ignores")
        elif ABSENT_ROLES in kinds and roles_in(change.key) - (left_roles & right_roles):
            reason = MAY_DIFFER[ABSENT_ROLES]
        else:
            kept.append(change)
            continue
        out.append(Ignored(change=change, reason=reason))
    return kept, out


def roles_in(key: Key) -> set[str]:
    """Return the roles that one side may lack: a grantee, and whose default privileges these are."""
    kind, _, parent, name = key
    if kind == "grant":
        return {name} - {"PUBLIC"}
    if kind == "default privileges":
        return {parent, name.partition(" to ")[2]} - {"PUBLIC"}
    return set()
