"""A database as a whole: owner, encoding, locale, grants and settings, all that pg_dump without -C leaves out.

Reads them, and makes another database of the same shape. Values of settings may be secrets: none is in a message.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from lockstep.core.contents import DatabaseSetting, DatabaseShape

# By name in a JSON object, since the columns differ: daticulocale (15, 16) became datlocale (17).
_SHAPE = """
SELECT pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding),
       coalesce(j->>'datlocprovider', 'c'), d.datcollate, d.datctype, coalesce(j->>'datlocale', j->>'daticulocale'),
       j->>'daticurules', d.datconnlimit, pg_catalog.shobj_description(d.oid, 'pg_database'), d.datacl::text,
       (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace), d.oid::bigint
  FROM pg_catalog.pg_database d, pg_catalog.to_jsonb(d) AS j
 WHERE d.datname = pg_catalog.current_database()
"""

_SETTINGS = """
SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END, setting
  FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS each (setting, place)
 WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
 ORDER BY 1 NULLS FIRST, place
"""


def read_shape(connection: psycopg.Connection) -> DatabaseShape:
    """Return the shape of the database that `connection` is in. Read-only."""
    row = connection.execute(_SHAPE).fetchone()
    assert row is not None
    settings = connection.execute(_SETTINGS).fetchall()
    names = (
        "owner", "encoding", "locale_provider", "collate", "ctype", "locale", "icu_rules", "connection_limit",
        "comment", "acl", "tablespace", "oid",
    )  # fmt: skip
    made = tuple(DatabaseSetting(role=role, setting=setting) for role, setting in settings)
    return DatabaseShape(**dict(zip(names, row, strict=True)), settings=made)


def create_like(
    connection: psycopg.Connection, name: str, shape: DatabaseShape, *, owner: str | None, tablespace: bool = True
) -> None:
    """Create an empty database of the same encoding and locale. Grants and settings come later, by `dress`.

    Raises psycopg.Error: a locale that the server's machine does not have is one (22023 or 42809).
    """
    words = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            sql.Identifier(name), sql.Literal(shape.encoding), sql.Literal(shape.collate), sql.Literal(shape.ctype)
        )
    ]
    if owner is not None:
        words.append(sql.SQL("OWNER {}").format(sql.Identifier(owner)))
    if tablespace and shape.tablespace != "pg_default":  # template0's own needs no right when it is not named
        words.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(shape.tablespace)))
    if connection.info.server_version >= 150000:
        provider = {"c": "libc", "i": "icu", "b": "builtin"}[shape.locale_provider]
        words.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(provider)))
        if shape.locale and shape.locale_provider in {"i", "b"}:
            word = sql.SQL("ICU_LOCALE {}" if shape.locale_provider == "i" else "BUILTIN_LOCALE {}")
            words.append(word.format(sql.Literal(shape.locale)))
        if shape.icu_rules:
            words.append(sql.SQL("ICU_RULES {}").format(sql.Literal(shape.icu_rules)))
    connection.execute(sql.SQL(" ").join(words))
    # Until it is dressed nobody else comes in: it holds the other one's rows.
    database = sql.Identifier(name)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO SESSION_USER").format(database))


def dress(connection: psycopg.Connection, name: str, shape: DatabaseShape) -> None:
    """Give the database `name` the grants, comment, connection limit and settings of `shape`.

    Raises psycopg.Error where the role may not.
    """
    database = sql.Identifier(name)
    connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(database))
    row = connection.execute("SELECT session_user::text").fetchone()
    if row and row[0] != shape.owner:
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM SESSION_USER").format(database))
    if shape.acl is None:
        connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(database))
    else:
        grants = connection.execute(
            "SELECT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type, "
            "a.is_grantable FROM pg_catalog.aclexplode(%s::aclitem[]) a",
            (shape.acl,),
        ).fetchall()
        for holder in (sql.SQL("PUBLIC"), sql.Identifier(shape.owner)):
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, holder))
        for grantee, privilege, grantable in grants:
            holder = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
            ending = sql.SQL(" WITH GRANT OPTION" if grantable and grantee not in {None, shape.owner} else "")
            words = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), database, holder)
            connection.execute(words + ending)
    if shape.comment is not None:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(shape.comment)))
    if shape.connection_limit != -1:
        limit = sql.Literal(shape.connection_limit)
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, limit))
    for setting in shape.settings:
        parameter, known, value = setting.setting.partition("=")
        if not known:
            continue  # a shape as contents record it, without values that may be secrets
        place = sql.SQL("DATABASE {}").format(database)
        if setting.role is not None:
            place = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(setting.role), database)
        connection.execute(setting_sql(place, parameter, value))


def setting_sql(place: sql.Composable, parameter: str, value: str) -> sql.Composed:
    """Return `ALTER place SET parameter TO value`, as pg_db_role_setting has the two."""
    quoted = sql.Identifier(*parameter.split("."))  # app.name is two identifiers to SQL
    return sql.SQL("ALTER {} SET {} TO {}").format(place, quoted, _value(parameter, value))


#: Parameters whose value is a list of identifiers: as one literal it would be one name (pg_dump's list, dumputils.c).
_LISTS = frozenset({
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
})  # fmt: skip


def _value(parameter: str, value: str) -> sql.Composable:
    if parameter.lower() not in _LISTS or not value:
        return sql.Literal(value)
    return sql.SQL(", ").join([sql.Literal(part) for part in _elements(value)])


def _elements(value: str) -> list[str]:
    """Split a list of identifiers at its commas; in double quotes a comma is a character."""
    found, current, quoted = [], "", False
    for character in value:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted:
            found.append(current)
            current = ""
        else:
            current += character
    found.append(current)
    stripped = [part.strip() for part in found]
    return [p[1:-1].replace('""', '"') if p.startswith('"') and len(p) > 1 else p for p in stripped]
