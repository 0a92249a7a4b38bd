"""What stands in for an extension that a throw-away server lacks, where that is simple.

A stand-in is no extension: what the source's definitions call is there, and CREATE, ALTER and DROP EXTENSION find
nothing. Only for servers that are thrown away.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

#: extension -> functions: name, arguments, result, SQL body.
_FUNCTIONS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "uuid-ossp": (
        ("uuid_generate_v4", "", "uuid", "SELECT pg_catalog.gen_random_uuid()"),
        ("uuid_generate_v1", "", "uuid", "SELECT pg_catalog.gen_random_uuid()"),
        ("uuid_generate_v1mc", "", "uuid", "SELECT pg_catalog.gen_random_uuid()"),
        # Not the specification's digests: equal arguments give equal values, which is enough.
        ("uuid_generate_v3", "namespace uuid, name text", "uuid", "SELECT pg_catalog.md5($1::text || $2)::uuid"),
        ("uuid_generate_v5", "namespace uuid, name text", "uuid", "SELECT pg_catalog.md5($1::text || $2)::uuid"),
        ("uuid_nil", "", "uuid", "SELECT '00000000-0000-0000-0000-000000000000'::uuid"),
        ("uuid_ns_dns", "", "uuid", "SELECT '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid"),
        ("uuid_ns_url", "", "uuid", "SELECT '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::uuid"),
        ("uuid_ns_oid", "", "uuid", "SELECT '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::uuid"),
        ("uuid_ns_x500", "", "uuid", "SELECT '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::uuid"),
    ),
}


def stand_in(connection: psycopg.Connection[Any], extension: str, schema: str) -> bool:
    """Make the functions of an extension in a schema, which is made, too. False: there is no stand-in for it."""
    functions = _FUNCTIONS.get(extension)
    if functions is None:
        return False
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    for name, arguments, result, body in functions:
        connection.execute(
            sql.SQL("CREATE FUNCTION {}(" + arguments + ") RETURNS " + result + " LANGUAGE sql AS {}").format(
                sql.Identifier(schema, name), sql.Literal(body)
            )
        )
    return True
