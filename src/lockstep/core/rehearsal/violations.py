"""What a failing statement asks of the rows, from its text: which columns are to be unique, present, checked or cast.

So that the rows in its way can be looked for. What a statement asks only in code, or of rows that it makes itself, is
not told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lockstep.core.locking.nodes import (
    Relation,
    choice,
    definition_of,
    expression_sql,
    inner,
    quote,
    relation,
    strings,
    type_sql,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Rows must differ in these columns or expressions."""

    table: Relation
    parts: tuple[str, ...]  # SQL
    where: str | None = None  # SQL; of a partial index
    nulls_equal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """A column must have a value."""

    table: Relation
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An expression must not be false."""

    table: Relation
    expression: str  # SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """What columns refer to must be there."""

    table: Relation
    columns: tuple[str, ...]
    referenced: Relation
    referenced_columns: tuple[str, ...]  # () means the primary key
    full: bool = False  # MATCH FULL: all null, or none


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """An expression over a row must have a value of a type."""

    table: Relation
    column: str
    type_name: str  # SQL
    expression: str  # SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A constraint that is there already, or is added by name: what it says is in the catalog."""

    table: Relation
    constraint: str


Violation = Duplicate | Null | Check | Orphan | Misfit | Named

_UNIQUE = "23505"
_NULL = "23502"
_CHECK = "23514"
_FOREIGN = "23503"


def violations(kind: str, node: Any, sqlstate: str, column: str | None = None) -> tuple[Violation, ...]:
    """Return what a statement asks of old rows that can fail with this SQLSTATE, most likely first.

    `column` is the one that the server names, if any.
    """
    found = [one for one in _of(kind, node) if _fits(one, sqlstate)]
    if column is not None:
        found.sort(key=lambda one: getattr(one, "column", None) != column)
    return tuple(found)


def _fits(one: Violation, sqlstate: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        _UNIQUE: (Duplicate, Named),
        _NULL: (Null,),
        _CHECK: (Check, Named),
        _FOREIGN: (Orphan, Named),
    }
    return isinstance(one, kinds.get(sqlstate, (Misfit,) if sqlstate.startswith("22") else ()))


def _of(kind: str, node: Any) -> Iterator[Violation]:
    if kind == "index_stmt" and node.unique:
        yield Duplicate(
            table=relation(node.relation),
            parts=tuple(_index_part(one.index_elem) for one in node.index_params),
            where=expression_sql(node.where_clause) if node.HasField("where_clause") else None,
            nulls_equal=node.nulls_not_distinct,
        )
    elif kind == "alter_table_stmt" and choice(node, "objtype") == "OBJECT_TABLE":
        table = relation(node.relation)
        for command in node.cmds:
            yield from _of_command(table, command.alter_table_cmd)


def _index_part(element: Any) -> str:
    return quote(element.name) if element.name else f"({expression_sql(element.expr)})"


def _of_command(table: Relation, command: Any) -> Iterator[Violation]:
    what = choice(command, "subtype")
    kind, definition = definition_of(command)
    if what == "AT_SetNotNull":
        yield Null(table=table, column=command.name)
    elif what == "AT_AddConstraint" and kind == "constraint":
        yield from _of_constraint(table, definition, None)
    elif what == "AT_ValidateConstraint":
        yield Named(table=table, constraint=command.name)
    elif what == "AT_AlterColumnType":
        yield _misfit(table, command.name, definition)
    elif what == "AT_AddColumn":
        for one in definition.constraints:
            yield from _of_new_column(table, one.constraint)


def _of_constraint(table: Relation, constraint: Any, column: str | None) -> Iterator[Violation]:
    what = choice(constraint, "contype")
    if what in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
        columns = strings(constraint.keys)
        if what == "CONSTR_PRIMARY":
            yield from (Null(table=table, column=one) for one in columns)
        if columns:
            yield Duplicate(table=table, parts=tuple(map(quote, columns)), nulls_equal=constraint.nulls_not_distinct)
    elif what == "CONSTR_NOTNULL":
        yield from (Null(table=table, column=one) for one in strings(constraint.keys))
    elif what == "CONSTR_CHECK":
        yield Check(table=table, expression=expression_sql(constraint.raw_expr))
    elif what == "CONSTR_FOREIGN":
        yield Orphan(
            table=table,
            columns=tuple(strings(constraint.fk_attrs)),
            referenced=relation(constraint.pktable),
            referenced_columns=tuple(strings(constraint.pk_attrs)),
            full=constraint.fk_matchtype == "f",
        )


def _of_new_column(table: Relation, constraint: Any) -> Iterator[Violation]:
    """A CHECK of a new column may name others; whatever else it asks, every row fails alike."""
    if choice(constraint, "contype") == "CONSTR_CHECK":
        yield Check(table=table, expression=expression_sql(constraint.raw_expr))


def _misfit(table: Relation, column: str, definition: Any) -> Misfit:
    type_name = type_sql(definition.type_name)
    using = expression_sql(definition.raw_default) if definition.HasField("raw_default") else quote(column)
    return Misfit(table=table, column=column, type_name=type_name, expression=using)


def target_of(kind: str, node: Any) -> Relation | None:
    """Return the table that a statement works on, as it writes it; None where there is no one table."""
    if kind in ("index_stmt", "alter_table_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"):
        return relation(node.relation)
    if kind == "copy_stmt" and node.HasField("relation"):
        return relation(node.relation)
    return None


def parsed_constraint(definition: str, table: Relation) -> tuple[Violation, ...]:
    """Return what a constraint asks, from the catalog's text of it: `CHECK ((total >= 0)) NOT VALID`."""
    from lockstep.core.grammar import parse

    tree = parse(f"ALTER TABLE {table.shown} ADD CONSTRAINT c {definition}")
    kind, node = inner(tree.stmts[0].stmt)
    return tuple(_of(kind, node))
