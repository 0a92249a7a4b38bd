"""A backup restored into a server of its own, and proven: what `backups verify` and a rehearsal begin with.

One restore serves both. Every role is a superuser until all is restored and compared, and cannot log in; what follows
is the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from lockstep.core.contents import DatabaseShape, Outside
from lockstep.core.rehearsal.closure import Table
from lockstep.core.rehearsal.outside import EXTENSIONS as REACHING
from lockstep.errors import RestoreRefused
from lockstep.postgres.archivelist import Entry
from lockstep.postgres.givenserver import GivenServer
from lockstep.postgres.matviews import fill_views, restrict, unrestrict
from lockstep.postgres.outside import fill_keys, finish_outside, make_outside
from lockstep.postgres.pgrestore import RestoreOptions
from lockstep.postgres.prerequisites import (
    create_versions,
    extension_versions,
    missing_extensions,
    uncreatable_extensions,
)
from lockstep.postgres.programs import nearest_major
from lockstep.postgres.roles import create_roles
from lockstep.postgres.shape import create_like
from lockstep.postgres.standins import stand_in
from lockstep.service.copying import CopyProof, prove_copy
from lockstep.service.filling import Far, StoredBackup, add, fill


class Host(Protocol):
    """A server to restore into."""

    @property
    def isolated(self) -> bool:
        """Whether nothing in it reaches another machine."""

    @property
    def thrown_away(self) -> bool:
        """Whether all of it is ours: its roles, its settings, its catalog."""

    def name(self, database: str) -> str:
        """The name that a database of ours has on it."""

    def url(self, database: str = ..., *, user: str | None = None, password: str | None = None) -> str:
        """The connection URL of one database of ours, as the role that may all there or as another. Holds a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredCopy:
    """One restored database."""

    server_version: str  # as the server calls it
    proof: CopyProof  # that it is what was backed up, as far as it was restored
    notes: tuple[str, ...]  # what is not as in the source
    duration_ms: int
    lacking: tuple[str, ...] = ()  # extensions that the server does not have
    left_out: tuple[str, ...] = ()  # objects that could not be restored without them: `TABLE public.docs`
    stand_ins: tuple[str, ...] = ()  # schemas that are not in the backup
    other_versions: tuple[str, ...] = ()  # extensions that are not of the source's version
    unfilled: tuple[str, ...] = ()  # materialized views that have rows in the source and none here
    rows_of: frozenset[Table] | None = None  # whose rows were restored; None: of all tables

    @property
    def whole(self) -> bool:
        """Whether all of the backup is in it, so that the proof is the backup's."""
        return not self.lacking and not self.left_out and self.rows_of is None


