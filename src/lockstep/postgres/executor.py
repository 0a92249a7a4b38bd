"""Runs composed messages on a work session and explains what the server says about them.

Holds no rule about what should run. The failing statement is found by counting completed results, since most failures
(constraint violations) carry no position; a position, where given, refines it to the column. Results are read as they
come and none is kept, so a migration that returns a whole table costs no memory here.
"""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psycopg
from psycopg import pq
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from lockstep.core import steps
from lockstep.core.counting import counted
from lockstep.errors import Unreachable
from lockstep.postgres.connection import Session, guard, redact
from lockstep.postgres.message import Frame, Message, Part, Segment
from lockstep.postgres.servererror import ServerError, explain, of_result, unverified, words
from lockstep.postgres.watch import Blocker, Waited, Watch

#: Lock not available, deadlock: the whole transaction was rolled back and may simply run again.
RETRYABLE = frozenset({"55P03", "40P01"})
_CANCELLED = "57014"
_ROWS = 500  # of a result that are held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A message that did what it should."""

    duration_ms: int  # wall time at this end
    tries: int  # 1 when no lock was in the way
    session_is_clean: bool  # False: the reset after COMMIT did not go through
    rows: int | None = 0  # that the file's statements touched; None: the answer was lost, nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a try knows of the tries before it."""

    number: int = 1
    lock_timeout_ms: int | None = None  # raised, so that an autovacuum in the way gives up
    waited_for: tuple[Blocker, ...] = ()  # all that were in the way so far
    waited_ms: int = 0  # that the tries before it and their pauses took

    @property
    def waited(self) -> Waited:
        """What the audit log keeps of the tries before it."""
        return Waited(blockers=self.waited_for, ms=self.waited_ms)


Waiting = Callable[[int, str], None]  # (tries so far, what it waits for); 0 tries: it waits in the middle of one


