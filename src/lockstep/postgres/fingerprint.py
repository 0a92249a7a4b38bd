"""Reads the fingerprint of a database: every object of the configured schemas, by one catalog query, in one snapshot.

Read-only, takes no lock beyond ACCESS SHARE on views for as long as the query runs. Judges nothing. Passwords are not
read: no user mappings, no subscription's connection string, and secrets among a foreign server's options are masked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from lockstep.core.fingerprint import Fingerprint, SchemaObject, fingerprint_of
from lockstep.core.ledger import TABLES
from lockstep.errors import LedgerError
from lockstep.postgres.connection import Session, guard

_SQL = Path(__file__).with_name("sql") / "fingerprint"
_PARTS = ("relations", "on_relations", "routines", "types", "database")

#: The ledger's own, beside its tables: never part of what is compared.
FUNCTIONS = (
    "schema_migrations_log_hash", "schema_migrations_log_chain", "schema_migrations_log_refuse", "schema_migrations_guard",
)  # fmt: skip

#: How the server prints expressions must not depend on role or database; a large UNION gains nothing from JIT.
_SETTINGS = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres';
SET LOCAL lc_monetary = 'C'; SET LOCAL extra_float_digits = 1; SET LOCAL quote_all_identifiers = off; SET LOCAL bytea_output = 'hex';
SET LOCAL jit = off; SET LOCAL work_mem = '32MB'; SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL search_path = pg_catalog
"""

_TRIES = 3  # an object that is dropped while it is being looked at is an error of the server's


class Live(NamedTuple):
    """A schema as it is, and the token of the same snapshot."""

    fingerprint: Fingerprint
    token: str  # stays the same while nothing of what the fingerprint covers is changed


def read_live(session: Session) -> Live:
    """Read the fingerprint of the target's configured schemas (of a copy: of all). The session must be idle; it is afterwards.

    Read again, up to three times in all, when somebody changed the schema meanwhile.
    Raises Unreachable; LedgerError when somebody keeps a view locked, or objects go away under the query again and again.
    """
    text = _copy(session)
    tries = 0
    while True:
        tries += 1
        try:
            with guard(session.target, session.connection):
                live = _read(session, text)
                # Rows come from one snapshot, but the server prints definitions as they are by now: who changed
                # something meanwhile may have torn them apart.
                if tries == _TRIES or _token(session) == live.token:
                    return live
                reason = ""
        except psycopg.errors.LockNotAvailable:
            _roll_back(session)
            reason = "another session has a view or a table locked"
        except (psycopg.errors.InternalError_, psycopg.errors.UndefinedObject, psycopg.errors.UndefinedTable) as error:
            _roll_back(session)
            reason = f"objects go away while they are looked at (SQLSTATE {error.sqlstate})"
        except psycopg.Error:
            _roll_back(session)
            raise
        if tries == _TRIES:
            raise LedgerError(
                f"{session.target.name}: the schema could not be read: {reason}",
                hint="try again when it is quiet: SELECT pid, query FROM pg_stat_activity WHERE state <> 'idle'",
            )
        time.sleep(0.2 * tries)


def token_sql(session: Session) -> sql.Composed:
    """Return a query of one value: the token of what the fingerprint covers. Some milliseconds."""
    return _token_sql(session.facts.version, _schemas(session))


def token_query(version: int, schemas: Sequence[str]) -> sql.Composed:
    """The same for a connection that is no session of ours. `version`: of the server, as 170010."""
    return _token_sql(version, sql.Literal(list(schemas)))


def _token_sql(version: int, schemas: sql.Composable) -> sql.Composed:
    namespaces = sql.SQL(
        "UNION ALL SELECT 'publication schema', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_publication_namespace"
        if version >= 150000
        else ""
    )
    return sql.SQL(_file("token")).format(schemas=schemas, publication_namespace=namespaces)


def read_token(session: Session) -> str:
    """Return the token as it is now. Raises Unreachable."""
    with guard(session.target):
        return _token(session)


# -- inside -------------------------------------------------------------------------------------------------------


