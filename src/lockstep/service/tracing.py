"""What one environment knows of a run: its audit log, its ledger, its lock and its sessions, read in one go. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.comparison import BEGUN, WAITING, Row, compare
from lockstep.core.explanation import Asked, Done, Place, Stop
from lockstep.core.ledger import Ledger
from lockstep.core.matrix import summary, words
from lockstep.core.migration import Folder, label
from lockstep.errors import LedgerMissing, LockstepError
from lockstep.postgres.audit import LoggedEvent, Wanted, read_log
from lockstep.postgres.connection import Session, guard, open_session
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.lock import read_holder
from lockstep.service.approval.records import read_records
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id

_ENDS = frozenset({"fail", "refuse", "check", "reject", "expire", "withdraw", "stop"})  # of a run, or of a try of it
_GOES_ON = frozenset({"apply", "revert", "start", "resume", "ask", "approve"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One environment: what is told of it, and what the rest is looked up by."""

    place: Place
    rows: tuple[Row, ...] = ()
    rehearsal_key: str | None = None  # of the newest rehearsal's document in the bucket
    url: str | None = None  # of the run in the UI
    started_by: tuple[str, ...] = ()
    first_by: tuple[str, ...] = ()  # role and machine of the first event
    error: LockstepError | None = None


def trace(settings: Settings, environment: Environment, folder: Folder | None, run_id: str) -> Traced:
    """Read what an environment knows of a run. Its trouble is in `error`."""
    name: str | None = None
    try:
        uses = folder is not None and any(one.up.directives.uses for one in folder.repeatable)
        target = target_of(settings, environment, with_settings=uses)
        name = target.name
        session = open_session(target, run_id=new_run_id(), read_only=True)
        try:
            try:
                ledger = read_ledger(session)
            except LedgerMissing:
                place = Place(environment=environment.name, target=name, ledger="no ledger yet")
                return Traced(place=place)
            events = list(reversed(read_log(session, limit=None, wanted=Wanted(run_id=run_id))))
            asked = read_records(session, run_id=run_id).approvals if events else ()
            holder = read_holder(session)
            sessions = _sessions(session, run_id)
        finally:
            session.close()
    except LockstepError as error:
        return Traced(place=Place(environment=environment.name, target=name, error=error.message), error=error)
    rows = compare(folder, ledger, target.settings) if folder is not None else ()
    newest = asked[-1] if asked else None
    failed = _last(events, "fail")
    began = tuple(one for one in _entries(rows, ledger) if one[1] is not None and one[1] == run_id)
    place = Place(
        environment=environment.name,
        target=name,
        touched=bool(events),
        applied=_done(events, "apply"),
        reverted=_done(events, "revert"),
        rolled_back=_rolled_back(failed, ledger),
        begun=tuple(text for text, _ in began),
        not_started=tuple(
            label(row.name)
            for row in rows
            if row.state in WAITING and not (failed and row.name == failed.migration_name)
        ),
        stop=_stop(events),
        asked=Asked(
            at=newest.request.at,
            by=newest.request.by,
            standing=newest.standing.value,
            answered_by=f"{newest.answer.by}, role {newest.answer.role}" if newest.answer else None,
            answered_at=newest.answer.at if newest.answer else None,
            reason=newest.answer.reason if newest.answer else None,
            how=newest.answer.how.value if newest.answer else None,
            expires_at=newest.request.expires_at,
        )
        if newest
        else None,
        overrides=tuple(
            f"{one.details.get('gate', '?')}: {one.details.get('reason', '?')} (by {one.details.get('by', '?')})"
            for one in events
            if one.event == "override"
        ),
        backup=_detail(events, "backup", "backup"),
        rehearsal=_detail(events, "rehearse", "outcome"),
        ledger=summary(environment.name, rows) if rows else _head(ledger),
        holder=holder,
        sessions=sessions,
    )
    return Traced(
        place=place,
        rows=rows or compare(Folder(path="", migrations=()), ledger),
        rehearsal_key=_detail(events, "rehearse", "key"),
        url=next((one.orchestrator_url for one in events if one.orchestrator_url), None),
        started_by=tuple(_starter(one) for one in events if one.event == "begin"),
        first_by=tuple(f"role {one.actor}" + (f" on {one.host}" if one.host else "") for one in events[:1]),
    )


