"""The work session: connected, owner of the ledger, holder of the lock. Apply and revert send all they do through it.

What sends and what writes events is imported late: a run that finds nothing to do does neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.ledger import Entry
from lockstep.core.migration import label
from lockstep.errors import (
    Cancelled,
    DriftFound,
    ExitCode,
    LedgerError,
    LockHeld,
    LockstepError,
    MigrationFailed,
    MigrationFileError,
    PlanRefused,
    RehearsalRefused,
    Unreachable,
)
from lockstep.postgres.connection import Session, Target, guard, open_session, refuse_standby
from lockstep.postgres.entries import RunInfo, Scribe
from lockstep.postgres.ledger import read_ledger, refuse_unowned
from lockstep.postgres.lock import take_lock
from lockstep.postgres.watch import Blocker, Waited, Watch
from lockstep.service.project import target_of

if TYPE_CHECKING:
    from lockstep.postgres.executor import Attempt, Done, Waiting
    from lockstep.postgres.message import Frame, Message

#: How long to wait for our own old backend to end, when the lock is taken again.
RETAKE_SECONDS = 30.0
#: The same after a lost connection: the server needs a minute to find out (postgres.connection sets its keepalives).
LOST_SECONDS = 75.0
#: How long to try for a new connection then: a server that is restarted takes some seconds, and only the ledger tells
#: what became of what was under way.
BACK_SECONDS = 20.0


@dataclass(slots=True, kw_only=True)
class WorkSession:
    """The session that holds the lock, and how it sends messages."""

    session: Session
    run: RunInfo
    watch: Watch
    entries: dict[str, str | None] = field(default_factory=dict)  # what the ledger must hold: file name -> checksum
    under_way: str | None = None  # file name of the migration that is being applied or taken back

    @property
    def frame(self) -> Frame:
        """What all messages of the session have in common."""
        from lockstep.postgres.message import Frame

        return Frame.of(self.session, apart=self.watch.apart)

    @property
    def scribe(self) -> Scribe:
        """Writes the rows of this run."""
        return Scribe(target=self.session.target, run=self.run, context=self.session.connection)

    def send(
        self,
        compose: Callable[[Attempt], Message],
        *,
        name: str,
        version: int | None,
        outcome: str,
        waiting: Waiting | None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Done:
        """Run one transaction; a failure goes into the audit log before it is raised.

        `meanwhile` is called while the server works: time that would be lost otherwise.
        """
        from lockstep.postgres.executor import run_message

        try:
            return run_message(
                self.session, compose, watch=self.watch, outcome=outcome, waiting=waiting, meanwhile=meanwhile
            )
        except MigrationFailed as error:
            self.log_failure(error, name=name, version=version, waited_for=self.watch.blockers)
            raise

    def log_failure(
        self, error: MigrationFailed, *, name: str, version: int | None, waited_for: Sequence[Blocker]
    ) -> None:
        """Write a failure into the audit log. Raises the same failure with one more line where that cannot be done."""
        from lockstep.postgres.audit import Event, write_event

        details: dict[str, object] = {
            "sqlstate": error.sqlstate, "file": error.file, "line": error.line, "outcome": error.outcome,
        }  # fmt: skip
        details |= Waited(blockers=tuple(waited_for)).details
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
        self.refuse_changed(read_ledger(self.session).entries, self.entries, outcome)

    def keep_lock(self, outcome: str) -> None:
        """After a long wait: where the session was lost meanwhile, take the lock again in a new one.

        The ledger must be what it was then. Raises Unreachable, LockHeld and LedgerError with `outcome`, what was done.
        """
        try:
            with guard(self.session.target):
                self.session.connection.execute("SELECT 1")
            return
        except Unreachable:
            self.session.close()
        self.session = self._connected_again()
        try:
            take_lock(self.session, wait_seconds=LOST_SECONDS)
        except LockHeld as error:
            raise LockHeld(target=error.target, holder=error.holder, outcome=outcome) from None
        self.refuse_changed(read_ledger(self.session).entries, self.entries, outcome)

    def refuse_changed(self, entries: Iterable[Entry], expected: Mapping[str, str | None], outcome: str) -> None:
        """While the lock was free somebody else may have worked: then this run's plan is not to be trusted any more."""
        if {e.name: e.checksum for e in entries} != expected:
            target = self.session.target
            raise LedgerError(
                f"{target.name}: the ledger was changed by somebody else while this run took its lock again. {outcome}",
                hint=f"lockstep status {target.environment}",
            )

    def reconnect(self, lost: Unreachable, outcome: str, name: str) -> tuple[Entry, ...]:
        """After a lost connection: take the lock again, which proves that the old backend ended, and ask the ledger.

        Returns its entries. Raises Unreachable when it cannot be found out what became of `name`.
        """
        target = self.session.target
        self.session.close()
        try:
            self.session = self._connected_again()
            take_lock(self.session, wait_seconds=LOST_SECONDS)
            return read_ledger(self.session).entries
        except LockstepError:
            raise Unreachable(
                target=target.name,
                reason=f"{lost.reason}. {outcome} Whether {label(name)} was committed could not be found out.",
                hint=f"lockstep status {target.environment}",
            ) from None

    def _connected_again(self) -> Session:
        began = time.monotonic()
        while True:
            try:
                return open_session(self.session.target, run_id=self.run.run_id)
            except Unreachable:
                if time.monotonic() - began > BACK_SECONDS:
                    raise
            time.sleep(0.5)

    def close(self) -> None:
        self.watch.close()
        self.session.close()


