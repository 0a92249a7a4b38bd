"""What a run does to the schema: looked at before and after, under the lock, and recorded with the ledger.

Before anything runs, the schema must be the one that was recorded, else somebody changed it by hand. Afterwards what was
intended is the old intention with this run's own changes laid over it, so drift never becomes intended in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.changes import Action, Change, Comparison, compare, exact_changes, laid_over, touched
from lockstep.core.drift import grouped
from lockstep.core.fingerprint import Fingerprint
from lockstep.core.ignoring import Rule, sift
from lockstep.core.runs import Ran
from lockstep.errors import DriftFound, LedgerError, LockHeld, LockstepError, Unreachable
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.states import UNRECORDED, Recorded, State, read_intended, read_recorded, write_state
from lockstep.service.worksession import WorkSession

#: Labels that the audit log keeps of what was accepted.
LOGGED = 200
#: Objects that an error lists; `lockstep drift` lists all.
LISTED = 5


@dataclass(slots=True, kw_only=True)
class Recording:
    """One run's look at the schema."""

    before: Fingerprint | None  # None: nothing was to be done, so nobody looked
    intended: Fingerprint | None  # before the run
    drift: tuple[Change, ...] = ()  # that the run found and went on with
    notices: list[str] = field(default_factory=list)  # for people
    after: Fingerprint | None = None  # None: not looked at, or not possible
    changes: tuple[Change, ...] = ()  # what the run changed


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """Return the team's own rules about what does not count."""
    return tuple(
        Rule(reason=r.reason, kind=r.kind, object=r.object, schema=r.schema, environments=tuple(r.environments))
        for r in settings.drift.ignore
    )


@contextmanager
def recorded(
    settings: Settings,
    environment: Environment,
    work: WorkSession,
    ran: Callable[[], Sequence[Ran]],
    *,
    something_to_do: bool,
    may_stop: bool = True,
) -> Iterator[Recording]:
    """Look at the schema before the block, and record what it is after it. Call it under the lock.

    `ran`: what was applied or taken back so far. Raises DriftFound before anything runs, where the environment stops on
    drift and the run may be stopped (a way back never is). A block that fails is recorded as far as it came; trouble with recording hides no error of the block.
    """
    recording = _before(settings, environment, work, something_to_do=something_to_do, may_stop=may_stop)
    try:
        yield recording
    except (Unreachable, LockHeld, LedgerError):
        raise  # the lock may be somebody else's by now
    except BaseException:
        if recording.before is not None:
            _quietly(work, recording, ran())
        raise
    if recording.before is not None:
        _quietly(work, recording, ran())


def record_now(session: Session, *, event: str, run_id: str) -> Fingerprint:
    """Record the schema as it stands as what is intended. The caller holds the lock."""
    live, token = read_live(session)
    write_state(session, live, live, event=event, run_id=run_id, token=token)
    return live


@contextmanager
def correction_recorded(session: Session, run_id: str, *, event: str, declares: bool) -> Iterator[None]:
    """Keep the recorded schema with the ledger while the block corrects the ledger. The caller holds the lock.

    `declares`: the correction says something about the schema (a file was run by hand), so from now on it is meant to be
    as it is. Otherwise what was intended stays so. Trouble hides nothing: the next run records the schema.
    """
    before = read_recorded(session)
    yield
    try:
        if declares:
            record_now(session, event=event, run_id=run_id)
        elif before.state is not None and (intended := _intended(session, before)) is not None:
            live, token = read_live(session)
            write_state(session, intended, live, event=event, run_id=run_id, token=token)
    except (LockstepError, psycopg.Error):
        return


def drift_of(live: Fingerprint, intended: Fingerprint, rules: Sequence[Rule], environment: str) -> Comparison:
    """Compare what is with what was intended, without what the team's rules take out."""
    found = compare(intended, live)
    kept, _ = sift(found.changes, rules, [environment])
    return replace(found, changes=tuple(kept))


def since(state: State) -> str:
    """Return what a state is, in words: as the last run left it at version 017 (2026-03-12 10:15 UTC)."""
    from lockstep.core.moments import utc_minute

    what = {
        "accepted": "as it was accepted",
        "first": "as it was first seen",
        "unrecorded": "as it was first seen after a run that was cut off",
        "baseline": "as it was at the baseline",
        "repair": "as it was at the last repair",
    }.get(state.event, "as the last run left it")
    version = f" at version {state.version:03d}" if state.version is not None else ""
    return f"{what}{version} ({utc_minute(state.at)})"


# -- inside -------------------------------------------------------------------------------------------------------


