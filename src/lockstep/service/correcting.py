"""`baseline` and `repair`: explicit, logged corrections of the ledger. They never touch anything but the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.comparison import Row, State, compare
from lockstep.core.migration import Folder, label
from lockstep.errors import LedgerError, UsageError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import correct_entry, delete_entry, insert_applied_by_hand, insert_baseline, read_ledger
from lockstep.service.worksession import work_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One thing that was corrected."""

    name: str  # file name
    what: str  # for a person


def baseline(
    settings: Settings, environment: Environment, folder: Folder, *, version: int, run: RunInfo
) -> tuple[Correction, ...]:
    """Declare all versions up to `version` as present already. One transaction, logged. The ledger must be empty.

    A version below the first says: nothing of the folder is there yet, although the database is not empty.
    Raises UsageError for an unknown version, LedgerError when the ledger has entries.
    """
    chosen = [m for m in folder.versioned if m.version is not None and m.version <= version]
    if version > 0 and version not in {m.version for m in chosen}:
        raise UsageError(f"there is no migration {version} in {folder.path}", hint="lockstep status lists the versions")
    with work_session(settings, environment, run) as work:
        session = work.session
        if read_ledger(session).entries:
            raise LedgerError(
                f"{session.target.name}: the ledger has entries already; a baseline starts an empty one.",
                hint=f"lockstep status {environment.name}",
            )
        rows: list[tuple[str, int | None, str | None, str | None]] = [
            (m.name, m.version, m.up.checksum, m.up.content_digest) for m in chosen
        ]
        marker = not rows
        if marker:
            rows = [("baseline", None, None, None)]
        with guard(session.target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            insert_baseline(session, rows)
            details = {"up_to": None if marker else version, "migrations": [row[0] for row in rows]}
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
    forget: tuple[str, ...] = (),
    record: tuple[int, ...] = (),
    reason: str | None = None,
) -> tuple[Correction, ...]:
    """Correct the ledger where that is safe or was asked for by name. One transaction, every correction logged.

    Without names: entries that were only reformatted, or recorded by an older tool, take the file's checksum.
    `accept`: the changed file of an applied version is what the database has. `forget` (versions, or names of entries
    without one): the entry is not true any more, and is removed. `record`: a pending version was run by hand.
    Raises UsageError when something named is in no such state; then nothing was corrected.
    """
    with work_session(settings, environment, run) as work:
        session = work.session
        rows = compare(folder, read_ledger(session), session.target.settings)
        chosen = _chosen(rows, session.target.name, accept=accept, forget=forget, record=record)
        done: list[Correction] = []
        with guard(session.target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            for row in rows:
                what = _correct(session, row, chosen.get(row.name))
                if what is None:
                    continue
                details = {"what": what, "before": row.entry.checksum if row.entry else None, "reason": reason}
                event = Event(
                    event="repair", run_id=run.run_id, migration_name=row.name, version=row.version, details=details
                )
                write_event(session, event)
                done.append(Correction(name=row.name, what=what))
    return tuple(done)


_SAFE = frozenset({State.REFORMATTED, State.UNVERIFIED})
_RECORDABLE = frozenset({State.PENDING, State.OUT_OF_ORDER, State.HELD})


def _chosen(
    rows: tuple[Row, ...], target: str, *, accept: tuple[int, ...], forget: tuple[str, ...], record: tuple[int, ...]
) -> dict[str, str]:
    """Return what was asked for, by file name. Raises UsageError for what cannot be done."""
    asked = (
        [(str(v), "accept") for v in accept] + [(n, "forget") for n in forget] + [(str(v), "record") for v in record]
    )
    chosen: dict[str, str] = {}
    for name, verb in asked:
        row = next(
            (r for r in rows if name in {r.name, label(r.name), str(r.version)} or name.lstrip("0") == str(r.version)),
            None,
        )
        if row is None or (row.entry is None) != (verb == "record"):
            problem = "is not in the ledger" if verb != "record" else "is not pending"
            raise UsageError(f"{target}: {name} {problem}", hint="lockstep status shows what is")
        if verb == "record" and row.state not in _RECORDABLE:
            raise UsageError(f"{target}: {row.name} is {row.state.value}")
        if verb == "accept" and row.migration is None:
            raise UsageError(f"{row.name} has no file to accept", hint=f"--forget {name} removes its entry")
        chosen[row.name] = verb
    return chosen


def _correct(session: Session, row: Row, verb: str | None) -> str | None:
    """Correct one entry; return what was done, in words, or None."""
    if verb == "record" and row.migration is not None and row.version is not None:
        file = row.migration.up
        insert_applied_by_hand(session, row.name, row.version, file.checksum, file.content_digest)
        return "recorded as applied by hand"
    if row.entry is None:
        return None
    if verb == "forget":
        delete_entry(session, row.entry)
        return "entry removed"
    if row.migration is not None and row.version is not None and (verb == "accept" or row.state in _SAFE):
        file = row.migration.up
        correct_entry(session, row.entry, checksum=file.checksum, content_digest=file.content_digest)
        return f"{row.state.value}: the file on disk is recorded now"
    return None