@contextmanager
def work_session(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    *,
    wait_seconds: float = 0.0,
    watch: Callable[[Target, str], Watch] = Watch,
) -> Iterator[WorkSession]:
    """Open the work session: connected, writable, owner of the ledger, holder of the lock. Closed on any exit.

    `watch` makes what looks at it while a message runs, of target and run id.
    Raises Unreachable, LockHeld (logged), LedgerMissing, LedgerNotOwned, UsageError on a standby, Cancelled.
    """
    target = target_of(settings, environment)
    session = open_session(target, run_id=run.run_id)
    work = WorkSession(session=session, run=run, watch=watch(target, run.run_id))
    try:
        refuse_standby(session)
        refuse_unowned(session)
        try:
            take_lock(session, wait_seconds=wait_seconds)
        except LockHeld as error:
            from lockstep.postgres.audit import Event, write_event

            write_event(session, Event(event="refuse", run_id=run.run_id, details={"lock": error.holder}))
            asks = _asks(session, error.holder)
            if asks is None:
                raise
            raise LockHeld(target=error.target, holder=error.holder, asks=asks) from None
        try:
            yield work
        except LockstepError as error:
            _log_refusal(work, error)
            raise
        except psycopg.errors.QueryCanceled:
            raise Cancelled(target=target.name, environment=target.environment) from None
        except BaseException as error:
            if not isinstance(error, Exception):
                _log_stop(work, error)
            raise
    finally:
        work.close()


def _asks(session: Session, holder: str) -> str | None:
    """Return the run id of who holds the lock, where it waits for approval. Trouble with the log hides nothing."""
    from lockstep.core.approval import Standing  # late: the lock is rarely held
    from lockstep.service.approval.records import read_records

    with suppress(psycopg.Error, LockstepError):
        for one in read_records(session).open():
            if one.standing is Standing.WAITING and holder.startswith(f"run {one.request.run_id} "):
                return one.request.run_id
    return None


def _log_refusal(work: WorkSession, error: LockstepError) -> None:
    """Write that a gate stopped a run into the audit log. Trouble with the log hides nothing.

    A migration that failed has an event of its own; a correction that does not fit was a question, and is answered.
    """
    if error.exit_code is not ExitCode.REFUSED and not isinstance(error, PlanRefused | DriftFound):
        return
    if isinstance(error, RehearsalRefused):
        return  # the gate wrote it, with or without this session
    from lockstep.postgres.audit import Event, write_event

    # The reasons of a plan are names; what else an error's further lines hold may be of a file.
    text = (
        " ".join(error.message.split())
        if isinstance(error, PlanRefused | DriftFound)
        else error.message.splitlines()[0]
    )
    if isinstance(error, MigrationFileError):  # what stands in a file that cannot be read may be anything
        place = ":".join(str(part) for part in (error.file, error.line, error.column) if part is not None)
        text = f"{place}: the file cannot be used"
    details = {"why": type(error).__name__, "message": text.removeprefix(f"{work.session.target.name}: ")[:500]}
    event = Event(event="refuse", run_id=work.run.run_id, orchestrator_url=work.run.orchestrator_url, details=details)
    with suppress(psycopg.Error, LockstepError):
        write_event(work.session, event)


def _log_stop(work: WorkSession, error: BaseException) -> None:
    """Write into the audit log that this process was told to end, and what became of what it was doing."""
    from lockstep.service.stopping import OWN, Stopped, log_stop, signal_of  # late: it rarely happens

    how = signal_of(error)
    stopped = Stopped(how=how, by=OWN, under_way=work.under_way, was_there=work.under_way in work.entries)
    with suppress(psycopg.Error, LockstepError):
        if work.session.idle:
            log_stop(work.session, work.run, stopped)
            return
        work.session.close()  # what it still does ends with it
        session = open_session(work.session.target, run_id=work.run.run_id)
        try:
            log_stop(session, work.run, stopped)
        finally:
            session.close()
