"""The run's side of an approval: it asks, looks how that stands, and waits where a process may."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, How, Request, Standing, still_covers
from lockstep.core.moments import utc_minute
from lockstep.errors import ApprovalRefused, LockstepError, NotApproved, RunWaits, Unreachable
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval.prompting import Prompt
from lockstep.service.approval.records import Records, read_records, write_answer, write_request
from lockstep.service.approval.waiters import waits_still
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.rehearsal.gate import who

LOOK_EVERY = 1.0  # seconds between two looks of a process that waits
AGAIN_AFTER = 5.0  # seconds, when the database does not answer meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be approved."""

    target: str  # shown name
    plan_digest: str
    change_digest: str | None
    what: tuple[str, ...]  # files, in order
    headline: str  # of the rehearsal
    backup: str | None
    flow_run: str | None = None  # Prefect's id; None: a process waits in the foreground
    again: str = "deploy"  # the command that would ask anew


def ask(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    wanted: Wanted,
    progress: Progress,
    *,
    attempt: int = 1,
) -> Approval:
    """Ask for approval, or find what this run asked before for the same plan and changes, and how that stands.

    An approval holds for each attempt of a run; a rejection, or one that expired, for its own attempt alone. What
    nobody waits for any more is settled (logged) and in nobody's way. Raises RunWaits when another run waits here.
    """
    lasts = timedelta(milliseconds=settings.approval.expires_ms)
    with closing(_session(settings, environment, run)) as session:
        records = read_records(session)
        for one in reversed(records.of(run.run_id)):
            if still_covers(
                one,
                plan_digest=wanted.plan_digest,
                change_digest=wanted.change_digest,
                now=records.now,
                lasts=lasts,
            ):
                return one
            if one.request.attempt == attempt and _is_about(one.request, wanted):
                return _overdue(session, run, records, one)
        _settle(session, run, records, progress, mine=run.run_id)
        row = write_request(
            session,
            run,
            {
                "environment": environment.name,
                "attempt": attempt,
                "plan": wanted.plan_digest,
                "changes": wanted.change_digest,
                "expires_at": (records.now + lasts).isoformat(),
                "by": who(),
                "flow_run": wanted.flow_run,
                "files": list(wanted.what),
                "headline": wanted.headline,
                "backup": wanted.backup,
            },
        )
        records = read_records(session)
        mine = next(one for one in records.approvals if one.request.row == row)
        try:
            # Of two that asked at the same moment the first one stays.
            earlier = [one for one in records.open() if one.request.row < row]
            _settle(session, run, Records(now=records.now, approvals=tuple(earlier)), progress, mine=run.run_id)
        except RunWaits:
            write_answer(
                session,
                run,
                mine.request,
                Standing.WITHDRAWN,
                how=How.COMMAND,
                by=who(),
                reason="another run was first",
            )
            raise
        return mine


def refuse_overtaking(settings: Settings, environment: Environment, run: RunInfo, progress: Progress) -> None:
    """Raise RunWaits when another run waits for approval on this target. What nobody waits for any more is settled."""
    with closing(_session(settings, environment, run)) as session:
        records = read_records(session)
        others = tuple(one for one in records.approvals if one.request.run_id != run.run_id)
        _settle(session, run, Records(now=records.now, approvals=others), progress, mine=run.run_id)


def settle_open(settings: Settings, environment: Environment, run: RunInfo, progress: Progress) -> None:
    """Log the end of what expired, or what nobody waits for any more. What still waits is told. For the nightly look."""
    with closing(_session(settings, environment, run)) as session:
        try:
            _settle(session, run, read_records(session), progress, mine="")
        except RunWaits as waits:
            progress.note(environment.name, waits.message)


def wait(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    asked: Approval,
    progress: Progress,
    *,
    prompt: Prompt | None = None,
) -> Approval:
    """Wait in this process until it is answered or expires, by looking every second. `prompt` asks at a terminal.

    One session stays open meanwhile, by which others see that somebody still waits. One that is lost is opened again.
    """
    name, run_id = environment.name, asked.request.run_id
    if asked.standing is not Standing.WAITING:
        return asked
    if prompt is not None and (given := prompt(asked)) is not None:
        found = _look(settings, environment, run, asked)
        if found.standing is not Standing.WAITING:
            return found
        approved, reason = given
        return answer(settings, environment, run, found, approve=approved, reason=reason, how=How.PROMPT)
    progress.note(name, f"waits for approval until {utc_minute(asked.request.expires_at)}: lockstep approve {run_id}")
    lost = False
    while True:
        try:
            with closing(_session(settings, environment, run)) as session:
                lost = False
                while (found := _standing(session, run, asked)).standing is Standing.WAITING:
                    time.sleep(LOOK_EVERY)
                return found
        except Unreachable as error:
            if not lost:
                progress.note(name, f"still waits for approval, but {error.message}")
            lost = True
            time.sleep(AGAIN_AFTER)


def pass_on(target: str, environment: str, approval: Approval, *, again: str) -> None:
    """Return when it is approved; raises NotApproved for every other standing."""
    if approval.standing is Standing.APPROVED:
        return
    answer = approval.answer
    rejected = approval.standing is Standing.REJECTED
    raise NotApproved(
        target=target,
        environment=environment,
        how=approval.standing.value,
        by=answer.by if answer and rejected else None,
        reason=answer.reason if answer else None,
        again=again,
    )


