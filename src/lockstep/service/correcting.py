"""`baseline` and `repair`: explicit, logged corrections of the ledger. They never touch anything but the ledger.

Each leaves the rows before and after it in the audit log, so `repair --undo` can take any of them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.comparison import Row, compare, effective_checksum
from lockstep.core.correction import Change, Touched, Verb, changes, in_the_way
from lockstep.core.ledger import Ledger
from lockstep.core.migration import Folder, Kind, SqlFile
from lockstep.errors import LedgerError, UsageError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.corrections import (
    CORRECTED,
    Image,
    Trace,
    delete,
    image,
    insert,
    read_later,
    read_trace,
    restore,
    set_progress,
    settle,
)
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import open_for_writing, read_ledger, recorded_downs
from lockstep.service.recording import correction_recorded
from lockstep.service.worksession import work_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One thing that was corrected."""

    name: str  # file name
    what: str  # for a person
    event: int  # its number in the audit log, for `undo`


def baseline(
    settings: Settings, environment: Environment, folder: Folder, *, version: int, run: RunInfo
) -> tuple[Correction, ...]:
    """Declare all versions up to `version` as present already. One transaction, logged.

    A version below the first says: nothing of the folder is there yet, although the database is not empty. The ledger
    must be empty, or hold nothing but an earlier baseline, which is replaced. Raises UsageError for an unknown version,
    LedgerError when migrations ran already.
    """
    chosen = [m for m in folder.versioned if m.version is not None and m.version <= version]
    if version > 0 and version not in {m.version for m in chosen}:
        raise UsageError(f"there is no migration {version} in {folder.path}", hint="lockstep status lists the versions")
    with work_session(settings, environment, run) as work:
        session = work.session
        entries = read_ledger(session).entries
        ran = next((e for e in entries if e.kind is not Kind.BASELINE), None)
        if ran is not None:
            raise LedgerError(
                f"{session.target.name}: {ran.name} ran here already; a baseline is for a ledger without such entries.",
                hint=f"single versions: lockstep repair {environment.name} --record VERSION or --forget VERSION",
            )
        rows: list[tuple[str, int | None, str | None, str | None]] = [
            (m.name, m.version, m.up.checksum, m.up.content_digest) for m in chosen
        ]
        marker = not rows
        if marker:
            rows = [("baseline", None, None, None)]
        with (
            correction_recorded(session, run.run_id, event="baseline", declares=True),
            guard(session.target),
            session.connection.transaction(),
        ):
            open_for_writing(session)
            before = [row for e in entries if (row := image(session, e.name)) is not None]
            for entry in entries:
                delete(session, entry.name)
            for name, number, checksum, digest in rows:
                insert(session, name, number, Kind.BASELINE, checksum, digest)
            after = [row for name, *_ in rows if (row := image(session, name)) is not None]
            details = {
                "up_to": None if marker else version,
                "migrations": [row[0] for row in rows],
                "before": before,
                "after": after,
            }
            logged = write_event(session, Event(event="baseline", run_id=run.run_id, details=details))
    if marker:
        return (Correction(name="(none)", what="everything in the folder is pending", event=logged),)
    return tuple(Correction(name=row[0], what="recorded as present already", event=logged) for row in rows)


def repair(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    *,
    run: RunInfo,
    asked: Sequence[tuple[str, Verb]] = (),
    reason: str | None = None,
) -> tuple[Correction, ...]:
    """Correct the ledger where that is safe or was asked for by name. One transaction, every correction logged.

    Without names: entries that were only reformatted, or recorded by an older tool, take the file's checksum. `asked`:
    (version or name, what a person says of it). Raises UsageError when something does not fit; then nothing was
    corrected.
    """
    with work_session(settings, environment, run) as work:
        session = work.session
        ledger = read_ledger(session)
        rows = compare(folder, ledger, session.target.settings)
        wanted = changes(rows, asked, _downs(folder, recorded_downs(session)), session.target.name)
        if not wanted:
            return ()
        with (
            correction_recorded(session, run.run_id, event="repair", declares=False),
            guard(session.target),
            session.connection.transaction(),
        ):
            open_for_writing(session)
            return tuple(_correct(session, change, ledger, run, reason) for change in wanted)


