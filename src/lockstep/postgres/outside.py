"""What a dump refers to and does not hold: tables and functions of excluded schemas. Read at the source, made on a copy.

On a database service these are its own schemas: foreign keys lead to auth.users, policies call auth.uid(). A copy gets
tables of the same columns that hold the keys which foreign keys need, and functions of the same names: those that are
known do what they do at home, all others return null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.contents import Outside, OutsideColumn, OutsideFunction, OutsideReference, OutsideTable

_SQL = Path(__file__).with_name("sql")
MOST = 500  # tables, and functions, that are recorded; of more, the tables that foreign keys lead to

_CLAIM = (
    "SELECT COALESCE(NULLIF(pg_catalog.current_setting('request.jwt.claim.{0}', true), ''), "
    "NULLIF(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb ->> '{0}')::{1}"
)
_PARTS = "pg_catalog.string_to_array(name, '/')"

#: Functions of Supabase that policies call -> arguments, result, body.
_KNOWN = {
    ("auth", "uid"): ("", "uuid", _CLAIM.format("sub", "pg_catalog.uuid")),
    ("auth", "role"): ("", "text", _CLAIM.format("role", "pg_catalog.text")),
    ("auth", "email"): ("", "text", _CLAIM.format("email", "pg_catalog.text")),
    ("auth", "jwt"): (
        "",
        "jsonb",
        "SELECT COALESCE(NULLIF(pg_catalog.current_setting('request.jwt.claim', true), ''), "
        "NULLIF(pg_catalog.current_setting('request.jwt.claims', true), ''))::pg_catalog.jsonb",
    ),
    ("storage", "foldername"): ("name text", "text[]", f"SELECT ({_PARTS})[1:pg_catalog.cardinality({_PARTS}) - 1]"),
    ("storage", "filename"): ("name text", "text", f"SELECT ({_PARTS})[pg_catalog.cardinality({_PARTS})]"),
    ("storage", "extension"): ("name text", "text", r"SELECT pg_catalog.substring(name from '\.([^./]*)$')"),
}


def read_outside(connection: psycopg.Connection[Any], schemas: Sequence[str]) -> Outside | None:
    """Return what lies in the excluded schemas, without a row; None where none is excluded. Everybody may read it."""
    if not schemas:
        return None
    wanted = {"schemas": list(schemas), "most": MOST}
    tables = sql.SQL((_SQL / "outside_tables.sql").read_text(encoding="utf-8"))  # our own file
    return Outside(
        schemas=tuple(schemas),
        tables=tuple(
            OutsideTable(
                schema=schema,
                name=name,
                columns=tuple(OutsideColumn(name=one[0], type=one[1]) for one in columns),
                keys=tuple(tuple(one) for one in keys),
                row_security=row_security,
                policies=tuple(policies),
                triggers=tuple(triggers),
            )
            for schema, name, columns, keys, row_security, policies, triggers in connection.execute(tables, wanted)
        ),
        functions=tuple(
            OutsideFunction(schema=schema, name=name, arguments=arguments, result=result)
            for schema, name, arguments, result in connection.execute(_FUNCTIONS, wanted)
        ),
        references=tuple(
            OutsideReference(
                schema=row[0], table=row[1], columns=tuple(row[2]), to_schema=row[3], to_table=row[4],
                to_columns=tuple(row[5]),
            )
            for row in connection.execute(_REFERENCES, wanted)
        ),
    )  # fmt: skip


def make_outside(connection: psycopg.Connection[Any], outside: Outside) -> None:
    """Make what stands in for the excluded schemas, before the dump is restored. Everything is the first role's."""
    for schema in outside.schemas:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        for (of, name), (arguments, result, body) in _KNOWN.items():
            if of == schema:
                _function(connection, schema, name, arguments, result, body)
    for table in outside.tables:
        _table(connection, table)
    for one in outside.functions:
        if (one.schema, one.name) not in _KNOWN:
            # Its arguments may be of a type that is not here. It will be missed by name if anything needs it.
            _function(connection, one.schema, one.name, one.arguments, one.result, None)


