"""`drift`: what others changed in a schema since Lockstep recorded it, and accepting that. Looking is read-only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from lockstep.config import Environment, Settings
from lockstep.core.changes import Change, compare
from lockstep.core.drift import Difference, grouped
from lockstep.core.fingerprint import Key
from lockstep.core.ignoring import Ignored, sift
from lockstep.errors import LedgerError, Unreachable, UsageError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, guard, open_session
from lockstep.postgres.dating import Around, Dating, date_changes
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import Live, read_live
from lockstep.postgres.lock import read_holder
from lockstep.postgres.states import State, read_intended, read_recorded, read_seen, read_states, write_state
from lockstep.service.project import target_of
from lockstep.service.recording import refusal, rules_of, since, warning
from lockstep.service.run import new_run_id
from lockstep.service.worksession import work_session

#: Labels that the audit log keeps of what was accepted.
LOGGED = 200


class Verdict(Enum):
    """What came of a look."""

    NONE = "in step"  # the schema is the recorded one
    DRIFT = "drift"  # objects differ
    UNRECORDED = "not recorded"  # there is nothing to compare with yet
    BUSY = "busy"  # a run is at work: what differs may be its own
    STALE = "out of date"  # the ledger went on since the schema was recorded: a run was cut off, or a repair


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """One difference, and when it came about."""

    difference: Difference
    after: Around | None  # event of the audit log before it
    before: Around | None  # event after it
    at: datetime | None  # exactly, where the server knows
    between: tuple[datetime | None, datetime | None] = (None, None)  # of what is gone: last seen, missed


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What a look at one target gave."""

    environment: str
    target: str  # shown name
    verdict: Verdict
    state: State | None  # that was compared with
    found: tuple[Dated, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    reprinted: tuple[Key, ...] = ()  # differ only in how PostgreSQL prints them after a restore
    other_text: tuple[Key, ...] = ()  # recorded under another major version, which words them otherwise
    absent: tuple[str, ...] = ()  # configured schemas that are not there
    fresh: tuple[str, ...] = ()  # configured since the schema was recorded: nothing to compare with yet
    holder: str | None = None  # who is at work; only when busy
    objects: int = 0  # that were compared; 0: the token told that nothing changed


def find_drift(settings: Settings, environment: Environment) -> DriftReport:
    """Compare the live schema with the recorded one, object by object. Read-only.

    Raises Unreachable, LedgerMissing, LedgerFiltered, LedgerError.
    """
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        return session_drift(settings, environment, session)
    finally:
        session.close()


def session_drift(settings: Settings, environment: Environment, session: Session) -> DriftReport:
    """Do the same over an open session."""
    return _look(settings, environment, session)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What `--fix-sql` wrote for one environment."""

    paths: tuple[str, ...]  # relative to the project's folder: up and down of each file
    left_out: tuple[str, ...]  # labels of the differences that a person has to write SQL for


def propose(settings: Settings, report: DriftReport) -> Proposal:
    """Write migrations that make the simple differences everywhere. Nothing is applied, nothing overwritten."""
    from lockstep.core.remedy import maybe_renamed, remedy  # late: with the parser
    from lockstep.service.creating import draft_migrations

    renamed = maybe_renamed(one.difference for one in report.found)
    ways = [(one.difference.change.label, remedy(one.difference, renamed)) for one in report.found]
    simple = [(label, way) for label, way in ways if way is not None and way.keep is not None]
    paths = draft_migrations(settings, report.environment, simple)
    return Proposal(
        paths=tuple(str(path.relative_to(settings.folder)) for path in paths),
        left_out=tuple(label for label, way in ways if way is None or way.keep is None),
    )


def refuse_drift(settings: Settings, environment: Environment) -> str | None:
    """Look before a deploy begins; return what was found, in words, where the environment only warns. Read-only.

    Raises DriftFound where it stops on drift.
    """
    report = find_drift(settings, environment)
    if report.verdict is not Verdict.DRIFT or report.state is None:
        return None
    heads = [one.difference.change for one in report.found]
    if environment.stops_on_drift:
        raise refusal(report.target, environment, since(report.state), heads)
    return warning(environment, heads)


def refuse_later_drift(settings: Settings, environment: Environment) -> None:
    """The same for an environment whose turn comes later: one that cannot be reached now says so when its turn comes."""
    with suppress(Unreachable):
        refuse_drift(settings, environment)


def accept_drift(settings: Settings, environment: Environment, run: RunInfo, reason: str) -> DriftReport:
    """Record the schema as it stands as the intended one, with the reason, in the audit log. Takes the lock.

    Returns what was accepted. Raises UsageError when there is nothing to accept, LockHeld, LedgerNotOwned.
    """
    if not reason.strip():
        raise UsageError("--accept needs a reason: the audit log keeps it")
    with work_session(settings, environment, run) as work:
        session = work.session
        report, seen = _look(settings, environment, session, alone=True)
        if report.verdict is Verdict.NONE and not (report.reprinted or report.other_text):
            raise UsageError(f"{report.target}: there is no drift to accept", hint=f"lockstep drift {environment.name}")
        live, token = seen or read_live(session)  # what is accepted is what is listed
        labels = [change.label for one in report.found for change in (one.difference.change, *one.difference.parts)]
        details: dict[str, object] = {
            "what": report.verdict.value,
            "reason": reason,
            "accepted": labels[:LOGGED],
            "differences": len(report.found),
            "objects": len(labels),
            "digest": f"pg{live.major}:{live.digest}",
            **({"before": f"pg{report.state.major}:{report.state.digest}"} if report.state else {}),
        }
        with session.connection.transaction():
            write_event(session, Event(event="drift", run_id=run.run_id, details=details))
            write_state(session, live, live, event="accepted", run_id=run.run_id, token=token)
        return report


# -- inside -------------------------------------------------------------------------------------------------------


def _look(
    settings: Settings, environment: Environment, session: Session, *, alone: bool = False
) -> tuple[DriftReport, Live | None]:
    """Return the report, and what was read for it. `alone`: this session holds the lock."""
    now = read_recorded(session)
    base = DriftReport(
        environment=environment.name, target=session.target.name, verdict=Verdict.UNRECORDED, state=now.state
    )
    base = replace(base, absent=_absent(session))
    if now.state is None:
        return base, None
    fresh = tuple(sorted(set(session.target.schemas) - set(now.state.schemas)))
    base = replace(base, fresh=fresh)
    if now.state.token == now.token and not now.state.seen_differs and not now.is_stale:
        return replace(base, verdict=Verdict.NONE), None
    if not alone and (holder := read_holder(session)) is not None:
        return replace(base, verdict=Verdict.BUSY, holder=holder), None
    intended = read_intended(session, now.state)
    if intended is None:
        raise LedgerError(
            f"{session.target.name}: the objects of the newest recorded state are gone",
            hint=f"lockstep drift {environment.name} --accept REASON",
        )
    seen = read_live(session)
    live = seen.fingerprint
    found = compare(intended, live)
    kept, ignored = sift(found.changes, rules_of(settings), [environment.name])
    dated = _dated(session, now.state, grouped(kept))
    verdict = Verdict.STALE if now.is_stale and kept else Verdict.DRIFT if kept else Verdict.NONE
    report = replace(
        base,
        verdict=verdict,
        found=dated,
        ignored=tuple(ignored),
        reprinted=found.reprinted,
        other_text=found.other_text,
        objects=len(live.objects),
    )
    return report, seen


def _absent(session: Session) -> tuple[str, ...]:
    """The configured schemas that the database does not have."""
    with guard(session.target):
        rows = session.connection.execute(
            "SELECT s FROM unnest(%s::text[]) s WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = s) ORDER BY s",
            (list(session.target.schemas),),
        ).fetchall()
    return tuple(row[0] for row in rows)


def _dated(session: Session, state: State, found: Sequence[Difference]) -> tuple[Dated, ...]:
    if not found:
        return ()
    known = date_changes(session, (one.change.after.xid for one in found if one.change.after and one.change.after.xid))
    gone = _missed(session, state, [one.change for one in found if one.change.after is None])
    dated = []
    for one in found:
        after = one.change.after
        if after is None:
            dated.append(
                Dated(
                    difference=one, after=None, before=None, at=None, between=gone.get(one.change.key, (state.at, None))
                )
            )
            continue
        when: Dating | None = known.get(after.xid) if after.xid else None
        if when is None:
            dated.append(Dated(difference=one, after=None, before=None, at=None, between=(state.at, None)))
        else:
            dated.append(Dated(difference=one, after=when.by or when.after, before=when.before, at=when.at))
    return tuple(dated)


def _missed(
    session: Session, state: State, gone: Sequence[Change]
) -> dict[Key, tuple[datetime | None, datetime | None]]:
    """What is gone left no row behind: the runs that still saw it, and the first that did not, tell when."""
    wanted = {change.key for change in gone}
    if not wanted or not state.seen_differs:
        return dict.fromkeys(wanted, (state.at, None))
    found: dict[Key, tuple[datetime | None, datetime | None]] = {}
    later: dict[Key, datetime | None] = dict.fromkeys(wanted)
    for one, _ in read_states(session, limit=20):
        seen = read_seen(session, one)
        if seen is None:
            break
        for key in list(later):
            if key in seen.objects:
                found[key] = (one.at, later.pop(key))
            else:
                later[key] = one.at
        if not later:
            break
    return found | {key: (None, at) for key, at in later.items()}
