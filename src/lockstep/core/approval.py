"""Approvals as rules: what was asked for, what was answered, and how it stands. Pure; rows are read elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    FLAG = "flag"  # beforehand, by the command's --approve: nobody was asked; the role is the run's own
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
    two_person: bool = False  # another database role than the run's, and than its starter's, has to approve
    url: str | None = None  # of the run in the orchestrator's UI
    schema_token: str | None = None  # of the schema that was rehearsed; another one now: it was changed since
    overridden: str | None = None  # what came of a gate that was overridden; None: it was passed


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
    answer: Answer | None = None  # None: it waits, or has expired and nobody has logged that yet
    starters: frozenset[str] = frozenset()  # database roles that started the run, where they could say so


#: Events of the audit log that approvals are made of.
ASK = "ask"
BEGIN = "begin"  # somebody started the run under a role of their own
RESTORE = "restore"  # what the log holds before it happened to the database that the backup is of
ANSWERS = {
    "approve": Standing.APPROVED,
    "reject": Standing.REJECTED,
    "expire": Standing.EXPIRED,
    "withdraw": Standing.WITHDRAWN,
}
EVENTS = {standing: event for event, standing in ANSWERS.items()}

#: Events after which a plan that was rehearsed before is tried on something else.
MOVING = ("apply", "fail", "start", "resume", "heal", "revert", "repair", "baseline", "drift")


def how_it_stands(
    request: Request, answers: Iterable[Answer], *, now: datetime, starters: Iterable[str] = ()
) -> Approval:
    """Return a request with the first answer that counts. Later ones are too late."""
    started = frozenset(starters)
    counting = [one for one in answers if one.request == request.row and counts(request, one, started)]
    first = min(counting, key=lambda one: one.row, default=None)
    if first is not None:
        standing = first.standing
    else:
        standing = Standing.EXPIRED if now >= request.expires_at else Standing.WAITING
    return Approval(request=request, standing=standing, answer=first, starters=started)


def counts(request: Request, answer: Answer, starters: Iterable[str] = ()) -> bool:
    """Whether an answer counts for its request. Anybody may say no; a yes is for what was signed, in time."""
    if answer.row <= request.row:  # nobody can have seen then what was asked later
        return False
    if answer.standing is not Standing.APPROVED:
        return True
    if (answer.plan_digest, answer.change_digest) != (request.plan_digest, request.change_digest):
        return False
    if answer.at >= request.expires_at:
        return False
    return not request.two_person or (answer.how is How.COMMAND and answer.role not in {request.role, *starters})


def covering(
    asked: Sequence[Approval],
    *,
    plan_digest: str,
    change_digest: str | None,
    attempt: int,
    two_person: bool,
    now: datetime,
    lasts: timedelta,
    overridden: str | None = None,
) -> Approval | None:
    """Return which of a run's own requests, oldest first, speaks for this plan with these changes; None: ask anew.

    An approval holds for later attempts too, for as long as a request would have; a rejection that came after it ends
    that. Whatever else became of a request is of its own attempt alone, and only while it is the newest. Who approved
    what had passed did not approve it with that gate `overridden`.
    """
    for age, one in enumerate(reversed(asked)):
        request, answer = one.request, one.answer
        fits = (
            (request.plan_digest, request.change_digest) == (plan_digest, change_digest)
            and (request.two_person or not two_person)
            and overridden in (None, request.overridden)
        )
        if one.standing is Standing.APPROVED:
            if fits and answer is not None and now <= answer.at + lasts:
                return one
            continue
        if fits and age == 0 and request.attempt == attempt:
            return one
        if one.standing is Standing.REJECTED:
            return None
    return None
