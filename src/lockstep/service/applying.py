"""Applying a plan: the lock is taken, the plan is made again under it, then one step at a time.

The caller drives the steps (a loop in `sync`, one Prefect task per step in the flow), all on the one session that
holds the lock. What composes and sends messages is imported late: a run that finds nothing to do sends none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.ledger import Entry, Progress
from lockstep.core.migration import Folder, label
from lockstep.core.planner import Plan, Step
from lockstep.errors import LockstepError, MigrationFailed, StalePlan, Unreachable
from lockstep.postgres.connection import Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.states import asked_recorded
from lockstep.postgres.watch import Watch
from lockstep.service.planning import options_for, plan_of
from lockstep.service.recording import Recording, recorded
from lockstep.service.worksession import WorkSession, work_session

if TYPE_CHECKING:
    from lockstep.core.rehearsal.report import Rehearsal
    from lockstep.core.rehearsal.trace import FileTrace
    from lockstep.core.runs import Ran
    from lockstep.postgres.executor import Attempt, Done, Waiting
    from lockstep.postgres.message import Frame, Message
    from lockstep.service.piecewise import Telling
    from lockstep.service.together import Together


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One step that committed."""

    name: str  # file name
    label: str
    execution_ms: int  # wall time at this end, waiting included
    tries: int
    checksum: str  # as the ledger has it: a repeatable's covers its settings' values, salted per target
    file_checksum: str  # of the file alone


def _silent(_text: str) -> None:
    return None