def restore_copy(
    backup: StoredBackup,
    server: Host,
    name: str,
    *,
    ledger_schema: str,
    programs: Path | None = None,
    partly: bool = False,
    rows_of: frozenset[Table] | None = None,
    tell: Callable[[str], None] = lambda _text: None,
    far: Far = lambda _text, _share: None,
) -> RestoredCopy:
    """Restore a backup into a new database `name` of a throw-away server, and compare it with what was backed up.

    Never restored: subscriptions and user mappings, by which a copy could reach other servers. Materialized views are
    filled at the end, but for those that read foreign tables. With `partly` what needs an extension that the server lacks
    is left out; else RestoreRefused is raised. With `rows_of` only these tables have rows. Also raises RestoreFailed, BackupDamaged, BucketError, ProgramMissing,
    IdentityMissing.
    """
    started = time.monotonic()
    manifest, contents = backup.manifest, backup.contents
    facts = contents.server if contents else None
    what = f"backup {manifest.id}"
    notes = []
    with psycopg.connect(server.url(), autocommit=True) as home:
        version = home.info.parameter_status("server_version") or str(home.info.server_version)
        lacking = missing_extensions(home, [extension.name for extension in manifest.extensions])
        if lacking and not partly:
            raise RestoreRefused(
                (f"PostgreSQL {version} of this machine lacks extensions that it uses: {', '.join(lacking)}",),
                target=what,
                hint="install them here, or verify on another machine; --level archive needs none of them",
            )
        absent: tuple[str, ...] = ()
        if isinstance(server, GivenServer):
            absent = server.make_roles(manifest.roles)
            notes.append(
                "on a given server everything belongs to its role, which may all with it: owners, grants and what "
                "production's role may do are not tried"
            )
            if absent:
                notes.append(f"roles that the given server does not have: {', '.join(absent)}")
        else:
            create_roles(home, manifest.roles, facts)
        if notice := _create(home, server.name(name), contents.database if contents else None):
            notes.append(notice)
        if (major := home.info.server_version // 10000) != backup.major:
            notes.append(f"PostgreSQL {backup.major} is not at hand: it is on {major}, which may do things otherwise")
    names = {extension.name for extension in manifest.extensions}
    choice = _Choice(foreign=not server.isolated and bool(names & REACHING.keys()), rows_of=rows_of)
    tolerant = partly and (bool(lacking) or bool(absent) or not server.thrown_away)
    with psycopg.connect(server.url(name), autocommit=True) as copy:
        if partly:
            there = [one.name for one in manifest.extensions if one.name not in lacking]
            lacking = tuple(sorted((*lacking, *uncreatable_extensions(copy, there))))
        places = {one.extension: one.schema for one in facts.extension_owners} if facts else {}
        create_versions(
            copy, [(e.name, e.version, places[e.name]) for e in manifest.extensions if places.get(e.name) in _AT_ONCE]
        )
        made = {one: places[one] for one in lacking if one in places and stand_in(copy, one, places[one])}
        if made:
            notes.append(f"functions stand in for what is not on this machine: {', '.join(made)}")
        outside = contents.outside if contents else None
        if outside is None and manifest.excluded_schemas:  # an older backup: schemas, and the functions that are known
            outside = Outside(schemas=manifest.excluded_schemas, tables=(), functions=(), references=())
        if outside is not None:
            make_outside(copy, outside)
            choice.later = True
            notes.append(f"schemas that are not in the backup, with stand-ins here: {', '.join(outside.schemas)}")
        here = server.name(name)
        if server.thrown_away:
            restrict(copy, database=here)  # no function of an index or a check reads a foreign table either
        options = RestoreOptions(
            tablespaces=False,
            owners=server.thrown_away,
            choose=choice.choose,
            failed=choice.failed.append if tolerant or lacking else None,
        )
        fill(backup, copy, options, target=what, atomic=False, programs=programs, tell=tell, far=far)
        if outside is not None:
            fill_keys(copy, outside)
            again = replace(options, choose=choice.choose_later)
            add(backup, copy, again, target=what, programs=programs)
            if left := finish_outside(copy, outside, facts.login if facts and server.thrown_away else None):
                notes.append(f"could not be made on the stand-ins: {', '.join(left)}")
        if server.thrown_away:
            unrestrict(copy, database=here)
        # Where a query of theirs could get out, none is filled.
        empty = fill_views(copy, choice.views.values(), none=choice.foreign and not server.isolated)
        if empty:
            told = ", ".join(f"{one.shown} ({one.why})" for one in empty)
            notes.append(f"materialized views that are empty here: {told}")
        versions = extension_versions(copy)
        others = [one for one in manifest.extensions if versions.get(one.name, one.version) != one.version]
        if others:
            told = ", ".join(f"{one.name} {versions[one.name]} instead of {one.version}" for one in others)
            notes.append(f"extensions of another version than in the source: {told}")
        failed = [one for one in choice.failed if not _is_stand_in(one, made)]
        proof = prove_copy(_without(backup, failed, rows_of), copy, ledger_schema=ledger_schema)
    if lacking:
        notes.append(f"extensions that this machine does not have: {', '.join(lacking)}")
    return RestoredCopy(
        server_version=version,
        proof=proof,
        notes=tuple(notes),
        duration_ms=round((time.monotonic() - started) * 1_000),
        lacking=lacking,
        stand_ins=outside.schemas if outside else (),
        rows_of=rows_of,
        other_versions=tuple(one.name for one in others),
        unfilled=tuple(one.shown for one in empty),
        left_out=tuple(dict.fromkeys(one.shown for one in failed if one.kind in _OBJECTS)),
    )


def restore_shape(backup: StoredBackup, server: Host, name: str, *, programs: Path | None = None) -> None:
    """Restore the definitions alone, as far as they go, into a new database `name`: for a look at how they hang together.

    What cannot be made is passed over. Raises what `fill` raises.
    """
    with psycopg.connect(server.url(), autocommit=True) as home:
        home.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(server.name(name))))
    options = RestoreOptions(tablespaces=False, owners=False, choose=_definitions, failed=lambda _entry: None)
    with psycopg.connect(server.url(name), autocommit=True) as shape:
        add(backup, shape, options, target=f"backup {backup.manifest.id}", programs=programs)


#: Schemas of an empty database, in which an extension can be made before anything else.
_AT_ONCE = frozenset({"public", "pg_catalog"})

_ROWS = frozenset(
    {"TABLE DATA", "BLOBS", "BLOB", "MATERIALIZED VIEW DATA", "SEQUENCE SET", "USER MAPPING", "STATISTICS DATA"}
)


def _definitions(entries: tuple[Entry, ...]) -> Iterable[Entry]:
    return (one for one in entries if one.kind not in _ROWS)