def fill_keys(connection: psycopg.Connection[Any], outside: Outside) -> None:
    """Give the tables that stand in the keys that the restored rows refer to, before foreign keys are made."""
    for one in outside.references:
        there = connection.execute(
            "SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text)) IS NOT NULL",
            (one.schema, one.table),
        ).fetchone()
        if there is None or not there[0]:
            continue
        columns = sql.SQL(", ").join(map(sql.Identifier, one.columns))
        connection.execute(
            sql.SQL(
                "INSERT INTO {} ({}) SELECT DISTINCT {} FROM ONLY {} WHERE ({}) IS NOT NULL ON CONFLICT DO NOTHING"
            ).format(
                sql.Identifier(one.to_schema, one.to_table),
                sql.SQL(", ").join(map(sql.Identifier, one.to_columns)),
                columns,
                sql.Identifier(one.schema, one.table),
                columns,
            )
        )


def finish_outside(connection: psycopg.Connection[Any], outside: Outside, owner: str | None) -> tuple[str, ...]:
    """Give the tables their policies and triggers, and all of it to `owner`. Returns what could not be made.

    A service lets its customers' role do with its tables what only an owner may do elsewhere, so that role owns them.
    """
    left = []
    for table in outside.tables:
        name = sql.Identifier(table.schema, table.name)
        for statement in (*table.policies, *table.triggers):
            if not _try(connection, statement):
                left.append(" ".join(statement.split()[:3]))
        if table.row_security:
            connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
        if owner is not None:
            connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name, sql.Identifier(owner)))
    for schema in outside.schemas:
        # Who may what there is not known: everybody may look, and call.
        where = sql.Identifier(schema)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(where))
        if owner is not None:
            connection.execute(sql.SQL("GRANT CREATE ON SCHEMA {} TO {}").format(where, sql.Identifier(owner)))
    return tuple(left)


# -- inside -------------------------------------------------------------------------------------------------------


def _table(connection: psycopg.Connection[Any], table: OutsideTable) -> None:
    def statement(types: Iterator[sql.Composable]) -> sql.Composed:
        parts: list[sql.Composable] = [
            sql.SQL("{} {}").format(sql.Identifier(column.name), kind)
            for column, kind in zip(table.columns, types, strict=True)
        ]
        parts += [sql.SQL("UNIQUE ({})").format(sql.SQL(", ").join(map(sql.Identifier, key))) for key in table.keys]
        return sql.SQL("CREATE TABLE {} ({})").format(
            sql.Identifier(table.schema, table.name), sql.SQL(", ").join(parts)
        )

    known = (sql.SQL(_type(connection, column.type)) for column in table.columns)
    connection.execute(statement(known))


def _type(connection: psycopg.Connection[Any], name: str) -> str:
    """The type as it is written, or text where it is not here: enums of the excluded schemas, types of extensions."""
    row = connection.execute("SELECT pg_catalog.to_regtype(%s)::text", (name.partition("(")[0],)).fetchone()
    return name if row is not None and row[0] is not None else "text"


def _function(
    connection: psycopg.Connection[Any], schema: str, name: str, arguments: str, result: str, body: str | None
) -> None:
    if result == "trigger":
        text, language = "BEGIN RETURN NEW; END", "plpgsql"
    else:
        text, language = body or "SELECT NULL", "sql"
    volatility = " STABLE" if body else ""
    words = sql.SQL(
        "CREATE OR REPLACE FUNCTION {}("
        + arguments
        + ") RETURNS "
        + result
        + f" LANGUAGE {language}{volatility} AS {{}}"
    )
    try:
        with connection.transaction():
            connection.execute("SET LOCAL check_function_bodies = off")
            connection.execute(words.format(sql.Identifier(schema, name), sql.Literal(text)))
    except psycopg.Error:
        return


def _try(connection: psycopg.Connection[Any], statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.Error:
        return False
    return True


_FUNCTIONS = """
SELECT n.nspname::text, p.proname::text, pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind = 'f' AND n.nspname = ANY (%(schemas)s::text[]) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2, 3 LIMIT %(most)s
"""

_REFERENCES = """
SELECT n.nspname::text, c.relname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY place),
       m.nspname::text, t.relname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY place)
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = k.confrelid JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace
WHERE k.contype = 'f' AND m.nspname = ANY (%(schemas)s::text[]) AND n.nspname <> ALL (%(schemas)s::text[])
ORDER BY 1, 2, k.conname
"""
