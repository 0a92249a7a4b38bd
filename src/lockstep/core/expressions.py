"""Whether two printed forms of one object mean the same: what PostgreSQL rewrites when it reads its own dump.

A closed list: casts to text and varchar without a length (`varchar IN ('a', 'b')` is printed with the cast round the
list, and after a restore with one round each element), and nested ANDs and ORs. Everything else counts as different.
"""

from __future__ import annotations

from typing import Any

from lockstep.core.fingerprint import SchemaObject

_POSITIONS = frozenset({"location", "list_start", "list_end", "stmt_location", "stmt_len"})
_TEXT = frozenset({("text",), ("pg_catalog", "text"), ("varchar",), ("pg_catalog", "varchar")})
#: What the fingerprint adds to a column's definition behind its expression.
_AFTER_COLUMN = ("INHERITED",)


def same_meaning(left: SchemaObject, right: SchemaObject) -> bool:
    """Tell whether two definitions of one object differ by nothing but a dump's round trip. False when in doubt."""
    if left.definition == right.definition and left.body == right.body:
        return True
    shapes = []
    for one in (left, right):
        shape = _shape(one)
        if shape is None:
            return False
        shapes.append(shape)
    return bool(shapes[0] == shapes[1])


def _shape(one: SchemaObject) -> Any:
    from lockstep.core.grammar import PgQueryError, parse

    statement = _statement(one)
    if statement is None:
        return None
    text, rest = statement
    try:
        return _signature(parse(text)), rest
    except PgQueryError:
        return None


def _statement(one: SchemaObject) -> tuple[str, str] | None:
    """SQL that holds the object's expressions, and what of the object is not in it. None: it has none."""
    body = one.body or ""
    match one.kind:
        case "constraint":
            text, mark, rest = one.definition.partition(" TRIGGERS NOT ENABLED")
            if not text.startswith("CHECK"):
                return None
            return f"ALTER TABLE t ADD {text}", mark + rest
        case "index":
            text = one.definition
            rest = ""
            for mark in (" INVALID", " CLUSTER"):
                if text.endswith(mark):
                    text, rest = text.removesuffix(mark), mark + rest
            return text, rest
        case "column":
            text, rest = one.definition, ""
            for mark in _AFTER_COLUMN:
                if text.endswith(f" {mark}"):
                    text, rest = text.removesuffix(f" {mark}"), mark
            return f"CREATE TABLE t (c {text})", rest
        case "domain":
            return f"CREATE DOMAIN d AS {one.definition}", ""
        case "policy":
            return f"CREATE POLICY p ON t{body}", one.definition
        case "view" | "materialized view":
            return body, one.definition
        case "rule":
            return body, one.definition
        case "trigger":
            return one.definition, ""
        case "function" | "procedure" if one.body is not None:
            return f"CREATE FUNCTION f() RETURNS int LANGUAGE sql {body}", one.definition
    return None


def _signature(node: Any) -> Any:
    """The tree as nested tuples, without positions and without what the round trip changes."""
    if not hasattr(node, "ListFields"):
        return node
    fields = node.ListFields()
    if len(fields) == 1:
        name, value = fields[0][0].name, fields[0][1]
        if name == "type_cast" and _to_text(value.type_name):
            return _signature(value.arg)
        if name == "bool_expr":
            return ("bool_expr", value.boolop, tuple(_flattened(value, value.boolop)))
    return tuple(
        (field.name, tuple(map(_signature, value)) if _repeated(value) else _signature(value))
        for field, value in fields
        if field.name not in _POSITIONS
    )


def _flattened(expression: Any, operator: int) -> list[Any]:
    found = []
    for argument in expression.args:
        inner = argument.bool_expr if argument.HasField("bool_expr") else None
        if inner is not None and inner.boolop == operator and len(inner.args) > 1:
            found += _flattened(inner, operator)
        else:
            found.append(_signature(argument))
    return found


def _repeated(value: Any) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__len__") and not hasattr(value, "ListFields")


def _to_text(type_name: Any) -> bool:
    """Whether a cast is one to text or varchar, or to an array of them, without a length."""
    names = tuple(name.string.sval for name in type_name.names)
    return names in _TEXT and not type_name.typmods and not type_name.setof
