"""Where a rehearsal plays: a backup restored once, as a template, into a server that is thrown away; clones of it.

It can hurt nobody: the server has no network, and nothing of it remains. Who tries something there is who he is in
production, and the server's settings are production's as far as they change what a migration does or how long it
takes. It tries nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import msgspec
import psycopg
from psycopg import sql

from lockstep.config import Environment, Settings
from lockstep.core.address import parse_address
from lockstep.core.contents import Contents, DatabaseShape, Server
from lockstep.core.managed import service_of
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.closure import shown
from lockstep.core.rehearsal.report import Copy
from lockstep.core.rehearsal.tiers import Rows, Tier
from lockstep.errors import BackupDamaged, ConfigError, RestoreFailed
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.givenserver import GivenServer
from lockstep.postgres.roles import give_attributes, give_database, give_login, name_roles, read_role_names
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.postgres.tracing import install_reasons
from lockstep.postgres.trialsettings import at_start, different, set_others
from lockstep.service.copying import CopyProof, analyze
from lockstep.service.filling import StoredBackup
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.proving import Proof, damage, judged, record_proof
from lockstep.service.rehearsal.reducing import choose_rows
from lockstep.service.restored import Host, RestoredCopy, restore_copy, server_major
from lockstep.service.run import new_run_id
from lockstep.service.store import programs_of
from lockstep.storage.backups import Backups
from lockstep.storage.verification import Level

TEMPLATE = "copy"  # name of the restored database


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """One database to try something in: all use cases work on it as on the environment itself."""

    name: str
    settings: Settings  # the project's, but for where the environment's database is
    environment: Environment
    admin: str = field(repr=False)  # URL of a superuser in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who works on the clones."""

    role: str
    password: str = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Stage:
    """The restored copy and its clones."""

    settings: Settings
    environment: Environment
    server: Host
    copy: Copy
    proof: CopyProof  # that the copy is what was backed up
    login: Login | None = None  # production's own role; None: a superuser, since the backup does not say who it is
    shape: DatabaseShape | None = None  # of the database; None: an older backup
    _made: int = 0
    _roles: dict[str, dict[int, str]] = field(default_factory=dict)  # of the template and each clone, by oid
    _in_use: list[str] = field(default_factory=lambda: [TEMPLATE])  # the last one's roles are those that the server has

    def clone(self, of: str = TEMPLATE) -> Clone:
        """Make one more clone, of the template or of another clone that nobody is in. Use that until it is dropped.

        Roles belong to the whole server: those that another trial made are put out of the way, and come back for clones
        of its own, and for itself once this one is dropped.
        """
        self._made += 1
        name = f"trial_{self._made}"
        with psycopg.connect(self.server.url(), autocommit=True) as home:
            # By files: on a copy without a network and fsync that is three times as fast as through the WAL.
            strategy = " STRATEGY file_copy" if home.info.server_version >= 150000 else ""
            home.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}" + strategy).format(
                    sql.Identifier(self.server.name(name)), sql.Identifier(self.server.name(of))
                )
            )
            if self.login is not None and self.shape is not None:
                # What belongs to the database itself is not copied.
                give_database(home, name, self.shape)
            if self.server.thrown_away:
                self._roles[self._in_use[-1]] = read_role_names(home)
                name_roles(home, self._roles.get(of, self._roles[TEMPLATE]))
                self._in_use.append(name)
        role = self.environment.table.role if self.server.thrown_away else None
        table = msgspec.structs.replace(self.environment.table, url=self._url(name), role=role)
        # Drift is told, a lock budget is measured: neither stops a trial.
        environment = replace(
            self.environment, table=table, stops_on_drift=False, max_blocking_ms=None, every_schema=True
        )
        environments = {**self.settings.environments, environment.name: environment}
        settings = replace(self.settings, environments=environments)
        return Clone(name=name, settings=settings, environment=environment, admin=self.server.url(name))

    def namesake(self, name: str) -> None:
        """Make an empty database of the source's name, for migrations that say ALTER DATABASE shop, or grant on it.

        Not on a given server, where it may be somebody's.
        """
        if not self.server.thrown_away:
            return
        with psycopg.connect(self.server.url(), autocommit=True) as home:
            there = home.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone()
            if there is None:
                home.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            if self.login is not None and self.shape is not None:
                give_database(home, name, self.shape)

    def drop(self, clone: Clone) -> None:
        """Drop a clone, whoever is in it."""
        with psycopg.connect(self.server.url(), autocommit=True) as home:
            home.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.server.name(clone.name)))
            )
            if clone.name in self._in_use:
                last = self._in_use[-1] == clone.name
                self._in_use.remove(clone.name)
                if last:
                    name_roles(home, self._roles[self._in_use[-1]])

    def _url(self, name: str) -> str:
        """Where the trials connect: as production's own role, with the options that production's address has."""
        if self.login is None:
            return self.server.url(name)
        url = self.server.url(name, user=self.login.role, password=self.login.password)
        options = target_of(self.settings, self.environment, with_settings=False).address.options.get("options")
        return f"{url}&options={quote(options)}" if options else url


