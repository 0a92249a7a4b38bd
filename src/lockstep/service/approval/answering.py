"""The other side of an approval: whoever answers finds what waits, signs it over a connection of their own, and wakes the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, How, Standing
from lockstep.errors import ApprovalRefused, LedgerMissing, LockstepError, UsageError
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval.gate import answer
from lockstep.service.approval.records import read_records
from lockstep.service.project import target_of


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
    settings: Settings, text: str | None, environments: Sequence[Environment], run: RunInfo
) -> tuple[Found, ...]:
    """Return what waits for an answer. `text`: a run's id, Prefect's id of it, or its address; None: whatever waits.

    Raises UsageError when nothing does, or several runs do and none is named; ApprovalRefused when the run is answered
    already; and what kept an environment from being read, when nothing was found elsewhere.
    """
    wanted = text.rstrip("/").rsplit("/", 1)[-1] if text else None
    waiting: list[Found] = []
    over: list[Found] = []
    trouble: LockstepError | None = None
    for environment in environments:
        try:
            target = target_of(settings, environment, with_settings=False)
            with closing(open_session(target, run_id=run.run_id, read_only=True)) as session:
                records = read_records(session)
        except LedgerMissing:
            continue
        except LockstepError as error:
            trouble = trouble or error
            continue
        for one in records.approvals:
            if wanted is not None and wanted not in (one.request.run_id, one.request.flow_run):
                continue
            found = Found(environment=environment, target=target.name, approval=one)
            expired = records.now >= one.request.expires_at
            (waiting if one.standing is Standing.WAITING and not expired else over).append(found)
    if not waiting:
        raise _nothing(wanted, over, trouble)
    runs = sorted({one.approval.request.run_id for one in waiting})
    if len(runs) > 1:
        raise UsageError(f"several runs wait for approval: {', '.join(runs)}", hint=f"lockstep approve {runs[-1]}")
    return tuple(waiting)


def answer_found(
    settings: Settings, found: Found, run: RunInfo, *, approve: bool, reason: str | None, plan: str | None = None
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
    given = answer(settings, found.environment, run, found.approval, approve=approve, reason=reason, how=How.COMMAND)
    asleep = None
    if request.flow_run is not None:
        from lockstep.service.orchestrator import wake  # late: Prefect

        asleep = wake(request.flow_run, approve=approve, reason=reason)
    return Answered(environment=found.environment.name, approval=given, asleep=asleep)


def _nothing(wanted: str | None, over: list[Found], trouble: LockstepError | None) -> LockstepError:
    if wanted is not None and over:
        last = over[-1]
        standing = last.approval.standing if last.approval.standing is not Standing.WAITING else Standing.EXPIRED
        said = last.approval.answer
        by = f" by {said.by}" if said and standing in (Standing.APPROVED, Standing.REJECTED) else ""
        return ApprovalRefused(
            f"{last.target}: run {last.approval.request.run_id} is {standing.value} already{by}",
            hint=f"lockstep explain {last.approval.request.run_id}",
        )
    if trouble is not None:
        return trouble
    what = "no run waits for approval" if wanted is None else f"no run '{wanted}' waits for approval"
    return UsageError(what, hint="lockstep history prod --event ask shows what was asked")
