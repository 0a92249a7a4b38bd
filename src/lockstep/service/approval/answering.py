"""The other side of an approval: whoever answers finds what waits, signs it over a connection of their own, and wakes the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, How, Standing
from lockstep.errors import ApprovalRefused, LedgerMissing, LockstepError, UsageError
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval.prompting import watched
from lockstep.service.approval.records import read_records
from lockstep.service.approval.settling import standing
from lockstep.service.approval.signing import answer, answering_session, said_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What waits, and where."""

    environment: Environment
    target: str  # shown name
    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What became of an answer."""

    environment: str
    approval: Approval
    asleep: str | None = None  # why the run could not be woken; None: it goes on, or needs no waking


def find_waiting(
    settings: Settings,
    text: str | None,
    environments: Sequence[Environment],
    run: RunInfo,
    *,
    already: Standing | None = None,
) -> tuple[Found, ...]:
    """Return what waits for an answer. `text`: a run's id, Prefect's id of it, or its address; None: whatever waits.

    Of a run that is named, what was answered as `already` counts as found: to give that answer again does no harm.
    Raises UsageError when nothing waits, or several runs do and none is named; ApprovalRefused when the run is answered
    otherwise; and what kept an environment from being read, when nothing was found elsewhere.
    """
    wanted = text.rstrip("/").rsplit("/", 1)[-1] if text else None
    waiting: list[Found] = []
    over: list[Found] = []
    trouble: LockstepError | None = None
    for environment in environments:
        try:
            with closing(answering_session(settings, environment, run, read_only=True)) as session:
                target, records = session.target.name, read_records(session)
        except LedgerMissing:
            continue
        except LockstepError as error:
            trouble = trouble or error
            continue
        for one in records.approvals:
            if wanted is None or wanted in (one.request.run_id, one.request.flow_run):
                found = Found(environment=environment, target=target, approval=one)
                (waiting if one.standing is Standing.WAITING else over).append(found)
    if not waiting and wanted is not None and over and over[-1].approval.standing is already:
        waiting = [over[-1]]
    if not waiting:
        raise _nothing(wanted, over, trouble)
    runs = sorted({one.approval.request.run_id for one in waiting})
    if len(runs) > 1:
        raise UsageError(
            f"several runs wait for approval: {', '.join(runs)}", hint=f"name one: lockstep approve {runs[-1]}"
        )
    return tuple(waiting)


@contextmanager
def looking(settings: Settings, found: Found, run: RunInfo) -> Iterator[None]:
    """Inside the block a prompt is told when somebody else answers."""
    with (
        closing(answering_session(settings, found.environment, run)) as session,
        watched(lambda: standing(session, run, found.approval).standing is not Standing.WAITING),
    ):
        yield


def answer_found(
    settings: Settings,
    found: Found,
    run: RunInfo,
    *,
    approve: bool,
    reason: str | None,
    plan: str | None = None,
    how: How = How.COMMAND,
) -> Answered:
    """Sign an answer, and wake the run where it sleeps in Prefect. `plan`: the start of the digest that is meant.

    Raises ApprovalRefused.
    """
    request = found.approval.request
    if plan is not None and not request.plan_digest.startswith(plan.lower()):
        raise ApprovalRefused(
            f"{found.target}: run {request.run_id} waits with plan {request.plan_digest[:12]}, which is not {plan}",
            hint=f"look at what it would do: lockstep approve {request.run_id}",
        )
    given = answer(settings, found.environment, run, found.approval, approve=approve, reason=reason, how=how)
    asleep = None
    if request.flow_run is not None:
        from lockstep.service.orchestrator import wake  # late: Prefect

        asleep = wake(request.flow_run, approve=approve, reason=reason)
    return Answered(environment=found.environment.name, approval=given, asleep=asleep)


def _nothing(wanted: str | None, over: list[Found], trouble: LockstepError | None) -> LockstepError:
    if wanted is not None and over:
        last = over[-1]
        run_id, standing = last.approval.request.run_id, last.approval.standing.value
        return ApprovalRefused(
            f"{last.target}: run {run_id} is {standing} already{said_by(last.approval.answer)}",
            hint=f"lockstep explain {run_id}",
        )
    if trouble is not None:
        return trouble
    what = "no run waits for approval" if wanted is None else f"no run '{wanted}' waits for approval"
    return UsageError(what, hint="lockstep history prod --event ask shows what was asked")