def _read(session: Session, text: sql.Composed) -> Live:
    cursor = session.connection.execute(sql.SQL(_SETTINGS + "; ") + token_sql(session))
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    assert row is not None
    query = text.as_bytes(session.connection)
    if session.connection.info.parameter_status("server_encoding") == "SQL_ASCII":  # whatever bytes it was given
        session.connection.execute("SET LOCAL client_encoding = 'SQL_ASCII'")
    objects, roles = [], []
    with session.connection.cursor() as cursor, cursor.copy(query) as copy:
        for line in copy:
            fields = bytes(line).decode(errors="backslashreplace")[:-1].split("\t")
            if "\\" in fields[4] or "\\" in fields[5] or "\\" in "".join(fields[:4]):
                fields = [_unescaped(field) if field != "\\N" else field for field in fields]
            kind, schema, parent, name, definition, body, xid = fields
            if kind == "role":
                roles.append(name)
                continue
            objects.append(
                SchemaObject(
                    kind, schema, parent, name, definition, None if body == "\\N" else body,
                    None if xid == "\\N" else int(xid),
                )
            )  # fmt: skip
    session.connection.execute("COMMIT")
    major = session.facts.version // 10000
    schemas = {one.schema for one in objects if one.schema} if session.target.every_schema else session.target.schemas
    found = fingerprint_of(objects, major=major, schemas=schemas, roles=roles)
    return Live(found, str(row[0]))


def _token(session: Session) -> str:
    row = session.connection.execute(token_sql(session)).fetchone()
    assert row is not None
    return str(row[0])


def _unescaped(field: str) -> str:
    """COPY's text format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2"""
    if "\\" not in field:
        return field
    parts = field.split("\\\\")
    for escape, character in _ESCAPES:
        parts = [part.replace(escape, character) for part in parts]
    return "\\".join(parts)


_ESCAPES = (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t"), ("\\b", "\b"), ("\\f", "\f"), ("\\v", "\v"))


def _roll_back(session: Session) -> None:
    if not session.connection.closed and not session.idle:
        session.connection.execute("ROLLBACK")


def _schemas(session: Session) -> sql.Composable:
    if session.target.every_schema:
        return sql.SQL(
            "ARRAY(SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')"
        )
    return sql.Literal(list(session.target.schemas))


@cache
def _file(name: str) -> str:
    """A file without what is for people: it travels with every look."""
    lines = (line.strip() for line in (_SQL / f"{name}.sql").read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--")) + "\n"


def _copy(session: Session) -> sql.Composed:
    newer = session.facts.version >= 150000
    pieces = {
        "schemas": _schemas(session),
        "ledger": sql.Literal(session.target.ledger_schema),
        "ledger_tables": sql.Literal(list(TABLES)),
        "ledger_functions": sql.Literal(list(FUNCTIONS)),
        "table_options": sql.SQL(_options("f.ftoptions")),
        "column_options": sql.SQL(_options("a.attfdwoptions")),
        "fdw_options": sql.SQL(_options("f.fdwoptions")),
        "server_options": sql.SQL(_options("s.srvoptions")),
        "publication_schemas": sql.SQL(_PUBLICATION_SCHEMAS if newer else "NULL"),
        "publication_columns": sql.SQL(_PUBLICATION_COLUMNS if newer else ""),
        "publication_filter": sql.SQL(_PUBLICATION_FILTER if newer else ""),
    }
    text = _file("head") + "\nUNION ALL\n".join(_file(part) for part in _PARTS) + _file("tail")
    return sql.SQL("COPY (" + text + ") TO STDOUT").format(**pieces)  # our own files


def _options(column: str) -> str:
    """SQL of a list of options; the values of those that are not known to be harmless are masked."""
    known = ", ".join(f"'{name}'" for name in _HARMLESS)
    return (
        f"(SELECT format('OPTIONS (%s)', string_agg(CASE WHEN split_part(o, '=', 1) = ANY (ARRAY[{known}]) "  # noqa: S608
        f"THEN o ELSE split_part(o, '=', 1) || '=***' END, ', ' ORDER BY o COLLATE \"C\")) FROM unnest({column}) o HAVING count(*) > 0)"
    )


#: Options of foreign servers, tables and columns that hold no secret. Of any other only the name is looked at.
_HARMLESS = (
    "host", "hostaddr", "port", "dbname", "schema", "schema_name", "table", "table_name", "column_name", "fetch_size",
    "batch_size", "updatable", "truncatable", "use_remote_estimate", "async_capable", "extensions", "format", "filename",
    "header", "delimiter", "encoding",
)  # fmt: skip


_PUBLICATION_SCHEMAS = (
    "(SELECT 'SCHEMAS ' || string_agg(n.pnnspid::regnamespace::text, ', ' ORDER BY n.pnnspid::regnamespace::text COLLATE \"C\") "
    "FROM pg_publication_namespace n WHERE n.pnpubid = p.oid)"
)
_PUBLICATION_COLUMNS = (
    ", ' (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) FROM pg_attribute a "
    "WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) || ')'"
)
_PUBLICATION_FILTER = ", ' WHERE ' || pg_get_expr(r.prqual, r.prrelid)"
