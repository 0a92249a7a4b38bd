"""An answer, signed: checked against what was asked for, and written under the database role of whoever gives it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.approval import BEGIN, Answer, Approval, How, Request, Standing
from lockstep.errors import ApprovalRefused, LockstepError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, guard, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import read_token
from lockstep.service.approval.records import moved_since, write_answer
from lockstep.service.approval.settling import standing
from lockstep.service.project import target_of
from lockstep.service.rehearsal.gate import who

_SAID = (Standing.APPROVED, Standing.REJECTED)  # by a person


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

    Raises ApprovalRefused where two_person forbids it, where it is answered otherwise already, where it expired, and, of
    a command, where ledger or schema were changed since it was asked.
    """
    wanted = Standing.APPROVED if approve else Standing.REJECTED
    with closing(answering_session(settings, environment, run)) as session:
        found = standing(session, run, approval)
        request = found.request
        if found.standing is wanted:
            return found
        _refuse_late(session, found)
        if approve:
            if settings.approval.two_person:
                found = replace(found, request=(request := replace(request, two_person=True)))
            _refuse_alone(session, found, how)
            if how is How.COMMAND:  # the run itself looks before it applies anything
                _refuse_moved(session, request)
        write_answer(session, run, request, wanted, how=how, by=by or who(), reason=reason)
        found = standing(session, run, approval)
        if found.standing is not wanted:  # somebody was first
            _refuse_late(session, found)
        return found


def answering_session(
    settings: Settings, environment: Environment, run: RunInfo, *, read_only: bool = False
) -> Session:
    """Open a session of whoever answers: under the environment's role where they belong to it, else under their own."""
    target = target_of(settings, environment, with_settings=False)
    if target.role is not None:
        own = replace(target, role=None)
        with closing(open_session(own, run_id=run.run_id, read_only=True)) as session, guard(own):
            row = session.connection.execute(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = %s "
                "AND pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER'))",
                (target.role,),
            ).fetchone()
        if not (row and row[0]):
            target = own
    return open_session(target, run_id=run.run_id, read_only=read_only)


def note_start(settings: Settings, environment: Environment, run: RunInfo) -> None:
    """Log who starts a run, under their own database role, so that two_person can tell the approver from them.

    Does nothing where the log cannot be reached, or the role may not write it: then it cannot answer there either.
    """
    try:
        with closing(answering_session(settings, environment, run)) as session:
            write_event(
                session,
                Event(event=BEGIN, run_id=run.run_id, orchestrator_url=run.orchestrator_url, details={"by": who()}),
            )
    except (LockstepError, psycopg.Error):
        return


# -- inside ------------------------------------------------------------------------------------------------------------


def said_by(answer: Answer | None) -> str:
    """Return ` by alice@laptop`, where a person answered."""
    return f" by {answer.by}" if answer is not None and answer.standing in _SAID else ""


def _refuse_late(session: Session, found: Approval) -> None:
    if found.standing is not Standing.WAITING:
        raise ApprovalRefused(
            f"{session.target.name}: run {found.request.run_id} is {found.standing.value} already{said_by(found.answer)}",
            hint=f"lockstep explain {found.request.run_id}",
        )


def _refuse_alone(session: Session, found: Approval, how: How) -> None:
    """Raise ApprovalRefused where two people are needed and this is not surely another one."""
    request = found.request
    if not request.two_person:
        return
    if how is not How.COMMAND:
        raise ApprovalRefused(
            f"{session.target.name}: two_person is set, and nobody can vouch for who answers by the {how.value}",
            hint=f"lockstep approve {request.run_id}, with a database role of the approver's own",
        )
    role = session.facts.session_user
    if role in {request.role, *found.starters}:
        what = "works with" if role == request.role else "was started with"
        raise ApprovalRefused(
            f"{session.target.name}: two_person is set, and {role} is the database role that the run {what}",
            hint=f"somebody else answers, with a database role of their own: lockstep approve {request.run_id}",
        )


def _refuse_moved(session: Session, request: Request) -> None:
    """Raise ApprovalRefused when what was rehearsed is not what is there any more."""
    moved = moved_since(session, request)
    if moved is None and request.schema_token is not None and read_token(session) != request.schema_token:
        moved = "its schema is another one"
    if moved is not None:
        raise ApprovalRefused(
            f"{session.target.name}: it was changed since run {request.run_id} rehearsed its plan there ({moved}), so "
            "that plan is not approved any more",
            hint=f"lockstep drift {request.environment} shows what changed; end the run: lockstep reject {request.run_id} "
            '--reason "changed since", and start it again',
        )
