"""A file outside of a transaction, applied or reverted unit by unit, with its progress in the ledger.

What can run in a transaction commits together with its progress: exactly once. What cannot is marked as begun, run,
looked at, and marked as done. After any interruption the next run goes on from what the ledger says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg

from lockstep.core.ledger import Entry, EntryState, Progress
from lockstep.core.migration import SqlFile, label
from lockstep.core.rechecking import Course, Seen, course, stays_in_doubt
from lockstep.core.statements import Script
from lockstep.core.traits import Check, Recheck
from lockstep.core.units import Unit, UnitKind, done_digest, replayed
from lockstep.errors import LedgerError, LockstepError, MigrationFailed, Unreachable
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.concurrently import await_builders, drop_sql, finalise_sql, look
from lockstep.postgres.entries import Scribe
from lockstep.postgres.executor import Attempt, Done, Waiting, backoff, clean, may_retry, send
from lockstep.postgres.ledger import mark_failed
from lockstep.postgres.message import (
    Message,
    alone_message,
    own_message,
    setting_up_message,
    transaction_message,
)
from lockstep.postgres.servererror import ServerError, explain
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
    verify: Script | None = None
    waiting: Waiting | None = None
    tell: Telling = _silent

    def run(self) -> Done:
        """Run what is left of it. Raises MigrationFailed (its entry says failed), Unreachable, LockHeld, LedgerError."""
        started = time.monotonic()
        script, units = self.file.script(), self.file.units()
        try:
            self._transaction(lambda scribe: self.begun(scribe, len(script.statements)), "it was not begun")
            self.work.entries[self.name] = self.checksum
            for number in range(self.progress.units, len(units)):
                match units[number].kind:
                    case UnitKind.TRANSACTION:
                        self._together(number)
                    case UnitKind.ALONE:
                        self._alone(number)
                    case UnitKind.BATCHES:
                        self._batches()
            done = self._transaction(
                lambda scribe: self.finished(scribe, self._summary), "it stays unfinished", verify=self.verify
            )
        except MigrationFailed:
            self._record_failure()
            raise
        elapsed = round((time.monotonic() - started) * 1_000)
        return Done(duration_ms=elapsed, tries=1, session_is_clean=done.session_is_clean)

    # -- exactly once --------------------------------------------------------------------------------------------------

    def _together(self, number: int) -> None:
        """A unit and its progress in one transaction."""
        unit, after = self._unit(number), self._after(number)
        self._transaction(
            lambda scribe: scribe.progressed(self.name, after, unit.done_after),
            "that one was rolled back",
            span=(unit.first, unit.first + unit.count),
            replay=self._replay(number),
            reached=after,
        )

    def _batches(self) -> None:
        """A backfill's statement, transaction after transaction, until one touches no row."""
        started, told = time.monotonic(), time.monotonic()
        rows_before = self.progress.rows
        while True:
            after = replace(self.progress, batches=self.progress.batches + 1)

            def progressed(scribe: Scribe, after: Progress = after) -> tuple[str, ...]:
                return scribe.progressed(self.name, after, 0)

            done = self._transaction(progressed, "its last batch was rolled back", span=(0, 1), reached=after)
            self.progress = replace(after, rows=after.rows + (done.rows or 0))
            if done.rows == 0:
                return
            if time.monotonic() - told >= _TELL_EVERY:
                told = time.monotonic()
                rate = (self.progress.rows - rows_before) / (told - started)
                self.tell(f"{label(self.name)}: {_batches(self.progress)}, {rate:,.0f} rows/s")
            time.sleep(self.file.directives.batch_pause_ms / 1_000)

    def _transaction(
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
            return transaction_message(
                self.work.frame,
                self.file,
                self.file.script(),
                rows(self.work.scribe),
                span=span,
                replay=replay,
                verify=verify,
                lock_timeout_ms=attempt.lock_timeout_ms,
            )

        try:
            done = self.work.send(
                compose, name=self.name, version=self.version, outcome=self._outcome(outcome), waiting=self.waiting
            )
        except Unreachable as lost:
            done = self._settle(lost, reached)
        if reached is not None:
            self.progress = reached
        self.work.keep_clean(done, self._outcome(""))
        return done

    # -- at least once -------------------------------------------------------------------------------------------------

    def _alone(self, number: int) -> None:
        """A statement that cannot run in a transaction: looked at, marked, run, looked at again."""
        unit = self._unit(number)
        script = self.file.script()
        recheck = unit.recheck(script)
        started = time.monotonic()
        budget = self.work.session.target.retry_budget_ms / 1_000
        tries = 0
        while True:
            tries += 1
            error = self._try_alone(number, recheck)
            if error is None:
                break
            problem = explain(
                self.work.session,
                alone_message(script, unit.first),
                error,
                outcome=self._outcome(_in_doubt(recheck)),
                tries=tries,
                waited_for=tuple(b.text for b in self.work.watch.blockers),
                cancelled=self.work.watch.cancelled,
            )
            again = may_retry(error, self.work.watch) and not stays_in_doubt(recheck)
            patience_over = self.work.watch.patience_over
            names = ", ".join(b.text for b in self.work.watch.blockers)
            clean(self.work.session)
            self._heal(number, recheck)
            pause = backoff(tries)
            if not again or patience_over or time.monotonic() - started + pause > budget:
                self.work.log_failure(problem, name=self.name, version=self.version)
                raise problem
            if self.waiting is not None:
                self.waiting(tries, f"{error.primary}; in the way: {names}" if names else error.primary)
            time.sleep(pause)
        if self._replay(number):
            clean(self.work.session)  # the file's own role may not even read the ledger
        after = self._after(number)
        took = str(round((time.monotonic() - started) * 1_000))
        self._transaction(
            lambda scribe: scribe.progressed(self.name, after, unit.done_after, took), "it is done", reached=after
        )

    def _try_alone(self, number: int, recheck: Recheck) -> ServerError | None:
        """Run the statement once, unless the catalog shows that it took effect already. Returns the server's error."""
        unit, script = self._unit(number), self.file.script()
        self._set_up(number)
        seen = await_builders(self.work.session, recheck, look(self.work.session, recheck), self.tell)
        attempted = bool(self.progress.attempted)
        what = course(recheck, seen, attempted=attempted, was_there=self.progress.was_there)
        if what is Course.DONE:
            self.tell(f"{label(self.name)}: statement {unit.first + 1} took effect in an earlier try")
            return None
        if what is Course.ASK:
            raise LedgerError(
                f"{self.work.session.target.name}: {self.file.name}:{unit.line}: nobody can tell whether this "
                "statement took effect.",
                hint="lockstep repair",
            )
        if what is Course.HEAL:
            self._drop(seen)
            self._set_up(number)
            seen = Seen()
        if recheck.check is Check.INDEX_BUILT and recheck.tolerant and seen.there and seen.fits:
            self.tell(f"{label(self.name)}: there already, valid, and not compared with the file: {seen.definition}")
        if not attempted:
            self._mark(unit, was_there=seen.there)
            self._set_up(number)
        message = alone_message(script, unit.first)
        if what is Course.FINALISE:
            message = own_message(script, finalise_sql(recheck))
        error = self._send(message, waits_long=unit.statement(script).traits.waits_long)
        if error is None and recheck.check is Check.INDEX_BUILT:
            return self._refuse_wrong_index(recheck, unit)
        return error

    def _refuse_wrong_index(self, recheck: Recheck, unit: Unit) -> ServerError | None:
        """IF NOT EXISTS is content with anything of that name. We are not."""
        seen = look(self.work.session, recheck)
        if seen.there and seen.fits and seen.whole:
            return None
        segment = alone_message(self.file.script(), unit.first).parts[0].segments[0]
        what = "an invalid index" if seen.there and seen.fits else "something else"
        return ServerError(
            sqlstate="42P07",
            primary=f"there is {what} of the name {recheck.name}, so no index was built",
            segment=segment,
            statement=unit.first,
        )

    def _mark(self, unit: Unit, *, was_there: bool) -> None:
        """Say in the ledger that the statement is about to run, before it does."""
        marked = replace(self.progress, attempted=unit.digest, was_there=was_there)
        done = self._script_done
        self._transaction(
            lambda scribe: scribe.progressed(self.name, marked, done, "0"), "it was not begun", reached=marked
        )

    def _set_up(self, number: int) -> None:
        """Bring the session to where the file left it."""
        unit, script = self._unit(number), self.file.script()
        message = setting_up_message(
            self.work.frame,
            self.file,
            script,
            self._replay(number),
            waits_long=unit.statement(script).traits.waits_long,
        )
        self.work.session.send_settings()
        error = self._send(message, waits_long=False)
        if error is not None:
            clean(self.work.session)
            problem = explain(self.work.session, message, error, outcome=self._outcome("it was not begun"))
            self.work.log_failure(problem, name=self.name, version=self.version)
            raise problem

    def _send(self, message: Message, *, waits_long: bool) -> ServerError | None:
        patience = self.work.session.target.retry_budget_ms if waits_long else None
        try:
            error, _ = send(self.work.session, message, self.work.watch, patience_ms=patience, told=self._told_waiting)
        except Unreachable as lost:
            raise Unreachable(
                target=self.work.session.target.name,
                reason=f"{lost.reason}. {self._outcome('what became of it is looked up by the next run')}",
                hint=f"lockstep sync {self.work.session.target.environment}",
            ) from None
        return error

    def _told_waiting(self, text: str) -> None:
        self.tell(f"{label(self.name)} {text}")

    def _heal(self, number: int, recheck: Recheck) -> None:
        """After an error: drop what the statement left, and take its mark back unless it is in doubt."""
        if stays_in_doubt(recheck):
            return
        attempted = self.progress.attempted
        self._set_up(number)
        seen = look(self.work.session, recheck)
        clean(self.work.session)
        if seen.leftovers and attempted:
            self._drop(seen)
        if attempted:
            after = replace(self.progress, attempted="", was_there=False)
            done = self._script_done
            self._transaction(lambda scribe: scribe.progressed(self.name, after, done, "0"), "", reached=after)

    def _drop(self, seen: Seen) -> None:
        """Drop invalid indexes of broken tries, without blocking anybody."""
        clean(self.work.session)
        for index in seen.leftovers:
            self.tell(f"{label(self.name)}: drops the invalid index {index} that an earlier try left")
            self.work.session.connection.execute("SET lock_timeout = 0")
            error = self._send(own_message(self.file.script(), drop_sql(index)), waits_long=True)
            clean(self.work.session)
            if error is not None:
                self.tell(
                    f"{label(self.name)}: {index} could not be dropped: {error.primary}; the next run tries again"
                )
                return
            event = Event(
                event="heal",
                run_id=self.work.run.run_id,
                orchestrator_url=self.work.run.orchestrator_url,
                migration_name=self.name,
                version=self.version,
                details={"dropped": index},
            )
            write_event(self.work.session, event)

    # -- where it stands -----------------------------------------------------------------------------------------------

    def _unit(self, number: int) -> Unit:
        return self.file.units()[number]

    def _replay(self, number: int) -> tuple[int, ...]:
        return replayed(self.file.script(), self.file.units(), number)

    def _after(self, number: int) -> Progress:
        units = self.file.units()
        return replace(
            self.progress, units=number + 1, digest=done_digest(units, number + 1), attempted="", was_there=False
        )

    @property
    def _script_done(self) -> int:
        """How many of the script's statements are done."""
        return self._unit(self.progress.units - 1).done_after if self.progress.units else 0

    @property
    def _summary(self) -> Mapping[str, object]:
        if self.progress.batches:
            # The last one found nothing any more.
            return {"batches": self.progress.batches - 1, "rows": self.progress.rows}
        return {}

    def _outcome(self, what: str) -> str:
        """What was and was not done, in one sentence."""
        name = label(self.file.name)
        if self.file.directives.repeat_until_empty:
            kept = f"{_batches(self.progress)} done, which stay"
        else:
            total = len(self.file.script().statements)
            kept = f"{self._script_done} of {total} statements done, which stay"
        return f"{self.done_before}; of {name} {kept}{'; ' if what else ''}{what}."

    def _record_failure(self) -> None:
        try:
            mark_failed(self.work.session, self.work.scribe.failed(self.name, self.progress))
        except (psycopg.Error, LockstepError):
            return  # it then says started, which is true as well

    def _settle(self, lost: Unreachable, reached: Progress | None) -> Done:
        """A lost answer to COMMIT is no failure: the progress of the same transaction tells."""
        outcome = self._outcome("")
        entries = self.work.reconnect(lost, outcome, self.name)
        entry = next((e for e in entries if e.name == self.name), None)
        if self._committed(entry, reached):
            return Done(duration_ms=0, tries=1, session_is_clean=True, rows=None)
        raise Unreachable(
            target=self.work.session.target.name,
            reason=f"{lost.reason}. {self._outcome('the one under way was rolled back')}",
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


def _batches(progress: Progress) -> str:
    batches = "1 batch" if progress.batches == 1 else f"{progress.batches:,} batches"
    return f"{progress.rows:,} rows in {batches}"


def _in_doubt(recheck: Recheck) -> str:
    if stays_in_doubt(recheck):
        return "it commits by itself, so what it did before it failed stays: look, then lockstep repair"
    return "nothing of the failed one stayed"
