"""A backup restored into a server of its own, and proven: what `backups verify` and a rehearsal begin with.

One restore serves both. Every role is a superuser until all is restored and compared, and cannot log in; what follows
is the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from lockstep.core.contents import DatabaseShape
from lockstep.errors import RestoreRefused
from lockstep.postgres.pgrestore import RestoreOptions
from lockstep.postgres.prerequisites import missing_extensions
from lockstep.postgres.programs import find_program
from lockstep.postgres.roles import create_roles
from lockstep.postgres.shape import create_like
from lockstep.service.copying import CopyProof, prove_copy
from lockstep.service.filling import StoredBackup, fill


class Host(Protocol):
    """A server to restore into."""

    @property
    def isolated(self) -> bool:
        """Whether nothing in it reaches another machine."""

    def url(self, database: str = ..., *, user: str | None = None, password: str | None = None) -> str:
        """The connection URL of one database, as its superuser or as another role. Holds a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredCopy:
    """One restored database."""

    server_version: str  # as the server calls it
    proof: CopyProof  # that it is what was backed up
    notes: tuple[str, ...]  # what is not as in the source
    duration_ms: int


def restore_copy(
    backup: StoredBackup,
    server: Host,
    name: str,
    *,
    ledger_schema: str,
    programs: Path | None = None,
    hint: str | None = None,
    tell: Callable[[str], None] = lambda _text: None,
) -> RestoredCopy:
    """Restore a backup into a new database `name` of a throw-away server, and compare it with what was backed up.

    Raises RestoreRefused (the server lacks an extension; `hint` says what then), RestoreFailed, BackupDamaged,
    BucketError, ProgramMissing, IdentityMissing.
    """
    started = time.monotonic()
    manifest, contents = backup.manifest, backup.contents
    what = f"backup {manifest.id}"
    with psycopg.connect(server.url(), autocommit=True) as home:
        version = home.info.parameter_status("server_version") or str(home.info.server_version)
        if missing := missing_extensions(home, [extension.name for extension in manifest.extensions]):
            raise RestoreRefused(
                (f"PostgreSQL {version} of this machine lacks extensions that it uses: {', '.join(missing)}",),
                target=what,
                hint=hint,
            )
        create_roles(home, manifest.roles, contents.server if contents else None)
        notice = _create(home, name, contents.database if contents else None)
    if notice:
        tell(notice)
    with psycopg.connect(server.url(name), autocommit=True) as copy:
        fill(backup, copy, RestoreOptions(tablespaces=False), target=what, atomic=False, programs=programs, tell=tell)
        proof = prove_copy(backup, copy, ledger_schema=ledger_schema)
    return RestoredCopy(
        server_version=version,
        proof=proof,
        notes=(notice,) if notice else (),
        duration_ms=round((time.monotonic() - started) * 1_000),
    )


def find_restorer(backup: StoredBackup, programs: Path | None) -> None:
    """Raise ProgramMissing when pg_restore is not at hand: before a server is made for nothing."""
    find_program("pg_restore", backup.major * 10000, folder=programs)


def _create(home: psycopg.Connection[Any], name: str, shape: DatabaseShape | None) -> str | None:
    """Create the database for a copy. Returns a notice where it sorts in another order than the source."""
    if shape is None:
        home.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return None
    try:
        create_like(home, name, shape, owner=None, tablespace=False)
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported):
        # The locale is not on this machine. Order differs then, rows do not.
        home.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                sql.Identifier(name), sql.Literal(shape.encoding)
            )
        )
        return f"this machine does not have the locale {shape.locale or shape.collate}: restored in order C"
    return None
