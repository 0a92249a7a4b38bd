"""The use case "restore": a backup into an empty database, or, said twice, in the place of one that is not.

Everything that can be known is asked before anything is made. Into an empty database it is one transaction where the
server can hold it; in the place of another one see service.replacing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path

import psycopg

from lockstep.core.counting import counted
from lockstep.core.duration import format_ms
from lockstep.core.size import format_bytes
from lockstep.errors import LockstepError, RestoreFailed, RestoreRefused, Unreachable
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, Target, guard, open_session, opening_sql, refuse_standby
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.lock import take_lock
from lockstep.postgres.pgrestore import RestoreOptions
from lockstep.postgres.prerequisites import (
    create_stand_ins,
    drop_stand_ins,
    may_create_roles,
    missing_extensions,
    missing_roles,
    missing_tablespaces,
    occupants,
)
from lockstep.postgres.replacement import Writes
from lockstep.service.copying import CopyProof, analyze, prove_copy
from lockstep.service.filling import StoredBackup, fill, refuse_older_server, refuse_without_key
from lockstep.service.progress import Progress
from lockstep.storage.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What a person must know before a database is replaced."""

    target: str  # shown name
    database: str  # its name, which the person has to give
    occupants: tuple[str, ...]  # what is in it, in words
    writes: Writes  # that would be lost
    migrations: tuple[str, ...]  # applied since the backup: they would be pending again


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreChoices:
    """How a restore is to be done."""

    replace: bool = False  # also where the database is not empty
    confirm: Callable[[Replacement], None] = lambda _replacement: None  # raises when the person does not mean it
    jobs: int | None = None  # sessions at once; None: as it pays
    owners: bool = True  # False: everything belongs to whoever restores, and no grants
    programs: Path | None = None  # where pg_restore is looked for
    wait_seconds: float = 0.0  # for another run that holds the lock


@dataclass(slots=True, kw_only=True)
class RestoreReport:
    """What a restore did."""

    backup: str  # its id
    target: str
    database: str
    proof: CopyProof
    duration_ms: int
    kept: str | None = None  # the name of the old database, which is closed; None: there was none
    lost: Writes | None = None  # what was written since the backup and is only in the old database
    stand_ins: tuple[str, ...] = ()  # roles that were made
    notices: list[str] = field(default_factory=list)


def restore(
    backup: StoredBackup, into: Target, run: RunInfo, progress: Progress, choices: RestoreChoices
) -> RestoreReport:
    """Restore a backup into a database, and return when the copy was compared with what was backed up.

    The target's lock is held. A database that is not empty is refused without `choices.replace`; with it the old one
    is kept, closed, under another name. Missing roles become stand-ins that cannot log in. Raises RestoreRefused (and
    nothing was done), RestoreFailed (says what is left of the try), LockHeld, Unreachable, ProgramMissing,
    BackupDamaged, IdentityMissing, BucketError.
    """
    started = time.monotonic()
    refuse_without_key(backup)
    choices, asked = _timed(choices)
    try:
        session = open_session(into, run_id=run.run_id)
    except Unreachable as error:
        if statement := opening_sql(into, run_id=run.run_id):
            hint = f"it was left closed; to open it, in another database of the server: {statement}"
            raise Unreachable(target=error.target, reason=error.reason, hint=hint) from None
        raise
    try:
        refuse_standby(session)
        take_lock(session, wait_seconds=choices.wait_seconds)
        with guard(into):
            refuse_older_server(backup, session.facts.version, target=into.name)
            found = occupants(session.connection)
            if found and not choices.replace:
                raise RestoreRefused(
                    (f"database {session.connection.info.dbname} is not empty: {', '.join(found)}",),
                    target=into.name,
                    hint="create an empty one (createdb NAME) and restore into it; --replace takes this one's place",
                )
            notices, options = _prerequisites(backup, session, choices)
            if found:
                from lockstep.service.replacing import replace_database  # late: an empty database needs none of it

                report = replace_database(backup, session, run, progress, choices, options, found)
            else:
                report = _into_empty(backup, session, run, progress, choices, options)
    finally:
        session.close()
    report.notices[:0] = notices
    report.duration_ms = int((time.monotonic() - started - sum(asked)) * 1000)
    return report


def _timed(choices: RestoreChoices) -> tuple[RestoreChoices, list[float]]:
    """The same choices, and a list that will hold the seconds that a person thought about it."""
    asked: list[float] = []

    def confirm(replacement: Replacement) -> None:
        since = time.monotonic()
        try:
            choices.confirm(replacement)
        finally:
            asked.append(time.monotonic() - since)

    return replace(choices, confirm=confirm), asked


