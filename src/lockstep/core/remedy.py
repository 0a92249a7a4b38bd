"""SQL for simple differences: to keep one (a migration for all environments), or to take it back. Proposals, never run.

Only what can be said for certain: indexes, columns, grants, comments, and constraints, triggers and functions whose
definition is SQL itself. None where a person has to think.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lockstep.core.changes import Change
from lockstep.core.drift import Difference
from lockstep.core.fingerprint import Key, SchemaObject
from lockstep.core.locking.nodes import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """The two ways to end a difference."""

    keep: str | None  # makes the change everywhere; harmless where it is made already. None: it would lose data there
    undo: str  # takes it back where it was made
    alone: bool = False  # cannot run in a transaction: CONCURRENTLY
    note: str | None = None  # what undo loses, or cannot bring back


def remedy(difference: Difference, renamed: frozenset[Key] = frozenset()) -> Remedy | None:
    """Return what to do about a difference, its comments and grants included; None when it is not simple.

    `renamed`: columns that may be one under two names (`maybe_renamed`); of them only a person can tell.
    """
    if difference.change.key in renamed:
        return None
    head = _remedy(difference.change)
    if head is None or not difference.parts:
        return head
    parts = [part for one in difference.parts if (part := _remedy(one)) is not None]
    if len(parts) < len(difference.parts):
        return None
    # What is dropped takes its parts along; what is made needs each of them.
    if difference.change.after is None:
        return replace(head, undo="\n".join([head.undo, *(part.undo for part in parts)]))
    keeps = [head.keep, *(part.keep for part in parts)]
    return replace(head, keep=None if None in keeps else "\n".join(text for text in keeps if text))


def maybe_renamed(differences: Iterable[Difference]) -> frozenset[Key]:
    """Return the columns that went and came in one table with the same definition: perhaps one, under another name.

    To drop the one and add the other would lose its data.
    """
    columns = [one.change for one in differences if one.change.key[0] == "column"]
    found: set[Key] = set()
    for gone in (c for c in columns if c.before is not None and c.after is None):
        for new in (c for c in columns if c.before is None and c.after is not None):
            assert gone.before is not None and new.after is not None
            if gone.key[:3] == new.key[:3] and gone.before.definition == new.after.definition:
                found |= {gone.key, new.key}
    return frozenset(found)


def _remedy(change: Change) -> Remedy | None:
    make = _KINDS.get(change.key[0])
    if make is None:
        return None
    keep: str | None = make(change.before, change.after)
    undo = make(change.after, change.before)
    if keep is None or undo is None:
        return None
    note = None
    if change.key[0] == "column" and change.after is None:
        keep = None  # it would drop the column, with its data, everywhere
        note = "the column's data does not come back with it; a backup has it"
        if " NOT NULL" in undo and " DEFAULT " not in undo:
            note += "; and rows need a value first, since it is NOT NULL"
    elif change.key[0] == "column" and change.before is None:
        note = "this drops the column with its data"
    return Remedy(keep=keep, undo=undo, alone=change.key[0] == "index", note=note)


Maker = Callable[[SchemaObject | None, SchemaObject | None], str | None]


def _index(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    lines = []
    if before is not None:
        lines.append(f"DROP INDEX CONCURRENTLY IF EXISTS {_in_schema(before)};")
    if after is not None:
        match = _INDEX.fullmatch(after.definition)
        if match is None:
            return None
        lines.append(f"CREATE {match[1] or ''}INDEX CONCURRENTLY IF NOT EXISTS {match[2]};")
    return "\n".join(lines)


_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (?!.* ON ONLY )(.*?)", re.DOTALL)
_MARKS = (" INVALID", " CLUSTER", " ATTACHED TO ", " ALTER COLUMN ")


def _plain_index(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    sides = [one.definition for one in (before, after) if one is not None]
    if any(mark in text for text in sides for mark in _MARKS):
        return None
    return _index(before, after)


#: type, collation, NOT NULL, default; nothing else.
_COLUMN = re.compile(
    r"(?P<type>.+?)(?P<collate> COLLATE \S+)?(?P<required> NOT NULL)?(?: DEFAULT (?P<default>.+))?", re.DOTALL
)
_NOT_SIMPLE = re.compile(
    r" GENERATED | STORAGE | COMPRESSION | STATISTICS \d| OPTIONS \(| INHERITED$|\([^()]*=[^()]*\)$", re.DOTALL
)


def _column(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    one = after or before
    assert one is not None
    table = f"{quote(one.schema)}.{quote(one.parent)}"
    name = quote(one.name)
    for side in (before, after):
        if side is not None and (_NOT_SIMPLE.search(side.definition) or "nextval(" in side.definition):
            return None
    if after is None:
        return f"ALTER TABLE {table} DROP COLUMN IF EXISTS {name};"
    if before is None:
        return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {after.definition};"
    old, new = _COLUMN.fullmatch(before.definition), _COLUMN.fullmatch(after.definition)
    if old is None or new is None:
        return None
    lines = []
    if old["type"] != new["type"] or old["collate"] != new["collate"]:
        return None  # one of the two directions may lose data
    if old["default"] != new["default"]:
        action = f"SET DEFAULT {new['default']}" if new["default"] else "DROP DEFAULT"
        lines.append(f"ALTER TABLE {table} ALTER COLUMN {name} {action};")
    if bool(old["required"]) != bool(new["required"]):
        lines.append(f"ALTER TABLE {table} ALTER COLUMN {name} {'SET' if new['required'] else 'DROP'} NOT NULL;")
    return "\n".join(lines) or None


def _grant(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    one = after or before
    assert one is not None
    on = _granted_on(one)
    if on is None:
        return None
    what, columns = on
    who = "PUBLIC" if one.name == "PUBLIC" else quote(one.name)

    def rights(text: str) -> tuple[set[str], set[str]]:
        plain: set[str] = set()
        passed_on: set[str] = set()
        for right in text.split(", ") if text != "(none)" else ():
            name = right.removesuffix(" WITH GRANT OPTION")
            (passed_on if name != right else plain).add(f"{name} ({columns})" if columns else name)
        return plain, passed_on

    if "(none)" in (one.definition, before.definition if before else None):
        # What PUBLIC has by default: no entry means that it has it.
        default = "USAGE" if what.startswith(("TYPE", "DOMAIN", "LANGUAGE")) else "EXECUTE"
        if after is not None and after.definition == "(none)":
            return f"REVOKE {default} ON {what} FROM PUBLIC;"
        return f"GRANT {default} ON {what} TO PUBLIC;"
    lines = []
    if before is not None:
        plain, passed_on = rights(before.definition)
        kept = rights(after.definition) if after else (set[str](), set[str]())
        if gone := sorted((plain | passed_on) - kept[0] - kept[1]):
            lines.append(f"REVOKE {', '.join(gone)} ON {what} FROM {who};")
        if option := sorted(passed_on & kept[0]):
            lines.append(f"REVOKE GRANT OPTION FOR {', '.join(option)} ON {what} FROM {who};")
    if after is not None:
        plain, passed_on = rights(after.definition)
        had = rights(before.definition) if before else (set[str](), set[str]())
        if new := sorted(plain - had[0] - had[1]):
            lines.append(f"GRANT {', '.join(new)} ON {what} TO {who};")
        if option := sorted(passed_on - had[1]):
            lines.append(f"GRANT {', '.join(option)} ON {what} TO {who} WITH GRANT OPTION;")
    return "\n".join(lines) or None


_GRANTED = {
    "table": "TABLE", "view": "TABLE", "materialized view": "TABLE", "foreign table": "TABLE", "sequence": "SEQUENCE",
    "type": "TYPE", "domain": "DOMAIN", "schema": "SCHEMA", "foreign server": "FOREIGN SERVER", "language": "LANGUAGE",
    "foreign data wrapper": "FOREIGN DATA WRAPPER", "function": "FUNCTION", "procedure": "PROCEDURE", "aggregate": "FUNCTION",
}  # fmt: skip


def _granted_on(one: SchemaObject) -> tuple[str, str] | None:
    """The object of a GRANT, and the column where it is one's."""
    kind = next(
        (k for k in sorted((*_GRANTED, "column"), key=len, reverse=True) if one.parent.startswith(f"{k} ")), None
    )
    if kind is None:
        return None
    name = one.parent[len(kind) + 1 :]
    if kind == "schema":
        return f"SCHEMA {quote(name)}", ""
    if kind == "column":
        table, dot, column = name.partition(".")
        if not dot or "." in column:
            return None  # a name with a dot in it: which part is which cannot be told
        return f"TABLE {quote(one.schema)}.{quote(table)}", quote(column)
    if "(" in name and kind in ("function", "procedure", "aggregate"):
        function, _, arguments = name.partition("(")
        return f"{_GRANTED[kind]} {quote(one.schema)}.{quote(function)}({arguments}", ""
    return f"{_GRANTED[kind]} " + (f"{quote(one.schema)}." if one.schema else "") + quote(name), ""