def server_major(backup: StoredBackup, programs: Path | None) -> int:
    """Return the major version of the server to restore into: the source's own where it is at hand, else a higher one.

    Raises ProgramMissing: before a server is made for nothing.
    """
    return nearest_major(("postgres", "pg_restore"), backup.major, folder=programs)


#: Failed entries that people are told of; a comment or an index of something that is not there says no more.
_OBJECTS = frozenset({
    "TABLE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE", "AGGREGATE", "TYPE", "DOMAIN", "INDEX", "CONSTRAINT",
    "FK CONSTRAINT", "TRIGGER", "POLICY", "FOREIGN TABLE", "SERVER", "EVENT TRIGGER", "CHECK CONSTRAINT", "DEFAULT",
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Choice:
    """Which entries of the archives are restored, and when."""

    foreign: bool = False  # there are foreign tables
    later: bool = False  # foreign keys come when all else is there
    rows_of: frozenset[Table] | None = None  # None: of all tables
    failed: list[Entry] = field(default_factory=list)
    views: dict[str, Entry] = field(default_factory=dict)  # materialized views that are filled in the source

    def choose(self, entries: tuple[Entry, ...]) -> Iterable[Entry]:
        self.foreign = self.foreign or any(entry.kind == "FOREIGN TABLE" for entry in entries)
        self.views |= {entry.line: entry for entry in entries if entry.kind == "MATERIALIZED VIEW DATA"}
        left = {"USER MAPPING", "MATERIALIZED VIEW DATA"}
        if self.rows_of is not None:
            left |= {"BLOBS"}
        wanted = {f"{schema} {name}" for schema, name in self.rows_of or ()}
        return (
            one
            for one in entries
            if one.kind not in left
            and not (self.later and _is_of_key(one))
            and not (
                self.rows_of is not None and one.kind == "TABLE DATA" and one.rest.rpartition(" ")[0] not in wanted
            )
        )

    def choose_later(self, entries: tuple[Entry, ...]) -> Iterable[Entry]:
        return (one for one in entries if _is_of_key(one))


def _is_of_key(entry: Entry) -> bool:
    """Whether it is a foreign key, or a comment on a constraint, which may be one."""
    return entry.kind == "FK CONSTRAINT" or (entry.kind == "COMMENT" and " CONSTRAINT " in f" {entry.rest}")


def _is_stand_in(entry: Entry, made: Mapping[str, str]) -> bool:
    """Whether it failed because a stand-in is in its place: the schema is there already."""
    return entry.kind == "SCHEMA" and any(entry.is_of("-", schema) for schema in made.values())


def _without(backup: StoredBackup, failed: Sequence[Entry], rows_of: frozenset[Table] | None) -> StoredBackup:
    """What the copy can be expected to hold, when these entries could not be restored, and only these rows were."""
    contents = backup.contents
    if contents is not None and rows_of is not None:
        emptied = tuple(
            one if (one.schema, one.name) in rows_of else replace(one, rows=0, exact=False) for one in contents.tables
        )
        contents = replace(contents, tables=emptied, large_objects=0)
        backup = replace(backup, contents=contents)
    if contents is None or not failed:
        return backup
    tables = [one for one in failed if one.kind == "TABLE"]
    gone = {(one.schema, one.name) for one in contents.tables if any(e.is_of(one.schema, one.name) for e in tables)}
    others = [one for one in failed if one.kind.startswith(("SEQUENCE", "TABLE"))]
    expected = replace(
        contents,
        tables=tuple(one for one in contents.tables if (one.schema, one.name) not in gone),
        sequences=tuple(one for one in contents.sequences if not any(e.is_of(one.schema, one.name) for e in others)),
        objects=(),
    )
    return replace(backup, contents=expected)


def _create(home: psycopg.Connection[Any], name: str, shape: DatabaseShape | None) -> str | None:
    """Create the database for a copy. Returns a notice where it sorts in another order than the source."""
    if shape is None:
        home.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return None
    try:
        create_like(home, name, shape, owner=None, tablespace=False)
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported):
        # The locale is not on this machine. Order differs then, rows do not.
        what = f"this machine does not have the locale {shape.locale or shape.collate}: restored in order C"
        if shape.encoding == "UTF8":
            try:
                like = replace(shape, locale_provider="c", collate="C", ctype="C.UTF-8", locale=None, icu_rules=None)
                create_like(home, name, like, owner=None, tablespace=False)
            except psycopg.Error:
                pass
            else:
                return f"{what}; upper and lower case are those of Unicode"
        home.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                sql.Identifier(name), sql.Literal(shape.encoding)
            )
        )
        return f"{what}; upper(), lower() and ILIKE know no letters but those of ASCII"
    return None
