"""Approvals as rules: what was asked for, what was answered, and how it stands. Pure; rows are read elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class Standing(Enum):
    """How a request stands."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"  # cancelled in Prefect, or whoever waited is gone


class How(Enum):
    """By which way an answer came: how far its identity can be relied on."""

    COMMAND = "command"  # over the approver's own connection: the database vouches for the role
    PROMPT = "prompt"  # at the terminal of the run itself: the role is the run's own
    FORM = "form"  # in Prefect's UI: nobody vouches for who it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run asks to be allowed, as one row of the target's audit log holds it."""

    row: int  # number of the audit log's row
    at: datetime
    run_id: str
    attempt: int
    environment: str
    plan_digest: str
    change_digest: str | None  # None: the rehearsal found out nothing, and that was overridden
    expires_at: datetime
    role: str  # database role of the run
    by: str  # who and where: alice@laptop
    flow_run: str | None  # Prefect's id of the run; None: a process waits in the foreground
    what: tuple[str, ...]  # files, in order
    headline: str  # of the rehearsal
    backup: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody answered."""

    row: int
    request: int  # row of what it answers
    at: datetime
    standing: Standing  # approved, rejected, expired, withdrawn
    role: str  # database role that wrote it
    by: str
    how: How
    reason: str | None
    plan_digest: str
    change_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A request and how it stands."""

    request: Request
    standing: Standing
    answer: Answer | None = None


#: Events of the audit log that approvals are made of.
ASK = "ask"
ANSWERS = {
    "approve": Standing.APPROVED,
    "reject": Standing.REJECTED,
    "expire": Standing.EXPIRED,
    "withdraw": Standing.WITHDRAWN,
}
EVENTS = {standing: event for event, standing in ANSWERS.items()}


def how_it_stands(request: Request, answers: Iterable[Answer]) -> Approval:
    """Return a request with the first answer that covers it: the same plan and the same changes. Later ones are too late."""
    signed = (request.plan_digest, request.change_digest)
    fitting = [
        one
        for one in answers
        if one.request == request.row
        and (one.standing is not Standing.APPROVED or (one.plan_digest, one.change_digest) == signed)
    ]
    first = min(fitting, key=lambda one: one.row, default=None)
    return Approval(request=request, standing=first.standing if first else Standing.WAITING, answer=first)


def still_covers(
    approval: Approval, *, plan_digest: str, change_digest: str | None, now: datetime, lasts: timedelta
) -> bool:
    """Whether an approval that was given covers this plan with these changes, and has not expired since."""
    request, answer = approval.request, approval.answer
    if approval.standing is not Standing.APPROVED or answer is None:
        return False
    return (request.plan_digest, request.change_digest) == (plan_digest, change_digest) and now <= answer.at + lasts
