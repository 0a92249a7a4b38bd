"""A database, table by table: what a backup holds, and what a restored copy is compared with.

Values alone. They must not know where they come from or where they are stored, and hold no row of anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta

FORMAT = 1  # of the document that storage.contents writes

Count = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension that the database uses: a server without it cannot take the backup."""

    name: Name
    version: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaSize:
    """What lay in one schema, by the server's own estimates."""

    name: Name
    tables: Count
    rows: Count  # estimate (pg_class.reltuples); never-analysed tables count as none
    size: Count  # bytes on the server, indexes included


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContents:
    """One table with rows of its own (no partitioned parent, no foreign table, no materialised view)."""

    schema: str
    name: str
    rows: Count  # in the snapshot
    exact: bool  # counted in the snapshot; else the server's estimate, at least 1: the table is known not to be empty
    size: Count  # bytes of the table with its TOAST, without indexes
    changes: Count | None = None  # rows inserted, updated, deleted since the server's statistics began


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceContents:
    """One sequence as it stood when the snapshot was taken. Sequences are outside of snapshots: the dump may be ahead."""

    schema: str
    name: str
    last_value: int | None  # None: never used, or the role may not see it
    increment: int  # below 0: it counts down


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectCount:
    """How many objects of one kind."""

    kind: str  # in words: tables, views, …
    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSetting:
    """One `ALTER DATABASE … SET` (role None) or `ALTER ROLE … IN DATABASE … SET`. pg_dump without -C leaves them out."""

    role: str | None
    setting: str  # name=value, as pg_db_role_setting.setconfig has it


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseShape:
    """The database itself: what pg_dump without -C leaves out."""

    owner: str
    encoding: str  # UTF8
    locale_provider: str  # c, i, b: pg_database.datlocprovider; c on 14
    collate: str
    ctype: str
    locale: str | None  # of ICU or the builtin provider
    icu_rules: str | None
    connection_limit: int  # -1: none
    comment: str | None
    acl: str | None  # pg_database.datacl as text; None: PostgreSQL's own defaults
    tablespace: str
    oid: int  # with the manifest's system_identifier: the same database, or another one of its name
    settings: tuple[DatabaseSetting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role of the server, without its password: what it may do is what a copy must let it do."""

    name: Name
    superuser: bool
    inherit: bool  # uses the rights of the roles that it is a member of
    create_role: bool
    create_db: bool
    login: bool
    replication: bool
    bypass_rls: bool
    settings: tuple[str, ...] = ()  # ALTER ROLE … SET, name=value; the name alone where the value may be a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """`GRANT role TO member`."""

    role: Name
    member: Name
    admin: bool
    inherit: bool | None = None  # None: PostgreSQL before 16, where the member's own attribute says it
    set: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionOwner:
    """Whose an extension is, which a dump does not say, and only the owner may alter or drop it; and where it is."""

    extension: Name
    owner: Name
    schema: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Of the server, what decides what a migration may do there, and how long it takes."""

    login: Name  # the role that logged in for the backup
    roles: tuple[Role, ...]  # by name; without those that PostgreSQL brings
    memberships: tuple[Membership, ...]  # of these roles, in them and in those that PostgreSQL brings
    extension_owners: tuple[ExtensionOwner, ...]
    settings: tuple[str, ...]  # name=value, of a closed list: what changes WAL, plans and times


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideColumn:
    """A column of a table that is not in the dump."""

    name: Name
    type: Name  # as PostgreSQL prints it


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideTable:
    """A table or view of an excluded schema, as far as the rest may need it: no row, no default."""

    schema: Name
    name: Name
    columns: tuple[OutsideColumn, ...]
    keys: tuple[tuple[str, ...], ...] = ()  # columns of primary keys and unique constraints
    row_security: bool = False
    policies: tuple[str, ...] = ()  # CREATE POLICY …
    triggers: tuple[str, ...] = ()  # CREATE TRIGGER …, of those that call a function that is in the dump


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideFunction:
    """A function of an excluded schema, without its body."""

    schema: Name
    name: Name
    arguments: str  # as in CREATE FUNCTION
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideReference:
    """A foreign key that leads out of the dump."""

    schema: Name
    table: Name
    columns: tuple[str, ...]
    to_schema: Name
    to_table: Name
    to_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What of excluded schemas the dump refers to, or may: a copy needs something in its place."""

    tables: tuple[OutsideTable, ...]
    functions: tuple[OutsideFunction, ...]
    references: tuple[OutsideReference, ...]
    schemas: tuple[str, ...]  # all that are excluded


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the dump holds, in the snapshot that it was made of."""

    format: int = FORMAT
    database: DatabaseShape
    tables: tuple[TableContents, ...]  # by schema and name; without those of excluded schemas
    sequences: tuple[SequenceContents, ...]
    large_objects: Count  # 0: none, or the role may not see
    tablespaces: tuple[str, ...] = ()  # other than the default that objects lie in
    subscriptions: tuple[str, ...] = ()  # of the database; () also where the role may not see them
    objects: tuple[ObjectCount, ...] = ()  # by kind; () where schemas were left out
    server_started: datetime | None = None  # when the server's process began: after a crash `changes` begin anew
    statistics_since: datetime | None = (
        None  # pg_stat_database.stats_reset; `changes` compare only while it is the same
    )
    server: Server | None = None  # None: an earlier Lockstep's, or not asked
    outside: Outside | None = None  # None: nothing was excluded, or an earlier Lockstep's
