"""Whether a script changes the schema alone, so that what it did on a copy it does whatever rows were written since.

A list of what is known to be so; all else is not. What depends on the rows that are there by then (DELETE, another type
of a column, a new constraint), what runs anybody's code (DO, CALL, a function), and what takes along whatever there
happens to be (CASCADE) has to be tried on rows of now. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lockstep.core.locking.nodes import choice, definition_of, every, inner, nodes, strings, walk
from lockstep.core.statements import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What a script that changes the schema alone does to what holds rows."""

    drops: frozenset[tuple[str, str | None]]  # bare names of tables, or a table's and a column's, there or not
    renames: bool  # a table, a column or a schema: by other names afterwards


def structure_of(script: Script) -> Structure | None:
    """Return what a script does to the schema; None: it does something else as well."""
    drops: set[tuple[str, str | None]] = set()
    renames = False
    for statement, node in zip(script.statements, nodes(script), strict=True):
        if not _structural(statement.kind, node):
            return None
        drops |= set(_dropped(statement.kind, node))
        renames = renames or statement.kind in _RENAMING
    return Structure(drops=frozenset(drops), renames=renames)


# -- inside -------------------------------------------------------------------------------------------------------

_RENAMING = frozenset({"rename_stmt", "alter_object_schema_stmt"})

#: Statements that change definitions and rights, and neither read nor write a row.
_PLAIN = _RENAMING | {
    "alter_default_privileges_stmt",
    "alter_function_stmt",
    "alter_owner_stmt",
    "alter_policy_stmt",
    "comment_stmt",
    "composite_type_stmt",
    "create_enum_stmt",
    "create_function_stmt",
    "create_policy_stmt",
    "create_schema_stmt",
    "create_seq_stmt",
    "create_trig_stmt",
    "grant_role_stmt",
    "grant_stmt",
    "lock_stmt",
    "variable_set_stmt",
    "view_stmt",
}

#: What DROP takes away without a row, or by its name, so that the rows in it can be counted.
_DROPPABLE = frozenset(
    {
        "OBJECT_AGGREGATE",
        "OBJECT_COLLATION",
        "OBJECT_DOMAIN",
        "OBJECT_FUNCTION",
        "OBJECT_INDEX",
        "OBJECT_MATVIEW",
        "OBJECT_POLICY",
        "OBJECT_PROCEDURE",
        "OBJECT_PUBLICATION",
        "OBJECT_ROUTINE",
        "OBJECT_RULE",
        "OBJECT_SCHEMA",
        "OBJECT_SEQUENCE",
        "OBJECT_STATISTIC_EXT",
        "OBJECT_TABLE",
        "OBJECT_TRIGGER",
        "OBJECT_TYPE",
        "OBJECT_VIEW",
    }
)

_ALTERED = frozenset({"OBJECT_TABLE", "OBJECT_INDEX", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_SEQUENCE"})

#: Forms of ALTER TABLE that look at no row and write none.
_SUBTYPES = frozenset(
    {
        "AT_ChangeOwner",
        "AT_ClusterOn",
        "AT_ColumnDefault",
        "AT_DisableRowSecurity",
        "AT_DisableTrig",
        "AT_DisableTrigAll",
        "AT_DisableTrigUser",
        "AT_DropCluster",
        "AT_DropColumn",
        "AT_DropConstraint",
        "AT_DropIdentity",
        "AT_DropNotNull",
        "AT_EnableAlwaysTrig",
        "AT_EnableReplicaTrig",
        "AT_EnableRowSecurity",
        "AT_EnableTrig",
        "AT_EnableTrigAll",
        "AT_EnableTrigUser",
        "AT_ForceRowSecurity",
        "AT_NoForceRowSecurity",
        "AT_ReplicaIdentity",
        "AT_ResetOptions",
        "AT_ResetRelOptions",
        "AT_SetCompression",
        "AT_SetOptions",
        "AT_SetRelOptions",
        "AT_SetStatistics",
        "AT_SetStorage",
    }
)

#: Functions that a new column's default may call: they give values and do nothing. Not `random`: it is written into rows.
_HARMLESS = frozenset({"now", "transaction_timestamp", "statement_timestamp"})
_SERIAL = frozenset({"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"})


def _structural(kind: str, node: Any) -> bool:
    if any(_cascades(one) for one in walk(node)):
        return False
    if kind in _PLAIN:
        return True
    if kind == "drop_stmt":
        return choice(node, "remove_type") in _DROPPABLE
    if kind == "index_stmt":
        return not node.unique  # two rows of later may be the same
    if kind == "create_stmt":
        return not node.HasField("partbound")  # it looks for its rows in the default partition
    if kind == "alter_table_stmt":
        return choice(node, "objtype") in _ALTERED and all(_quiet(inner(one)[1]) for one in node.cmds)
    # SELECT 1: nothing is to be done.
    return kind == "select_stmt" and all(one.DESCRIPTOR.name in _CONSTANT for one in walk(node))


_CONSTANT = frozenset(
    {"SelectStmt", "Node", "ResTarget", "A_Const", "Integer", "Float", "Boolean", "String", "BitString"}
)


def _cascades(message: Any) -> bool:
    return "behavior" in message.DESCRIPTOR.fields_by_name and choice(message, "behavior") == "DROP_CASCADE"


def _quiet(command: Any) -> bool:
    """Whether one form of ALTER TABLE changes a definition and no row, and asks nothing of the rows."""
    subtype = choice(command, "subtype")
    _, made = definition_of(command)
    if subtype == "AT_AddConstraint":
        return bool(made.skip_validation)
    if subtype != "AT_AddColumn":
        return subtype in _SUBTYPES
    parts = {choice(inner(one)[1], "contype") for one in made.constraints}
    called = {strings(one.funcname)[-1] for one in every(command, "FuncCall")}
    return (
        (parts <= {"CONSTR_DEFAULT", "CONSTR_NULL"} or parts == {"CONSTR_DEFAULT", "CONSTR_NOTNULL"})
        and called <= _HARMLESS
        and not _SERIAL & set(strings(made.type_name.names))
    )


def _dropped(kind: str, node: Any) -> Iterator[tuple[str, str | None]]:
    """Tables and columns by name; of IF EXISTS there may have been none on the copy."""
    if kind == "drop_stmt" and choice(node, "remove_type") == "OBJECT_TABLE":
        yield from ((strings([one])[-1], None) for one in node.objects)
    if kind == "alter_table_stmt":
        for command in (inner(one)[1] for one in node.cmds):
            if choice(command, "subtype") == "AT_DropColumn":
                yield node.relation.relname, command.name
