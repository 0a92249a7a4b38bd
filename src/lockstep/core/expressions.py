"""Whether two printed forms of one object mean the same: what PostgreSQL rewrites when it reads its own dump.

A closed list of two: a cast of a written-out array is one of each of its elements (`varchar IN ('a', 'b')` is printed
with the cast round the list, and after a restore with one round each element), and an AND in an AND, an OR in an OR
(`x BETWEEN 1 AND 2 AND y` loses a pair of parentheses). Both hold for all values. Everything else counts as different,
casts of columns too: of a citext, an enum or a number they change what is compared.
"""

from __future__ import annotations

import re
from typing import Any

from lockstep.core.fingerprint import SchemaObject

_POSITIONS = frozenset({"location", "list_start", "list_end", "stmt_location", "stmt_len"})
#: What the fingerprint adds to a definition behind the server's own words, in regular expressions; it is compared as it is.
_ADDED = {
    "column": r" STORAGE \w+| COMPRESSION \w+| STATISTICS \d+| \([^()']+=[^()']+\)| INHERITED",
    "constraint": r" WITH \([^()]*\)| ALTER COLUMN \d+ SET STATISTICS \d+| CLUSTER| INVALID| INDEX \S+| ATTACHED TO \S+"
    r"| TRIGGERS NOT ENABLED",
    "index": r" ATTACHED TO \S+| ALTER COLUMN \d+ SET STATISTICS \d+| CLUSTER| INVALID",
    "trigger": r" DISABLED| REPLICA| ALWAYS",
    "statistics": r" STATISTICS \d+",
}


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
    text, rest = _parted(one)
    match one.kind:
        case "constraint" if text.startswith(("CHECK", "EXCLUDE")):
            return f"ALTER TABLE t ADD {text}", rest
        case "column":
            return f"CREATE TABLE t (c {text})", rest
        case "index" | "trigger" | "statistics":
            return text, rest
        case "domain":
            return f"CREATE DOMAIN d AS {text}", ""
        case "policy":
            return f"CREATE POLICY p ON t{body}", one.definition
        case "view" | "materialized view" | "rule":
            return body, one.definition
        case "function" | "procedure" if one.body is not None:
            return f"CREATE FUNCTION f() RETURNS int LANGUAGE sql {body}", one.definition
    return None


def _parted(one: SchemaObject) -> tuple[str, str]:
    """The definition in the server's words, and what the fingerprint added."""
    added = _ADDED.get(one.kind)
    if added is None:
        return one.definition, ""
    found = re.search(f"(?:{added})+$", one.definition)
    return (one.definition, "") if found is None else (one.definition[: found.start()], found[0])


def _signature(node: Any) -> Any:
    """The tree as nested tuples, without positions, and with what the round trip changes in one of its forms."""
    if not hasattr(node, "ListFields"):
        return node
    fields = node.ListFields()
    if len(fields) == 1:
        name, value = fields[0][0].name, fields[0][1]
        if name == "type_cast" and value.arg.HasField("a_array_expr") and len(value.type_name.array_bounds) == 1:
            return _cast_elements(value)
        if name == "a_array_expr":
            return ("array", tuple(map(_signature, value.elements)))
        if name == "bool_expr":
            return ("bool_expr", value.boolop, tuple(_flattened(value, value.boolop)))
    return tuple(
        (field.name, tuple(map(_signature, value)) if _repeated(value) else _signature(value))
        for field, value in fields
        if field.name not in _POSITIONS
    )


def _cast_elements(cast: Any) -> Any:
    """`ARRAY[a, b]::t[]` as `ARRAY[a::t, b::t]`. An empty array has no element that could tell its type: it keeps its own."""
    elements = cast.arg.a_array_expr.elements
    if not elements or any(element.HasField("a_array_expr") for element in elements):
        return ("array of", _signature(cast.type_name), tuple(map(_signature, elements)))
    array = type(cast.arg)()
    array.CopyFrom(cast.arg)
    for element, original in zip(array.a_array_expr.elements, elements, strict=True):
        element.type_cast.arg.CopyFrom(original)
        element.type_cast.type_name.CopyFrom(cast.type_name)
        del element.type_cast.type_name.array_bounds[:]
    return _signature(array)


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
