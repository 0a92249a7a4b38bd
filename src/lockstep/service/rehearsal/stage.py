"""Where a rehearsal plays: a backup restored once, as a template, into a server that is thrown away; clones of it.

It can hurt nobody: the server has no network, and nothing of it remains. It tries nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import msgspec
import psycopg
from psycopg import sql

from lockstep.config import Environment, Settings
from lockstep.core.rehearsal.report import Copy
from lockstep.errors import RestoreRefused
from lockstep.postgres.pgrestore import RestoreOptions
from lockstep.postgres.prerequisites import create_stand_ins, missing_extensions, missing_roles
from lockstep.postgres.programs import find_program
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.postgres.tracing import install_reasons
from lockstep.service.copying import CopyProof, analyze, prove_copy
from lockstep.service.filling import StoredBackup, fill
from lockstep.service.progress import Progress
from lockstep.service.proving import create_copy
from lockstep.service.store import programs_of

TEMPLATE = "copy"  # name of the restored database


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """One database to try something in: all use cases work on it as on the environment itself."""

    name: str
    settings: Settings  # the project's, but for where the environment's database is
    environment: Environment
    admin: str = field(repr=False)  # URL of a superuser in it


@dataclass(slots=True, kw_only=True)
class Stage:
    """The restored copy and its clones."""

    settings: Settings
    environment: Environment
    server: ThrowawayServer
    copy: Copy
    proof: CopyProof  # that the copy is what was backed up
    _made: int = 0

    def clone(self, of: str = TEMPLATE) -> Clone:
        """Make one more clone, of the template or of another clone that nobody is in."""
        self._made += 1
        name = f"trial_{self._made}"
        with psycopg.connect(self.server.url(), autocommit=True) as home:
            # By files: on a copy without a network and fsync that is three times as fast as through the WAL.
            strategy = " STRATEGY file_copy" if home.info.server_version >= 150000 else ""
            home.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}" + strategy).format(sql.Identifier(name), sql.Identifier(of))
            )
        url = self.server.url(name)
        table = msgspec.structs.replace(self.environment.table, url=url)
        # Drift is told, a lock budget is measured: neither stops a trial.
        environment = replace(self.environment, table=table, stops_on_drift=False, max_blocking_ms=None)
        environments = {**self.settings.environments, environment.name: environment}
        settings = replace(self.settings, environments=environments)
        return Clone(name=name, settings=settings, environment=environment, admin=url)

    def drop(self, clone: Clone) -> None:
        """Drop a clone, whoever is in it."""
        with psycopg.connect(self.server.url(), autocommit=True) as home:
            home.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(clone.name)))


@contextmanager
def open_stage(
    settings: Settings, environment: Environment, backup: StoredBackup, progress: Progress
) -> Iterator[Stage]:
    """Restore a backup into a throw-away server. Everything of it is gone on any exit.

    Raises RestoreRefused, RestoreFailed, BackupDamaged, BucketError, ProgramMissing, IdentityMissing, ServerStartError.
    """
    programs = programs_of(settings)
    manifest = backup.manifest
    find_program("pg_restore", backup.major * 10000, folder=programs)  # before a server is made for nothing
    started = time.monotonic()
    with ThrowawayServer.of_major(backup.major, programs=programs) as server:
        with psycopg.connect(server.url(), autocommit=True) as home:
            version = home.info.parameter_status("server_version") or str(home.info.server_version)
            if missing := missing_extensions(home, [extension.name for extension in manifest.extensions]):
                raise RestoreRefused(
                    (f"PostgreSQL {version} of this machine lacks extensions that it uses: {', '.join(missing)}",),
                    target=f"backup {manifest.id}",
                )
            create_stand_ins(home, missing_roles(home, manifest.roles), superusers=True)
            notice = create_copy(home, TEMPLATE, backup.contents.database if backup.contents else None)
        with psycopg.connect(server.url(TEMPLATE), autocommit=True) as copy:
            fill(
                backup,
                copy,
                RestoreOptions(tablespaces=False),
                target=f"backup {manifest.id}",
                atomic=False,
                programs=programs,
                tell=lambda text: progress.note(environment.name, text),
            )
            proof = prove_copy(backup, copy, ledger_schema=settings.project.ledger_schema)
            analyze(copy)
            install_reasons(copy)  # clones have it from here, before any fingerprint is read
            row = copy.execute("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())").fetchone()
            assert row is not None
        yield Stage(
            settings=settings,
            environment=environment,
            server=server,
            proof=proof,
            copy=Copy(
                backup=manifest.id,
                taken_at=manifest.taken_at,
                size=row[0],
                server_version=version,
                source_version=manifest.server_version,
                restore_ms=round((time.monotonic() - started) * 1_000),
                isolated=server.isolated,
                notes=(notice,) if notice else (),
            ),
        )
