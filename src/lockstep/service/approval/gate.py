"""The run's side of an approval: it asks, looks how that stands, and waits where a process may."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, How, Standing, covering
from lockstep.core.moments import utc_minute
from lockstep.errors import ApprovalRefused, LockstepError, NotApproved, RunWaits, Unreachable
from lockstep.postgres.connection import Session
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval.prompting import Beforehand, Prompt, watched
from lockstep.service.approval.records import read_records, write_request
from lockstep.service.approval.settling import log_expiry, refuse_overtaking, session_of, settle, standing, withdraw
from lockstep.service.approval.signing import answer, note_start
from lockstep.service.progress import Progress
from lockstep.service.rehearsal.gate import who

__all__ = ["Wanted", "answer", "ask", "note_start", "pass_on", "present", "refuse_overtaking", "wait"]

LOOK_EVERY = 1.0  # seconds between two looks of a process that waits
AGAIN_AFTER = 2.0  # seconds, when the database does not answer meanwhile; less than waiters look for it


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
    schema_token: str | None = None  # of the schema that was rehearsed; None: not known
    overridden: str | None = None  # what came of the gate before, where somebody overrode it; None: it was passed


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
    with closing(session_of(settings, environment, run)) as session:
        records = read_records(session)
        mine = records.of(run.run_id)
        found = covering(
            mine,
            plan_digest=wanted.plan_digest,
            change_digest=wanted.change_digest,
            attempt=attempt,
            two_person=settings.approval.two_person,
            now=records.now,
            lasts=lasts,
            overridden=wanted.overridden,
        )
        if found is not None:
            return log_expiry(session, run, found)
        settle(session, run, [one for one in records.open() if one.request.run_id != run.run_id], progress)
        for one in mine:
            if one.answer is None:
                withdraw(session, run, one, "the run asked anew")
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
                "two_person": settings.approval.two_person,
                "schema_token": wanted.schema_token,
                "overridden": wanted.overridden,
            },
        )
        return _first(session, run, row, progress)


def _first(session: Session, run: RunInfo, row: int, progress: Progress) -> Approval:
    """Return what was just asked; of two runs that asked at the same moment the first one stays."""
    records = read_records(session)
    asked = records.at(row)
    assert asked is not None
    others = [one for one in records.open() if one.request.row < row and one.request.run_id != run.run_id]
    try:
        settle(session, run, others, progress)
    except RunWaits:
        withdraw(session, run, asked, "another run was first")
        raise
    return asked


@contextmanager
def present(settings: Settings, environment: Environment, run: RunInfo) -> Iterator[None]:
    """Keep a session open, by which others see that this process is there: between asking and waiting, for one.

    Where that cannot be had it is done without: to wait is patient with a server that does not answer.
    """
    with ExitStack() as stack:
        with suppress(LockstepError):
            stack.enter_context(closing(session_of(settings, environment, run)))
        yield


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
    When the wait is cut short, by Ctrl-C for one, the request is withdrawn.
    """
    if asked.standing is not Standing.WAITING:
        return asked
    try:
        return _answered(settings, environment, run, asked, progress, None if asked.request.two_person else prompt)
    except BaseException:
        with suppress(Exception), closing(session_of(settings, environment, run)) as session:
            if standing(session, run, asked).standing is Standing.WAITING:
                withdraw(session, run, asked, "the run was stopped while it waited")
        raise


def _answered(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    asked: Approval,
    progress: Progress,
    prompt: Prompt | None,
) -> Approval:
    name, request = environment.name, asked.request
    how = How.FLAG if isinstance(prompt, Beforehand) else How.PROMPT
    # Who is asked here, or gave it beforehand, need not be told; the word of one person does not stand for two.
    ending = (
        "" if prompt else f" (Ctrl-C withdraws{'' if request.two_person else '; --approve REASON gives it beforehand'})"
    )
    lost = told = False
    while True:
        try:
            with closing(session_of(settings, environment, run)) as session:
                lost = False
                if prompt is not None:
                    with watched(lambda: standing(session, run, asked).standing is not Standing.WAITING):
                        given = prompt(asked)
                    prompt = None
                    if given is not None:
                        try:
                            return answer(settings, environment, run, asked, approve=given[0], reason=given[1], how=how)
                        except ApprovalRefused as refused:  # somebody else was first, for one
                            progress.note(name, f"this answer does not count: {refused.message}", urgent=True)
                while (found := standing(session, run, asked)).standing is Standing.WAITING:
                    if not told:
                        until = utc_minute(request.expires_at)
                        said = f"waits for approval until {until}: lockstep approve {request.run_id}{ending}"
                        progress.note(name, said, urgent=True)
                        told = True
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
    answered = approval.answer
    rejected = approval.standing is Standing.REJECTED
    raise NotApproved(
        target=target,
        environment=environment,
        how=approval.standing.value,
        by=answered.by if answered and rejected else None,
        reason=answered.reason if answered else None,
        again=again,
    )
