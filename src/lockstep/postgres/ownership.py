"""Who owns what in a database, as far as roles for Lockstep are concerned. Asks the catalog, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.core.grants import Facts, Owner
from lockstep.postgres.connection import Session, guard


def read_facts(session: Session, *, schemas: Sequence[str], role: str | None, ledger_schema: str) -> Facts:
    """Return what `doctor --grants` wants to know. `role` is the one that migrations run as; None: who logged in.

    Read-only. Raises Unreachable, and psycopg.Error for what a server refuses.
    """
    values = {"schemas": list(schemas), "role": role, "ledger_schema": ledger_schema}
    with guard(session.target):
        row = session.connection.execute(_FACTS, values).fetchone()
        owners = session.connection.execute(_OWNERS, values).fetchall()
    assert row is not None
    version, text, login, superuser, there, unread, filtered, extensions, ledger = row
    return Facts(
        version=version,
        version_text=text,
        login=login,
        login_is_superuser=superuser,
        schemas=tuple(there),
        owners=tuple(
            Owner(name=n, superuser=s, objects=o, example=e, below=b, login=can) for n, s, o, e, b, can in owners
        ),
        unread=unread,
        filtered=tuple(filtered),
        extensions=tuple(extensions),
        ledger=ledger,
    )


# A superuser's own things are the migrator's to be, so they count as another's.
_FACTS = """
WITH mine AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = COALESCE(%(role)s::text, session_user) AND NOT rolsuper),
others AS (
    SELECT c.relkind, c.relrowsecurity, r.rolname, r.rolsuper
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
     WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND NOT EXISTS (SELECT FROM mine WHERE pg_catalog.pg_has_role(mine.oid, r.oid, 'USAGE')))
SELECT pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1),
       session_user::text, (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user),
       ARRAY(SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname = ANY (%(schemas)s::text[]) ORDER BY 1),
       (SELECT pg_catalog.count(*) FROM others),
       ARRAY(SELECT DISTINCT rolname::text FROM others WHERE relrowsecurity AND NOT rolsuper ORDER BY 1),
       ARRAY(SELECT e.extname::text FROM pg_catalog.pg_extension e
              WHERE e.extname <> 'plpgsql' AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_available_extension_versions v
                     WHERE v.name = e.extname AND v.version = e.extversion AND v.trusted) ORDER BY 1),
       pg_catalog.to_regclass(pg_catalog.format('%%I.schema_migrations', %(ledger_schema)s::text)) IS NOT NULL
"""

_OWNERS = """
WITH mine AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = COALESCE(%(role)s::text, session_user) AND NOT rolsuper),
things AS (
    SELECT c.relowner AS owner, pg_catalog.format('%%s %%I.%%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
               WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, c.relname) AS words,
           c.relkind <> 'r' AS later, 'pg_class'::regclass AS class, c.oid
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY (%(schemas)s::text[]) AND c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f')
    UNION ALL
    SELECT p.proowner, pg_catalog.format('ROUTINE %%s', p.oid::regprocedure), true, 'pg_proc'::regclass, p.oid
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = ANY (%(schemas)s::text[])
    UNION ALL
    SELECT t.typowner, pg_catalog.format('TYPE %%I.%%I', n.nspname, t.typname), true, 'pg_type'::regclass, t.oid
      FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE n.nspname = ANY (%(schemas)s::text[]) AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))),
above AS (SELECT oid FROM mine UNION SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user AND NOT rolsuper)
SELECT r.rolname::text, r.rolsuper, pg_catalog.count(*), (pg_catalog.array_agg(t.words ORDER BY t.later, t.words))[1],
       EXISTS (SELECT FROM above WHERE pg_catalog.pg_has_role(r.oid, above.oid, 'MEMBER')), r.rolcanlogin
  FROM things t JOIN pg_catalog.pg_roles r ON r.oid = t.owner
 WHERE NOT EXISTS (SELECT FROM mine WHERE pg_catalog.pg_has_role(mine.oid, r.oid, 'USAGE'))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = t.class AND d.objid = t.oid AND d.deptype IN ('e', 'i', 'a')
                      AND d.refclassid IN ('pg_catalog.pg_extension'::regclass, 'pg_catalog.pg_class'::regclass))
 GROUP BY r.oid, r.rolname, r.rolsuper, r.rolcanlogin ORDER BY 1
"""
