"""What of a server decides what a migration may do there, and how long it takes: roles, and some settings.

Everybody may read it. No password, and no value that may be a secret, is among it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from lockstep.core.contents import ExtensionOwner, Membership, Role, Server

#: Up to so many roles all of them are recorded: a migration may grant something to one that has nothing yet.
ALL_ROLES = 1_000

#: Settings that change the write-ahead log, plans, times, or what a statement means. A closed list: no value is a secret.
SETTINGS = (
    "wal_level", "full_page_writes", "wal_compression", "wal_log_hints", "max_connections", "max_locks_per_transaction",
    "max_prepared_transactions", "work_mem", "hash_mem_multiplier", "maintenance_work_mem", "effective_cache_size",
    "effective_io_concurrency", "maintenance_io_concurrency", "seq_page_cost", "random_page_cost", "cpu_tuple_cost",
    "cpu_index_tuple_cost", "cpu_operator_cost", "parallel_setup_cost", "parallel_tuple_cost",
    "min_parallel_table_scan_size", "min_parallel_index_scan_size", "max_parallel_workers_per_gather",
    "default_statistics_target", "from_collapse_limit", "join_collapse_limit", "geqo", "geqo_threshold",
    "jit", "jit_above_cost", "jit_inline_above_cost", "jit_optimize_above_cost", "plan_cache_mode",
    "constraint_exclusion", "enable_partitionwise_join", "enable_partitionwise_aggregate", "enable_nestloop",
    "enable_hashjoin", "enable_mergejoin", "enable_seqscan", "enable_indexscan", "enable_bitmapscan",
    "default_toast_compression", "default_table_access_method", "TimeZone", "timezone_abbreviations", "IntervalStyle",
    "lc_monetary", "lc_numeric", "lc_time", "default_text_search_config", "bytea_output", "xmlbinary", "xmloption",
    "extra_float_digits", "array_nulls", "backslash_quote", "transform_null_equals", "check_function_bodies",
    "quote_all_identifiers", "password_encryption", "createrole_self_grant",
)  # fmt: skip

_ROLES = """
WITH RECURSIVE wanted AS (
    SELECT oid FROM pg_catalog.pg_roles
     WHERE rolname IN (session_user, current_user) OR rolname = ANY (%(names)s::text[])
        OR (SELECT pg_catalog.count(*) FROM pg_catalog.pg_roles) <= %(all)s
        OR oid IN (SELECT a.grantee FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
                    WHERE d.datname = pg_catalog.current_database())
    UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN wanted ON wanted.oid = m.member
)
SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
       r.rolbypassrls, ARRAY(SELECT pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s
                             WHERE s.setrole = r.oid AND s.setdatabase = 0)
FROM pg_catalog.pg_roles r JOIN wanted ON wanted.oid = r.oid
WHERE r.rolname !~ '^pg_' ORDER BY 1
"""

# By name in a JSON object, since the columns differ: 16 brought two.
_MEMBERSHIPS = """
SELECT r.rolname::text, m.rolname::text, pg_catalog.bool_or(a.admin_option),
       pg_catalog.bool_or((j->>'inherit_option')::bool), pg_catalog.bool_or((j->>'set_option')::bool)
FROM pg_catalog.pg_auth_members a CROSS JOIN LATERAL pg_catalog.to_jsonb(a) AS j
JOIN pg_catalog.pg_roles r ON r.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member
WHERE m.rolname = ANY (%(names)s::text[]) AND (r.rolname ~ '^pg_' OR r.rolname = ANY (%(names)s::text[]))
GROUP BY 1, 2 ORDER BY 1, 2
"""

_EXTENSIONS = """
SELECT e.extname::text, pg_catalog.pg_get_userbyid(e.extowner)::text, n.nspname::text
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname <> 'plpgsql' ORDER BY 1
"""

# What a client sent along for its own session is not the server's.
_SETTINGS = """
SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings
WHERE name = ANY (%s::text[]) AND source NOT IN ('client', 'session', 'interactive')
ORDER BY 1
"""


def read_server(connection: psycopg.Connection[Any], names: Iterable[str]) -> Server:
    """Return what the server of `connection` is to a migration. `names`: roles that matter, beside our own. Read-only.

    All that these roles are members of is among it, and up to ALL_ROLES every role.
    """
    owners = connection.execute(_EXTENSIONS).fetchall()
    wanted = {"names": [*names, *(owner for _, owner, _ in owners)], "all": ALL_ROLES}
    roles = tuple(
        Role(
            name=row[0], superuser=row[1], inherit=row[2], create_role=row[3], create_db=row[4], login=row[5],
            replication=row[6], bypass_rls=row[7], settings=tuple(kept_setting(setting) for setting in row[8]),
        )
        for row in connection.execute(_ROLES, wanted).fetchall()
    )  # fmt: skip
    memberships = connection.execute(_MEMBERSHIPS, {"names": [role.name for role in roles]}).fetchall()
    login = connection.execute("SELECT session_user::text").fetchone()
    assert login is not None
    return Server(
        login=login[0],
        roles=roles,
        memberships=tuple(
            Membership(role=role, member=member, admin=admin, inherit=inherit, set=may_set)
            for role, member, admin, inherit, may_set in memberships
        ),
        extension_owners=tuple(
            ExtensionOwner(extension=name, owner=owner, schema=schema) for name, owner, schema in owners
        ),
        settings=tuple(
            f"{name}={value}" for name, value in connection.execute(_SETTINGS, (list(SETTINGS),)).fetchall()
        ),
    )


def kept_setting(setting: str) -> str:
    """Return a `name=value` of ALTER ROLE or ALTER DATABASE … SET as it may be stored.

    Of what has a dot in its name, which an application made up, the name alone: people keep keys in them. PostgreSQL's
    own that a role or a database can have hold no secret, nor do those of PL/pgSQL.
    """
    name = setting.partition("=")[0]
    return name if "." in name and not name.startswith("plpgsql.") else setting