def undo(
    settings: Settings, environment: Environment, *, number: int, run: RunInfo, reason: str | None = None
) -> tuple[Correction, ...]:
    """Take back the correction with this number in the audit log: by another one, which can be taken back, too.

    Raises UsageError when the event is no correction, LedgerError when its rows were changed since: what changed them
    is named, and nothing was corrected.
    """
    with work_session(settings, environment, run) as work:
        session = work.session
        with (
            correction_recorded(session, run.run_id, event="repair", declares=False),
            guard(session.target),
            session.connection.transaction(),
        ):
            open_for_writing(session)
            trace = read_trace(session, number)
            if blocking := in_the_way(trace.touched, read_later(session, number)):
                raise _refused(session, trace, blocking)
            restore(session, trace)
            details: dict[str, object] = {
                "what": f"event {number} taken back",
                "undoes": number,
                "before": list(trace.after),
                "after": list(trace.before),
                "reason": reason,
            }
            if trace.hold is not None:
                # The correction lifted a hold: without an entry it holds again, with what made it.
                details |= {"held": True, "hold": trace.hold, **trace.hold}
            event = Event(
                event="repair", run_id=run.run_id, migration_name=trace.name, version=trace.version, details=details
            )
            logged = write_event(session, event)
    shown = [row["migration_name"] for row in trace.before or trace.after]
    return tuple(Correction(name=name, what=f"as before event {number}", event=logged) for name in shown)


def _refused(session: Session, trace: Trace, blocking: Sequence[Touched]) -> LedgerError:
    """Say what came after a correction, and what to do instead of taking it back."""
    target, newest = session.target, blocking[0]
    repair = f"lockstep repair {target.environment}"
    if newest.undoes == trace.number:
        return LedgerError(
            f"{target.name}: event {newest.number} took event {trace.number} back already; nothing was corrected.",
            hint=f"{repair} --undo {newest.number} takes that back",
        )
    rows = [row["migration_name"] for row in (*trace.before, *trace.after)]
    ran = next((one for one in blocking if not one.corrects), None)
    if ran is newest:
        hint = f"lockstep status {target.environment} shows what is true now; {CORRECTED}"
    elif ran is not None:
        hint = (
            f"{repair} --undo {newest.number}; event {trace.number} stays, since event {ran.number} ({ran.event}) ran"
        )
    else:
        hint = f"take that back first: {repair} --undo {newest.number}"
    name = next((row for row in rows if row in newest.names), None) or next(
        (row["migration_name"] for row in (*trace.before, *trace.after) if row["version"] in newest.versions), rows[0]
    )
    return LedgerError(
        f"{target.name}: event {newest.number} ({newest.event}) changed {name} after event {trace.number}; "
        "nothing was corrected.",
        hint=hint,
    )


def _downs(folder: Folder, recorded: Mapping[int, SqlFile]) -> dict[int, SqlFile]:
    """The down scripts that a revert would run: the file where there is one, else the record."""
    files = {m.version: m.down for m in folder.versioned if m.version is not None and m.down is not None}
    return {**recorded, **files}


def _correct(session: Session, change: Change, ledger: Ledger, run: RunInfo, reason: str | None) -> Correction:
    """Make one correction and log it with the rows before and after."""
    row = change.row
    before = image(session, row.name if row.entry is None else row.entry.name)
    name = _make(session, change, row, ledger)
    after = image(session, name)
    details: dict[str, object] = {
        "what": change.what,
        "verb": change.verb.value,
        "before": [before] if before else [],
        "after": [after] if after else [],
        "reason": reason,
    }
    if (hold := _hold(row)) is not None:
        details["hold"] = hold
    event = Event(event="repair", run_id=run.run_id, migration_name=name, version=row.version, details=details)
    return Correction(name=row.name, what=change.what, event=write_event(session, event))


def _make(session: Session, change: Change, row: Row, ledger: Ledger) -> str:
    """Change the row; return the name of the entry that it is about."""
    name = row.entry.name if row.entry else row.name
    if change.verb is Verb.FORGET:
        delete(session, name)
    elif change.progress is not None:
        set_progress(session, name, change.progress, change.statements_done)
    else:
        assert row.migration is not None  # core.correction asks for it
        checksum = effective_checksum(row.migration, session.target.settings, ledger.salt)
        digest = row.migration.up.content_digest
        if row.entry is None:
            insert(session, name, row.version, row.migration.kind, checksum, digest)
        else:
            settle(session, name, checksum=checksum, content_digest=digest)
    return name


def _hold(row: Row) -> Image | None:
    if row.hold is None:
        return None
    return {
        "checksum": row.hold.checksum,
        "content_digest": row.hold.content_digest,
        "reason": row.hold.reason,
    }
