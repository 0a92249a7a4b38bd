"""The use case "back up": one environment's whole database into the bucket, once per attempt of a run.

Order is everything here: the object exists only after pg_dump ended well, the manifest only after the object was read
back. This module knows that order; it speaks neither SQL nor S3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from lockstep import __version__
from lockstep.core.shards import LARGE, choose_shards
from lockstep.errors import BackupFailed, BucketError
from lockstep.postgres.contents import read_inventory
from lockstep.postgres.copywatch import CopyWatch
from lockstep.postgres.dump import PgDump
from lockstep.postgres.programs import find_program
from lockstep.postgres.scope import replaced_tables
from lockstep.postgres.snapshot import Snapshot, open_snapshot
from lockstep.service.coverage import left_out
from lockstep.service.dumping import Job, make_archives
from lockstep.service.telling import BackupProgress, Teller
from lockstep.storage.backups import DUMP, Backups
from lockstep.storage.bucket import Bucket, BucketSettings
from lockstep.storage.manifest import DataArchive, LedgerHead, Manifest
from lockstep.storage.multipart import Uploaded

__all__ = ["BackupProgress", "BackupReport", "back_up"]

TRIES = 3  # of a snapshot, when tables are replaced between it and the locks


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a caller gets: the backup that now exists."""

    manifest: Manifest
    reused: bool  # True: this attempt of this run had taken it before, nothing was done now


def back_up(
    *,
    target: str,
    environment: str,
    conninfo: str,
    role: str | None = None,
    bucket: BucketSettings,
    run_id: str,
    attempt: int = 1,
    exclude_schemas: Sequence[str] = (),
    own_schemas: Sequence[str] = (),
    encrypt_to: Sequence[str] = (),
    jobs: int = 1,
    programs: Path | None = None,
    read_ledger: Callable[[psycopg.Connection[Any]], LedgerHead | None] | None = None,
    progress: Callable[[BackupProgress], None] | None = None,
    note: Callable[[str], None] | None = None,
    may_reuse: Callable[[Manifest], bool] = lambda _: True,
) -> BackupReport:
    """Dump the whole database into the bucket, and return when the backup exists and its sizes were read back.

    Idempotent per (environment, run_id, attempt): a second call returns the first one's backup, if `may_reuse` says
    that it will do. Read-only in the
    database; it takes ACCESS SHARE locks, as every reader does. `target` is what messages call the database; `role` is
    the one to SET. A managed service's own schema that may not be read is left out and recorded, unless it is one of
    `own_schemas`. `encrypt_to` are age public keys that parse_recipients has seen. `jobs` dumps run at once, on one
    snapshot. `read_ledger` runs inside that snapshot, with row_security off, so the manifest's ledger head is that of
    the dump. `progress` is called about every 8 MiB or every second, and once at the end; `note` with what a person
    should know. Whatever ends it early, KeyboardInterrupt included, leaves no object, no unfinished upload, and no
    process; an object without a manifest, should the very last step fail, is no backup and is never offered as one.

    Raises Unreachable (no connection), ProgramMissing (no pg_dump of the server's major), BackupFailed (everything
    else; `retryable` says whether the same call may work a moment later), UsageError (a name that no key can hold).
    """
    wanted = _Wanted(
        target=target,
        environment=environment,
        run_id=run_id,
        attempt=attempt,
        exclude_schemas=tuple(exclude_schemas),
        own_schemas=tuple(own_schemas),
        encrypt_to=tuple(encrypt_to),
        jobs=jobs,
        programs=programs,
        read_ledger=read_ledger,
        progress=progress or (lambda _: None),
        note=note or (lambda _: None),
    )
    try:
        with Bucket(bucket) as opened:
            backups = Backups(opened)
            found = backups.find(environment, run_id=run_id, attempt=attempt)
            if found is not None and may_reuse(found):
                return BackupReport(manifest=found, reused=True)
            for tries in range(TRIES, 0, -1):
                try:
                    with open_snapshot(conninfo, target=target, run_id=run_id, role=role) as snapshot:
                        manifest = _take(wanted, snapshot, opened, backups)
                    break
                except _RowsGone as gone:
                    if tries == 1:
                        raise _too_often(target, gone.tables) from None
                    wanted.note(f"{gone.tables[0]} was replaced just as the dump began: once more, with a new snapshot")
            backups.record(manifest)
            return BackupReport(manifest=manifest, reused=False)
    except BucketError as error:
        message = f"no backup was made: {error}"
        raise BackupFailed(message, target=target, retryable=error.retryable, hint=error.hint) from error
    except OSError as error:
        # Of this machine: no space for a large part, no process.
        message = f"no backup was made: {error.strerror or type(error).__name__}"
        raise BackupFailed(message, target=target, hint="TMPDIR names the folder for parts above 16 MiB") from error


# -- inside -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What back_up was asked for."""

    target: str
    environment: str
    run_id: str
    attempt: int
    exclude_schemas: tuple[str, ...]
    own_schemas: tuple[str, ...]
    encrypt_to: tuple[str, ...]
    jobs: int
    programs: Path | None
    read_ledger: Callable[[psycopg.Connection[Any]], LedgerHead | None] | None
    progress: Callable[[BackupProgress], None]
    note: Callable[[str], None]


