"""The messages that apply a file: composed here as text, sent by the executor, shown by `plan --sql`.

BEGIN, timeouts, the file, the ledger and audit rows, COMMIT and the reset of the session travel together, so a
migration costs one round trip, and its effects and its ledger row commit together or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.abc import AdaptContext

from lockstep.core.migration import SqlFile
from lockstep.postgres.connection import Session, Target
from lockstep.postgres.lock import held_sql

if TYPE_CHECKING:
    from lockstep.core.statements import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of one script's statements inside a part."""

    script: Script
    first: int  # index of its first statement in the script
    count: int  # how many statements
    text_start: int  # where its text begins in the script, in characters
    part_start: int  # where its text begins in the part, in characters
    index: int  # position of its first statement among the part's statements
    verifies: bool = False  # a verify script: boolean results must be true
    replays: bool = False  # brings the session to where the file left it: its rows are not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One simple-query message: one round trip."""

    text: str
    segments: tuple[Segment, ...]
    to_commit: int | None  # statements up to and including COMMIT; None: the transaction stays open
    statements: int  # how many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent for one file, or for one unit of it: one part, or several where it is large or has to be looked at."""

    script: Script
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All that is sent, for a person."""
        return "\n".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all messages of a session have in common."""

    target: Target
    baseline: tuple[str, ...]  # SQL that sets the session's settings
    context: AdaptContext
    apart: bool = False  # each statement of a file in a part of its own, so that a rehearsal can look in between

    @classmethod
    def of(cls, session: Session, *, apart: bool = False) -> Frame:
        return cls(target=session.target, baseline=session.baseline, context=session.connection, apart=apart)

    def timeouts(
        self, file: SqlFile, lock_timeout_ms: int | None, statement_timeout_ms: int | None = None
    ) -> tuple[int, int]:
        """lock_timeout and statement_timeout for a file's statements, in ms; 0 is none.

        An argument raises the first; the other one serves where neither file nor environment say anything.
        """
        directives = file.directives
        own = self.target.lock_timeout_ms if directives.lock_timeout_ms is None else directives.lock_timeout_ms
        limit = directives.statement_timeout_ms
        limit = self.target.statement_timeout_ms if limit is None else limit
        limit = statement_timeout_ms if limit is None else limit
        return (max(own, lock_timeout_ms) if lock_timeout_ms and own else own), limit or 0

    def path(self, *, local: bool = True) -> str:
        """A file runs with the search_path of the configuration, else of its role; our own statements never do."""
        if self.target.search_path:
            # No query: a file may say SET TRANSACTION first.
            names = ", ".join(sql.Identifier(name).as_string(self.context) for name in _names(self.target.search_path))
            return f"SET {'LOCAL' if local else 'SESSION'} search_path = {names}"
        return "RESET search_path"

    @property
    def own_role(self) -> str:
        role = self.target.role
        return f"SET LOCAL ROLE {sql.Identifier(role).as_string(self.context)}" if role else "RESET ROLE"

    @property
    def reset(self) -> list[str]:
        """Statements that bring a session back to its start."""
        # First of all our own timeouts and search_path again: RESET ALL goes back to the role's.
        words = ["RESET ALL", *self.baseline, *_RESET]
        if self.target.role:
            words.append(f"SET ROLE {sql.Identifier(self.target.role).as_string(self.context)}")
        return words


