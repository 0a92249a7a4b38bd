"""What a run does to the schema: looked at before and after, under the lock, and recorded with the ledger.

Before anything runs, the schema must be the one that was recorded, else somebody changed it by hand. Afterwards what was
intended is the old intention with this run's own changes laid over it, so drift never becomes intended in silence.

What compares schemas is imported late: a run that finds nothing to do, and nothing changed, need not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from lockstep.config import Environment, Settings
from lockstep.errors import DriftFound, LedgerError, LockHeld, LockstepError, Unreachable
from lockstep.postgres.connection import Session
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.states import UNRECORDED, Recorded, State, read_intended, read_recorded, write_state

if TYPE_CHECKING:
    from lockstep.core.changes import Change, Comparison
    from lockstep.core.fingerprint import Fingerprint
    from lockstep.core.ignoring import Rule
    from lockstep.core.runs import Ran
    from lockstep.service.worksession import WorkSession

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
    from lockstep.core.ignoring import Rule

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
    now: Recorded | None = None,
    something_to_do: bool,
    may_stop: bool = True,
) -> Iterator[Recording]:
    """Look at the schema before the block, and record what it is after it. Call it under the lock.

    `ran`: what was applied or taken back so far. `now`: what was recorded, where it was read already. Raises DriftFound before anything runs, where the environment stops on
    drift and the run may be stopped (a way back never is). A block that fails is recorded as far as it came; trouble
    with recording hides no error of the block. What others change meanwhile counts as the run's.
    """
    now = now or read_recorded(work.session)
    recording = _before(settings, environment, work, now, something_to_do=something_to_do, may_stop=may_stop)
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


def look_again(settings: Settings, environment: Environment, work: WorkSession, recording: Recording) -> None:
    """Look once more right before the first step, when time has passed since the run began: a backup was taken.

    What others changed meanwhile is drift, as if it had been there before. Raises DriftFound.
    """
    from lockstep.core.changes import exact_changes
    from lockstep.core.drift import grouped
    from lockstep.core.ignoring import sift

    session = work.session
    if recording.before is None or recording.intended is None:
        return
    live = read_live(session).fingerprint
    meanwhile = exact_changes(recording.before, live)
    if not meanwhile:
        return
    kept, _ = sift(meanwhile, rules_of(settings), [environment.name])
    heads = [one.change for one in grouped(kept)]
    if kept and environment.stops_on_drift:
        raise refusal(session.target.name, environment, "as it was before the backup was taken", heads)
    recording.before = live
    recording.intended = replace(recording.intended, roles=live.roles)
    recording.drift = (*recording.drift, *kept)
    if kept:
        recording.notices.append(warning(environment, heads))


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


@contextmanager
def own_changes_recorded(session: Session, run_id: str) -> Iterator[None]:
    """Add what the block changes to what is intended: Lockstep's own grants, for one. The caller holds the lock.

    Without a recorded schema there is nothing to add to.
    """
    from lockstep.core.changes import exact_changes, laid_over

    try:
        now = read_recorded(session)
    except LedgerError:  # no ledger yet, or one of an older form
        yield
        return
    intended = _intended(session, now)
    if intended is None:
        yield
        return
    before = read_live(session).fingerprint
    yield
    live, token = read_live(session)
    changes = exact_changes(before, live)
    if changes:
        write_state(session, laid_over(intended, changes), live, event="run", run_id=run_id, token=token)


def drift_of(live: Fingerprint, intended: Fingerprint, rules: Sequence[Rule], environment: str) -> Comparison:
    """Compare what is with what was intended, without what the team's rules take out."""
    from lockstep.core.changes import compare
    from lockstep.core.ignoring import sift

    found = compare(intended, live)
    kept, _ = sift(found.changes, rules, [environment])
    return replace(found, changes=tuple(kept))


def refusal(target: str, environment: Environment, since: str, heads: Sequence[Change]) -> DriftFound:
    """Return the error for drift that stops a run. `since`: what the schema is compared with, in words."""
    return DriftFound(
        target=target,
        environment=environment.name,
        since=since,
        lines=tuple(line(change) for change in heads[:LISTED]),
        more_lines=max(0, len(heads) - LISTED),
    )


def warning(environment: Environment, heads: Sequence[Change]) -> str:
    """Return the line about drift that a run goes on with."""
    shown = "; ".join(line(change) for change in heads[:LISTED])
    more = f" and {len(heads) - LISTED} more" if len(heads) > LISTED else ""
    return f"drift: {shown}{more} → lockstep drift {environment.name}"


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
    settings: Settings,
    environment: Environment,
    work: WorkSession,
    now: Recorded,
    *,
    something_to_do: bool,
    may_stop: bool,
) -> Recording:
    session = work.session
    if now.state is None:
        if something_to_do:
            live = read_live(session).fingerprint
            return Recording(before=live, intended=live)
        if not now.empty:
            record_now(session, event="first", run_id=work.run.run_id)
        return Recording(before=None, intended=None)
    if not something_to_do and not now.is_stale:
        return Recording(before=None, intended=None)
    recorded_schema = read_intended(session, now.state)
    if recorded_schema is None:
        raise LedgerError(
            f"{session.target.name}: the objects of the newest recorded state are gone",
            hint=f"lockstep drift {environment.name} --accept REASON",
        )
    if not now.is_stale and now.state.token == now.token and not now.state.seen_differs:
        # To the letter what it was: no need to read it again.
        return Recording(before=recorded_schema, intended=recorded_schema)
    from lockstep.core.drift import grouped
    from lockstep.service.attribution import not_its_own

    live, token = read_live(session)
    drift = drift_of(live, recorded_schema, rules_of(settings), environment.name).changes
    notices: list[str] = []
    if now.is_stale:
        drift, notices = not_its_own(settings, environment, session, drift)
        write_state(session, _without(live, drift), live, event=UNRECORDED, run_id=work.run.run_id, token=token)
    heads = [one.change for one in grouped(drift)]
    if drift and something_to_do and may_stop and environment.stops_on_drift:
        raise refusal(session.target.name, environment, since(now.state), heads)
    if drift:
        notices.append(warning(environment, heads))
    if not something_to_do:
        return Recording(before=None, intended=None, notices=notices)
    return Recording(before=live, intended=_without(live, drift), drift=drift, notices=notices)


def tell(recording: Recording | None, note: Callable[[str], None]) -> None:
    """Tell a recording's notices, each once."""
    while recording is not None and recording.notices:
        note(recording.notices.pop(0))


def line(change: Change) -> str:
    """Return one difference in one line: index public.a was added."""
    from lockstep.core.changes import Action

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
    from lockstep.core.changes import exact_changes, laid_over, touched

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
