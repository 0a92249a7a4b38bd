"""The hazards of ALTER TABLE: rewrites and scans under a lock that blocks others, subcommand by subcommand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lockstep.core.locking import column_rewrites, rewrites
from lockstep.core.locking.column_types import SERIALS, keeps_rows, may_keep_rows, volatile
from lockstep.core.locking.known import ForeignKey, Known, constraint_name
from lockstep.core.locking.nodes import (
    Relation,
    choice,
    definition_of,
    expression_sql,
    quote,
    relation,
    strings,
    type_sql,
)

RULES = {
    "adding-field-with-default": "a new column gives every row a value of its own: the table is rewritten",
    "changing-column-type": "a new type rewrites the table and its indexes",
    "adding-not-nullable-field": "SET NOT NULL reads the whole table under a lock that blocks reads and writes",
    "constraint-missing-not-valid": "a new CHECK reads the whole table under a lock that blocks reads and writes",
    "adding-foreign-key-constraint": "a new foreign key reads the whole table and blocks writes to both",
    "validating-in-same-transaction": "NOT VALID gains nothing when the same transaction validates",
    "disallowed-unique-constraint": "a new UNIQUE builds its index under a lock that blocks reads and writes",
    "adding-serial-primary-key-field": "a new PRIMARY KEY builds its index under a lock that blocks reads and writes",
    "adding-exclusion-constraint": "a new EXCLUDE builds its index under a lock that blocks reads and writes",
    "require-concurrent-partition-detach": "DETACH PARTITION locks the parent for reads and writes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """One hazard of one statement."""

    rule: str  # a key of RULES
    message: str  # one line: what is blocked, and why for long
    advice: str  # one line; what `files` does
    files: list[rewrites.File]  # the safe way as SQL; empty where the advice is all


_BLOCKED = "blocks reads and writes meanwhile"


def of_alter(node: Any, known: Known, *, alone: bool) -> Iterator[Hazard]:
    """The hazards of one ALTER TABLE. `alone`: it is the only statement of its file."""
    table = relation(node.relation)
    if known.is_new(table) or choice(node, "objtype") not in ("OBJECT_TABLE", "OBJECT_FOREIGN_TABLE"):
        return
    commands = [one.alter_table_cmd for one in node.cmds]
    unvalidated = {name for owner, name in known.unvalidated if owner == known.key(table)}
    for command in commands:
        what = choice(command, "subtype")
        kind, definition = definition_of(command)
        if what == "AT_AddColumn":
            yield from _column(table, definition, known)
        elif what == "AT_AddConstraint" and kind == "constraint":
            if definition.skip_validation:
                unvalidated.add(constraint_name(table, definition, None))
            yield from _constraint(node, table, command, known)
        elif what == "AT_AlterColumnType":
            yield from _type(table, command, known)
        elif what == "AT_SetNotNull" and not known.proven_not_null(table, command.name):
            yield Hazard(
                rule="adding-not-nullable-field",
                message=f"SET NOT NULL reads all of {table.shown} and {_BLOCKED}",
                advice="let a CHECK be validated beside traffic first",
                files=rewrites.set_not_null(table, command.name),
            )
        elif what == "AT_ValidateConstraint" and command.name in unvalidated:
            yield Hazard(
                rule="validating-in-same-transaction",
                message=f"{command.name} is validated while the lock of adding it still blocks {table.shown}",
                advice="validate in the next file",
                files=[[f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {quote(command.name)};"]],
            )
        elif what == "AT_DetachPartition" and not definition.concurrent:
            yield Hazard(
                rule="require-concurrent-partition-detach",
                message=f"DETACH PARTITION locks {table.shown} for reads and writes",
                advice="detach it beside them, in a file of its own",
                files=rewrites.detach(node, command),
            )
        elif what in _REWRITES:
            yield Hazard(
                rule="table-rewrite",
                message=f"{_REWRITES[what]} writes {table.shown} anew and {_BLOCKED}",
                advice="there is no way beside traffic: do it while the table is small, or in a window",
                files=[],
            )
        elif what in ("AT_DropConstraint", "AT_DropColumn") and not alone:
            yield from _dropped_keys(table, command, known)


_REWRITES = {
    "AT_SetLogged": "SET LOGGED",
    "AT_SetUnLogged": "SET UNLOGGED",
    "AT_SetAccessMethod": "SET ACCESS METHOD",
    "AT_SetTableSpace": "SET TABLESPACE",
    "AT_SetExpression": "SET EXPRESSION",
}


def _column(table: Relation, column: Any, known: Known) -> Iterator[Hazard]:
    """ADD COLUMN: a value of its own for every row, or a constraint that is checked against every row."""
    constraints = {choice(one.constraint, "contype"): one.constraint for one in column.constraints}
    names = strings(column.type_name.names)
    why, files, unless = "", [], ""
    if "CONSTR_IDENTITY" in constraints or (len(names) == 1 and names[0] in SERIALS):
        why = "an identity" if "CONSTR_IDENTITY" in constraints else f"a {names[0]}"
        files = column_rewrites.add_column(table, column, None)
    elif "CONSTR_GENERATED" in constraints:
        generated = constraints["CONSTR_GENERATED"]
        if generated.generated_kind != "v":
            why = "a stored generated column"
            files = column_rewrites.kept_in_step(table, column.colname, type_sql(column.type_name), generated.raw_expr)
    elif "CONSTR_DEFAULT" in constraints:
        default = constraints["CONSTR_DEFAULT"].raw_expr
        certain, unknown = volatile(default)
        if certain or unknown:
            why = "a default that differs from row to row"
            unless = f", unless {unknown}() is declared stable or immutable" if unknown else ""
            files = column_rewrites.add_column(table, column, expression_sql(default))
    if why:
        yield Hazard(
            rule="adding-field-with-default",
            message=f"{why} rewrites {table.shown} and {_BLOCKED}{unless}",
            advice="add the column empty, fill it in batches, then tighten it",
            files=files,
        )
        return
    if "CONSTR_CHECK" in constraints:
        yield Hazard(
            rule="constraint-missing-not-valid",
            message=f"the CHECK of the new column reads all of {table.shown} and {_BLOCKED}",
            advice="add the column, then the constraint in files of their own",
            files=rewrites.column_constraint(table, column, constraints["CONSTR_CHECK"]),
        )
    if "CONSTR_FOREIGN" in constraints and "CONSTR_DEFAULT" in constraints:
        yield Hazard(
            rule="adding-foreign-key-constraint",
            message=f"with a default, the foreign key of the new column is checked for all of {table.shown}",
            advice="add the column, then the key in files of their own",
            files=rewrites.column_reference(table, column, constraints["CONSTR_FOREIGN"]),
        )
    for contype in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
        if contype in constraints:
            plain = [f"ALTER TABLE {table.shown} ADD COLUMN {quote(column.colname)} {type_sql(column.type_name)};"]
            yield _unique(table, contype, [plain, *rewrites.unique(table, constraints[contype], column.colname)])


def _unique(table: Relation, contype: str, files: list[rewrites.File]) -> Hazard:
    primary = contype == "CONSTR_PRIMARY"
    return Hazard(
        rule="adding-serial-primary-key-field" if primary else "disallowed-unique-constraint",
        message=f"{'PRIMARY KEY' if primary else 'UNIQUE'} builds its index on {table.shown} and {_BLOCKED}",
        advice="build the index beside traffic first"
        + (" (the CHECK only where a column is not NOT NULL yet)" if primary else ""),
        files=files,
    )


def _constraint(node: Any, table: Relation, command: Any, known: Known) -> Iterator[Hazard]:
    constraint = definition_of(command)[1]
    what = choice(constraint, "contype")
    if what in ("CONSTR_PRIMARY", "CONSTR_UNIQUE") and not constraint.indexname:
        yield _unique(table, what, rewrites.unique(table, constraint))
    elif what == "CONSTR_EXCLUSION":
        yield Hazard(
            rule="adding-exclusion-constraint",
            message=f"EXCLUDE builds its index on {table.shown} and {_BLOCKED}",
            advice="there is no way beside traffic: do it while the table is small, or in a window",
            files=[],
        )
    elif what in ("CONSTR_CHECK", "CONSTR_NOTNULL") and not constraint.skip_validation:
        yield Hazard(
            rule="constraint-missing-not-valid",
            message=f"the new constraint is checked for all of {table.shown} and {_BLOCKED}",
            advice="check only new rows first, then validate beside traffic",
            files=rewrites.not_valid(node, table, command),
        )
    elif what == "CONSTR_FOREIGN" and not constraint.skip_validation:
        referenced = relation(constraint.pktable).shown
        yield Hazard(
            rule="adding-foreign-key-constraint",
            message=f"the foreign key is checked for all of {table.shown} and blocks writes to it and to {referenced}",
            advice="check only new rows first, then validate beside traffic",
            files=rewrites.not_valid(node, table, command),
        )


def _type(table: Relation, command: Any, known: Known) -> Iterator[Hazard]:
    definition = definition_of(command)[1]
    new = type_sql(definition.type_name)
    old = known.types.get((known.key(table), command.name))
    using = definition.raw_default if definition.HasField("raw_default") else None
    if using is None and keeps_rows(old, new):
        return
    unless = ""
    if using is None and old is None and may_keep_rows(new):
        unless = " (unless it only gets longer: varchar to a longer one or text, numeric at its scale)"
    yield Hazard(
        rule="changing-column-type",
        message=f"the type {new} rewrites {table.shown} and its indexes and {_BLOCKED}{unless}",
        advice="let a second column take over",
        files=column_rewrites.change_type(
            table, command.name, new, using or column_rewrites.cast_of(command.name, definition.type_name)
        ),
    )


def _dropped_keys(table: Relation, command: Any, known: Known) -> Iterator[Hazard]:
    by_column = choice(command, "subtype") == "AT_DropColumn"
    for (owner, name), key in known.foreign_keys.items():
        meant = command.name in key.columns if by_column else command.name == name
        if owner == known.key(table) and meant and not known.is_new(key.referenced):
            yield dropped_key(key, name, f"dropping {command.name}")


def dropped_key(key: ForeignKey, name: str, what: str) -> Hazard:
    """The hazard of a foreign key that goes."""
    return Hazard(
        rule="dropping-foreign-key",
        message=f"{what} locks {key.referenced.shown} for reads and writes, too, until the file is done",
        advice="drop the foreign key before, in a file of its own that waits for its locks only shortly",
        files=[
            [
                "-- lockstep: lock_timeout=200ms",
                f"ALTER TABLE {key.table.shown} DROP CONSTRAINT {quote(name)};",
            ]
        ],
    )
