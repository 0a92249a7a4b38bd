"""The ledger's making: created, upgraded in place from an older table, closed to the outside. One transaction."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lockstep.core.approval import ANSWERS, BEGIN
from lockstep.core.filename import parse_file_name
from lockstep.core.ledger import TABLES
from lockstep.errors import LedgerError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.ledger import columns, open_for_writing, query, refuse_foreign, refuse_unowned
from lockstep.postgres.lock import audit_key

#: Roles through which Supabase serves `public` to the internet. Closed out wherever they exist.
API_ROLES = ("anon", "authenticated", "service_role")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """What `create_ledger` found and did."""

    created: bool  # there was no table before
    adopted: int = 0  # rows of an older table whose checksum was recognised
    unverified: int = 0  # rows of an older table whose checksum was not


def create_ledger(
    session: Session,
    *,
    recognise: Mapping[str, tuple[str, str | None, frozenset[str]]],
    reader: str | None,
    event: Event,
    approvers: str | None = None,
) -> Upgraded:
    """Create the ledger, or upgrade an older table in place, in one transaction. Idempotent.

    `recognise` maps a file name to its checksum, its content digest and the checksums that other tools would have
    recorded for it. Raises LedgerForeign, LedgerNotOwned, LedgerError.
    """
    target = session.target
    found = columns(session)
    refuse_foreign(session, found)
    if found:
        refuse_unowned(session)
        _refuse_shape(session)
    current = "verified" in found
    before = _form(session) if current else {}
    try:
        with guard(target), session.connection.transaction():
            open_for_writing(session)
            if not found and target.ledger_schema != "public":
                _create_schema(session)
            if found and not current:
                _normalise_legacy(session, found)
            session.connection.execute(
                query("create_ledger", session, audit_key=sql.Literal(audit_key(target.ledger_schema)))
            )
            adopted, unverified = (0, 0) if current or not found else _adopt(session, recognise)
            session.connection.execute(query("constrain_ledger", session))
            _close(session, reader)
            _let_answer(session, approvers)
            if not current:
                details = {"salt": secrets.token_hex(16), "adopted": adopted, "unverified": unverified}
                write_event(session, Event(event="init", run_id=event.run_id, details=details))
            elif changed := [kind for kind, form in _form(session).items() if before.get(kind) != form]:
                # Without a salt: the first one stays.
                write_event(session, Event(event="init", run_id=event.run_id, details={"changed": changed}))
    except psycopg.errors.UniqueViolation:
        raise LedgerError(
            f"{target.name}: {target.ledger} holds two rows for one version, so it was left as it is.",
            hint=f"list them (SELECT migration_name, applied_at FROM {target.ledger} ORDER BY 1), delete the wrong one",  # noqa: S608  # shown, never run
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise LedgerError(
            f"{target.name}: another session has {target.ledger} locked; it was left as it is.",
            hint="end that session (SELECT pid, query FROM pg_stat_activity), then try again",
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise LedgerError(
            f"{target.name}: role {session.facts.current_user} may not create the ledger: {error.diag.message_primary}",
            hint="log in as the migrator (docs/how-to/roles.md); where this is it: "
            f"GRANT CREATE ON SCHEMA {target.ledger_schema} TO {session.facts.current_user}",
        ) from None
    except psycopg.DatabaseError as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise
        raise LedgerError(
            f"{target.name}: {target.ledger} cannot be made into a ledger: {error.diag.message_primary} "
            f"(SQLSTATE {error.sqlstate}). It was left as it is.",
            hint='rename it, or set ledger_schema = "lockstep" under [project]',
        ) from None
    return Upgraded(created=not found, adopted=adopted, unverified=unverified)


# Names, never numbers: running it all again must find nothing changed.
_FORM = """
WITH ours AS (SELECT c.oid, c.relname::text AS name, c.relacl, c.relrowsecurity FROM pg_class c
               JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = %s AND c.relkind = 'r' AND starts_with(c.relname, 'schema_migrations')),
