"""Several transactions in one message: one round trip for a row of quick migrations.

The server works through the message statement by statement, and each migration in it is still a transaction of its own
with its own COMMIT. At the first error it leaves the rest of the message alone: what was committed before is done, what
comes after was never begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from lockstep.postgres.connection import Session
from lockstep.postgres.executor import Reader, send_part
from lockstep.postgres.message import Message, Part, Segment
from lockstep.postgres.servererror import ServerError
from lockstep.postgres.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Messages, each of one part, as one."""

    messages: tuple[Message, ...]
    part: Part
    ends: tuple[int, ...]  # of each message: how many statements there are up to its last one
    commits: tuple[int, ...]  # of each message: index of its COMMIT

    @property
    def text(self) -> str:
        return self.part.text


def join(messages: Sequence[Message]) -> Joined:
    """Put messages of one part each behind one another."""
    texts: list[str] = []
    segments: list[Segment] = []
    ends: list[int] = []
    commits: list[int] = []
    characters = statements = 0
    for message in messages:
        (part,) = message.parts
        if part.to_commit is None:
            raise AssertionError("a message that leaves its transaction open stands alone")
        segments += [
            replace(one, part_start=one.part_start + characters, index=one.index + statements) for one in part.segments
        ]
        commits.append(statements + part.to_commit - 1)
        texts.append(part.text)
        characters += len(part.text)
        statements += part.statements
        ends.append(statements)
    part = Part(text="".join(texts), segments=tuple(segments), to_commit=None, statements=statements)
    return Joined(messages=tuple(messages), part=part, ends=tuple(ends), commits=tuple(commits))


class JoinedReader(Reader):
    """Takes the results of joined messages; counts how many of them were committed."""

    def __init__(self, joined: Joined) -> None:
        super().__init__()
        self._joined = joined
        self.done_ms: list[int] = []  # of each committed message: what its log row says that it took

    @property
    def done(self) -> int:
        """How many messages were committed: the first so many."""
        return len(self.done_ms)

    @property
    def whole(self) -> bool:
        """Whether nothing of the last file is left in the session."""
        return not self._broken

    def take(self, result: PGresult) -> None:
        if result.status == ExecStatus.FATAL_ERROR:
            # After the COMMIT of a message and before its end, only its reset can fail.
            at = sum(end <= self.index for end in self._joined.ends)
            self.committed = at < len(self._joined.commits) and self.index > self._joined.commits[at]
            super().take(result)
            if self.error is not None:
                self.error = replace(self.error, at_commit=self.index in self._joined.commits)
            return
        commits = self._joined.commits
        # A result with rows ends with one of its own, without a tag, that comes when the next statement's is due.
        committing = (
            result.command_status == b"COMMIT"
            and len(self.done_ms) < len(commits)
            and self.index == commits[len(self.done_ms)]
        )
        super().take(result)
        if committing:
            self.done_ms.append(self.took_ms)


def send_joined(
    session: Session, joined: Joined, reader: JoinedReader, watch: Watch, *, meanwhile: Callable[[], None] | None
) -> ServerError | None:
    """Send joined messages; `reader` knows afterwards how many were committed, whatever is raised.

    Returns the error of the first that failed, if one did. Raises Unreachable.
    """
    watch.begin(session, patience_ms=None, told=None)
    watch.before(joined.part)
    send_part(session, joined.part, reader, watch, meanwhile)
    if reader.error is None and reader.whole and reader.done != len(joined.messages):
        raise AssertionError(f"{reader.done} of {len(joined.messages)} transactions were committed, and no error came")
    return reader.error
