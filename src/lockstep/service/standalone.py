"""A statement that cannot run in a transaction: looked at, marked in the ledger, run, and looked at again.

So it runs at least once, and never twice by guess. What a failed try leaves behind is dropped, or named and kept in mind.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockstep.core.ledger import Progress
from lockstep.core.migration import label
from lockstep.core.rechecking import Course, Seen, course, stays_in_doubt, touched, what_is_left
from lockstep.core.traits import Check, Recheck
from lockstep.core.units import Unit
from lockstep.errors import LedgerError, Unreachable
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.concurrently import await_builders, drop_sql, finalise_sql, look
from lockstep.postgres.executor import backoff, clean, may_retry, send
from lockstep.postgres.message import Message, alone_message, own_message, setting_up_message
from lockstep.postgres.servererror import ServerError, explain, words
from lockstep.postgres.watch import Blocker

if TYPE_CHECKING:
    from lockstep.service.piecewise import PieceRun
    from lockstep.service.worksession import WorkSession


_CLEAN_UP_MS = 2_000  # how long a drop after a failure waits for others


@dataclass(slots=True, kw_only=True)
class Standalone:
    """One such unit of a file on its way. It reads and moves on the progress of `piece`."""

    piece: PieceRun
    number: int  # of the unit
    _lock_timeout_ms: int | None = None  # raised, so that an autovacuum in the way gives up

    def run(self) -> None:
        """Run it, or find out that it took effect already. Raises MigrationFailed, LedgerError, Unreachable."""
        piece, work = self.piece, self._work
        started = time.monotonic()
        budget = work.session.target.retry_budget_ms / 1_000
        tries = 0
        while True:
            tries += 1
            error = self._try()
            if error is None:
                break
            watch = work.watch
            blockers, cancelled = watch.blockers, watch.cancelled
            piece.waited_for |= {blocker.pid: blocker for blocker in blockers}
            again = may_retry(error, watch) and not watch.patience_over and not stays_in_doubt(self._recheck)
            self._lock_timeout_ms = watch.next_lock_timeout_ms
            clean(work.session)
            left = self._heal()
            pause = backoff(tries)
            if not again or time.monotonic() - started + pause > budget:
                self._fail(error, blockers, cancelled, left, tries)
            if piece.waiting is not None:
                names = ", ".join(b.text for b in blockers)
                said = words(work.session, error)
                piece.waiting(tries, f"{said}; in the way: {names}" if names else said)
            time.sleep(pause)
        if piece.replay(self.number):
            clean(work.session)  # the file's own role may not even read the ledger
        after, done_after = piece.after(self.number), self._unit.done_after
        took = str(round((time.monotonic() - started) * 1_000))
        piece.transaction(
            lambda scribe: scribe.progressed(piece.name, after, done_after, took), "it is done", reached=after
        )

    def _fail(
        self,
        error: ServerError,
        blockers: tuple[Blocker, ...],
        cancelled: str | None,
        left: str | None,
        tries: int,
    ) -> None:
        piece = self.piece
        named = tuple(blocker.text for blocker in blockers)
        problem = explain(
            self._work.session,
            alone_message(piece.script, self._unit.first),
            error,
            outcome=piece.outcome(left or "nothing of the failed one stayed"),
            tries=tries,
            waited_for=named,
            cancelled=cancelled,
        )
        if stays_in_doubt(self._recheck):
            which = piece.version if piece.version is not None else piece.name
            environment = self._work.session.target.environment
            problem.hint = (
                f"look what it did, then say so: lockstep repair {environment} --statement-done {which} (go on behind it) "
                f"or --statement-undone {which} (run it again)"
            )
        self._work.log_failure(problem, name=piece.name, version=piece.version, waited_for=blockers)
        raise problem

    def _try(self) -> ServerError | None:
        """Run the statement once, unless the catalog shows that it took effect already. Returns the server's error."""
        piece, recheck, session = self.piece, self._recheck, self._work.session
        self._set_up()
        first = look(session, recheck, piece.progress.target)
        seen = await_builders(session, recheck, first, piece.tell)
        if seen.builders:
            return self._error("55P03", f"another session builds it (pid {', '.join(map(str, seen.builders))})")
        attempted = bool(piece.progress.attempted)
        what = course(recheck, seen, attempted=attempted, was_there=piece.progress.was_there)
        if first.builders and seen.there and seen.fits and seen.whole:
            piece.tell(f"{label(piece.name)}: that build is done, and not compared with the file: {seen.definition}")
            return None
        if what is Course.DONE:
            piece.tell(f"{label(piece.name)}: statement {self._unit.first + 1} took effect in an earlier try")
            return None
        if what is Course.ASK:
            raise LedgerError(
                f"{session.target.name}: {piece.file.name}:{self._unit.line}: nobody can tell whether this statement "
                "took effect.",
                hint=f"lockstep plan {session.target.environment}",
            )
        if what is Course.HEAL:
            if (error := self._drop(seen, session.target.retry_budget_ms)) is not None:
                return error
            self._set_up()
            seen = Seen(qualified=seen.qualified)
        if recheck.check is Check.INDEX_BUILT and recheck.tolerant and seen.there and seen.fits:
            piece.tell(f"{label(piece.name)}: there already, valid, and not compared with the file: {seen.definition}")
        if not attempted:
            self._mark(seen)
            self._set_up()
        message = alone_message(piece.script, self._unit.first)
        if what is Course.FINALISE:
            message = own_message(piece.script, finalise_sql(recheck))
        error = self._send(message, patience_ms=session.target.retry_budget_ms)
        return self._wrong_index() if error is None and recheck.check is Check.INDEX_BUILT else error

    def _wrong_index(self) -> ServerError | None:
        """IF NOT EXISTS is content with anything of that name. We are not."""
        seen = look(self._work.session, self._recheck)
        if seen.there and seen.fits and seen.whole:
            return None
        what = "an invalid index" if seen.there and seen.fits else "something else"
        return self._error("42P07", f"there is {what} of the name {self._recheck.name}, so no index was built")

    def _error(self, sqlstate: str, words: str) -> ServerError:
        """An error of ours about the statement."""
        segment = alone_message(self.piece.script, self._unit.first).parts[0].segments[0]
        return ServerError(sqlstate=sqlstate, primary=words, segment=segment, statement=self._unit.first)

    def _mark(self, seen: Seen) -> None:
        """Say in the ledger that the statement is about to run, before it does."""
        target = seen.qualified if self._recheck.check in {Check.INDEX_GONE, Check.REINDEXED} else ""
        marked = replace(
            self.piece.progress, attempted=self._unit.digest, was_there=seen.there and seen.whole, target=target
        )
        self._note(marked, "it was not begun", touches=touched(self._recheck))

    def _note(self, progress: Progress, outcome: str, touches: tuple[str, str, str] | None = None) -> None:
        piece, done = self.piece, self.piece.statements_done
        piece.transaction(
            lambda scribe: scribe.progressed(piece.name, progress, done, "0", touches=touches),
            outcome,
            reached=progress,
        )

    def _set_up(self) -> None:
        """Bring the session to where the file left it."""
        piece, work = self.piece, self._work
        message = setting_up_message(
            work.frame,
            piece.file,
            piece.script,
            piece.replay(self.number),
            waits_long=self._unit.statement(piece.script).traits.waits_long,
            lock_timeout_ms=self._lock_timeout_ms,
        )
        work.session.send_settings()
        error = self._send(message)
        if error is not None:
            clean(work.session)
            problem = explain(work.session, message, error, outcome=piece.outcome("the next one was not begun"))
            work.log_failure(problem, name=piece.name, version=piece.version, waited_for=())
            raise problem

    def _send(self, message: Message, *, patience_ms: int | None = None) -> ServerError | None:
        """Send a message; one that waits for others is given up after `patience_ms`."""
        piece, target = self.piece, self._work.session.target
        try:
            error, _ = send(
                self._work.session,
                message,
                self._work.watch,
                patience_ms=patience_ms,
                told=lambda text: piece.tell(f"{label(piece.name)} {text}"),
            )
        except Unreachable as lost:
            raise Unreachable(
                target=target.name,
                reason=f"{lost.reason}. {piece.outcome('what became of the next one is looked up by the next run')}",
                hint=f"lockstep sync {target.environment}",
            ) from None
        return error

    def _heal(self) -> str | None:
        """After an error: drop what the statement left, and take its mark back where nothing of it is left.

        Returns what is left, in words; the mark stays then, so that the statement cannot be edited away.
        """
        piece, recheck = self.piece, self._recheck
        if stays_in_doubt(recheck):
            return "it commits by itself, so what it did before it failed stays"
        if not piece.progress.attempted:
            return None
        self._set_up()
        seen = look(self._work.session, recheck, piece.progress.target)
        if seen.leftovers and not piece.progress.was_there:
            # Whoever was in the way of the build may well be in the way of this: not for long.
            self._drop(seen, min(_CLEAN_UP_MS, self._work.session.target.retry_budget_ms))
            self._set_up()
            seen = look(self._work.session, recheck, piece.progress.target)
        clean(self._work.session)
        left = what_is_left(recheck, seen)
        if left is None:
            self._note(replace(piece.progress, attempted="", was_there=False, target=""), "")
        return left

    def _drop(self, seen: Seen, patience_ms: int) -> ServerError | None:
        """Drop invalid indexes of broken tries, as the role that the file has there, without blocking anybody."""
        piece, work = self.piece, self._work
        for index in seen.leftovers:
            piece.tell(f"{label(piece.name)}: drops the invalid index {index} that a broken build left")
            error = self._send(own_message(piece.script, drop_sql(index)), patience_ms=patience_ms)
            if error is not None:
                piece.tell(f"{label(piece.name)}: {index} could not be dropped: {words(work.session, error)}")
                return replace(error, segment=self._error("", "").segment, statement=self._unit.first)
            clean(work.session)
            event = Event(
                event="heal",
                run_id=work.run.run_id,
                orchestrator_url=work.run.orchestrator_url,
                migration_name=piece.name,
                version=piece.version,
                details={"dropped": index},
            )
            write_event(work.session, event)
            self._set_up()
        return None

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def _work(self) -> WorkSession:
        return self.piece.work

    @property
    def _unit(self) -> Unit:
        return self.piece.units[self.number]

    @property
    def _recheck(self) -> Recheck:
        return self._unit.recheck(self.piece.script)
