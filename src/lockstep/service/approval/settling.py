"""Requests that nobody answers any more: what expired, and what nobody waits for. Logged by whoever looks next."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, How, Standing
from lockstep.core.moments import utc_minute
from lockstep.errors import ApprovalRefused, LockstepError, RunWaits
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval.records import read_records, write_answer
from lockstep.service.approval.waiters import waits_still
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.rehearsal.gate import who


def refuse_overtaking(settings: Settings, environment: Environment, run: RunInfo, progress: Progress) -> None:
    """Raise RunWaits when another run waits for approval on this target. What nobody waits for any more is settled.

    A request of this run's own stays as it is.
    """
    with closing(session_of(settings, environment, run)) as session:
        others = [one for one in read_records(session).open() if one.request.run_id != run.run_id]
        settle(session, run, others, progress)


def settle_open(settings: Settings, environment: Environment, run: RunInfo, progress: Progress) -> tuple[Approval, ...]:
    """Log the end of what expired, or what nobody waits for any more; return what is open then. For the nightly look.

    What still waits is told. Raises what keeps the audit log from being read or written.
    """
    with closing(session_of(settings, environment, run)) as session:
        try:
            settle(session, run, read_records(session).open(), progress)
        except (RunWaits, ApprovalRefused) as error:  # one still waits; or this role may only read
            progress.note(environment.name, error.message)
        return read_records(session).open()


def settle(session: Session, run: RunInfo, asked: Iterable[Approval], progress: Progress) -> None:
    """Settle of these what expired and what nobody waits for any more; raise RunWaits for the first that still waits."""
    waiting: RunWaits | None = None
    for one in asked:
        request = one.request
        if one.standing is Standing.EXPIRED:
            log_expiry(session, run, one)
            progress.note(request.environment, f"run {request.run_id} had waited for approval, which expired")
        elif waits_still(session, request):
            waiting = waiting or RunWaits(
                target=session.target.name, run_id=request.run_id, since=utc_minute(request.at), by=request.by
            )
        else:
            withdraw(session, run, one, "nobody waits for it any more")
            progress.note(
                request.environment, f"run {request.run_id} had asked for approval; nobody waits for it any more"
            )
    if waiting is not None:
        raise waiting


def standing(session: Session, run: RunInfo, asked: Approval) -> Approval:
    """Return how a request stands now; when its time is over, that is logged."""
    found = read_records(session, of=asked.request).at(asked.request.row)
    if found is None:
        raise LockstepError(f"{session.target.name}: the request for approval is not in the audit log any more")
    return log_expiry(session, run, found)


def log_expiry(session: Session, run: RunInfo, one: Approval) -> Approval:
    """Log that a request has expired, where nobody has yet; return how it stands then."""
    if one.standing is not Standing.EXPIRED or one.answer is not None:
        return one
    reason = f"nobody answered until {utc_minute(one.request.expires_at)}"
    with suppress(ApprovalRefused):  # a role that may only read cannot log it: it has expired all the same
        write_answer(session, run, one.request, Standing.EXPIRED, how=How.COMMAND, by=who(), reason=reason)
        return read_records(session, of=one.request).at(one.request.row) or one
    return one


def withdraw(session: Session, run: RunInfo, one: Approval, reason: str) -> None:
    """Log that nobody waits for a request any more."""
    write_answer(session, run, one.request, Standing.WITHDRAWN, how=How.COMMAND, by=who(), reason=reason)


def session_of(settings: Settings, environment: Environment, run: RunInfo) -> Session:
    return open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id)
