"""Applying a plan: the lock is taken, the plan is made again under it, then one step at a time.

The caller drives the steps (a loop in `sync`, one Prefect task per step in the flow), all on the one session that
holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder
from lockstep.core.planner import Plan, Step
from lockstep.errors import LockHeld, MigrationFailed, StalePlan, UsageError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.executor import Done, run_message
from lockstep.postgres.ledger import refuse_unowned
from lockstep.postgres.lock import take_lock
from lockstep.postgres.message import Message, RunInfo, apply_message
from lockstep.service.planning import make_plan, options_for
from lockstep.service.project import target_of

Waiting = Callable[[int, str], None]  # (tries so far, the server's words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One step that committed."""

    name: str  # file name
    label: str
    execution_ms: int  # wall time at this end, waiting included
    tries: int
    checksum: str


@dataclass(slots=True, kw_only=True)
class WorkSession:
    """The session that holds the lock, and how it sends messages. Shared by apply and revert."""

    session: Session
    run: RunInfo

    def send(
        self, message: Message, *, name: str, version: int | None, done: int, total: int, waiting: Waiting | None
    ) -> Done:
        """Run one message; a failure goes into the audit log before it is raised."""
        try:
            result = run_message(self.session, message, done_before=done, total=total, waiting=waiting)
        except MigrationFailed as error:
            details = {"sqlstate": error.sqlstate, "file": error.file, "line": error.line, "outcome": error.outcome}
            write_event(
                self.session,
                Event(
                    event="fail",
                    run_id=self.run.run_id,
                    orchestrator_url=self.run.orchestrator_url,
                    migration_name=name,
                    version=version,
                    details=details,
                ),
            )
            raise
        if result.advisory_locks_left:
            self.renew()
        return result

    def renew(self) -> None:
        """Work on in a new session: the file took advisory locks, which only the end of its session lets go of."""
        target = self.session.target
        self.session.close()
        self.session = open_session(target, run_id=self.run.run_id)
        take_lock(self.session, wait_seconds=10)


@contextmanager
def work_session(
    settings: Settings, environment: Environment, run: RunInfo, *, wait_seconds: float = 0.0
) -> Iterator[WorkSession]:
    """Open the work session: connected, writable, owner of the ledger, holder of the lock. Closed on any exit.

    Raises Unreachable, LockHeld (logged), LedgerMissing, LedgerNotOwned, UsageError on a standby.
    """
    target = target_of(settings, environment)
    session = open_session(target, run_id=run.run_id)
    work = WorkSession(session=session, run=run)
    try:
        if session.facts.in_recovery:
            raise UsageError(
                f"{target.name}: this is a standby, which cannot be changed", hint="use the primary's address"
            )
        refuse_unowned(session)
        try:
            take_lock(session, wait_seconds=wait_seconds)
        except LockHeld as error:
            write_event(session, Event(event="refuse", run_id=run.run_id, details={"lock": error.holder}))
            raise
        yield work
    finally:
        work.session.close()


@dataclass(slots=True, kw_only=True)
class ApplyRun:
    """A plan on its way, under the lock."""

    work: WorkSession
    plan: Plan
    target: str  # shown name
    applied: list[Applied] = field(default_factory=list)

    def apply(self, step: Step, waiting: Waiting | None = None) -> Applied:
        """Apply the next step: exactly one transaction. Raises MigrationFailed, Unreachable."""
        session = self.work.session
        message = apply_message(step, session.target, self.work.run, session.baseline, session.connection)
        done = self.work.send(
            message,
            name=step.name,
            version=step.migration.version,
            done=len(self.applied),
            total=len(self.plan.steps),
            waiting=waiting,
        )
        result = Applied(
            name=step.name, label=step.label, execution_ms=done.duration_ms, tries=done.tries, checksum=step.checksum
        )
        self.applied.append(result)
        return result


@contextmanager
def open_apply(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
    expected_digest: str | None = None,
    wait_seconds: float = 0.0,
) -> Iterator[ApplyRun]:
    """Take the lock, plan under it, and yield the run; the caller applies its steps in order.

    Raises what `work_session` raises, PlanRefused, and StalePlan when the plan is not the expected one.
    """
    with work_session(settings, environment, run, wait_seconds=wait_seconds) as work:
        target = work.session.target
        made = make_plan(work.session, folder, options_for(target, to_version=to_version, include=include))
        if expected_digest is not None and made.digest != expected_digest:
            raise StalePlan(target=target.name, expected=expected_digest, actual=made.digest)
        yield ApplyRun(work=work, plan=made, target=target.name)