functions AS (SELECT p.oid, p.proname::text AS name, p.proacl FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE n.nspname = %s AND starts_with(p.proname, 'schema_migrations'))
SELECT 'columns', string_agg(concat_ws(' ', o.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                       pg_get_expr(d.adbin, d.adrelid)), ',' ORDER BY o.name, a.attnum)
  FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraints', string_agg(concat_ws(' ', o.name, k.conname, pg_get_constraintdef(k.oid)), ','
                                 ORDER BY o.name, k.conname)
  FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid
UNION ALL
SELECT 'indexes', string_agg(pg_get_indexdef(i.indexrelid), ',' ORDER BY i.indexrelid::regclass::text)
  FROM ours o JOIN pg_index i ON i.indrelid = o.oid
UNION ALL
SELECT 'functions', string_agg(pg_get_functiondef(f.oid), ',' ORDER BY f.name) FROM functions f
UNION ALL
SELECT 'triggers', string_agg(concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled), ',' ORDER BY o.name, t.tgname)
  FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
UNION ALL
SELECT 'access', concat((SELECT string_agg(concat_ws(' ', o.name, o.relacl, o.relrowsecurity), ',' ORDER BY o.name) FROM ours o),
                        (SELECT string_agg(concat_ws(' ', f.name, f.proacl), ',' ORDER BY f.name) FROM functions f),
                        (SELECT string_agg(concat_ws(' ', o.name, p.polname, p.polcmd, p.polpermissive,
                                           p.polroles::regrole[]::text, pg_get_expr(p.polqual, p.polrelid)), ','
                                           ORDER BY o.name, p.polname)
                           FROM ours o JOIN pg_policy p ON p.polrelid = o.oid))
"""


def _form(session: Session) -> dict[str, str | None]:
    """Return what the ledger's tables are made of, by kind: what `init` may change when it runs again."""
    schema = session.target.ledger_schema
    with guard(session.target):
        rows = session.connection.execute(_FORM.encode(), (schema, schema)).fetchall()
    return dict(rows)


_SHAPE = """
SELECT CASE WHEN c.relkind <> 'r' THEN 'it is no ordinary table'
            WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'version'
                            AND a.atttypid <> 'pg_catalog.int8'::regtype)
            THEN 'its column version is no bigint'
            WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT EXISTS (
                   SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                      AND a.attname IN ('migration_name', 'version', 'id')))
            THEN 'a unique index on other columns than its name would refuse new entries'
            ELSE (SELECT format('column %s must have a value that Lockstep does not know', min(a.attname))
                    FROM pg_attribute a
                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
                     AND NOT a.atthasdef AND a.attidentity = '' AND NOT a.attname = ANY (%s)
                  HAVING count(*) > 0)
       END
  FROM pg_class c WHERE c.oid = to_regclass(format('%%I.schema_migrations', %s::text))
"""
#: Columns that an entry of ours fills in.
_FILLED = ("migration_name", "checksum", "applied_at", "version", "kind", "state", "verified")


def _refuse_shape(session: Session) -> None:
    """Raise LedgerError for an older table that would take no entries of ours, before anything is changed."""
    text = _SHAPE.replace("'column %s must", "'column %%s must")
    with guard(session.target):
        row = session.connection.execute(text.encode(), (list(_FILLED), session.target.ledger_schema)).fetchone()
    if row and row[0]:
        raise LedgerError(
            f"{session.target.name}: {session.target.ledger} cannot be made into a ledger: {row[0]}. It was left as it is.",
            hint='change that, or set ledger_schema = "lockstep" under [project]',
        )


def _create_schema(session: Session) -> None:
    there = session.connection.execute(
        "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (session.target.ledger_schema,)
    ).fetchone()
    if there is None:
        schema = sql.Identifier(session.target.ledger_schema)
        session.connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))


def _normalise_legacy(session: Session, found: Mapping[str, str]) -> None:
    """Widen the seed's columns: an applied_at without time zone was written in the server's own zone."""
    table = sql.Identifier(session.target.ledger_schema, "schema_migrations")
    for name in ("migration_name", "checksum"):
        if found.get(name, "text") != "text":
            session.connection.execute(sql.SQL("ALTER TABLE {} ALTER {} TYPE text").format(table, sql.Identifier(name)))
    if "checksum" not in found:
        session.connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN checksum text").format(table))
    if found["applied_at"] == "timestamp without time zone":
        session.connection.execute(sql.SQL("ALTER TABLE {} ALTER applied_at TYPE timestamptz").format(table))
    session.connection.execute(sql.SQL("UPDATE {} SET applied_at = now() WHERE applied_at IS NULL").format(table))