def _before(
    settings: Settings, environment: Environment, work: WorkSession, *, something_to_do: bool, may_stop: bool
) -> Recording:
    session = work.session
    now = read_recorded(session)
    if not something_to_do:
        notices: list[str] = []
        if now.state is None and not now.empty:
            record_now(session, event="first", run_id=work.run.run_id)
        elif now.state is not None and now.is_stale:
            live, token = read_live(session)
            notices = _took_as_it_stands(settings, environment, work, now.state, live)
            write_state(session, live, live, event=UNRECORDED, run_id=work.run.run_id, token=token)
        return Recording(before=None, intended=None, notices=notices)
    intended = _intended(session, now)
    if intended is None:
        live, token = read_live(session)
        notices = []
        if now.state is not None and now.is_stale:
            notices = _took_as_it_stands(settings, environment, work, now.state, live)
            write_state(session, live, live, event=UNRECORDED, run_id=work.run.run_id, token=token)
        return Recording(before=live, intended=live, notices=notices)
    state = now.state
    assert state is not None
    if state.token == now.token and not state.seen_differs:
        return Recording(before=intended, intended=intended)  # to the letter what it was: no need to read it again
    live = read_live(session).fingerprint
    drift = drift_of(live, intended, rules_of(settings), environment.name).changes
    heads = [one.change for one in grouped(drift)]
    if drift and may_stop and environment.stops_on_drift:
        raise DriftFound(
            target=session.target.name,
            environment=environment.name,
            since=since(state),
            lines=tuple(line(change) for change in heads[:LISTED]),
            more_lines=max(0, len(heads) - LISTED),
        )
    recording = Recording(before=live, intended=_without(live, drift), drift=drift)
    if drift:
        shown = "; ".join(line(change) for change in heads[:LISTED])
        more = f" and {len(heads) - LISTED} more" if len(heads) > LISTED else ""
        recording.notices.append(f"drift: {shown}{more} → lockstep drift {environment.name}")
    return recording


def _took_as_it_stands(
    settings: Settings, environment: Environment, work: WorkSession, state: State, live: Fingerprint
) -> list[str]:
    """After a run that could not record: what it changed and what others did cannot be told apart. Told, and logged."""
    session = work.session
    before = read_intended(session, state)
    found = grouped(drift_of(live, before, rules_of(settings), environment.name).changes) if before else ()
    lines = [line(one.change) for one in found]
    details = {
        "what": "the run before was cut off before it could record the schema",
        "differences": len(found),
        "accepted": [one.change.label for one in found][:LOGGED],
        "reason": f"taken as it stands; recorded before {since(state)}",
    }
    write_event(session, Event(event="drift", run_id=work.run.run_id, details=details))
    shown = "; ".join(lines[:LISTED]) + (f" and {len(lines) - LISTED} more" if len(lines) > LISTED else "")
    return [
        "the run before was cut off before it could record the schema, so it counts as intended as it stands"
        + (f": {shown}" if shown else "")
    ]


def tell(recording: Recording | None, note: Callable[[str], None]) -> None:
    """Tell a recording's notices, each once."""
    while recording is not None and recording.notices:
        note(recording.notices.pop(0))


def line(change: Change) -> str:
    """Return one difference in one line: index public.a was added."""
    word = {Action.CREATED: "added", Action.ALTERED: "changed", Action.DROPPED: "removed"}[change.action]
    return f"{change.label} was {word}"


def _intended(session: Session, now: Recorded) -> Fingerprint | None:
    return None if now.state is None or now.is_stale else read_intended(session, now.state)


def _without(live: Fingerprint, drift: Sequence[Change]) -> Fingerprint:
    """The live schema with drift undone: what is intended, in the words that the server has for it now."""
    objects = dict(live.objects)
    for change in drift:
        if change.before is None:
            objects.pop(change.key, None)
        else:
            objects[change.key] = change.before
    return replace(live, objects=objects)


def _quietly(work: WorkSession, recording: Recording, ran: Sequence[Ran]) -> None:
    session = work.session
    try:
        if session.connection.closed or not session.idle:
            raise LockstepError("the session is gone")
        _after(session, recording, ran, work.run.run_id)
    except (LockstepError, psycopg.Error) as error:
        reason = error.message if isinstance(error, LockstepError) else f"SQLSTATE {error.sqlstate}"
        recording.notices.append(f"the schema could not be recorded ({reason}); the next run does it")


def _after(session: Session, recording: Recording, ran: Sequence[Ran], run_id: str) -> None:
    assert recording.before is not None and recording.intended is not None
    live, token = read_live(session)
    recording.changes = exact_changes(recording.before, live)
    recording.after = live
    if not ran and not recording.changes:
        return
    intended = laid_over(recording.intended, recording.changes)
    intended = replace(intended, major=live.major, schemas=live.schemas, roles=live.roles)
    write_state(
        session,
        intended,
        live,
        event="run",
        run_id=run_id,
        token=token,
        migrations=ran,
        changes=touched(recording.changes),
    )
