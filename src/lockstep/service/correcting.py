"""`baseline` and `repair`: explicit, logged corrections of the ledger. They never touch anything but the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.comparison import State, compare
from lockstep.core.migration import Folder
from lockstep.errors import LedgerError, UsageError
from lockstep.postgres.connection import guard
from lockstep.postgres.ledger import Event, correct_entry, delete_entry, insert_baseline, read_ledger, write_event
from lockstep.postgres.message import RunInfo
from lockstep.service.applying import work_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One thing that was corrected."""

    name: str  # file name
    what: str  # for a person


def baseline(
    settings: Settings, environment: Environment, folder: Folder, *, version: int, run: RunInfo
) -> tuple[Correction, ...]:
    """Declare all versions up to `version` as present already. One transaction, logged. The ledger must be empty.

    Version 0 says: nothing of the folder is there yet, although the database is not empty.
    Raises UsageError for an unknown version, LedgerError when the ledger has entries.
    """
    chosen = [m for m in folder.versioned if (m.version or 0) <= version]
    if version and version not in {m.version for m in chosen}:
        raise UsageError(f"there is no migration {version} in {folder.path}", hint="lockstep status lists the versions")
    with work_session(settings, environment, run) as work:
        session = work.session
        if read_ledger(session).entries:
            raise LedgerError(
                f"{session.target.name}: the ledger has entries already; a baseline starts an empty one.",
                hint=f"lockstep status {environment.name}",
            )
        rows: list[tuple[str, int, str | None, str | None]] = [
            (m.name, m.version or 0, m.up.checksum, m.up.content_digest) for m in chosen
        ]
        marker = not rows
        if marker:
            rows = [("baseline", 0, None, None)]
        with guard(session.target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            insert_baseline(session, rows)
            details = {"up_to": version, "migrations": [row[0] for row in rows]}
            write_event(session, Event(event="baseline", run_id=run.run_id, details=details))
    if marker:
        return (Correction(name="(none)", what="everything in the folder is pending"),)
    return tuple(Correction(name=row[0], what="recorded as present already") for row in rows)


def repair(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    *,
    run: RunInfo,
    accept: tuple[int, ...] = (),
    forget: tuple[int, ...] = (),
    reason: str | None = None,
) -> tuple[Correction, ...]:
    """Correct the ledger where that is safe or was asked for by version. One transaction, every correction logged.

    Without names: entries that were only reformatted, or recorded by an older tool, take the file's checksum.
    `accept`: the changed file of an applied version is what the database has. `forget`: an entry whose file is gone,
    or that is not true, is removed. Raises UsageError when a named version is in no such state.
    """
    with work_session(settings, environment, run) as work:
        session = work.session
        ledger = read_ledger(session)
        rows = {row.version: row for row in compare(folder, ledger, session.target.settings) if row.version is not None}
        for version in (*accept, *forget):
            row = rows.get(version)
            if row is None or row.entry is None:
                raise UsageError(f"version {version} is not in the ledger of {session.target.name}")
            if version in accept and row.migration is None:
                raise UsageError(f"{row.name} has no file to accept", hint=f"--forget {version} removes its entry")
        done: list[Correction] = []
        with guard(session.target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            for version, row in rows.items():
                if row.entry is None:
                    continue
                if version in forget:
                    delete_entry(session, row.entry)
                    what = "entry removed"
                elif row.migration is not None and (version in accept or row.state in _SAFE):
                    file = row.migration.up
                    correct_entry(session, row.entry, checksum=file.checksum, content_digest=file.content_digest)
                    what = f"{row.state.value}: the file on disk is recorded now"
                else:
                    continue
                details = {"what": what, "before": row.entry.checksum, "reason": reason}
                write_event(
                    session,
                    Event(
                        event="repair",
                        run_id=run.run_id,
                        migration_name=row.name,
                        version=version,
                        details=details,
                    ),
                )
                done.append(Correction(name=row.name, what=what))
    return tuple(done)


_SAFE = frozenset({State.REFORMATTED, State.UNVERIFIED})