def _sessions(session: Session, run_id: str) -> tuple[str, ...]:
    """The run's sessions on the server, but for this one; without their statements, which may hold anything."""
    with guard(session.target):
        rows = session.connection.execute(
            "SELECT pid, coalesce(state, 'state not visible'), "
            "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - state_change)::bigint, wait_event_type "
            "FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() AND application_name = %s "
            "AND pid <> pg_catalog.pg_backend_pid() ORDER BY pid",
            (f"lockstep/{run_id}"[:63],),
        ).fetchall()
    return tuple(
        f"pid {pid}, {state}{f' for {seconds} s' if seconds is not None else ''}"
        + (", waits for a lock" if waits == "Lock" else "")
        for pid, state, seconds, waits in rows
    )


def _done(events: Sequence[LoggedEvent], event: str) -> tuple[Done, ...]:
    found = {
        one.migration_name: Done(label=label(one.migration_name), ms=one.duration_ms, at=one.at)
        for one in events
        if one.event == event and one.migration_name
    }
    return tuple(found.values())


def _last(events: Sequence[LoggedEvent], event: str) -> LoggedEvent | None:
    return next((one for one in reversed(events) if one.event == event), None)


def _detail(events: Sequence[LoggedEvent], event: str, key: str) -> str | None:
    found = (str(one.details[key]) for one in reversed(events) if one.event == event and one.details.get(key))
    return next(found, None)


def _starter(event: LoggedEvent) -> str:
    by = event.details.get("by")
    return f"{by}, role {event.actor}" if by else f"role {event.actor} on {event.host}"


def _entries(rows: Sequence[Row], ledger: Ledger) -> list[tuple[str, str | None]]:
    """What was begun and is not finished: in words, with the run that began it."""
    if rows:
        return [
            (f"{label(row.name)} {words(row)}", row.entry.run_id) for row in rows if row.entry and row.state in BEGUN
        ]
    return [
        (f"{label(one.name)} {one.state.value}", one.run_id) for one in ledger.entries if one.state.value != "applied"
    ]


def _rolled_back(failed: LoggedEvent | None, ledger: Ledger) -> str | None:
    """The migration that failed and left nothing: the ledger has no entry of it."""
    if failed is None or failed.migration_name is None or any(e.name == failed.migration_name for e in ledger.entries):
        return None
    return label(failed.migration_name)


def _head(ledger: Ledger) -> str:
    return f"{len(ledger.entries)} applied, newest {ledger.head}" if ledger.entries else "nothing applied"


def _stop(events: Sequence[LoggedEvent]) -> Stop | None:
    """The event that the run stopped by: its last one that says how it went, when that is none that goes on."""
    telling = [
        one for one in events if one.event in _ENDS | _GOES_ON and not (one.event == "check" and one.details.get("ok"))
    ]
    if not telling or telling[-1].event in _GOES_ON:
        return None
    last = telling[-1]
    same = sum((one.event, one.migration_name) == (last.event, last.migration_name) for one in telling)
    details = last.details
    what = str(details.get("message") or details.get("outcome") or "")
    if last.event == "refuse" and "lock" in details:
        what = f"the lock was held by {details['lock']}"
    elif last.event == "check":
        what = f"all was applied, but the application's check failed: {what}"
    elif last.event in ("reject", "expire", "withdraw"):
        word = {"reject": "rejected", "expire": "expired", "withdraw": "withdrawn"}[last.event]
        reason = f": {details['reason']}" if details.get("reason") else ""
        what = f"not approved: {word} by {details.get('by') or last.actor}{reason}"
    elif last.event == "stop":
        what = f"stopped ({details.get('how', '?')}): {what}"
    return Stop(
        event=last.event,
        what=what or "refused",
        at=last.at,
        label=label(last.migration_name) if last.migration_name else None,
        file=details.get("file"),
        line=details.get("line"),
        sqlstate=details.get("sqlstate"),
        kind="LockHeld" if "lock" in details else details.get("why"),
        count=same,
    )