def answer(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    approval: Approval,
    *,
    approve: bool,
    reason: str | None,
    how: How,
    by: str | None = None,
) -> Approval:
    """Write an answer into the audit log. A second one like the first changes nothing.

    Raises ApprovalRefused where `two_person` forbids it, where it is answered otherwise already, or where it expired.
    """
    wanted = Standing.APPROVED if approve else Standing.REJECTED
    with closing(_session(settings, environment, run)) as session:
        found = _standing(session, run, approval)
        request = found.request
        if found.standing is wanted:
            return found
        if found.standing is not Standing.WAITING:
            said = found.answer
            who_said = f" by {said.by}" if said and said.standing in (Standing.APPROVED, Standing.REJECTED) else ""
            raise ApprovalRefused(
                f"{session.target.name}: run {request.run_id} was {found.standing.value} already{who_said}",
                hint=f"lockstep explain {request.run_id}",
            )
        if approve and settings.approval.two_person:
            _refuse_alone(session, request, how)
        write_answer(session, run, request, wanted, how=how, by=by or who(), reason=reason)
        return _standing(session, run, approval)


# -- inside ------------------------------------------------------------------------------------------------------------


def _session(settings: Settings, environment: Environment, run: RunInfo) -> Session:
    return open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id)


def _is_about(request: Request, wanted: Wanted) -> bool:
    return (request.plan_digest, request.change_digest) == (wanted.plan_digest, wanted.change_digest)


def _look(settings: Settings, environment: Environment, run: RunInfo, asked: Approval) -> Approval:
    with closing(_session(settings, environment, run)) as session:
        return _standing(session, run, asked)


def _standing(session: Session, run: RunInfo, asked: Approval) -> Approval:
    """How a request stands now; when its time is over, that is logged."""
    records = read_records(session, run_id=asked.request.run_id)
    found = next((one for one in records.approvals if one.request.row == asked.request.row), None)
    if found is None:
        raise LockstepError(f"{session.target.name}: the request for approval is not in the audit log any more")
    return _overdue(session, run, records, found)


def _overdue(session: Session, run: RunInfo, records: Records, one: Approval) -> Approval:
    if one.standing is not Standing.WAITING or records.now < one.request.expires_at:
        return one
    reason = f"nobody answered until {utc_minute(one.request.expires_at)}"
    with suppress(ApprovalRefused):  # a role that may only read cannot log it: it has expired all the same
        write_answer(session, run, one.request, Standing.EXPIRED, how=How.COMMAND, by=who(), reason=reason)
        again = read_records(session, run_id=one.request.run_id)
        return next(each for each in again.approvals if each.request.row == one.request.row)
    return Approval(request=one.request, standing=Standing.EXPIRED)


def _settle(session: Session, run: RunInfo, records: Records, progress: Progress, *, mine: str) -> None:
    """Settle what expired and what nobody waits for any more; raise RunWaits for the first that still waits."""
    waiting: RunWaits | None = None
    for one in records.open():
        request = one.request
        if _overdue(session, run, records, one).standing is Standing.EXPIRED:
            progress.note(request.environment, f"run {request.run_id} had waited for approval, which expired")
            continue
        if request.run_id == mine:
            gone: str | None = "the run asked anew"
        else:
            gone = None if waits_still(session, request) else "nobody waits for it any more"
        if gone is None:
            waiting = waiting or RunWaits(
                target=session.target.name, run_id=request.run_id, since=utc_minute(request.at), by=request.by
            )
            continue
        write_answer(session, run, request, Standing.WITHDRAWN, how=How.COMMAND, by=who(), reason=gone)
        if request.run_id != mine:
            progress.note(request.environment, f"run {request.run_id} had asked for approval; {gone}")
    if waiting is not None:
        raise waiting


def _refuse_alone(session: Session, request: Request, how: How) -> None:
    """Raise ApprovalRefused unless another database role than the run's own, and than its starter's, answers."""
    if how is not How.COMMAND:
        raise ApprovalRefused(
            f"{session.target.name}: two_person is set, and nobody can vouch for who answers by the {how.value}",
            hint=f"lockstep approve {request.run_id}, with a database role of the approver's own",
        )
    role = session.facts.session_user
    if role in {request.role, *starters(session, request.run_id)}:
        raise ApprovalRefused(
            f"{session.target.name}: two_person is set, and {role} is the role that the run itself works or was started with",
            hint="approve it with a database role of your own; docs/how-to/approve.md",
        )


def starters(session: Session, run_id: str) -> tuple[str, ...]:
    """Return the database roles that started a run, where they could say so in the audit log."""
    from psycopg import sql

    from lockstep.postgres.audit import log_rows

    statement = sql.SQL(
        "SELECT DISTINCT actor FROM {}.schema_migrations_log WHERE event = 'begin' AND run_id = %s"
    ).format(sql.Identifier(session.target.ledger_schema))
    return tuple(str(row[0]) for row in log_rows(session, statement, (run_id,)))