def _comment(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    one = after or before
    assert one is not None
    on = _commented(one)
    if on is None:
        return None
    return f"COMMENT ON {on} IS {_literal(after.definition) if after else 'NULL'};"


_INSIDE = ("trigger", "rule", "policy")  # a constraint may be a domain's


def _commented(one: SchemaObject) -> str | None:
    kinds = (*_GRANTED, "column", "index", *_INSIDE, "statistics", "collation", "event trigger", "publication")
    kind = next((k for k in sorted(kinds, key=len, reverse=True) if one.parent.startswith(f"{k} ")), None)
    if kind is None:
        return None
    name = one.parent[len(kind) + 1 :]
    word = {"foreign server": "SERVER"}.get(kind, kind.upper())
    inside = f"{quote(one.schema)}." if one.schema else ""
    if kind == "schema":
        return f"SCHEMA {quote(name)}"
    if kind in ("column", "index", *_INSIDE):
        table, dot, own = name.partition(".")
        if not dot or "." in own:
            return None
        if kind == "column":
            return f"COLUMN {inside}{quote(table)}.{quote(own)}"
        if kind == "index":
            return f"INDEX {inside}{quote(own)}"
        return f"{word} {quote(own)} ON {inside}{quote(table)}"
    if "(" in name:
        function, _, arguments = name.partition("(")
        return f"{word} {inside}{quote(function)}({arguments}"
    return f"{word} {inside}{quote(name)}"


def _constraint(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    one = after or before
    assert one is not None
    if re.search(r"\bVALUE\b", one.definition):
        return None  # of a domain
    if any(
        mark in side.definition
        for side in (before, after)
        if side
        for mark in (*_MARKS, " TRIGGERS NOT ENABLED", " INDEX ")
    ):
        return None
    table = f"{quote(one.schema)}.{quote(one.parent)}"
    lines = [f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {quote(one.name)};"]
    if after is not None:
        lines.append(f"ALTER TABLE {table} ADD CONSTRAINT {quote(one.name)} {after.definition};")
    return "\n".join(lines)


def _trigger(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    one = after or before
    assert one is not None
    if after is not None and after.definition.endswith((" DISABLED", " REPLICA", " ALWAYS")):
        return None
    drop = f"DROP TRIGGER IF EXISTS {quote(one.name)} ON {quote(one.schema)}.{quote(one.parent)};"
    return drop if after is None else f"{drop}\n{after.definition};"


def _function(before: SchemaObject | None, after: SchemaObject | None) -> str | None:
    one = after or before
    assert one is not None
    if one.body is not None:
        return None
    if after is None:
        name, _, arguments = one.name.partition("(")
        return f"DROP {one.kind.upper()} IF EXISTS {quote(one.schema)}.{quote(name)}({arguments};"
    return f"{after.definition.rstrip()};"


def _in_schema(one: SchemaObject) -> str:
    return f"{quote(one.schema)}.{quote(one.name)}"


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


_KINDS: dict[str, Maker] = {
    "index": _plain_index,
    "column": _column,
    "grant": _grant,
    "comment": _comment,
    "constraint": _constraint,
    "trigger": _trigger,
    "function": _function,
    "procedure": _function,
}
