"""The SQL of `doctor --grants`: roles that may do what Lockstep needs, and nothing else. Pure text, with its reasons.

It holds no password, may be run again, and is whole or not at all. Who connects looks up `Facts`; without them it is
written for any server from 14 on, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lockstep.core.counting import counted

STATUS = "lockstep_status"  # what these roles are called where the configuration does not say
BACKUP = "lockstep_backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A role that owns something in the project's schemas and is not the one that migrations run as."""

    name: str
    superuser: bool
    objects: int
    example: str  # one of them, as SQL writes it: TABLE public.orders
    login: bool = False  # it may log in: a person's or an application's own role
    below: bool = False  # it is the login, or a member of it or of the migrations' role: they cannot be members of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the server said."""

    version: int  # server_version_num
    version_text: str  # 17.10
    login: str  # who the environment's URL logs in as
    login_is_superuser: bool
    schemas: tuple[str, ...]  # of the wanted ones, those that are there
    owners: tuple[Owner, ...]
    unread: int  # tables and sequences of the whole database that others own
    filtered: tuple[str, ...]  # owners of tables with row level security, but for the migrator and superusers
    extensions: tuple[str, ...]  # installed ones that only a superuser can make or alter
    ledger: bool  # it is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the configuration says."""

    environment: str
    shown: str  # its address without secrets
    database: str  # "" where only the server knows
    login: str  # user of the URL; "" where there is none
    role: str | None  # `role` of the environment
    schemas: tuple[str, ...]
    ledger_schema: str
    reader: str | None
    backup_role: str | None
    protected: bool
    approvers: str | None
    two_person: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The roles by what they are for."""

    migrator: str  # logs in
    owner: str  # migrations run as it; often the migrator itself
    status: str
    backup: str
    approvers: str | None


def names_of(wanted: Wanted, facts: Facts | None) -> Names:
    """Return what the roles are called: as configured, else by names of ours."""
    login = facts.login if facts else wanted.login
    if not login or (facts and facts.login_is_superuser):
        login = "lockstep_migrator"
    return Names(
        migrator=login,
        owner=wanted.role or login,
        status=wanted.reader or STATUS,
        backup=wanted.backup_role or BACKUP,
        approvers=wanted.approvers or ("lockstep_approvers" if wanted.two_person else None),
    )


def assumptions(wanted: Wanted, facts: Facts | None) -> tuple[str, ...]:
    """Return what nobody looked up, in sentences."""
    if facts is not None:
        return ()
    user = f"the login is {wanted.login}, as the URL says" if wanted.login else "the URL names no user"
    return (
        "the server was not asked: what is said of versions is for all of 14 to 18",
        user,
        "who owns what is there already is not known, nor which extensions there are",
    )


def grants_sql(wanted: Wanted, facts: Facts | None) -> str:
    """Return the script for psql."""
    names = names_of(wanted, facts)
    parts = [
        _head(wanted, facts, names),
        _migrator(wanted, facts, names),
        _status(wanted, facts, names),
        _backup(wanted, facts, names),
    ]
    if names.approvers is not None:
        parts.append(_approvers(wanted, names.approvers))
    return "\n\n".join("\n".join(part) for part in (*parts, _tail(wanted, facts, names))) + "\n"


# -- parts -----------------------------------------------------------------------------------------------------------


def _head(wanted: Wanted, facts: Facts | None, names: Names) -> Iterator[str]:
    server = f"PostgreSQL {facts.version_text}" if facts else "a server that was not asked"
    yield f"-- Roles for {_line(wanted.environment)} ({_line(wanted.shown)}), {server}. By lockstep doctor --grants."
    yield "-- For psql, connected to that database as a superuser. All of it or nothing; it may be run again."
    yield f"-- It holds no password: set each afterwards, by \\password {_line(_name(names.migrator))} and so on, which sends a hash."
    for text in assumptions(wanted, facts):
        yield f"-- Assumed: {_line(text)}."
    if facts and facts.login_is_superuser:
        yield f"-- The URL logs in as {_line(facts.login)}, a superuser: let it log in as {_line(names.migrator)} instead."
    yield "\\set ON_ERROR_STOP on"
    yield "BEGIN;"
    yield "SET LOCAL client_min_messages = warning;  -- of what is granted already it need not tell"
    if wanted.database:
        yield _block(
            f"IF pg_catalog.current_database() <> {_text(wanted.database)} THEN RAISE EXCEPTION 'connect to "
            f"{_inside(wanted.database)} first'; END IF;"
        )


def _migrator(wanted: Wanted, facts: Facts | None, names: Names) -> Iterator[str]:
    owner = _name(names.owner)
    yield "-- The migrator: init, sync, deploy, revert. It owns the ledger and what migrations make."
    yield _role(names.migrator, "LOGIN")
    if names.owner != names.migrator:
        yield "-- It works as this role (role = … of the environment), which then owns all of it."
        yield _role(names.owner, "NOLOGIN")
        yield f"GRANT {owner} TO {_name(names.migrator)};"
    yield "-- TEMPORARY: values of settings travel by a temporary table, so that no server log has them."
    yield from _on_database(wanted, "CONNECT, TEMPORARY", (names.migrator, names.owner))
    there = facts.schemas if facts else ()
    for schema in _schemas(wanted):
        if schema not in there and schema != "public":
            yield f"CREATE SCHEMA IF NOT EXISTS {_name(schema)} AUTHORIZATION {owner};"
        yield f"GRANT USAGE, CREATE ON SCHEMA {_name(schema)} TO {owner};"
    yield "-- Migrations that say CREATE SCHEMA, or CREATE EXTENSION of a trusted one, need this as well:"
    yield from (f"-- {_line(line)}" for line in _on_database(wanted, "CREATE", (names.owner,)))
    yield "-- Who is in the way of a deploy is seen by pg_read_all_stats, which is part of pg_monitor."
    yield f"GRANT pg_monitor TO {owner};"
    if facts:
        yield from _existing(facts, names)


def _existing(facts: Facts, names: Names) -> Iterator[str]:
    """What others own: whoever changes it has to belong to its owner."""
    for one in facts.owners:
        what = f"{_line(one.name)} owns {counted(one.objects, 'object')} there, such as {_line(one.example)}"
        if one.superuser or one.below:
            why = (
                "is a superuser, which no migrator should be"
                if one.superuser
                else f"will be a member of {_line(names.owner)}, which cannot be a member of it then"
            )
            yield f"-- {what}. It {why}. To hand over:"
            yield f"-- ALTER {_line(one.example)} OWNER TO {_line(_name(names.owner))};  -- and so on, one by one"
        elif one.login:
            yield f"-- {what}: to change them is for members of it alone."
            yield "-- It may log in, so it may be a person's or an application's: a member of it may do all that it may, in other"
            yield "-- databases too. Where that is meant:"
            yield f"-- GRANT {_line(_name(one.name))} TO {_line(_name(names.owner))};"
            yield "-- else hand over what it owns:"
            yield f"-- ALTER {_line(one.example)} OWNER TO {_line(_name(names.owner))};  -- and so on, one by one"
        else:
            yield f"-- {what}: to change them is for members of it alone."
            yield f"GRANT {_name(one.name)} TO {_name(names.owner)};"
    if facts.extensions:
        yield f"-- Only a superuser makes or alters these extensions: {_line(', '.join(facts.extensions))}."


def _status(wanted: Wanted, facts: Facts | None, names: Names) -> Iterator[str]:
    status = _name(names.status)
    yield "-- The status role: status, plan, history, drift, health, report. It may read the ledger and the catalog, and no table."
    yield _role(names.status, "LOGIN")
    yield from _on_database(wanted, "CONNECT", (names.status,))
    yield "-- health: other sessions, replication and settings (pg_read_all_stats and pg_read_all_settings would do as well)."
    yield f"GRANT pg_monitor TO {status};"
    yield "-- health: where sequences stand, of those that are there and of those to come. It sees no row by that."
    for schema in _schemas(wanted):
        yield f"GRANT USAGE ON SCHEMA {_name(schema)} TO {status};"
        if schema in wanted.schemas:
            yield f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {_name(schema)} TO {status};"
            yield (
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {_name(names.owner)} IN SCHEMA {_name(schema)} "
                f"GRANT SELECT ON SEQUENCES TO {status};"
            )
    if "public" in _schemas(wanted) and (facts is None or facts.version < 150000):
        yield "-- On 14 every role may make objects in public, this one and the backup role too. To take that away, from all:"
        yield "-- REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
    if wanted.reader is None:
        yield f'-- The ledger: write ledger_reader = "{_line(names.status)}" under [project]; then, as the migrator:'
    else:
        yield "-- The ledger, as the migrator:"
    yield f"--   lockstep init {_line(wanted.environment)}"


def _backup(wanted: Wanted, facts: Facts | None, names: Names) -> Iterator[str]:
    backup, modern = _name(names.backup), facts.version >= 160000 if facts else None
    yield "-- The backup role: reads every row of the whole database, and writes nothing."
    yield _role(names.backup, "LOGIN")
    yield from _on_database(wanted, "CONNECT", (names.backup,))
    yield f"GRANT pg_read_all_data TO {backup};"
    older = "on 14 and 15 only a superuser can give it"
    newer = "from 16 on also a role with CREATEROLE that has it itself and ADMIN OPTION on this one"
    said = (
        f"{older}; {newer}" if modern is None else newer if modern else "on this version only a superuser can give it"
    )
    yield f"-- Row level security hides rows from whoever does not own a table. BYPASSRLS: {said}."
    yield f"ALTER ROLE {backup} BYPASSRLS;"
    owners = ", ".join(map(_name, facts.filtered)) if facts and facts.filtered else "OWNER"
    yield "-- Where nobody gives BYPASSRLS, membership of the tables' owners does it (unless a table has FORCE ROW LEVEL"
    yield "-- SECURITY), and lets it do all that they may: on 14 and 15 CREATEROLE grants that, later ADMIN OPTION on them."
    yield f"-- GRANT {_line(owners)} TO {_line(backup)};"
    if wanted.backup_role is None:
        yield f'-- backup_role = "{_line(names.backup)}" in [environments.{_line(wanted.environment)}] lets a deploy take its backup as this'
        yield "-- role: then the migrator needs no right to read what others own. Else it needs pg_read_all_data itself, and"
        yield "-- BYPASSRLS where others own tables with row level security: neither where it owns everything."
        if facts and (facts.unread or facts.filtered):
            yield f"-- Others own {counted(facts.unread, 'table or sequence', 'tables and sequences')} here, so without backup_role:"
            yield f"-- GRANT pg_read_all_data TO {_line(_name(names.owner))};"
    if names.backup not in {names.migrator, names.owner}:
        yield "-- What a deploy takes as this role, it takes by this membership:"
        yield f"GRANT {backup} TO {_name(names.migrator)};"


def _approvers(wanted: Wanted, name: str) -> Iterator[str]:
    yield "-- Approvers: members answer for a run, and write nothing else. What they may is granted by lockstep init."
    yield _role(name, "NOLOGIN")
    yield from _on_database(wanted, "CONNECT", (name,))
    if wanted.approvers is None:
        yield f'-- Write approvers = "{_line(name)}" under [approval]. One login per person, as docs/how-to/approve.md says:'
    else:
        yield "-- One login per person, as docs/how-to/approve.md says:"
    yield f"-- CREATE ROLE bob LOGIN IN ROLE {_line(_name(name))};"


def _tail(wanted: Wanted, facts: Facts | None, names: Names) -> Iterator[str]:
    yield "COMMIT;"
    if facts is None or facts.ledger:
        yield "-- Grants on schemas and sequences are part of the schema that Lockstep compares. Where it recorded one already:"
        yield f"--   lockstep drift {_line(wanted.environment)} --accept 'roles'"
    logins = dict.fromkeys((names.migrator, names.status, names.backup))
    for one in logins:
        yield f"--   \\password {_line(_name(one))}"


# -- words -----------------------------------------------------------------------------------------------------------


def _schemas(wanted: Wanted) -> tuple[str, ...]:
    return tuple(dict.fromkeys((wanted.ledger_schema, *wanted.schemas)))


def _on_database(wanted: Wanted, rights: str, roles: Sequence[str]) -> Iterator[str]:
    """Where nobody knows the database's name, the server does."""
    who = ", ".join(_name(one) for one in dict.fromkeys(roles))
    if wanted.database:
        yield f"GRANT {rights} ON DATABASE {_name(wanted.database)} TO {who};"
    else:
        grant = f"GRANT {rights} ON DATABASE %I TO {who.replace('%', '%%')}"
        yield _block(f"EXECUTE pg_catalog.format({_text(grant)}, pg_catalog.current_database());")


def _role(name: str, attributes: str) -> str:
    return _block(
        f"IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {_text(name)}) THEN "
        f"CREATE ROLE {_name(name)} {attributes}; END IF;"
    )


def _block(body: str) -> str:
    tag = "lockstep"
    while f"${tag}$" in body:
        tag += "_"
    return f"DO ${tag}$ BEGIN {body} END ${tag}$;"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    escaped = text.replace("'", "''")
    return f" E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{escaped}'"


def _inside(text: str) -> str:
    """A name inside of RAISE's format."""
    return _line(text).replace("'", "''").replace("%", "%%")


def _line(text: str) -> str:
    """What stands in a comment must not end it."""
    return " ".join(text.split())