def _names(search_path: str) -> list[str]:
    """Take a list of schemas apart as PostgreSQL does: names in double quotes stand as they are, others in lower case."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^,"\s]+)', search_path)
    return [quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in found]


#: What a file may leave behind in a session, undone after COMMIT. DISCARD ALL cannot run in such a message.
_RESET = (
    "RESET SESSION AUTHORIZATION", "RESET ROLE", "DISCARD TEMP", "DISCARD SEQUENCES", "DEALLOCATE ALL",
    "UNLISTEN *", "CLOSE ALL",
)  # fmt: skip


def transaction_message(
    frame: Frame,
    file: SqlFile,
    script: Script,
    rows: Sequence[str],
    *,
    span: tuple[int, int] | None = None,
    replay: Sequence[int] = (),
    verify: Script | None = None,
    lock_timeout_ms: int | None = None,
    statement_timeout_ms: int | None = None,
    flushed: bool = True,
    joins: bool = False,
) -> Message:
    """Compose one transaction: statements of a file, a verify script, and the rows that record them.

    `span` are the statements from … to (exclusive); without it the whole file as it stands. `replay` are statements of
    the file that ran before and made the session what it is. `lock_timeout_ms` raises the file's own;
    `statement_timeout_ms` is for one that says nothing about it. Without `flushed` COMMIT does not wait for the disk: a
    later one of the same run does, and for all before it. One that `joins` others in one message (postgres.several) resets
    the session in a transaction of its own: what stands before the next BEGIN would else be part of that one.
    """
    lock_timeout, limit = frame.timeouts(file, lock_timeout_ms, statement_timeout_ms)
    writer = _Writer()
    writer.own(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE",
        f"SET LOCAL lock_timeout = {lock_timeout}",
        f"SET LOCAL statement_timeout = {limit}",
        frame.own_role,
        frame.path(),
    )
    writer.replay(script, replay)
    for first, last in _chunks(script, span, apart=frame.apart):
        size = _size(script, first, last)
        if frame.apart or (writer.size and writer.size + size > CHUNK):
            writer.finish()
        writer.segment(script, first, last, whole=span is None)
    if frame.apart:
        writer.finish()
    writer.own("RESET SESSION AUTHORIZATION", frame.own_role)
    if verify is not None:
        # Whatever a verify script does is undone; its results are looked at before COMMIT.
        writer.own(frame.path(), "SAVEPOINT lockstep_verify")
        writer.segment(verify, 0, len(verify.statements), verifies=True, whole=True)
        writer.own("ROLLBACK TO SAVEPOINT lockstep_verify")
        writer.finish()
    if writer.size + sum(map(len, rows)) > CHUNK:
        writer.finish()
    writer.own(_own_again(frame.target, flushed=flushed), *rows, "COMMIT")
    writer.commit_here()
    writer.own(*(("BEGIN READ WRITE", *frame.reset, _BEGAN, "COMMIT") if joins else frame.reset))
    writer.finish()
    return Message(script=script, parts=tuple(writer.parts))


#: Where the next transaction of a message begins (postgres.entries, ELAPSED).
_BEGAN = (
    "SELECT pg_catalog.set_config('lockstep_session.began', "
    "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::pg_catalog.text, false)"
)


def setting_up_message(
    frame: Frame,
    file: SqlFile,
    script: Script,
    replay: Sequence[int],
    *,
    waits_long: bool,
    lock_timeout_ms: int | None = None,
) -> Message:
    """Compose what makes the session ready for a statement that cannot run in a transaction: timeouts, path, replay.

    `waits_long`: a CONCURRENTLY that waits for old snapshots gets the whole retry budget as its lock_timeout, whatever
    the file says; a short one would only leave it half done. `lock_timeout_ms` raises that of any other.
    """
    lock_timeout, limit = frame.timeouts(file, lock_timeout_ms)
    writer = _Writer()
    writer.own(
        f"SET lock_timeout = {lock_timeout}",
        f"SET statement_timeout = {limit}",
        frame.path(local=False),
    )
    writer.replay(script, replay)
    writer.own("SET client_encoding = 'UTF8'")
    if waits_long:
        # A second session gives it up at the budget, naming who is in the way; this holds where there is none.
        writer.own(f"SET lock_timeout = {frame.target.retry_budget_ms + 1_000}")
    writer.finish()
    return Message(script=script, parts=tuple(writer.parts))


def alone_message(script: Script, index: int) -> Message:
    """Compose the message of a statement that stands alone: nothing but itself, since PostgreSQL wants it so."""
    one = script.statements[index]
    segment = Segment(script=script, first=index, count=1, text_start=one.start, part_start=0, index=0)
    part = Part(text=script.text[one.start : one.end], segments=(segment,), to_commit=None, statements=1)
    return Message(script=script, parts=(part,))


def own_message(script: Script, statement: str) -> Message:
    """Compose a message of one statement of ours, about a file: a leftover that is dropped, a detach that is finished."""
    return Message(script=script, parts=(Part(text=statement, segments=(), to_commit=None, statements=1),))


#: Characters of a file that travel in one message; the server's parser takes about 16 times the text in memory.
CHUNK = 1024 * 1024


def _size(script: Script, first: int, last: int) -> int:
    return script.statements[last - 1].end - script.statements[first].start if last > first else 0


def _chunks(script: Script, span: tuple[int, int] | None, *, apart: bool = False) -> list[tuple[int, int]]:
    """Ranges of statements that travel together. Up to CHUNK it is one range; `apart` each statement is one."""
    begin, end = span or (0, len(script.statements))
    if apart:
        return [(index, index + 1) for index in range(begin, end)]
    if (len(script.text) if span is None else _size(script, begin, end)) <= CHUNK:
        return [(begin, end)]
    ranges: list[tuple[int, int]] = []
    first, size = begin, 0
    for index in range(begin, end):
        statement = script.statements[index]
        length = statement.end - statement.start
        if size and size + length > CHUNK:
            ranges.append((first, index))
            first, size = index, 0
        size += length
    ranges.append((first, end))
    return ranges


class _Writer:
    """Builds parts: our own statements, and runs of a script's statements, with where each stands."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._clear()

    def _clear(self) -> None:
        self._text: list[str] = []
        self.size = 0  # characters so far
        self._statements = 0
        self._segments: list[Segment] = []
        self._commit: int | None = None

    def own(self, *statements: str) -> None:
        for statement in statements:
            self._add(statement + ";\n")
        self._statements += len(statements)

    def replay(self, script: Script, indexes: Iterable[int]) -> None:
        """Statements that ran before, as runs of neighbours."""
        for _, group in groupby(enumerate(indexes), key=lambda pair: pair[1] - pair[0]):
            run = [index for _, index in group]
            self.segment(script, run[0], run[-1] + 1, replays=True)

    def segment(
        self,
        script: Script,
        first: int,
        last: int,
        *,
        verifies: bool = False,
        replays: bool = False,
        whole: bool = False,
    ) -> None:
        """Statements from … to (exclusive). `whole`: with all that stands around them, where these are all there are."""
        if first == last and not whole:
            return
        whole = whole and first == 0 and last == len(script.statements)
        start = 0 if whole else script.statements[first].start
        end = len(script.text) if whole else script.statements[last - 1].end
        self._segments.append(
            Segment(
                script=script,
                first=first,
                count=last - first,
                text_start=start,
                part_start=self.size,
                index=self._statements,
                verifies=verifies,
                replays=replays,
            )
        )
        # The text may end inside a `--` comment or without a semicolon: a new line and a semicolon of our own end it.
        self._add(script.text[start:end] + "\n;\n")
        self._statements += last - first
        # What follows in later parts is UTF-8, whatever the file said.
        self.own("SET LOCAL client_encoding = 'UTF8'")

    def commit_here(self) -> None:
        self._commit = self._statements

    def finish(self) -> None:
        if self._text:
            part = Part(
                text="".join(self._text),
                segments=tuple(self._segments),
                to_commit=self._commit,
                statements=self._statements,
            )
            self.parts.append(part)
        self._clear()

    def _add(self, text: str) -> None:
        self._text.append(text)
        self.size += len(text)