def _adopt(session: Session, recognise: Mapping[str, tuple[str, str | None, frozenset[str]]]) -> tuple[int, int]:
    """Give the rows of an older table their versions, and our checksums where the old ones can be recomputed."""
    table = sql.Identifier(session.target.ledger_schema, "schema_migrations")
    rows = session.connection.execute(sql.SQL("SELECT migration_name, checksum FROM {}").format(table)).fetchall()
    adopted = unverified = 0
    for name, old in rows:
        file = name if name.endswith(".sql") else f"{name}.sql"
        parsed = parse_file_name(file.rsplit("/", 1)[-1])
        ours = recognise.get(file.rsplit("/", 1)[-1])
        known = ours is not None and (old or "").lower() in ours[2] | {ours[0]}
        adopted, unverified = adopted + known, unverified + (not known)
        session.connection.execute(
            sql.SQL(
                "UPDATE {} SET version = %s, checksum = %s, content_digest = %s, verified = %s WHERE migration_name = %s"
            ).format(table),
            (
                parsed.version if parsed else None,
                ours[0] if ours and known else old,
                ours[1] if ours and known else None,
                known,
                name,
            ),
        )
    if columns(session).get("success") == "boolean":
        # What the older tool itself called failed is not applied: a person says what became of it.
        session.connection.execute(sql.SQL("UPDATE {} SET state = 'failed' WHERE success IS FALSE").format(table))
    return adopted, unverified


def _close(session: Session, reader: str | None) -> None:
    """Take the ledger away from the roles that serve `public` to the internet, and open it to the configured reader."""
    schema = sql.Identifier(session.target.ledger_schema)
    rows = session.connection.execute(
        "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", (list(API_ROLES),)
    ).fetchall()
    for (role,) in rows:
        session.connection.execute(
            sql.SQL(
                "REVOKE ALL ON {0}.schema_migrations, {0}.schema_migrations_log, {0}.schema_migrations_states FROM {1};"
                "REVOKE ALL ON FUNCTION {0}.schema_migrations_log_hash({0}.schema_migrations_log), "
                "{0}.schema_migrations_log_chain(), {0}.schema_migrations_log_refuse(), {0}.schema_migrations_guard() FROM {1}"
            ).format(schema, sql.Identifier(role))
        )
    if reader is not None:
        _let_read(session, reader, policy="lockstep_reader")


def _let_read(session: Session, reader: str, *, policy: str) -> None:
    schema, who = sql.Identifier(session.target.ledger_schema), sql.Identifier(reader)
    for table in TABLES:
        session.connection.execute(
            sql.SQL(
                "GRANT SELECT ON {0}.{1} TO {2};"
                "DROP POLICY IF EXISTS {3} ON {0}.{1};"
                "CREATE POLICY {3} ON {0}.{1} FOR SELECT TO {2} USING (true)"
            ).format(schema, sql.Identifier(table), who, sql.Identifier(policy))
        )
    session.connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, who))


def _let_answer(session: Session, approvers: str | None) -> None:
    """Let the members of a role read the ledger and append answers to its log: under their own name, at the time it is.

    `actor` and `at` are not among the columns that they may give.
    """
    if approvers is None:
        return
    _let_read(session, approvers, policy="lockstep_approvers")
    session.connection.execute(
        sql.SQL(
            "GRANT INSERT (event, host, run_id, orchestrator_url, migration_name, version, duration_ms, details) "
            "ON {0}.schema_migrations_log TO {1};"
            "DROP POLICY IF EXISTS lockstep_answers ON {0}.schema_migrations_log;"
            "CREATE POLICY lockstep_answers ON {0}.schema_migrations_log FOR INSERT TO {1} "
            "WITH CHECK (event IN ({2}))"
        ).format(
            sql.Identifier(session.target.ledger_schema),
            sql.Identifier(approvers),
            sql.SQL(", ").join(map(sql.Literal, (*ANSWERS, BEGIN))),
        )
    )