def _prerequisites(backup: StoredBackup, session: Session, choices: RestoreChoices) -> tuple[list[str], RestoreOptions]:
    """Ask all that can be known before. Raises RestoreRefused with every reason at once."""
    connection, manifest, contents = session.connection, backup.manifest, backup.contents
    reasons = []
    if missing := missing_extensions(connection, [extension.name for extension in manifest.extensions]):
        reasons.append(f"extensions that the server does not have: {', '.join(missing)}")
    if choices.owners and (roles := missing_roles(connection, manifest.roles)) and not may_create_roles(connection):
        names = ", ".join(roles)
        reasons.append(
            f"roles that the server does not have, and {session.facts.current_user} may not create them: {names}"
        )
    if contents is not None and not choices.replace:
        encoding = connection.execute("SHOW server_encoding").fetchone()
        if encoding and encoding[0] != contents.database.encoding:
            reasons.append(f"the database's encoding is {encoding[0]}, that of the backup {contents.database.encoding}")
    if reasons:
        hint = "install the extensions and create the roles on the server, then try again; --no-owner needs no roles"
        raise RestoreRefused(tuple(reasons), target=session.target.name, hint=hint)
    notices = []
    tablespaces = missing_tablespaces(connection, contents.tablespaces if contents else ())
    if tablespaces:
        notices.append(f"tablespaces that the server does not have, left out: {', '.join(tablespaces)}")
    if contents is not None and contents.subscriptions:
        names = ", ".join(contents.subscriptions)
        notices.append(f"not restored: subscriptions ({names}); the copy would take the living one's slot")
    if manifest.excluded_schemas:
        notices.append(f"not in this backup: schemas {', '.join(manifest.excluded_schemas)}")
    options = RestoreOptions(role=session.target.role, owners=choices.owners, tablespaces=not tablespaces)
    return notices, options


def _into_empty(
    backup: StoredBackup,
    session: Session,
    run: RunInfo,
    progress: Progress,
    choices: RestoreChoices,
    options: RestoreOptions,
) -> RestoreReport:
    name, target = session.target.environment, session.target
    database = session.connection.info.dbname
    roles = make_stand_ins(backup, session.connection, choices, progress, name)
    try:
        whole = load(backup, session, progress, choices, options, atomic=True)
    except RestoreFailed as error:
        drop_stand_ins(session.connection, roles)
        if occupants(session.connection):
            raise error.leaving(
                f"Database {database} holds a part of the backup: drop it and create it again",
                hint="restore without --jobs: then a failure leaves nothing",
            ) from None
        raise error.leaving(f"Database {database} is empty as before") from None
    except BaseException as error:
        drop_stand_ins(session.connection, roles)
        if not isinstance(error, Exception) and not occupants(session.connection):  # Ctrl-C, SIGTERM
            progress.note(name, f"database {database} is empty as before")
        raise
    proof = finish(backup, session, progress)
    if proof.differences:
        raise RestoreFailed(
            "the copy is not what was backed up:" + "".join(f"\n  {text}" for text in proof.differences[:10]),
            target=target.name,
            outcome=f"Database {database} holds the copy as it was restored",
        )
    notices = log_restore(backup, session, run, replaced=None)
    if not whole:
        notices.append("not restored in one transaction")
    return RestoreReport(
        backup=backup.manifest.id, target=target.name, database=database, proof=proof, duration_ms=0,
        stand_ins=roles, notices=notices,
    )  # fmt: skip


# -- the parts, which service.replacing takes too ----------------------------------------------------------------------


def make_stand_ins(
    backup: StoredBackup, connection: psycopg.Connection, choices: RestoreChoices, progress: Progress, name: str
) -> tuple[str, ...]:
    """Create the roles that the backup names and the server lacks; return them."""
    roles = missing_roles(connection, backup.manifest.roles) if choices.owners else ()
    if roles:
        create_stand_ins(connection, roles)
        progress.note(name, f"roles that were missing, created without login: {', '.join(roles)}")
    return roles


def load(
    backup: StoredBackup,
    session: Session,
    progress: Progress,
    choices: RestoreChoices,
    options: RestoreOptions,
    *,
    atomic: bool,
) -> bool:
    """Fill the database that `session` is in, and tell how it goes. Returns whether it was one transaction."""
    name = session.target.environment
    started = time.monotonic()
    progress.started(name, "restore")
    whole = fill(
        backup,
        session.connection,
        options,
        target=session.target.name,
        atomic=atomic,
        jobs=choices.jobs,
        programs=choices.programs,
        tell=lambda text: progress.note(name, text),
        far=lambda text, share: progress.under_way(name, "restore", text, share),
    )
    size = format_bytes(backup.size)
    progress.finished(name, "restore", f"{size} of backup {backup.manifest.id}", _since(started))
    return whole


