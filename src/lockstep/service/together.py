"""Quick migrations travel together: several transactions in one message, as long as each takes next to no time.

For environments that are not protected. A migration is still one transaction with its rows, and what fails is told as if
it had come alone; but the line is crossed once for all of them, and the work at this end goes on while the server works.
How many go together follows from how long they take, so a person who watches sees progress all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Protocol

from lockstep.core.migration import Migration
from lockstep.core.planner import Step
from lockstep.errors import LockstepError, Unreachable
from lockstep.postgres.executor import Done, clean, may_retry, outcome_text
from lockstep.postgres.message import CHUNK, Message
from lockstep.postgres.servererror import explain
from lockstep.postgres.several import JoinedReader, join, send_joined
from lockstep.service.worksession import WorkSession

MOST = 32  # migrations in one message
SPAN = 0.1  # seconds that one message should take
LONGEST = 64 * 1024  # characters of a file that goes with others, and of its down script, which its row holds


def too_long(migration: Migration) -> bool:
    """Whether a migration has too much text to go with others: each is to fit into one part with its rows."""
    return max(len(one.text) for one in (migration.up, migration.down) if one is not None) > LONGEST


class Applying(Protocol):
    """What is needed of a run: to know its steps, to make a step's message, and to note that it is applied."""

    work: WorkSession

    @property
    def steps(self) -> Sequence[Step]: ...
    @property
    def done(self) -> int: ...
    def message_of(self, step: Step) -> Message: ...
    def note(self, step: Step, *, execution_ms: int, tries: int) -> None: ...
    def reconnect(self, lost: Unreachable, steps: Sequence[Step]) -> tuple[Step, Unreachable] | None: ...


@dataclass(slots=True)
class Together:
    """How many migrations go together now, and what came of those that nobody has asked about yet."""

    size: int = 1
    failed: dict[str, LockstepError] = field(default_factory=dict)  # file name -> why it is not applied

    def paced(self, count: int, seconds: float) -> None:
        """So many migrations took so long in one message: twice as many may go next, within SPAN."""
        fitting = int(SPAN * count / seconds) if seconds > 0 else MOST
        self.size = max(1, min(2 * count, fitting, MOST))

    def following(self, run: Applying) -> list[Step]:
        """Return the steps that go next in one message; one or none: it goes alone."""
        steps: list[Step] = []
        session = run.work.session
        bounded = session.target.max_blocking_ms is not None  # each try is measured for itself then
        if bounded or run.work.watch.apart or (session.target.settings and not session.facts.settings_arrived):
            return steps
        for step in run.steps[run.done : run.done + self.size]:
            migration = step.migration
            if not migration.up.transactional or migration.verify or too_long(migration):
                break
            steps.append(step)
        return steps

    def apply(self, run: Applying, steps: Sequence[Step], *, meanwhile: Callable[[], None]) -> None:
        """Apply steps in one message and note those that are committed; what failed is in `failed`.

        Where a lock was in the way, the rest is left: the next one goes alone, and waits. Raises Unreachable where
        nobody knows what became of them.
        """
        messages = _fitting([run.message_of(step) for step in steps])
        if len(messages) < 2:
            return
        steps = steps[: len(messages)]
        joined = join(messages)
        reader = JoinedReader(joined)
        started = time.monotonic()
        work = run.work
        try:
            error = send_joined(work.session, joined, reader, work.watch, meanwhile=meanwhile)
        except Unreachable as lost:
            if (stopped := run.reconnect(lost, steps)) is not None:
                step, why = stopped
                self.failed[step.name] = why
            return
        except BaseException:
            _note(run, steps, reader)
            work.under_way = steps[min(reader.done, len(steps) - 1)].name
            raise
        _note(run, steps, reader)
        if error is None:
            self.paced(reader.done, time.monotonic() - started)
            if not reader.whole:
                left = Done(duration_ms=0, tries=1, session_is_clean=False)
                work.keep_clean(left, f"{run.done} of {len(run.steps)} done.")
            return
        clean(work.session)
        self.size = 1
        never_begun = error.statement is None and reader.index == 0  # the server could not read one of them
        if never_begun or may_retry(error, work.watch):
            return
        step = steps[reader.done]
        outcome = outcome_text(step.migration.up.name, run.done, len(run.steps))
        failure = explain(
            work.session, joined.messages[reader.done], error, outcome=outcome, cancelled=work.watch.cancelled
        )
        self.failed[step.name] = failure
        work.log_failure(failure, name=step.name, version=step.migration.version, waited_for=work.watch.blockers)


def _fitting(messages: Sequence[Message]) -> list[Message]:
    """Return the first so many that fit into one message: of one part each, and not too much text for the server."""
    sizes = accumulate(sum(len(part.text) for part in one.parts) for one in messages)
    return [
        one
        for one, _ in takewhile(
            lambda pair: len(pair[0].parts) == 1 and pair[1] <= CHUNK, zip(messages, sizes, strict=True)
        )
    ]


def _note(run: Applying, steps: Sequence[Step], reader: JoinedReader) -> None:
    for step, took in zip(steps, reader.done_ms, strict=False):
        run.note(step, execution_ms=took, tries=1)
