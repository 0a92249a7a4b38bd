"""A file outside of a transaction, applied or reverted unit by unit, with its progress in the ledger.

What can run in a transaction commits together with its progress: exactly once. What cannot is `service.standalone`'s
business. After any interruption the next run goes on from what the ledger says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from lockstep.core.backfilling import Pace
from lockstep.core.ledger import Entry, EntryState, Progress
from lockstep.core.migration import SqlFile, label
from lockstep.core.resuming import batches
from lockstep.core.statements import Script
from lockstep.core.units import Unit, UnitKind, next_digest, replayed
from lockstep.errors import LockstepError, MigrationFailed, Unreachable
from lockstep.postgres.backfill import rows_of
from lockstep.postgres.entries import Scribe
from lockstep.postgres.executor import Attempt, Done, Waiting
from lockstep.postgres.ledger import mark_failed
from lockstep.postgres.message import Message, transaction_message
from lockstep.postgres.watch import Blocker, Waited
from lockstep.service.standalone import Standalone
from lockstep.service.worksession import WorkSession

Telling = Callable[[str], None]  # a line about what goes on
_TELL_EVERY = 2.0  # seconds between lines of a backfill's progress


def _silent(_text: str) -> None:
    return None


@dataclass(slots=True, kw_only=True)
class PieceRun:
    """One file on its way."""

    work: WorkSession
    file: SqlFile  # what runs: an up or a down
    name: str  # of the entry
    version: int | None
    checksum: str | None  # that the entry has meanwhile
    progress: Progress
    begun: Callable[[Scribe, int], tuple[str, ...]]  # rows that say that it begins; of how many statements
    finished: Callable[[Scribe, Mapping[str, object]], tuple[str, ...]]  # rows that say that it is done
    done_before: str  # "1 of 3 done": the run's steps before this one
    entry_name: str | None = None  # of the entry that is there already, where the file was renamed since
    verify: Script | None = None
    waiting: Waiting | None = None
    tell: Telling = _silent
    waited_for: dict[int, Blocker] = field(default_factory=dict)  # all that were in the way, by pid
    script: Script = field(init=False)
    units: tuple[Unit, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.script, self.units = self.file.script(), self.file.units()

    def run(self) -> Done:
        """Run what is left of it. Raises MigrationFailed (its entry says failed), Unreachable, LockHeld, LedgerError."""
        started = time.monotonic()
        try:
            self.transaction(lambda scribe: self.begun(scribe, len(self.script.statements)), "it was not begun")
            if self.entry_name is not None:
                self.work.entries.pop(self.entry_name, None)
            self.work.entries[self.name] = self.checksum
            for number in range(self.progress.units, len(self.units)):
                match self.units[number].kind:
                    case UnitKind.TRANSACTION:
                        self._together(number)
                    case UnitKind.ALONE:
                        Standalone(piece=self, number=number).run()
                    case UnitKind.BATCHES:
                        self._batches()
            done = self.transaction(
                lambda scribe: self.finished(scribe, self._summary), "it stays unfinished", verify=self.verify
            )
        except MigrationFailed:
            self._record_failure()
            raise
        elapsed = round((time.monotonic() - started) * 1_000)
        return Done(duration_ms=elapsed, tries=1, session_is_clean=done.session_is_clean)

    def _together(self, number: int) -> None:
        """A unit and its progress in one transaction."""
        unit, after = self.units[number], self.after(number)
        self.transaction(
            lambda scribe: scribe.progressed(self.name, after, unit.done_after, in_here=unit.may_make(self.script)),
            "that one was rolled back",
            span=(unit.first, unit.first + unit.count),
            replay=self.replay(number),
            reached=after,
        )

    def _batches(self) -> None:
        """A backfill's statement, transaction after transaction, until one touches no row."""
        started = told = time.monotonic()
        pace = Pace(table_rows=rows_of(self.work.session, self.script.statements[0].traits.table))
        while True:
            after = replace(self.progress, batches=self.progress.batches + 1)

            def progressed(scribe: Scribe, after: Progress = after) -> tuple[str, ...]:
                return scribe.progressed(self.name, after, 0)

            done = self.transaction(progressed, "its last batch was rolled back", span=(0, 1), reached=after)
            self.progress = replace(after, rows=after.rows + (done.rows or 0))
            if done.rows == 0:
                # The last batch found nothing any more.
                self.progress = replace(self.progress, batches=self.progress.batches - 1)
                self.tell(f"{label(self.name)}: {batches(self.progress)}, nothing is left")
                return
            if (problem := pace.problem(done.rows or 0)) is not None:
                raise self._endless(problem)
            if time.monotonic() - told >= _TELL_EVERY:
                told = time.monotonic()
                rate = pace.rows / (told - started)
                self.tell(f"{label(self.name)}: {batches(self.progress)}, {rate:,.0f} rows/s")
            time.sleep(self.file.directives.batch_pause_ms / 1_000)

    def _endless(self, problem: str) -> MigrationFailed:
        target = self.work.session.target
        outcome = self.outcome("it was stopped")
        error = MigrationFailed(
            f"{target.name}: {self.file.name}:{self.script.statements[0].line}: {problem}\n{outcome}",
            target=target.name,
            file=self.file.name,
            line=self.script.statements[0].line,
            sqlstate=None,
            outcome=outcome,
            hint=f"let its WHERE find only rows that it changes, then: lockstep sync {target.environment} goes on",
        )
        self.work.log_failure(error, name=self.name, version=self.version, waited_for=())
        return error

    def transaction(
        self,
        rows: Callable[[Scribe], tuple[str, ...]],
        outcome: str,
        *,
        span: tuple[int, int] = (0, 0),
        replay: Sequence[int] = (),
        verify: Script | None = None,
        reached: Progress | None = None,
    ) -> Done:
        """One transaction of this file with the rows that record it. `reached`: the progress once it has committed."""

        def compose(attempt: Attempt) -> Message:
            self.waited_for |= {blocker.pid: blocker for blocker in attempt.waited_for}
            return transaction_message(
                self.work.frame,
                self.file,
                self.script,
                rows(self.work.scribe),
                span=span,
                replay=replay,
                verify=verify,
                lock_timeout_ms=attempt.lock_timeout_ms,
            )

        try:
            done = self.work.send(
                compose, name=self.name, version=self.version, outcome=self.outcome(outcome), waiting=self.waiting
            )
        except Unreachable as lost:
            done = self._settle(lost, reached)
        if reached is not None:
            self.progress = reached
        self.work.keep_clean(done, self.outcome(""))
        return done

    # -- where it stands -----------------------------------------------------------------------------------------------

    def replay(self, number: int) -> tuple[int, ...]:
        """The statements that make the session what it is when a unit begins."""
        return replayed(self.script, self.units, number)

    def after(self, number: int) -> Progress:
        """The progress once a unit is done; all before it are."""
        digest = next_digest(self.progress.digest, self.units[number])
        return replace(self.progress, units=number + 1, digest=digest, attempted="", was_there=False, target="")

    @property
    def statements_done(self) -> int:
        """How many of the script's statements are done."""
        return self.units[self.progress.units - 1].done_after if self.progress.units else 0

    @property
    def _summary(self) -> Mapping[str, object]:
        found: dict[str, object] = {}
        if self.progress.backfill:
            found |= {"batches": self.progress.batches, "rows": self.progress.rows}
        return found | Waited(blockers=tuple(self.waited_for.values())).details

    def outcome(self, what: str) -> str:
        """What was and was not done, in one sentence."""
        name = label(self.file.name)
        if self.progress.backfill:
            kept = f"of {name} {batches(self.progress)} done, which stay" if self.progress.batches else f"{name}"
        elif self.statements_done:
            total = len(self.script.statements)
            kept = f"of {name} {self.statements_done} of {total} statements done, which stay"
        else:
            kept = f"of {name} no statement done"
        return f"{self.done_before}; {kept}{'; ' if what else ''}{what}."

    def _record_failure(self) -> None:
        try:
            mark_failed(self.work.session, self.work.scribe.failed(self.name, self.progress))
        except (psycopg.Error, LockstepError):
            return  # it then says started, which is true as well

    def _settle(self, lost: Unreachable, reached: Progress | None) -> Done:
        """A lost answer to COMMIT is no failure: the progress of the same transaction tells."""
        outcome = self.outcome("")
        entries = self.work.reconnect(lost, outcome, self.name)
        entry = next((e for e in entries if e.name == self.name), None)
        if self._committed(entry, reached):
            return Done(duration_ms=0, tries=1, session_is_clean=True, rows=None)
        raise Unreachable(
            target=self.work.session.target.name,
            reason=f"{lost.reason}. {self.outcome('the one under way was rolled back')}",
            hint=f"lockstep sync {self.work.session.target.environment} goes on from there",
        )

    def _committed(self, entry: Entry | None, reached: Progress | None) -> bool:
        if reached is not None:
            return entry is not None and entry.progress == reached
        if entry is None:
            return self.progress.reverting  # the last row of a revert takes the entry out
        return entry.run_id == self.work.run.run_id and (
            entry.state is EntryState.APPLIED if self.name in self.work.entries else entry.state is EntryState.STARTED
        )
