"""An empty database filled from a backup: chooses program, stream or local copy, and how many sessions.

`restore`, the verification of backups and the rehearsal share it. It neither makes nor drops databases.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from lockstep.core.contents import Contents
from lockstep.core.size import format_bytes
from lockstep.errors import IdentityMissing, RestoreRefused, UsageError
from lockstep.postgres.pgrestore import RestoreOptions, restore_files, restore_stream
from lockstep.postgres.prerequisites import lock_capacity
from lockstep.postgres.programs import find_program
from lockstep.service.telling import ArchiveProgress
from lockstep.storage.archive import archives_of, read_archive
from lockstep.storage.bucket import Bucket
from lockstep.storage.encryption import Identity
from lockstep.storage.localcopy import has_room, local_copies
from lockstep.storage.manifest import Manifest

MOST_JOBS = 4  # sessions at once that nobody asked for
WORTH_JOBS = 64 * 1024 * 1024  # bytes of archives from which a local copy and several sessions pay
LOCKS_PER_TABLE = 8  # of a restore in one transaction: the table, its TOAST table and index, its indexes, its sequence
TELL_EVERY = 0.1  # seconds between two words about how far it is


#: Hears how far it is: in words, and the share of the whole where that is known.
Far = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBackup:
    """One backup, and all that is needed to read it."""

    bucket: Bucket
    manifest: Manifest
    contents: Contents | None  # None: taken by an earlier Lockstep
    identity: Identity | None  # None: there is no key at hand

    @property
    def size(self) -> int:
        """Bytes of all archives as they are stored."""
        return sum(archive.size for archive in archives_of(self.manifest))

    @property
    def major(self) -> int:
        """Major version of the programs that made it."""
        return int(self.manifest.client_version.split(".")[0].split("devel")[0])


def refuse_without_key(backup: StoredBackup) -> None:
    """Raise IdentityMissing when the backup is encrypted and no key at hand decrypts it."""
    recipients = backup.manifest.encrypted_to
    keys = backup.identity
    if recipients and (keys is None or not keys.fits(recipients)):
        have = keys.public if keys else ()
        raise IdentityMissing(what=f"backup {backup.manifest.id}", encrypted_to=recipients, have=have)


def refuse_older_server(backup: StoredBackup, server_version: int, *, target: str) -> None:
    """Raise RestoreRefused when the server is of an older major version than the one that the backup is of."""
    if server_version // 10000 < backup.major:
        raise RestoreRefused(
            (
                f"the backup is of PostgreSQL {backup.major}, the server is {server_version // 10000}: "
                "an older server does not understand it",
            ),
            target=target,
            hint=f"restore into a server of PostgreSQL {backup.major} or later",
        )


def fill(
    backup: StoredBackup,
    connection: psycopg.Connection[Any],
    options: RestoreOptions,
    *,
    target: str,
    atomic: bool,
    jobs: int | None = None,
    programs: Path | None = None,
    tell: Callable[[str], None] = lambda _text: None,
    far: Far = lambda _text, _share: None,
) -> bool:
    """Restore the backup into the empty database that `connection` is in. Returns whether it was one transaction.

    `atomic` asks for that, and gets it where the server can hold that many locks, one archive has everything, and
    nobody asked for `jobs`; then a failure leaves nothing. `far` hears how far it is. Else a large backup is fetched first, into files without a
    name, and several sessions restore it. Raises RestoreFailed, RestoreRefused, ProgramMissing, BackupDamaged,
    IdentityMissing, BucketError, UsageError (no space for a local copy that is needed).
    """
    refuse_older_server(backup, connection.info.server_version, target=target)
    program = find_program("pg_restore", connection.info.server_version, folder=programs)
    archives = archives_of(backup.manifest)
    whole = atomic and len(archives) == 1 and (jobs or 1) == 1 and _fits(connection, backup.contents)
    sessions = 1 if whole else jobs or (min(os.cpu_count() or 1, MOST_JOBS) if backup.size >= WORTH_JOBS else 1)
    meter = _Meter(backup.size, far)
    if sessions > 1 or len(archives) > 1:
        if has_room(archives):
            with local_copies(backup.bucket, archives, identity=backup.identity, meter=meter.fetched) as files:
                tell(f"{format_bytes(backup.size)} fetched and compared; {sessions} sessions restore them")
                main, *data = (file.fileno() for file in files)
                chosen = replace(options, jobs=sessions, single_transaction=False)
                restore_files(program, connection, main, data, chosen, target=target)
            return False
        if len(archives) > 1 or jobs:
            raise UsageError(
                f"{target}: there is no room for a local copy of {format_bytes(backup.size)} in TMPDIR",
                hint="set TMPDIR to a folder with more space" + ("" if len(archives) > 1 else ", or leave --jobs out"),
            )
    chosen = replace(options, jobs=1, single_transaction=whole)

    def source(write: Callable[[bytes], object]) -> None:
        def metered(chunk: bytes) -> None:
            write(chunk)
            meter.restored(len(chunk))

        meter.begin()  # it is read twice where only a part of it is wanted, the first time for its list
        read_archive(backup.bucket, archives[0], metered, identity=backup.identity)
        far("all read; indexes and constraints are made", None)

    restore_stream(program, connection, source, chosen, target=target)
    return whole


def add(
    backup: StoredBackup,
    connection: psycopg.Connection[Any],
    options: RestoreOptions,
    *,
    target: str,
    programs: Path | None = None,
) -> None:
    """Restore what `options.choose` takes of the main archive into a database that has the rest: definitions, no rows.

    Of the archive no more than its list is read. Raises what `fill` raises.
    """
    program = find_program("pg_restore", connection.info.server_version, folder=programs)
    main = archives_of(backup.manifest)[0]

    def source(write: Callable[[bytes], object]) -> None:
        read_archive(backup.bucket, main, write, identity=backup.identity)

    restore_stream(program, connection, source, options, target=target)


def _fits(connection: psycopg.Connection[Any], contents: Contents | None) -> bool:
    """Whether one transaction can lock all that a restore makes, with as much to spare."""
    if contents is None:
        return True
    objects = len(contents.tables) * LOCKS_PER_TABLE + len(contents.sequences) + contents.large_objects
    return objects * 2 <= lock_capacity(connection)


class _Meter:
    """Tells how far a restore is, now and then."""

    def __init__(self, size: int, far: Far) -> None:
        self._size = size
        self._far = far
        self.begin()

    def begin(self) -> None:
        self._done = 0
        self._started = self._told = time.monotonic()

    def fetched(self, count: int) -> None:
        self._add(count, "fetched")

    def restored(self, count: int) -> None:
        self._add(count, "read")

    def _add(self, count: int, how: str) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._told >= TELL_EVERY:
            self._told = now
            elapsed = round((now - self._started) * 1_000)
            news = ArchiveProgress(done=self._done, size=self._size, elapsed_ms=elapsed, how=how)
            self._far(str(news), news.share)