@contextmanager
def open_stage(
    settings: Settings,
    environment: Environment,
    backup: StoredBackup,
    progress: Progress,
    *,
    run: RunInfo | None = None,
    files: Sequence[SqlFile] | None = None,
) -> Iterator[Stage]:
    """Restore a backup into a throw-away server, or into databases of a given one. All of it is gone on any exit.

    `files` are all that may run: where the time budget is too small for the whole database, the rows of what these
    touch are restored, or none. Without it, everything is.

    With `run` the restore counts as a verification of the backup: it is recorded beside it, and in the audit log.
    Raises BackupDamaged when the copy is not what was backed up, RestoreRefused, RestoreFailed, BucketError,
    ProgramMissing, IdentityMissing, ServerStartError.
    """
    programs = programs_of(settings)
    manifest, contents = backup.manifest, backup.contents
    host = _host(settings, backup, programs, run)
    started = time.monotonic()
    facts = contents.server if contents else None
    with host as server:
        rows = Rows(tier=Tier.FULL)
        if files is not None:
            rows = choose_rows(settings, backup, server, files, programs)
        restored = _restored(settings, environment, backup, server, progress, run, rows)
        notes = [*rows.notes, *restored.notes]
        login: Login | None = None
        if isinstance(server, ThrowawayServer):
            server.restart(at_start(facts.settings if facts else ()))
            login, more = _as_in_production(settings, environment, server, facts)
        else:
            more = _unlike(server, facts)
        notes += more
        with psycopg.connect(server.url(TEMPLATE), autocommit=True) as copy:
            analyze(copy)
            if not install_reasons(copy):  # clones have it from here, before any fingerprint is read
                notes.append("the role of the given server is no superuser: why a table is written anew is not told")
            row = copy.execute("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())").fetchone()
            assert row is not None
        yield Stage(
            settings=settings,
            environment=environment,
            server=server,
            proof=restored.proof,
            login=login,
            shape=contents.database if contents else None,
            copy=Copy(
                backup=manifest.id,
                taken_at=manifest.taken_at,
                tier=rows.tier.value,
                rowless=_rowless(contents, rows),
                size=row[0],
                server_version=restored.server_version,
                source_version=manifest.server_version,
                restore_ms=round((time.monotonic() - started) * 1_000),
                isolated=server.isolated,
                notes=tuple(notes),
                lacking=restored.lacking,
                stand_ins=restored.stand_ins,
                service=service_of(one.name for one in facts.roles) if facts else None,
                left_out=restored.left_out,
                other_versions=restored.other_versions,
                unfilled=restored.unfilled,
            ),
        )


def _host(
    settings: Settings, backup: StoredBackup, programs: Path | None, run: RunInfo | None
) -> ThrowawayServer | GivenServer:
    """The server that [rehearsal] gives, or one to throw away. Raises ProgramMissing before one is made for nothing."""
    given = settings.rehearsal_server()
    if given is None:
        return ThrowawayServer.of_major(server_major(backup, programs), programs=programs)
    try:
        address = parse_address(given.reveal())
    except ValueError as error:
        raise ConfigError(str(error), where=settings.where("rehearsal.server"), hint="lockstep config") from None
    return GivenServer(address, run_id=run.run_id if run else new_run_id())


def _as_in_production(
    settings: Settings, environment: Environment, server: ThrowawayServer, facts: Server | None
) -> tuple[Login | None, list[str]]:
    """Make roles and settings what they are in production; return who works on the clones, and what is otherwise."""
    if facts is None:
        return None, [
            "the backup does not say what the roles may do, nor what the server's settings are: "
            "everything is tried as a superuser, with PostgreSQL's own settings"
        ]
    notes = []
    with psycopg.connect(server.url(TEMPLATE), autocommit=True) as copy:
        if left := set_others(copy, facts.settings):
            notes.append(f"settings that are not as in the source: {', '.join(left)}")
        notes += give_attributes(copy, facts)
        asked = target_of(settings, environment, with_settings=False).address.user
        role = asked if any(asked == one.name for one in facts.roles) else facts.login
        return Login(role=role, password=give_login(copy, role)), notes


def _unlike(server: Host, facts: Server | None) -> list[str]:
    """How a given server, whose settings are not ours, differs from the source where it matters most."""
    with psycopg.connect(server.url(TEMPLATE), autocommit=True) as copy:
        differing = different(copy, facts.settings if facts else ())
    return [f"settings of the given server that are not as in the source: {', '.join(differing)}"] if differing else []


def _rowless(contents: Contents | None, rows: Rows) -> tuple[str, ...]:
    """The tables that have rows in the backup, and none here."""
    if rows.tables is None or contents is None:
        return ()
    filled = {(one.schema, one.name) for one in contents.tables if one.rows}
    return tuple(shown(filled - rows.tables))


def _restored(
    settings: Settings,
    environment: Environment,
    backup: StoredBackup,
    server: Host,
    progress: Progress,
    run: RunInfo | None,
    rows: Rows,
) -> RestoredCopy:
    """The copy, which is what was backed up: what came of it is recorded, for it is a verification as well."""
    started = time.monotonic()
    restored: RestoredCopy | None = None
    try:
        restored = restore_copy(
            backup,
            server,
            TEMPLATE,
            ledger_schema=settings.project.ledger_schema,
            programs=programs_of(settings),
            partly=True,
            rows_of=rows.tables,
            tell=lambda text: progress.note(environment.name, text),
            far=lambda text, share: progress.under_way(environment.name, "rehearsal", f"the copy: {text}", share),
        )
        findings = restored.proof.differences
    except BackupDamaged as error:
        findings = (error.message,)
    except RestoreFailed as error:
        findings = judged(backup, Level.RESTORED, error)
    proof = Proof(
        backup=backup.manifest.id,
        level=Level.RESTORED,
        findings=findings,
        text=restored.proof.text if restored else "",
        server_version=restored.server_version if restored else None,
        duration_ms=round((time.monotonic() - started) * 1_000),
    )
    if run is not None and (restored is None or findings or restored.whole):
        record_proof(settings, Backups(backup.bucket), backup.manifest, proof, run, progress)
    if restored is None or findings:
        raise damage([proof]) or AssertionError("a restore that gives no copy has a reason")
    return restored
