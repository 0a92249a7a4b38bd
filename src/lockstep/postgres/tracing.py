"""Traces what a plan does on a copy: looks at the work session's locks, files, statistics and WAL between statements.

It runs on clones alone, where nobody else works. A transaction is looked at from inside, after each statement; what
cannot run in a transaction is sampled from a second session. It cancels nothing and judges nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.postgres.connection import Session
from lockstep.postgres.watch import Watch

if TYPE_CHECKING:
    from lockstep.core.migration import SqlFile
    from lockstep.postgres.message import Part


@dataclass(slots=True, kw_only=True)
class _File:
    name: str
    file: SqlFile
    started: float
    statements: list[StatementTrace] = field(default_factory=list)
    trace_ms: float = 0.0


class TracingWatch(Watch):
    """A watch that sees all and stops nothing. `begin_file`, then the file runs, then `end_file`."""

    apart = True
    _file: _File | None = None
    _sent_at = 0.0

    def begin_file(self, session: Session, name: str, file: SqlFile) -> None:
        """A file is about to run. `name` is the migration's."""
        self._file = _File(name=name, file=file, started=time.monotonic())

    def end_file(self, session: Session) -> FileTrace:
        """The file is done: return what was seen."""
        file = self._file
        assert file is not None
        self._file = None
        return FileTrace(
            name=file.name,
            transactional=file.file.transactional,
            ms=(time.monotonic() - file.started) * 1_000 - file.trace_ms,
            statements=tuple(file.statements),
            trace_ms=file.trace_ms,
        )

    def look(self) -> None:
        """Nobody is in the way on a copy, and nothing is given up there."""

    def before(self, part: Part) -> None:
        self._sent_at = time.monotonic()

    def after(self, session: Session, part: Part) -> None:
        took = (time.monotonic() - self._sent_at) * 1_000
        file = self._file
        if file is None or not part.segments or part.segments[0].verifies or part.segments[0].replays:
            return
        segment = part.segments[0]
        statement = segment.script.statements[segment.first]
        file.statements.append(StatementTrace(index=segment.first, line=statement.line, kind=statement.kind, ms=took))
