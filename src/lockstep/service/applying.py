"""Applying a plan: the lock is taken, the plan is made again under it, then one step at a time.

The caller drives the steps (a loop in `sync`, one Prefect task per step in the flow), all on the one session that
holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.ledger import Entry
from lockstep.core.migration import Folder, label
from lockstep.core.planner import Plan, Step
from lockstep.errors import (
    LedgerError,
    LockHeld,
    LockstepError,
    MigrationFailed,
    StalePlan,
    Unreachable,
)
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session, open_session, refuse_standby
from lockstep.postgres.executor import Done, run_message
from lockstep.postgres.ledger import read_ledger, refuse_unowned
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
    entries: dict[str, str | None] = field(default_factory=dict)  # what the ledger must hold: file name -> checksum

    def send(
        self, message: Message, *, name: str, version: int | None, done: int, total: int, waiting: Waiting | None
    ) -> Done:
        """Run one message; a failure goes into the audit log before it is raised."""
        try:
            return run_message(self.session, message, done_before=done, total=total, waiting=waiting)
        except MigrationFailed as error:
            details = {"sqlstate": error.sqlstate, "file": error.file, "line": error.line, "outcome": error.outcome}
            event = Event(
                event="fail",
                run_id=self.run.run_id,
                orchestrator_url=self.run.orchestrator_url,
                migration_name=name,
                version=version,
                details=details,
            )
            try:
                write_event(self.session, event)
            except (psycopg.Error, LockstepError):
                # Trouble with the log must not hide why the migration failed.
                raise error.noting("the audit log could not be written, so this failure is not in it") from None
            raise

    def keep_clean(self, done: Done, outcome: str) -> None:
        """Work on in a new session where a file left something that only the end of its session lets go of.

        The lock is free for a moment then, so the ledger is read again and must be what this run made of it.
        Raises LockHeld and LedgerError with `outcome`, what was done so far.
        """
        if done.session_is_clean:
            return
        target = self.session.target
        self.session.close()
        self.session = open_session(target, run_id=self.run.run_id)
        try:
            take_lock(self.session, wait_seconds=RETAKE_SECONDS)
        except LockHeld as error:
            raise LockHeld(target=error.target, holder=error.holder, outcome=outcome) from None
        self._refuse_changed(read_ledger(self.session).entries, self.entries, outcome)

    def _refuse_changed(self, entries: Iterable[Entry], expected: Mapping[str, str | None], outcome: str) -> None:
        """While the lock was free somebody else may have worked: then this run's plan is not to be trusted any more."""
        if {e.name: e.checksum for e in entries} != expected:
            target = self.session.target
            raise LedgerError(
                f"{target.name}: the ledger was changed by somebody else while this run took its lock again. {outcome}",
                hint=f"lockstep status {target.environment}",
            )

    def find_out(self, name: str, checksum: str | None, lost: Unreachable, outcome: str) -> Entry | None:
        """After a lost connection: take the lock again, which proves that the old backend ended, and ask the ledger.

        Returns the entry that this run wrote for `name`, or None when there is none (the transaction was rolled
        back). Raises Unreachable when it cannot be found out.
        """
        target = self.session.target
        self.session.close()
        try:
            self.session = open_session(target, run_id=self.run.run_id)
            take_lock(self.session, wait_seconds=LOST_SECONDS)
            entries = read_ledger(self.session).entries
        except LockstepError:
            raise Unreachable(
                target=target.name,
                reason=f"{lost.reason}. {outcome} Whether {label(name)} was committed could not be found out.",
                hint=f"lockstep status {target.environment}",
            ) from None
        mine = (name, checksum, self.run.run_id)
        found = next((e for e in entries if (e.name, e.checksum, e.run_id) == mine), None)
        if found is not None:
            self._refuse_changed(entries, {**self.entries, name: checksum}, f"{outcome} {label(name)} was committed.")
        return found


#: How long to wait for our own old backend to end, when the lock is taken again.
RETAKE_SECONDS = 30.0
#: The same after a lost connection: the server needs a minute to find out (postgres.connection sets its keepalives).
LOST_SECONDS = 75.0


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
        refuse_standby(session)
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
    before: tuple[str, ...]  # environments that get each migration before this one
    applied: list[Applied] = field(default_factory=list)

    def apply(self, step: Step, waiting: Waiting | None = None) -> Applied:
        """Apply the next step: exactly one transaction. Raises MigrationFailed, Unreachable."""
        session = self.work.session
        message = apply_message(step, session.target, self.work.run, session.baseline, session.connection)
        try:
            done = self.work.send(
                message,
                name=step.name,
                version=step.migration.version,
                done=len(self.applied),
                total=len(self.plan.steps),
                waiting=waiting,
            )
        except Unreachable as lost:
            done = self._settle(step, lost)
        except MigrationFailed as error:
            error.hint = error.hint or self._way_on(step, error.file)
            raise
        result = Applied(
            name=step.name, label=step.label, execution_ms=done.duration_ms, tries=done.tries, checksum=step.checksum
        )
        self.applied.append(result)
        self.work.entries[step.name] = step.checksum
        self.work.keep_clean(done, self._outcome)
        return result

    def _way_on(self, step: Step, file: str) -> str:
        """What to do about a file that failed here; where it is applied already it has to be taken back first."""
        again = "deploy" if self.work.run.orchestrator_url else "sync"
        version = step.migration.version
        if not self.before or version is None:
            return f"mend {file}, then: lockstep {again} {self.work.session.target.environment}"
        older = [row.version for row in self.plan.rows if row.version is not None and row.version < version]
        back = " and ".join(f"lockstep revert {name} --to {max(older, default='none')}" for name in self.before)
        return f"take it back where it is applied already ({back}), mend {file}, then: lockstep {again}"

    @property
    def _outcome(self) -> str:
        return f"{len(self.applied)} of {len(self.plan.steps)} done."

    def _settle(self, step: Step, lost: Unreachable) -> Done:
        """A lost answer to COMMIT is no failure: the ledger row of the same transaction tells."""
        entry = self.work.find_out(step.name, step.checksum, lost, self._outcome)
        if entry is not None:
            return Done(duration_ms=entry.execution_ms or 0, tries=1, session_is_clean=True)
        raise Unreachable(
            target=self.target,
            reason=f"{lost.reason}. {self._outcome} {step.label} was rolled back, nothing of it stayed.",
            hint=f"lockstep sync {self.work.session.target.environment}",
        )


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
    with ExitStack() as stack:
        try:
            work = stack.enter_context(work_session(settings, environment, run, wait_seconds=wait_seconds))
            target = work.session.target
            made = make_plan(work.session, folder, options_for(target, to_version=to_version, include=include))
        except Unreachable as lost:
            raise lost.noting("Nothing was applied.") from None
        if expected_digest is not None and made.digest != expected_digest:
            raise StalePlan(target=target.name, expected=expected_digest, actual=made.digest)
        work.entries = {row.entry.name: row.entry.checksum for row in made.rows if row.entry is not None}
        yield ApplyRun(work=work, plan=made, target=target.name, before=tuple(environment.table.after))
