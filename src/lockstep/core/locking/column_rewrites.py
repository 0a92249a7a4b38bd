"""The safe way to give a column new values or another type: beside traffic, in batches. Files as `rewrites` makes them."""

from __future__ import annotations

from typing import Any

from lockstep.core.locking.column_types import volatile
from lockstep.core.locking.known import columns_of
from lockstep.core.locking.nodes import Relation, choice, copy, every, expression_sql, inner, quote, type_sql
from lockstep.core.locking.rewrites import File, set_not_null

BATCHES = "-- lockstep: repeat-until-empty batch_pause=100ms"


def batches(table: Relation, assignment: str, condition: str) -> File:
    """An UPDATE in batches of 5000 rows, repeated until the condition finds none."""
    return [
        BATCHES,
        f"UPDATE {table.shown} SET {assignment} WHERE ctid = ANY (ARRAY(",
        f"    SELECT ctid FROM {table.shown} WHERE {condition} LIMIT 5000",
        "));",
    ]


def batches_of(table: Relation) -> File:
    """A DELETE of all rows in batches."""
    return [
        BATCHES,
        f"DELETE FROM {table.shown} WHERE ctid = ANY (ARRAY(",
        f"    SELECT ctid FROM {table.shown} LIMIT 5000",
        "));",
    ]


def add_column(table: Relation, column: Any, default: str | None) -> list[File]:
    """A column that every old row gets a value of its own in: added empty, filled in batches, then NOT NULL.

    `default` is the expression; None for serial and identity, which get a sequence.
    """
    name = quote(column.colname)
    wanted = {choice(one.constraint, "contype") for one in column.constraints}
    counted = default is None
    sequence = table.beside(f"{table.name}_{column.colname}_seq")
    type_name = type_sql(column.type_name)
    type_name = {"serial": "integer", "bigserial": "bigint", "smallserial": "smallint"}.get(type_name, type_name)
    first = [f"ALTER TABLE {table.shown} ADD COLUMN {name} {type_name};"]
    if counted:
        first.append(f"CREATE SEQUENCE {sequence.shown} AS {type_name} OWNED BY {table.shown}.{name};")
    first.append(
        f"ALTER TABLE {table.shown} ALTER COLUMN {name} SET DEFAULT {default or f'nextval({literal(sequence.shown)})'};"
    )
    files = [first, batches(table, f"{name} = DEFAULT", f"{name} IS NULL")]
    if counted or wanted & {"CONSTR_NOTNULL", "CONSTR_PRIMARY"}:
        files += set_not_null(table, column.colname)
    if "CONSTR_IDENTITY" in wanted:
        identity = next(
            c.constraint for c in column.constraints if choice(c.constraint, "contype") == "CONSTR_IDENTITY"
        )
        when = "ALWAYS" if identity.generated_when == "a" else "BY DEFAULT"
        files[-1] += [
            f"ALTER SEQUENCE {sequence.shown} OWNED BY NONE;",
            f"ALTER TABLE {table.shown} ALTER COLUMN {name} DROP DEFAULT;",
            f"ALTER TABLE {table.shown} ALTER COLUMN {name} ADD GENERATED {when} AS IDENTITY;",
            f"SELECT setval(pg_get_serial_sequence({literal(table.shown)}, {literal(column.colname)}), "
            f"nextval({literal(sequence.shown)}));",
            f"DROP SEQUENCE {sequence.shown};",
        ]
    return files


def kept_in_step(table: Relation, column: str, type_name: str, expression: Any) -> list[File]:
    """A plain column that a trigger keeps equal to an expression of the row, filled in batches."""
    name, function = quote(column), table.beside(f"{table.name}_{column}")
    of_row = copy(expression)
    for one in every(of_row, "ColumnRef"):
        fields = [copy(part) for part in one.fields]
        del one.fields[:]
        one.fields.add().string.sval = "new"
        one.fields.extend(fields[-1:])
    value = expression_sql(expression)
    return [
        [
            f"ALTER TABLE {table.shown} ADD COLUMN {name} {type_name};",
            f"CREATE FUNCTION {function.shown}() RETURNS trigger LANGUAGE plpgsql AS",
            f"    $$ BEGIN new.{name} := {expression_sql(of_row)}; RETURN new; END $$;",
            f"CREATE TRIGGER {quote(function.name)} BEFORE INSERT OR UPDATE ON {table.shown}",
            f"    FOR EACH ROW EXECUTE FUNCTION {function.shown}();",
        ],
        batches(table, f"{name} = {value}", f"{name} IS NULL AND ({value}) IS NOT NULL"),
    ]


def change_type(table: Relation, column: str, type_name: str, using: Any) -> list[File]:
    """Another type for a column: a second column, kept in step, that takes the name in the end."""
    new, old = f"{column}_new"[:63], f"{column}_old"[:63]
    function = table.beside(f"{table.name}_{new}")
    return [
        *kept_in_step(table, new, type_name, using),
        [
            "-- indexes, constraints and the default of the old column are made for the new one before this",
            f"DROP TRIGGER {quote(function.name)} ON {table.shown};",
            f"DROP FUNCTION {function.shown}();",
            f"ALTER TABLE {table.shown} RENAME COLUMN {quote(column)} TO {quote(old)};",
            f"ALTER TABLE {table.shown} RENAME COLUMN {quote(new)} TO {quote(column)};",
        ],
        [f"ALTER TABLE {table.shown} DROP COLUMN {quote(old)};"],
    ]


def cast_of(column: str, type_name: Any) -> Any:
    """The expression `column::type` as a tree."""
    from lockstep.core.grammar import parse

    node = parse("SELECT c::int").stmts[0].stmt.select_stmt.target_list[0].res_target.val
    node.type_cast.type_name.CopyFrom(type_name)
    node.type_cast.arg.column_ref.fields[0].string.sval = column
    return node


def backfill(kind: str, node: Any, table: Relation) -> File | None:
    """A data change of the whole table in batches, where that can be said; None where it cannot."""
    if kind not in ("update_stmt", "delete_stmt"):
        return None
    if node.HasField("with_clause") or node.HasField("returning_clause") or node.relation.HasField("alias"):
        return None
    where = expression_sql(node.where_clause) if node.HasField("where_clause") else None
    if kind == "delete_stmt" and not node.using_clause:
        condition = f" WHERE {where}" if where else ""
        return [
            BATCHES,
            f"DELETE FROM {table.shown} WHERE ctid = ANY (ARRAY(",
            f"    SELECT ctid FROM {table.shown}{condition} LIMIT 5000",
            "));",
        ]
    if kind == "delete_stmt" or node.from_clause:
        return None
    targets = [inner(one)[1] for one in node.target_list]
    if any(inner(target.val)[0] in ("multi_assign_ref", "set_to_default") or target.indirection for target in targets):
        return None
    read = {names[-1] for target in targets for names in columns_of(target.val) if names}
    if read & {target.name for target in targets}:
        return None  # a second round would change the same rows again
    if any(volatile(target.val)[0] for target in targets):
        return batches(table, _assigned(targets), where) if where else None
    values = [(quote(target.name), expression_sql(target.val)) for target in targets]
    changed = " OR ".join(f"{name} IS DISTINCT FROM ({value})" for name, value in values)
    condition = f"({where}) AND ({changed})" if where else changed
    return batches(table, _assigned(targets), condition)


def _assigned(targets: list[Any]) -> str:
    return ", ".join(f"{quote(target.name)} = {expression_sql(target.val)}" for target in targets)


def literal(text: str) -> str:
    """Return a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