def run_message(
    session: Session,
    compose: Callable[[Attempt], Message],
    *,
    watch: Watch,
    outcome: str,
    waiting: Waiting | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Done:
    """Send a message that is one transaction; try it again on lock timeouts and deadlocks within the target's budget.

    `compose` makes the message of each try. `meanwhile` is called while the server works. `outcome` says what is and is not done if it fails. Raises MigrationFailed
    (the transaction was rolled back, the session is clean again) and Unreachable (the connection was lost: the ledger
    tells whether it was committed).
    """
    started = time.monotonic()
    budget = session.target.retry_budget_ms / 1_000
    attempt = Attempt()
    while True:
        session.send_settings()
        message = compose(attempt)
        error, reader = send(session, message, watch, meanwhile=meanwhile)
        meanwhile = None
        if error is None:
            elapsed = round((time.monotonic() - started) * 1_000)
            return Done(duration_ms=elapsed, tries=attempt.number, session_is_clean=reader.clean, rows=reader.rows)
        clean(session)
        known = {b.pid: b for b in attempt.waited_for} | {b.pid: b for b in watch.blockers}
        attempt = Attempt(
            number=attempt.number + 1,
            lock_timeout_ms=watch.next_lock_timeout_ms,
            waited_for=tuple(known.values()),
        )
        pause = backoff(attempt.number)
        if not may_retry(error, watch) or time.monotonic() - started + pause > budget:
            raise explain(
                session, message, error, outcome=outcome, tries=attempt.number - 1,
                waited_for=tuple(b.text for b in attempt.waited_for), cancelled=watch.cancelled,
            )  # fmt: skip
        if waiting is not None:
            said = watch.cancelled or words(session, error)
            names = ", ".join(b.text for b in watch.blockers)
            waiting(attempt.number - 1, f"{said}; in the way: {names}" if names else said)
        time.sleep(pause)
        attempt = replace(attempt, waited_ms=round((time.monotonic() - started) * 1_000))


def may_retry(error: ServerError, watch: Watch) -> bool:
    """Whether a failure was about locks alone: nothing of the try is left, and another may do."""
    return error.sqlstate in RETRYABLE or (error.sqlstate == _CANCELLED and watch.cancelled is not None)


def backoff(tries: int) -> float:
    """Seconds to pause before the next try: growing, with jitter."""
    doubled: float = 0.05 * 2.0 ** min(tries, 7)
    return min(doubled, 5.0) * random.uniform(0.5, 1.5)  # jitter, no secret


def send(
    session: Session,
    message: Message,
    watch: Watch,
    *,
    patience_ms: int | None = None,
    told: Callable[[str], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> tuple[ServerError | None, Reader]:
    """Send a message's parts until one fails. Returns its error, or None, and what was read. Raises Unreachable.

    `patience_ms`: cancel it when it waits for others for longer in one go. Whatever ends this process in good order
    (Ctrl-C, SIGTERM, an orchestrator's own signal) cancels it, too, and rolls it back.
    """
    reader = Reader()
    watch.begin(session, patience_ms=patience_ms, told=told)
    for part in message.parts:
        watch.before(part)
        send_part(session, part, reader, watch, meanwhile if part is message.parts[-1] else None)
        if reader.error is not None:
            break
        watch.after(session, part)
        if part.to_commit is not None and not reader.committed:
            raise AssertionError(
                f"{part.to_commit} statements up to COMMIT, and it was not among {reader.index} results"
            )
    return reader.error, reader


class Reader:
    """Takes the results of a message one by one; keeps the first error, and a few numbers.

    Only results with a command tag belong to our statements: a rule's extra queries return results without one.
    """

    def __init__(self) -> None:
        self.error: ServerError | None = None
        self.lost = ""  # what the server said when it ended the session
        self.committed = False  # after COMMIT's own completion nothing counts as a failed migration
        self.rows = 0
        self.took_ms = 0  # on the server, as the newest log row says
        self.index = 0  # of the part's statement whose result is being read
        self._part: Part | None = None
        self._segment = 0  # of the part's segments, the one that is read or comes next
        self._since = 0.0  # when the statement whose result is awaited was begun, as far as that is seen here
        self._broken = False  # the reset after COMMIT did not go through

    def begin(self, part: Part) -> None:
        self._part = part
        self._segment = 0
        self.index = 0
        self._since = time.monotonic()

    @property
    def clean(self) -> bool:
        """Whether nothing of a file is left in the session."""
        return self.committed and not self._broken

    def take(self, result: PGresult) -> None:
        assert self._part is not None
        if result.status == ExecStatus.FATAL_ERROR:
            self._failed(result)
            return
        status = result.command_status
        segment = self._reached(self._part)
        if status and steps.listening():
            self._tell(result, segment)
        if result.ntuples and self.error is None:
            if segment is None:
                self._hear(result)
            elif segment.verifies:
                self.error = unverified(result, self.index, segment)
        if not status:
            return
        if segment is None:
            self.committed = self.committed or status == b"COMMIT"
        elif not segment.verifies and not segment.replays:
            self.rows += result.command_tuples or 0
        self.index += 1

    def _reached(self, part: Part) -> Segment | None:
        """Return the run of a script's statements whose results are being read; None: our own."""
        segments = part.segments
        while self._segment < len(segments):
            one = segments[self._segment]
            if self.index < one.index + one.count:
                return one if one.index <= self.index else None
            self._segment += 1
        return None

    def _tell(self, result: PGresult, segment: Segment | None) -> None:
        """Tell of a statement of a file: its place and kind, never its text. Ours come with a frame's kind alone."""
        now = time.monotonic()
        took, self._since = now - self._since, now
        if segment is None:
            words = (result.command_status or b"").decode(errors="replace")
            if words == "COMMIT":
                steps.done("COMMIT, with the rows of ledger and audit log", took)
            return
        statement = segment.script.statements[segment.first + self.index - segment.index]
        rows = f", {counted(result.command_tuples, 'row')}" if result.command_tuples else ""
        kind = statement.kind.removesuffix("_stmt").replace("_", " ")
        steps.done(f"{segment.script.file}:{statement.line}: {kind}{rows}", took)

    def _hear(self, result: PGresult) -> None:
        """Our own row of the audit log returns what it holds."""
        if result.nfields == 1 and result.fname(0) == b"duration_ms":
            self.took_ms = int(result.get_value(0, 0) or 0)

    def _failed(self, result: PGresult) -> None:
        assert self._part is not None
        if self.committed:
            self._broken = True
        elif self.error is None:
            self.error = of_result(result, self.index, self._part)
        # An ERROR before it is the file's, and may quote what a row holds.
        if result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) != b"ERROR":
            self.lost = self.lost or result.error_message.decode(errors="replace").strip()


def send_part(session: Session, part: Part, reader: Reader, watch: Watch, meanwhile: Callable[[], None] | None) -> None:
    """Send one part; `reader` takes its results, errors included. Raises Unreachable."""
    connection = session.connection
    reader.begin(part)
    try:
        with guard(session.target), connection.lock:
            try:
                for result in _results(connection.pgconn, part.text, watch, meanwhile):
                    reader.take(result)
            except BaseException as error:
                # Ctrl-C, SIGTERM, an orchestrator that ends us, or a fault of ours.
                if not isinstance(error, psycopg.Error):
                    _give_up(connection, reader)
                raise
    except psycopg.OperationalError as error:
        raise Unreachable(target=session.target.name, reason=redact(str(error), session.target).strip()) from None
    if connection.pgconn.status != ConnStatus.OK:
        first = reader.lost.splitlines()
        reason = redact(first[0], session.target) if first else "the connection was lost"
        raise Unreachable(
            target=session.target.name,
            reason=f"the connection was lost while a migration ran: {reason}",
            hint=f"lockstep status {session.target.environment} shows whether it was committed",
        )


def _results(pgconn: PGconn, text: str, watch: Watch, meanwhile: Callable[[], None] | None) -> Iterator[PGresult]:
    """Send one simple-query message and yield its results as they arrive, long ones in chunks of rows."""
    pgconn.send_query(text.encode())
    if pq.version() >= 170000:
        pgconn.set_chunked_rows_mode(_ROWS)
    else:
        pgconn.set_single_row_mode()
    poll = select.poll()
    while pgconn.flush():
        poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
        for _, event in poll.poll():
            if event & ~select.POLLOUT:
                pgconn.consume_input()
    poll.register(pgconn.socket, select.POLLIN)
    if meanwhile is not None:
        meanwhile()
    while True:
        while pgconn.is_busy():
            if not poll.poll(watch.pause * 1_000):
                watch.look()
                continue
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            return
        if result.status in {ExecStatus.COPY_IN, ExecStatus.COPY_OUT}:
            raise AssertionError("COPY from or to the client is refused when a file is parsed")
        yield result


_GIVE_UP = 5.0  # seconds for a cancelled message to end


def _give_up(connection: psycopg.Connection, reader: Reader) -> None:
    """Cancel what runs, wait a little for its end and roll back, so that nothing goes on behind a run that was stopped.

    `reader` still hears what was committed before.
    """
    pgconn = connection.pgconn
    try:
        connection.cancel_safe(timeout=_GIVE_UP)
        deadline = time.monotonic() + _GIVE_UP
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        while time.monotonic() < deadline:
            if pgconn.is_busy():
                if poll.poll(200):
                    pgconn.consume_input()
            elif (result := pgconn.get_result()) is None:
                pgconn.exec_(b"ROLLBACK")  # outside of a transaction it is a warning
                return
            else:
                reader.take(result)
    except psycopg.Error:
        return  # the session is closed next, which ends it as well


def clean(session: Session) -> None:
    """Bring the session back after a failed message: roll back, reset what a file may have left."""
    with guard(session.target):
        if not session.idle:
            session.connection.execute("ROLLBACK")
        session.connection.execute(";".join(Frame.of(session).reset).encode())


def outcome_text(file: str, done_before: int, total: int) -> str:
    """What was and was not done when a transactional file fails, in one sentence."""
    name = file.rsplit("/", 1)[-1].removesuffix(".sql")
    rest = total - done_before - 1
    after = f"; {rest} after it not started" if rest else ""
    return f"{done_before} of {total} done; {name} rolled back, nothing of it stayed{after}."