class _RowsGone(Exception):
    """Between snapshot and locks somebody truncated or rewrote a table, which the snapshot now sees empty."""

    def __init__(self, tables: Sequence[str]) -> None:
        super().__init__(tables)
        self.tables = tables


def _too_often(target: str, tables: Sequence[str]) -> BackupFailed:
    return BackupFailed(
        f"no backup was made: {', '.join(tables[:5])} was truncated, rewritten or dropped each time between the "
        f"snapshot and the dump's lock, {TRIES} times",
        target=target,
        retryable=True,
        hint="try again when whoever replaces the table is done",
    )


def _take(wanted: _Wanted, snapshot: Snapshot, bucket: Bucket, backups: Backups) -> Manifest:
    """Make the objects, and the manifest that is not yet written."""
    started = time.monotonic()
    out = left_out(snapshot, exclude_schemas=wanted.exclude_schemas, own_schemas=wanted.own_schemas)
    excluded = out.schemas
    for reason in out.reasons:
        wanted.note(f"left out of the backup, and recorded in its manifest: {reason}")
    program = find_program("pg_dump", snapshot.server_version_num, folder=wanted.programs)
    head = wanted.read_ledger(snapshot.connection) if wanted.read_ledger else None
    with _noticing(snapshot):
        inventory = read_inventory(snapshot, exclude_schemas=excluded)
    # Every archive of pg_dump's custom format holds them, whatever a restore does with them.
    hidden = [s.setting for s in inventory.contents.database.settings if "=" not in s.setting]
    if hidden and not wanted.encrypt_to:
        wanted.note(
            f"the dump holds the values of {', '.join(hidden[:5])} (ALTER DATABASE … SET) as they are: "
            "[backup] encrypt_to keeps them from whoever reads the bucket"
        )
    key = backups.dump_key(wanted.environment, taken_at=snapshot.taken_at, run_id=wanted.run_id)
    shards = choose_shards(inventory.tables, jobs=wanted.jobs, large=LARGE)
    apart = {(table.schema, table.name) for shard in shards for table in shard}
    main = PgDump(program, snapshot, exclude_schemas=excluded, without_rows_of=sorted(apart))
    jobs = [Job(dump=main, key=key)]
    for number, shard in enumerate(shards, 1):
        rows_of = [(table.schema, table.name) for table in shard]
        jobs.append(
            Job(dump=PgDump(program, snapshot, rows_of=rows_of), key=f"{key.removesuffix(DUMP)}data-{number}.dump")
        )
    rest = [table for table in inventory.tables if (table.schema, table.name) not in apart]
    teller = Teller(CopyWatch(snapshot, [rest, *shards]).share, wanted.progress)
    with _noticing(snapshot):
        made = make_archives(
            bucket, jobs, recipients=wanted.encrypt_to, began=lambda: _refuse_replaced(snapshot), progress=teller
        )
    teller.ended(sum(one.uploaded.size for one in made))
    for one in made:
        _read_back(bucket, one.uploaded)
    contents_key, contents_sha256 = backups.store_contents(key.removesuffix(DUMP), inventory.contents)
    whole, *data = made
    return Manifest(
        key=whole.uploaded.key,
        size=whole.uploaded.size,
        sha256=whole.uploaded.sha256,
        compression=main.compression,
        environment=wanted.environment,
        database=snapshot.database,
        server_version=snapshot.server_version,
        client_version=program.version,
        system_identifier=snapshot.system_identifier,
        taken_at=snapshot.taken_at,
        duration_ms=_since(started),
        schemas=tuple(name for name in snapshot.schemas if name not in excluded),
        excluded_schemas=excluded,
        ledger=head,
        run_id=wanted.run_id,
        attempt=wanted.attempt,
        tool_version=__version__,
        encrypted_to=wanted.encrypt_to,
        plain_sha256=whole.plain_sha256,
        data=tuple(
            DataArchive(
                key=one.uploaded.key,
                size=one.uploaded.size,
                sha256=one.uploaded.sha256,
                plain_sha256=one.plain_sha256,
            )
            for one in data
        ),
        contents_key=contents_key,
        contents_sha256=contents_sha256,
        snapshot_lsn=snapshot.lsn,
        schema_sizes=inventory.schema_sizes,
        extensions=inventory.extensions,
        roles=inventory.roles,
        not_covered=(*out.reasons, *inventory.not_covered),
    )


@contextmanager
def _noticing(snapshot: Snapshot) -> Iterator[None]:
    """Tell a failure because a table has gone from every other one."""
    try:
        yield
    except BackupFailed as error:
        if error.retryable or not (gone := replaced_tables(snapshot)):
            raise
        raise _RowsGone(gone) from error


def _refuse_replaced(snapshot: Snapshot) -> None:
    if gone := replaced_tables(snapshot):
        raise _RowsGone(gone)


def _read_back(bucket: Bucket, uploaded: Uploaded) -> None:
    size = bucket.size(uploaded.key)
    if size != uploaded.size:
        bucket.delete(uploaded.key)
        raise BucketError(
            f"{uploaded.key} has {size} bytes instead of {uploaded.size} and was removed",
            bucket=f"s3://{bucket.name}",
            retryable=True,
        )


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