@dataclass(slots=True, kw_only=True)
class ApplyRun:
    """A plan on its way, under the lock."""

    work: WorkSession
    plan: Plan
    target: str  # shown name
    before: tuple[str, ...]  # environments that get each migration before this one
    recording: Recording  # of the schema; complete once the run is closed
    rehearsal: Rehearsal | None = None  # of this plan; set before the first step
    overridden: bool = False  # somebody lets it go on against its rehearsal
    derive_timeout: bool = False  # statement_timeout from the rehearsal, where the file and the environment have none
    hurried: bool = False  # quick migrations go together, and the disk is waited for once, at the end
    applied: list[Applied] = field(default_factory=list)  # also what went along and nobody has asked for yet
    _given: int = 0  # of them, how many `apply` has returned
    _joined: Together | None = None
    _ready: dict[str, tuple[Frame, Message]] = field(default_factory=dict)  # made while the server was at work

    @property
    def _together(self) -> Together:
        from lockstep.service.together import Together

        if self._joined is None:
            self._joined = Together()
        return self._joined

    def apply(self, step: Step, waiting: Waiting | None = None, tell: Telling = _silent) -> Applied:
        """Apply the next step: one transaction, or unit by unit where its file asks for it.

        `tell` hears of what takes long. Raises MigrationFailed, Unreachable.
        """
        if self._given == len(self.applied):
            self._go_on(step, waiting, tell)
        if (failure := self._together.failed.get(step.name)) is not None:
            if isinstance(failure, MigrationFailed):
                failure.hint = failure.hint or self._way_on(step, failure.file)
            raise failure
        self._given += 1
        return self.applied[self._given - 1]

    def _go_on(self, step: Step, waiting: Waiting | None, tell: Telling) -> None:
        """Apply the step, alone or with those that follow it, unless it has failed with others already."""
        if step.name in self._together.failed:
            return
        self.work.under_way = step.name
        whole = step.migration.up.transactional
        self.work.watch.lenient = self.overridden or any(
            one.rule == "blocks-too-long" for one in step.migration.up.directives.allow
        )
        if self.hurried and len(several := self._together.following(self)) > 1:
            self._together.apply(self, several, meanwhile=lambda: self._make_ready(len(several)))
            if self._given < len(self.applied) or step.name in self._together.failed:
                return
        started = time.monotonic()
        try:
            done = self._transaction(step, waiting) if whole else self._pieces(step, waiting, tell)
        except MigrationFailed as error:
            error.hint = error.hint or self._way_on(step, error.file)
            raise
        self._together.paced(1, time.monotonic() - started)
        self.note(step, execution_ms=done.duration_ms, tries=done.tries)
        self.work.keep_clean(done, self._outcome)

    def about(self, step: Step) -> str:
        """What `apply` is about to do for this step, in a few words: its label, or those that go along with it."""
        several = self._together.following(self) if self.hurried and self._given == len(self.applied) else ()
        return f"{step.label} to {several[-1].label}" if len(several) > 1 else step.label

    @property
    def steps(self) -> Sequence[Step]:
        return self.plan.steps

    @property
    def done(self) -> int:
        """How many steps are applied."""
        return len(self.applied)

    def note(self, step: Step, *, execution_ms: int, tries: int) -> None:
        """A step is applied, and its entry is in the ledger."""
        self.applied.append(
            Applied(
                name=step.name,
                label=step.label,
                execution_ms=execution_ms,
                tries=tries,
                checksum=step.checksum,
                file_checksum=step.migration.up.checksum,
            )
        )
        self.work.entries[step.name] = step.checksum
        self.work.under_way = None

    def message_of(self, step: Step) -> Message:
        """The message of a step's first try."""
        from lockstep.postgres.executor import Attempt

        frame, message = self._ready.pop(step.name, (None, None))
        return message if message is not None and frame == self.work.frame else self._message(step, Attempt())

    def _transaction(self, step: Step, waiting: Waiting | None) -> Done:
        from lockstep.postgres.executor import outcome_text

        outcome = outcome_text(step.migration.up.name, len(self.applied), len(self.plan.steps))

        def compose(attempt: Attempt) -> Message:
            return self.message_of(step) if attempt.number == 1 else self._message(step, attempt)

        try:
            return self.work.send(
                compose,
                name=step.name,
                version=step.migration.version,
                outcome=outcome,
                waiting=waiting,
                meanwhile=self._make_ready,
            )
        except Unreachable as lost:
            return self._settle(step, lost)

    def _message(self, step: Step, attempt: Attempt) -> Message:
        from lockstep.postgres.message import transaction_message

        up = step.migration.up
        script = up.script()
        trace = self.rehearsal.file(step.name) if self.rehearsal else None
        rows = self.work.scribe.applied(
            step, len(script.statements), attempt.waited, self._rehearsed(step).get("rehearsed"), self._proof(step)
        )
        verify = step.migration.verify.script() if step.migration.verify else None
        return transaction_message(
            self.work.frame,
            up,
            script,
            rows,
            verify=verify,
            lock_timeout_ms=attempt.lock_timeout_ms,
            statement_timeout_ms=self._derived_timeout(trace),
            flushed=not self.hurried or step is self.plan.steps[-1],
            joins=self.hurried,
        )

    def _derived_timeout(self, trace: FileTrace | None) -> int | None:
        if not self.derive_timeout or self.rehearsal is None or trace is None:
            return None
        from lockstep.core.rehearsal.calibration import (
            statement_timeout_ms,
        )  # late, as all of rehearsals: most runs have none

        slowest = max((one.ms for one in trace.statements), default=0.0)
        return statement_timeout_ms(slowest, self.rehearsal.calibration)

    def _make_ready(self, under_way: int = 1) -> None:
        """Make the messages of the steps after those under way, as far as they may go together next."""
        from lockstep.postgres.executor import Attempt
        from lockstep.postgres.message import CHUNK
        from lockstep.service.together import MOST, too_long

        following = len(self.applied) + under_way
        many = min(2 * under_way, MOST) if self.hurried else 1
        for step in self.plan.steps[following : following + many]:
            up = step.migration.up
            if step.name in self._ready:
                continue
            if not up.transactional or (len(up.text) > CHUNK if many == 1 else too_long(step.migration)):
                return  # two large ones are not held at once
            self._ready[step.name] = (self.work.frame, self._message(step, Attempt()))

    def _pieces(self, step: Step, waiting: Waiting | None, tell: Telling) -> Done:
        from lockstep.service.piecewise import PieceRun  # late: most files are one transaction

        run = PieceRun(
            work=self.work,
            file=step.migration.up,
            name=step.name,
            version=step.migration.version,
            checksum=step.checksum,
            progress=step.resume or Progress(backfill=step.migration.up.directives.repeat_until_empty),
            entry_name=step.begun_as,
            begun=lambda scribe, statements: scribe.begun(step, statements, self._proof(step)),
            finished=lambda scribe, details: scribe.finished(step, {**details, **self._rehearsed(step)}),
            done_before=f"{len(self.applied)} of {len(self.plan.steps)} done",
            verify=step.migration.verify.script() if step.migration.verify else None,
            waiting=waiting,
            tell=tell,
        )
        try:
            return run.run()
        except Unreachable as lost:
            # It connected again and asked for its own entry; what was applied before it may be gone as well.
            gone = ""
            with suppress(psycopg.Error, LockstepError):
                gone = self._take_out_lost(read_ledger(self.work.session).entries)
            raise (lost.noting(f"{self._outcome}{gone}") if gone else lost) from None

    def _proof(self, step: Step) -> dict[str, object] | None:
        """What the rehearsal found out about the way back, as the ledger keeps it."""
        if self.rehearsal is None:
            return None
        proof = next((one for one in self.rehearsal.proofs if one.name == step.name), None)
        if proof is None:
            return None
        from lockstep.core.rehearsal.stored import proof_document

        return proof_document(proof, backup=self.rehearsal.copy.backup, at=self.rehearsal.at)

    def _rehearsed(self, step: Step) -> dict[str, Mapping[str, object]]:
        trace = self.rehearsal.file(step.name) if self.rehearsal else None
        if trace is None:
            return {}
        from lockstep.core.rehearsal.outcome import rehearsed_details

        return {"rehearsed": rehearsed_details(trace)}

    def _way_on(self, step: Step, file: str) -> str:
        """What to do about a file that failed here; where it is applied already it has to be taken back first."""
        again = "deploy" if self.work.run.orchestrator_url else "sync"
        environment = self.work.session.target.environment
        version = step.migration.version
        if not step.migration.up.transactional:
            mended = f"lockstep {again} {environment} goes on behind the statements that are done"
            if not self.before or version is None:
                return f"mend what is not done of {file}, or the data; then: {mended}"
            accepted = " and ".join(f"lockstep repair {name} --accept {version}" for name in self.before)
            return f"mend the data, then: {mended}; if {file} itself must change: {accepted}"
        if not self.before or version is None:
            return f"mend {file}, then: lockstep {again} {environment}"
        older = [row.version for row in self.plan.rows if row.version is not None and row.version < version]
        back = " and ".join(f"lockstep revert {name} --to {max(older, default='none')}" for name in self.before)
        return f"take it back where it is applied already ({back}), mend {file}, then: lockstep {again}"

    @property
    def _outcome(self) -> str:
        return f"{len(self.applied)} of {len(self.plan.steps)} done."

    def _settle(self, step: Step, lost: Unreachable) -> Done:
        """A lost answer to COMMIT is no failure: the ledger row of the same transaction tells."""
        from lockstep.postgres.executor import Done

        entries = self.work.reconnect(lost, self._outcome, step.name)
        gone = self._take_out_lost(entries)
        entry = self._recorded(entries, step)
        if entry is not None:
            expected = {**self.work.entries, step.name: step.checksum}
            self.work.refuse_changed(entries, expected, f"{self._outcome} {label(step.name)} was committed.")
            return Done(duration_ms=entry.execution_ms or 0, tries=1, session_is_clean=True)
        raise self._rolled_back(step, lost, gone)

    def _rolled_back(self, step: Step, lost: Unreachable, more: str) -> Unreachable:
        return Unreachable(
            target=self.target,
            reason=f"{lost.reason}. {self._outcome} {step.label} was rolled back, nothing of it stayed.{more}",
            hint=f"lockstep sync {self.work.session.target.environment}",
        )

    def reconnect(self, lost: Unreachable, steps: Sequence[Step]) -> tuple[Step, Unreachable] | None:
        """The same for steps that went together: the ledger tells which of them were committed; they are noted.

        Returns the first that is not, and why. Raises Unreachable when it cannot be found out, and LedgerError when
        somebody else worked meanwhile.
        """
        # As far as it is told already; a server that crashed may have lost some of that, too.
        entries = self.work.reconnect(lost, self._outcome, f"any of {steps[0].label} to {steps[-1].label}")
        gone = self._take_out_lost(entries)
        for step in steps:
            if (entry := self._recorded(entries, step)) is None:
                return step, self._rolled_back(step, lost, gone)
            self.note(step, execution_ms=entry.execution_ms or 0, tries=1)
        self.work.refuse_changed(entries, self.work.entries, f"{label(steps[-1].name)} was committed.")
        return None

    def _take_out_lost(self, entries: Iterable[Entry]) -> str:
        """A server that crashed may have lost the newest commits that did not wait for its disk, with their rows.

        What was told to be applied and is not any more is taken out of `applied`. Returns a sentence about it.
        """
        there = {(one.name, one.checksum, one.run_id) for one in entries}
        kept = [one for one in self.applied if (one.name, one.checksum, self.work.run.run_id) in there]
        if len(kept) == len(self.applied) or not self.hurried:
            return ""
        gone = self.applied[len(kept) :]
        self.applied[:] = kept
        self._given = min(self._given, len(kept))
        for one in gone:
            self.work.entries.pop(one.name, None)
        names = gone[0].label if len(gone) == 1 else f"{gone[0].label} to {gone[-1].label}"
        return f" The server crashed and lost {names}, with the ledger's rows, before the disk had them."

    def _recorded(self, entries: Iterable[Entry], step: Step) -> Entry | None:
        """Return the entry that this very run made of a step."""
        mine = (step.name, step.checksum, self.work.run.run_id)
        return next((e for e in entries if (e.name, e.checksum, e.run_id) == mine), None)


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
    watch: Callable[[Target, str], Watch] = Watch,
) -> Iterator[ApplyRun]:
    """Take the lock, plan under it, and yield the run; the caller applies its steps in order.

    `watch` makes what looks at the session while a message runs: a rehearsal's own sees more.
    Raises what `work_session` raises, PlanRefused, StalePlan when the plan is not the expected one, and DriftFound.
    """
    with ExitStack() as stack:
        try:
            work = stack.enter_context(work_session(settings, environment, run, wait_seconds=wait_seconds, watch=watch))
            target = work.session.target
            options = options_for(target, to_version=to_version, include=include)
            ledger = read_ledger(work.session)
            with asked_recorded(work.session) as now:  # the server looks at the schema while the plan is made
                made = plan_of(ledger, folder, options, target=target.name)
        except Unreachable as lost:
            raise lost.noting("Nothing was applied.") from None
        if expected_digest is not None and made.digest != expected_digest:
            raise StalePlan(
                target=target.name, expected=expected_digest, actual=made.digest, gated=environment.protected
            )
        work.entries = {row.entry.name: row.entry.checksum for row in made.rows if row.entry is not None}
        applied: list[Applied] = []

        def ran() -> list[Ran]:
            from lockstep.core.runs import Ran

            return [Ran(one.name, one.file_checksum, "applied") for one in applied]

        try:
            recording = stack.enter_context(
                recorded(settings, environment, work, ran, now=now(), something_to_do=bool(made.steps))
            )
        except Unreachable as lost:
            raise lost.noting("Nothing was applied.") from None
        yield ApplyRun(
            work=work,
            plan=made,
            target=target.name,
            before=tuple(environment.table.after),
            applied=applied,
            recording=recording,
        )