def finish(backup: StoredBackup, session: Session, progress: Progress) -> CopyProof:
    """Gather statistics and compare the copy with the backup."""
    name = session.target.environment
    started = time.monotonic()
    progress.started(name, "statistics (ANALYZE)")
    analyze(session.connection)
    progress.finished(name, "statistics (ANALYZE)", "gathered", _since(started))
    started = time.monotonic()
    progress.started(name, "comparison with the backup")
    if "public" not in {*backup.manifest.schemas, *backup.manifest.excluded_schemas}:
        with suppress(psycopg.Error):  # every new database has one; the source had none. What is in it keeps it
            session.connection.execute("DROP SCHEMA IF EXISTS public")
    proof = prove_copy(backup, session.connection, ledger_schema=session.target.ledger_schema)
    if not proof.differences:
        progress.finished(name, "comparison with the backup", f"as backed up: {proof.text}", _since(started))
    return proof


def log_restore(
    backup: StoredBackup, session: Session, run: RunInfo, *, replaced: str | None, lost: Writes | None = None
) -> list[str]:
    """Write the restore into the copy's own audit log, which goes on where the backup's ended. Returns notices."""
    if backup.manifest.ledger is None:
        return []
    manifest = backup.manifest
    details = {"backup": manifest.id, "of": manifest.environment, "taken_at": manifest.taken_at.isoformat()}
    event = Event(
        event="restore",
        run_id=run.run_id,
        orchestrator_url=run.orchestrator_url,
        details=details
        | ({"old_database": replaced} if replaced else {})
        | ({"rows_lost": lost.rows} if lost is not None and lost.known else {}),
    )
    try:
        write_event(session, event)
    except (psycopg.Error, LockstepError):
        return ["the restore is not in the audit log of the copy: this role may not write to it"]
    return []


def on_database(target: Target, database: str) -> Target:
    """The same server and role, another database."""
    return replace(target, address=replace(target.address, database=database))


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


def chosen_line(manifest: Manifest, text: str) -> str:
    """Which backup was chosen, for people. `text` is what they asked for."""
    line = f"backup {manifest.id} of {manifest.environment}, taken {manifest.taken_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if text.startswith("before:") and text.removeprefix("before:") != manifest.run_id:
        line += f", the newest before run {text.removeprefix('before:')}, which took none"
    return line


def loss(replacement: Replacement) -> tuple[str, ...]:
    """What a person must read before a database is replaced, line by line."""
    writes = replacement.writes
    if not writes.known:
        told = "how much was written to it since the backup is not known: the server was restarted, or its statistics do not reach back"
    elif not writes.rows:
        told = "no row of a table was written since the backup, by the server's count (TRUNCATE, definitions and large objects do not count)"
    else:
        tables = ", ".join(f"{name} {count:,}" for name, count in writes.tables[:5])
        more = f" and {counted(len(writes.tables) - 5, 'more table')}" if len(writes.tables) > 5 else ""
        told = f"{counted(writes.rows, 'row was', 'rows were')} written to it since the backup, and would be in the old one only: {tables}{more}"
    lines = [f"database {replacement.database} holds {', '.join(replacement.occupants)}", told]
    if replacement.migrations:
        lines.append(f"applied since the backup, and pending again: {', '.join(replacement.migrations)}")
    return tuple(f"  {line}" for line in lines)


def restored_line(report: RestoreReport) -> str:
    """What was restored, in one line."""
    kept = f"; the old database is kept as {report.kept}, closed to connections" if report.kept else ""
    return f"{report.target}: backup {report.backup} is restored: {report.proof.text} ({took(report)}){kept}"


def refuse_unless_named(replacement: Replacement, answer: str | None, *, hint: str) -> None:
    """Raise RestoreRefused unless `answer` is the name of the database that would be replaced."""
    name = replacement.database
    if answer is None:
        raise RestoreRefused(
            (f"database {name} is not empty, and nobody said that it is meant",), target=replacement.target, hint=hint
        )
    if answer != name:
        raise RestoreRefused(
            (f"'{answer}' is not the name of the database, which is {name}",), target=replacement.target
        )


def took(report: RestoreReport) -> str:
    """How long it took, for people."""
    return format_ms(report.duration_ms)