#: What fails a transaction before its rows are written. The server repeats these words: postgres.servererror knows them.
LOCK_LOST = "the lock of this run is not held any more: the file released advisory locks"
LEDGER_GONE = "the file removed or renamed the ledger, which belongs to Lockstep alone"


def _own_again(target: Target, *, flushed: bool) -> str:
    """Settings of ours for the rows; fails unless this session still holds the lock and the ledger is where it belongs.

    Other advisory locks of the session are let go of. One statement, since each costs both sides: where something is
    wrong, its words become the value of a setting that takes none such.
    That a file does not write to the ledger is the business of a trigger on it, which `lockstep_session.writer` opens.
    """

    def setting(name: str, value: str) -> str:
        return f"pg_catalog.set_config('{name}', '{value}', true)"

    ledger, log = (
        f"pg_catalog.to_regclass({sql.Literal(sql.Identifier(target.ledger_schema, name).as_string()).as_string()})"
        for name in ("schema_migrations", "schema_migrations_log")
    )
    settings = [
        setting("search_path", "pg_catalog, pg_temp"),
        setting("row_security", "off"),
        setting("statement_timeout", "0"),
    ]
    # Of a file that turned it off nobody is told "applied" before the disk has it: NULL is the session's own.
    settings.append(
        "pg_catalog.set_config('synchronous_commit', NULL, true)" if flushed else setting("synchronous_commit", "off")
    )
    return (
        f"SELECT {', '.join(settings)}, CASE WHEN NOT {held_sql(target.ledger_schema)} THEN "
        f"{setting('statement_timeout', LOCK_LOST)} WHEN {ledger} IS NULL OR {log} IS NULL THEN "
        f"{setting('statement_timeout', LEDGER_GONE)} ELSE {setting('lockstep_session.writer', 'on')} END"
    )
