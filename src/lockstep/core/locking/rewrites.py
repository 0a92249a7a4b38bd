"""The safe way to write a hazardous statement, as SQL for its very tables, columns and constraints.

Each returns files: what stands in one of them is one transaction, or, with `transaction=none` at its head, runs outside
of one. A test runs them on a real server.
"""

from __future__ import annotations

from typing import Any

from lockstep.core.locking.known import constraint_name
from lockstep.core.locking.nodes import (
    Relation,
    choice,
    copy,
    definition_of,
    expression_sql,
    quote,
    statement_sql,
    strings,
    type_sql,
)

ALONE = "-- lockstep: transaction=none"

File = list[str]  # lines of SQL


def in_files(files: list[File]) -> str:
    """Return the files one below the other, each under its number; one file stands without."""
    if len(files) == 1:
        return "\n".join(files[0])
    return "\n".join("\n".join([f"-- file {number}", *lines]) for number, lines in enumerate(files, start=1))


def alter_sql(statement: Any, command: Any) -> str:
    """Return an ALTER TABLE that has this one subcommand, with a semicolon."""
    one = copy(statement)
    del one.cmds[:]
    one.cmds.add().alter_table_cmd.CopyFrom(command)
    return statement_sql("alter_table_stmt", one) + ";"


def not_valid(statement: Any, table: Relation, command: Any) -> list[File]:
    """A CHECK, NOT NULL or FOREIGN KEY constraint: added without looking at the rows, then validated beside traffic."""
    constraint = definition_of(command)[1]
    name = constraint_name(table, constraint, None)
    changed = copy(command)
    made = definition_of(changed)[1]
    made.conname, made.skip_validation, made.initially_valid = name, True, False
    return [
        [alter_sql(statement, changed)],
        [f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {quote(name)};"],
    ]


def column_constraint(table: Relation, column: Any, constraint: Any) -> list[File]:
    """A CHECK of a new column: the column first, then the constraint as for an existing one."""
    name = quote(constraint_name(table, constraint, column.colname))
    check = expression_sql(constraint.raw_expr)
    return [
        [f"ALTER TABLE {table.shown} ADD COLUMN {quote(column.colname)} {type_sql(column.type_name)};"],
        [f"ALTER TABLE {table.shown} ADD CONSTRAINT {name} CHECK ({check}) NOT VALID;"],
        [f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {name};"],
    ]


def column_reference(table: Relation, column: Any, constraint: Any) -> list[File]:
    """A foreign key of a new column with a default: the column first, then the key as for an existing one."""
    name = quote(constraint_name(table, constraint, column.colname))
    plain = copy(column)
    del plain.constraints[:]
    plain.constraints.extend(c for c in column.constraints if choice(c.constraint, "contype") != "CONSTR_FOREIGN")
    key = copy(constraint)
    key.ClearField("conname")
    key.skip_validation, key.initially_valid = True, False
    referenced = expression_of_key(table, column.colname, key)
    return [
        [add_column_sql(table, plain)],
        [f"ALTER TABLE {table.shown} ADD CONSTRAINT {name} {referenced} NOT VALID;"],
        [f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {name};"],
    ]


def expression_of_key(table: Relation, column: str, key: Any) -> str:
    """FOREIGN KEY (…) REFERENCES … with its actions, from the constraint of one column."""
    from lockstep.core.grammar import parse

    tree = parse("ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES p")
    node = tree.stmts[0].stmt.alter_table_stmt
    made = definition_of(node.cmds[0].alter_table_cmd)[1]
    columns = copy(made)
    made.CopyFrom(key)
    made.skip_validation = False
    del made.fk_attrs[:]
    made.fk_attrs.extend(columns.fk_attrs)
    made.fk_attrs[0].string.sval = column
    return statement_sql("alter_table_stmt", node).split(" ADD ", 1)[1]


def add_column_sql(table: Relation, column: Any) -> str:
    """ALTER TABLE … ADD COLUMN, from the column's definition."""
    from lockstep.core.grammar import parse

    node = parse("ALTER TABLE t ADD COLUMN c int").stmts[0].stmt.alter_table_stmt
    definition_of(node.cmds[0].alter_table_cmd)[1].CopyFrom(column)
    node.relation.relname, node.relation.schemaname = table.name, table.schema or ""
    return statement_sql("alter_table_stmt", node) + ";"


def set_not_null(table: Relation, column: str) -> list[File]:
    """NOT NULL through a validated CHECK, which spares the scan under the strong lock (PostgreSQL 12 and later)."""
    name, one = quote(f"{table.name}_{column}_present"[:63]), quote(column)
    return [
        [f"ALTER TABLE {table.shown} ADD CONSTRAINT {name} CHECK ({one} IS NOT NULL) NOT VALID;"],
        [f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {name};"],
        [
            f"ALTER TABLE {table.shown} ALTER COLUMN {one} SET NOT NULL;",
            f"ALTER TABLE {table.shown} DROP CONSTRAINT {name};",
        ],
    ]


def unique(table: Relation, constraint: Any, column: str | None = None) -> list[File]:
    """A UNIQUE or PRIMARY KEY constraint on an index that was built beside traffic."""
    columns = [column] if column else strings(constraint.keys)
    name = quote(constraint_name(table, constraint, column))
    primary = choice(constraint, "contype") == "CONSTR_PRIMARY"
    extra = f" INCLUDE ({', '.join(map(quote, strings(constraint.including)))})" if constraint.including else ""
    extra += " NULLS NOT DISTINCT" if constraint.nulls_not_distinct else ""
    when = " DEFERRABLE" if constraint.deferrable else ""
    when += " INITIALLY DEFERRED" if constraint.initdeferred else ""
    build = [
        ALONE,
        f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table.shown} ({', '.join(map(quote, columns))}){extra};",
    ]
    use = f"ALTER TABLE {table.shown} ADD CONSTRAINT {name} {'PRIMARY KEY' if primary else 'UNIQUE'} USING INDEX {name}{when};"
    if not primary:
        return [build, [use]]
    # A primary key makes its columns NOT NULL: a validated CHECK spares the scan, as for SET NOT NULL.
    checks = [quote(f"{table.name}_{one}_present"[:63]) for one in columns]
    pairs = list(zip(checks, columns, strict=True))
    return [
        [
            f"ALTER TABLE {table.shown} ADD CONSTRAINT {c} CHECK ({quote(one)} IS NOT NULL) NOT VALID;"
            for c, one in pairs
        ],
        [f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {c};" for c in checks],
        build,
        [use, *[f"ALTER TABLE {table.shown} DROP CONSTRAINT {c};" for c in checks]],
    ]


def index(statement: Any) -> list[File]:
    """CREATE INDEX beside traffic. IF NOT EXISTS goes: an invalid index of that name would satisfy it."""
    changed = copy(statement)
    changed.concurrent, changed.if_not_exists = True, False
    text = statement_sql("index_stmt", changed)
    if statement.access_method == "btree":
        text = text.replace(" USING btree", "", 1)  # what the parser fills in
    return [[ALONE, f"{text};"]]


def each_concurrently(kind: str, names: list[Relation]) -> list[File]:
    """DROP INDEX, one per statement, as CONCURRENTLY demands."""
    return [[ALONE, *[f"{kind} CONCURRENTLY {one.shown};" for one in names]]]


def reindex(statement: Any) -> list[File]:
    """REINDEX beside traffic."""
    words, rest = statement_sql("reindex_stmt", statement).split(" ", 2)[1:]
    return [[ALONE, f"REINDEX {words} CONCURRENTLY {rest};"]]


def detach(statement: Any, command: Any) -> list[File]:
    """DETACH PARTITION beside traffic."""
    changed = copy(command)
    definition_of(changed)[1].concurrent = True
    return [[ALONE, alter_sql(statement, changed)]]


def refresh(table: Relation) -> list[File]:
    """REFRESH beside readers, which needs a unique index over all rows."""
    return [
        [
            ALONE,
            f"CREATE UNIQUE INDEX CONCURRENTLY ON {table.shown} (…);  -- the columns that tell its rows apart; once",
        ],
        [f"REFRESH MATERIALIZED VIEW CONCURRENTLY {table.shown};"],
    ]
