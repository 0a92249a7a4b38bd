"""Roles of a throw-away server made what they are at the source: attributes, memberships, settings, what they own.

Without it a migration that production's role may not run would pass on a copy, where a superuser runs it. Only for
servers that are thrown away: it makes superusers, and writes to the catalog.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.contents import DatabaseShape, Membership, Server
from lockstep.postgres.prerequisites import create_stand_ins, missing_roles
from lockstep.postgres.shape import dress, setting_sql

#: Settings that name what this machine need not have: libraries (no session would start), tablespaces.
_OF_THE_MACHINE = frozenset({
    "local_preload_libraries", "session_preload_libraries", "default_tablespace", "temp_tablespaces",
})  # fmt: skip


def create_roles(connection: psycopg.Connection[Any], names: tuple[str, ...], server: Server | None) -> None:
    """Make all roles that the server lacks, as superusers that cannot log in: a restore needs them to own anything."""
    recorded = tuple(role.name for role in server.roles) if server else ()
    create_stand_ins(connection, missing_roles(connection, (*names, *recorded)), superusers=True)


def give_attributes(connection: psycopg.Connection[Any], server: Server) -> tuple[str, ...]:
    """Give the roles what they are at the source, once everything is restored. Returns what could not be given.

    None gets a password. `connection` must be in the restored database: extensions get their owners, too.
    """
    notes = []
    for role in server.roles:
        flags = {
            "SUPERUSER": role.superuser, "INHERIT": role.inherit, "CREATEROLE": role.create_role,
            "CREATEDB": role.create_db, "LOGIN": role.login, "REPLICATION": role.replication,
            "BYPASSRLS": role.bypass_rls,
        }  # fmt: skip
        words = " ".join(word if given else f"NO{word}" for word, given in flags.items())
        connection.execute(sql.SQL("ALTER ROLE {} " + words).format(sql.Identifier(role.name)))
        for setting in role.settings:
            place = sql.SQL("ROLE {}").format(sql.Identifier(role.name))
            if not set_default(connection, place, setting):
                notes.append(f"setting {setting.partition('=')[0]} of role {role.name} is not as in the source")
    for membership in server.memberships:
        _grant(connection, membership)
    for extension in server.extension_owners:
        _own_extension(connection, extension.extension, extension.owner)
    return tuple(notes)


def give_login(connection: psycopg.Connection[Any], role: str) -> str:
    """Let a role log in, and return its password: a random one of this server's alone."""
    password = secrets.token_hex(16)
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
    return password


def give_database(connection: psycopg.Connection[Any], database: str, shape: DatabaseShape) -> tuple[str, ...]:
    """Give a database the owner, grants, comment and settings of `shape`, none of which a clone has.

    Its limit of connections is left out: whoever looks on needs some, too. Returns the names of settings that it could
    not be given.
    """
    name, left = sql.Identifier(database), []
    # First of all: what its owner loses while it is dressed, the next one would not have.
    connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(shape.owner)))
    dress(connection, database, replace(shape, settings=(), connection_limit=-1))
    for one in shape.settings:
        place = sql.SQL("DATABASE {}").format(name)
        if one.role is not None:
            place = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(one.role), name)
        if not set_default(connection, place, one.setting):
            left.append(one.setting.partition("=")[0])
    return tuple(left)


def set_default(connection: psycopg.Connection[Any], place: sql.Composable, setting: str) -> bool:
    """ALTER `place` SET a `name=value`. False where the value is not known, or this server does not take it."""
    name, known, value = setting.partition("=")
    if not known or name.lower() in _OF_THE_MACHINE:
        return False
    try:
        connection.execute(setting_sql(place, name, value))
    except psycopg.Error:
        return False
    return True


#: Roles that a trial made, out of the way of the next one.
_HIDDEN = "lockstep_hidden_"


def read_role_names(connection: psycopg.Connection[Any]) -> dict[int, str]:
    """Return the roles that people and trials made: oid -> name. Those that are out of the way are not among them."""
    rows = connection.execute("SELECT oid, rolname FROM pg_catalog.pg_roles WHERE oid >= 16384").fetchall()
    return {oid: name for oid, name in rows if not name.startswith(_HIDDEN)}


def name_roles(connection: psycopg.Connection[Any], names: Mapping[int, str]) -> None:
    """Give each role its name of `names`, and put every other one out of the way. Roles belong to all databases.

    What depends on a role stays: a dump of names would not.
    """
    rows = connection.execute("SELECT oid, rolname FROM pg_catalog.pg_roles WHERE oid >= 16384").fetchall()
    wanted = {oid: names.get(oid, f"{_HIDDEN}{oid}") for oid, _ in rows}
    moving = {oid: name for oid, name in rows if wanted[oid] != name}
    for oid, name in moving.items():  # out of the way first, since two may change places
        _rename(connection, name, f"{_HIDDEN}{oid}")
    for oid in moving:
        _rename(connection, f"{_HIDDEN}{oid}", wanted[oid])


def _rename(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    if old != new:
        words = sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
        connection.execute(words)


# -- inside -------------------------------------------------------------------------------------------------------


def _grant(connection: psycopg.Connection[Any], one: Membership) -> None:
    options = {"ADMIN": one.admin}
    if connection.info.server_version >= 160000:
        options |= {word: given for word, given in (("INHERIT", one.inherit), ("SET", one.set)) if given is not None}
        ending = " WITH " + ", ".join(f"{word} {'TRUE' if given else 'FALSE'}" for word, given in options.items())
    else:
        ending = " WITH ADMIN OPTION" if one.admin else ""
    connection.execute(sql.SQL("GRANT {} TO {}" + ending).format(sql.Identifier(one.role), sql.Identifier(one.member)))


def _own_extension(connection: psycopg.Connection[Any], extension: str, owner: str) -> None:
    """There is no ALTER EXTENSION … OWNER, and what the first role owns cannot be reassigned."""
    connection.execute("SET allow_system_table_mods = on")
    try:
        row = connection.execute(
            "UPDATE pg_catalog.pg_extension e SET extowner = r.oid FROM pg_catalog.pg_roles r"
            " WHERE e.extname = %s AND r.rolname = %s AND e.extowner <> r.oid RETURNING e.oid, r.oid",
            (extension, owner),
        ).fetchone()
        if row is not None:
            connection.execute(
                "INSERT INTO pg_catalog.pg_shdepend (dbid, classid, objid, objsubid, refclassid, refobjid, deptype)"
                " SELECT oid, 'pg_catalog.pg_extension'::regclass, %s, 0, 'pg_catalog.pg_authid'::regclass, %s, 'o'"
                " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
                row,
            )
    finally:
        connection.execute("RESET allow_system_table_mods")
