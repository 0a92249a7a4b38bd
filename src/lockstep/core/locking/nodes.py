"""Reading the parser's trees: names out of nodes, SQL out of changed copies. The shapes are libpg_query's protobuf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lockstep.core.statements import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table, view, sequence or index by name, as a statement writes it."""

    name: str
    schema: str | None = None  # None: not written, search_path decides

    @property
    def shown(self) -> str:
        """As SQL, quoted where it must be."""
        return f"{quote(self.schema)}.{quote(self.name)}" if self.schema else quote(self.name)

    def beside(self, name: str) -> Relation:
        """Another name in the same schema."""
        return Relation(schema=self.schema, name=name[:63])


_WHOLE = 256 * 1024  # characters of a script that is parsed at once: a tree takes some seven times the text


def nodes(script: Script) -> Iterator[Any]:
    """The parser's tree of each statement of a script, in order.

    They are parsed again here, 20 µs each, and not kept with the script: only locks and hazards look at them.
    """
    from lockstep.core.grammar import parse

    if len(script.text) <= _WHOLE:
        for raw, statement in zip(parse(script.text).stmts, script.statements, strict=True):
            yield getattr(raw.stmt, statement.kind)
        return
    for statement in script.statements:
        yield getattr(parse(script.text[statement.start : statement.end]).stmts[0].stmt, statement.kind)


def relation(range_var: Any) -> Relation:
    """The relation of a RangeVar."""
    return Relation(schema=range_var.schemaname or None, name=range_var.relname)


def relation_of(names: list[str]) -> Relation:
    """The relation of a dotted name."""
    return Relation(schema=names[-2] if len(names) > 1 else None, name=names[-1])


_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


@lru_cache(maxsize=1024)
def quote(name: str) -> str:
    """Return an identifier as SQL, in double quotes where it must be."""
    if _PLAIN.fullmatch(name):
        from lockstep.core.grammar import scan

        tokens = scan(name).tokens
        if len(tokens) == 1 and tokens[0].keyword_kind in (0, 1):  # no keyword, or an unreserved one
            return name
    return '"' + name.replace('"', '""') + '"'


def choice(message: Any, field: str) -> str:
    """Return the name of an enum field's value, such as AT_AddColumn."""
    return str(message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name)


def inner(node: Any) -> tuple[str, Any]:
    """Take a Node apart: the kind, and what it holds. ('', None) for an empty one."""
    kind = node.WhichOneof("node")
    return (kind, getattr(node, kind)) if kind else ("", None)


def definition_of(command: Any) -> tuple[str, Any]:
    """What a subcommand of ALTER TABLE defines; ('', None) when it defines nothing."""
    return inner(getattr(command, "def"))


def strings(nodes: Iterable[Any]) -> list[str]:
    """The strings of a list of String nodes (other nodes are left out); a nested list is flattened."""
    found: list[str] = []
    for node in nodes:
        kind, value = inner(node)
        if kind == "string":
            found.append(value.sval)
        elif kind == "list":
            found += strings(value.items)
        elif kind == "type_name":
            found += strings(value.names)
    return found


def children(message: Any) -> Iterator[Any]:
    """The messages directly below one."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if hasattr(value, "ListFields"):
            yield value
        else:
            yield from value


def walk(message: Any) -> Iterator[Any]:
    """Every message of a tree, itself first."""
    stack = [message]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(children(one))


def every(message: Any, name: str) -> Iterator[Any]:
    """Every message of one type (FuncCall, RangeVar, …) in a tree."""
    return (one for one in walk(message) if one.DESCRIPTOR.name == name)


def names_in(script: Script) -> set[str]:
    """The bare names of all relations that a script names, those of a DROP among them."""
    found: set[str] = set()
    for statement, node in zip(script.statements, nodes(script), strict=True):
        found |= {one.relname for one in every(node, "RangeVar")}
        if statement.kind == "drop_stmt":
            found |= {name for one in node.objects for name in strings([one])[-1:]}
    return found


def copy(message: Any) -> Any:
    """A copy that may be changed."""
    made = type(message)()
    made.CopyFrom(message)
    return made


def statement_sql(kind: str, node: Any) -> str:
    """Return a statement node as SQL, without a semicolon."""
    from lockstep.core.grammar import deparse, parse

    tree = parse("SELECT 1")
    tree.stmts[0].Clear()
    getattr(tree.stmts[0].stmt, kind).CopyFrom(node)
    return str(deparse(tree))


def expression_sql(node: Any) -> str:
    """Return an expression (a Node) as SQL."""
    from lockstep.core.grammar import parse

    tree = parse("SELECT 1")
    select = tree.stmts[0].stmt.select_stmt
    select.target_list[0].res_target.val.CopyFrom(node)
    return statement_sql("select_stmt", select).removeprefix("SELECT ")


def type_sql(type_name: Any) -> str:
    """Return a TypeName as SQL."""
    from lockstep.core.grammar import parse

    tree = parse("SELECT NULL::int")
    cast = tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val.type_cast
    cast.type_name.CopyFrom(type_name)
    return statement_sql("select_stmt", tree.stmts[0].stmt.select_stmt).removeprefix("SELECT NULL::")
