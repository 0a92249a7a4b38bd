"""A script taken apart into statements, by PostgreSQL's own grammar (libpg_query 18 through postgast).

Says where each statement stands and whether the script can run in one transaction. It never changes what a statement
says: the text that is sent is the text of the file, with the outer BEGIN/COMMIT blanked out in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lockstep.core import privacy
from lockstep.core.checksum import mask_restrict
from lockstep.core.do_blocks import place_of_end
from lockstep.core.text import excerpt, line_and_column
from lockstep.core.traits import ORDINARY, Traits, traits
from lockstep.errors import MigrationFileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a script. Offsets are characters from 0 into `Script.text`."""

    start: int  # of its first character
    end: int  # after its last character, without the semicolon
    line: int  # of its start, from 1
    kind: str  # node name of the grammar: select_stmt, index_stmt, …
    traits: Traits = ORDINARY

    @property
    def alone(self) -> str | None:
        """What forbids a transaction block, in words for a person; None: it can run in one."""
        return self.traits.alone or self.traits.forbidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A parsed file: what is sent, and its statements in order."""

    file: str  # name for messages
    text: str  # as sent: outer BEGIN/COMMIT and \\restrict lines blanked, all positions as in the file
    statements: tuple[Statement, ...]  # without the absorbed pair


@lru_cache(maxsize=16_384)  # plan, preview and message each ask for every pending file, in the same order
def parse_script(text: str, file: str, *, transactional: bool = True) -> Script:
    """Parse a decoded text.

    Raises MigrationFileError with line, column and caret for: a syntax error, a psql meta-command, COPY from or to the
    client, an unrendered placeholder; and, in a transactional script, transaction control in the middle and statements
    that PostgreSQL refuses inside a transaction block.
    """
    masked = mask_restrict(text)
    statements: list[Statement] = []
    for start, end, kind, node in _parsed(masked, file):
        if kind == "copy_stmt" and not node.filename and not node.is_program:
            raise _copy(file, masked, start)
        statements.append(Statement(start=start, end=end, line=0, kind=kind, traits=traits(kind, node)))
    statements = _with_lines(masked, statements)
    for one in statements if len(text) > LARGEST_STATEMENT else ():
        if (length := one.end - one.start) > LARGEST_STATEMENT:
            raise MigrationFileError(
                f"one statement of {length // 2**20} MiB; the largest that is sent is {LARGEST_STATEMENT // 2**20} MiB",
                file=file,
                line=one.line,
                hint="split it into several statements",
            )
    if transactional:
        masked, statements = _absorb(file, masked, statements)
        for statement in statements:
            if statement.alone:
                inside = place_of_end(masked[statement.start : statement.end]) if statement.kind == "do_stmt" else None
                raise problem_at(
                    file,
                    masked,
                    statement.start + (inside or 0),
                    f"{statement.alone} cannot run inside a transaction",
                    hint="give it a file of its own, with this line at its head: -- lockstep: transaction=none",
                )
    return Script(file=file, text=masked, statements=tuple(statements))


def problem_at(file: str, text: str, offset: int, problem: str, *, hint: str | None = None) -> MigrationFileError:
    """Return an error about the character at `offset` of a file, with line, column and caret."""
    line, column = line_and_column(text, offset)
    return MigrationFileError(
        problem, file=file, line=line, column=column, excerpt=excerpt(text, line, column), hint=hint
    )


def _with_lines(text: str, statements: list[Statement]) -> list[Statement]:
    """Fill in the lines in one pass over the text: a file may hold thousands of statements."""
    made = []
    line, at = 1, 0
    for one in statements:
        line, at = line + text.count("\n", at, one.start), one.start
        made.append(Statement(start=one.start, end=one.end, line=line, kind=one.kind, traits=one.traits))
    return made


#: Characters; a statement beyond this is refused, since it cannot be sent in pieces.
LARGEST_STATEMENT = 64 * 1024 * 1024
#: Characters above which a text is parsed statement by statement: a tree takes about 16 times its text in memory.
_WHOLE = 1024 * 1024


def _parsed(text: str, file: str) -> Iterator[tuple[int, int, str, Any]]:
    """Yield each statement's first character, the one after its last, its kind and its node, in order."""
    pieces = [(0, text)] if len(text) <= _WHOLE else _pieces(text, file)
    for at, piece in pieces:
        to_char = _Offsets(piece)
        for raw in _parse(piece, file).stmts:
            start = to_char(raw.stmt_location)
            end = to_char(raw.stmt_location + raw.stmt_len) if raw.stmt_len else len(piece.rstrip())
            kind = raw.stmt.WhichOneof("node")
            yield at + start, at + end, kind, getattr(raw.stmt, kind)


def _pieces(text: str, file: str) -> Iterator[tuple[int, str]]:
    """Cut a text that parses between its statements: (first character, text) of each piece."""
    at = 0
    for piece in _parse(text, file, split=True):
        at = text.index(piece, at)
        yield at, piece
        at += len(piece)


class _Offsets:
    """Byte offsets (libpg_query's) to character offsets, in one forward pass."""

    def __init__(self, text: str) -> None:
        self._raw = None if text.isascii() else text.encode()
        self._byte = 0
        self._char = 0

    def __call__(self, byte: int) -> int:
        if self._raw is None:
            return byte
        if byte < self._byte:
            return len(self._raw[:byte].decode())
        self._char += len(self._raw[self._byte : byte].decode())
        self._byte = byte
        return self._char


_OPEN = {"BEGIN", "START TRANSACTION"}


def _absorb(file: str, text: str, statements: list[Statement]) -> tuple[str, list[Statement]]:
    """Blank out one BEGIN … COMMIT round the whole script; refuse any other transaction control."""
    control = [(index, one.traits.control, one.traits) for index, one in enumerate(statements) if one.traits.control]
    if not control:
        return text, statements
    last = len(statements) - 1
    wraps = (
        len(control) == 2
        and control[0][0] == 0
        and control[0][1] in _OPEN
        and not control[0][2].options
        and control[1][0] == last
        and control[1][1] == "COMMIT"
        and not control[1][2].options
    )
    if wraps:
        for statement in (statements[0], statements[-1]):
            blank = _NOT_A_LINE_END.sub(" ", text[statement.start : statement.end])
            text = text[: statement.start] + blank + text[statement.end :]
        return text, statements[1:-1]
    index, name, first = control[0]
    if index == 0 and name in _OPEN and len(control) == 1:
        problem = f"{name} without COMMIT: psql would have applied nothing"
    elif index == 0 and name in _OPEN and first.options:
        problem = f"{name} with options cannot be taken over"
    else:
        index, name, _ = next(
            (c for c in control if c[0] not in (0, last) or c[1] not in (*_OPEN, "COMMIT")), control[0]
        )
        problem = f"{name} in the middle of a transactional file"
    raise problem_at(
        file,
        text,
        statements[index].start,
        problem,
        hint="remove the transaction statements (Lockstep wraps each file in one transaction)"
        + (", or put this line at the head: -- lockstep: transaction=none" if _pairs_up(control) else ""),
    )


def _pairs_up(control: list[tuple[int, str, Traits]]) -> bool:
    """Whether the file is made of whole blocks BEGIN … COMMIT, which a file outside of a transaction may hold."""
    begun = False
    for _, name, one in control:
        if one.options or name not in ({"COMMIT"} if begun else _OPEN):
            return False
        begun = not begun
    return not begun


_NOT_A_LINE_END = re.compile(r"[^\n]")
# Bounded: each is searched for at every place of a text that may be megabytes of nonsense.
_LONGEST_COPY = 4_000  # characters from COPY to STDIN: it may name columns
_COPY_STDIN = re.compile(
    rf"^\s{{0,80}}copy\b[^;]{{0,{_LONGEST_COPY}}}?\bfrom\s{{1,80}}stdin\b", re.IGNORECASE | re.MULTILINE
)
_PLACEHOLDER = re.compile(r"\{\{[^{}\n]{0,200}\}\}|\$\{\w{1,200}\}|(?<![:\w]):['\"]?[A-Za-z_]\w{0,200}")


def _parse(text: str, file: str, *, split: bool = False) -> Any:
    from lockstep.core.grammar import PgQueryError, parse  # late: 70 ms that a status does not need
    from lockstep.core.grammar import split as cut

    try:
        return cut(text) if split else parse(text)
    except PgQueryError as error:
        offset = max(0, int(error.cursorpos) - 1)
        line, column = line_and_column(text, min(offset, len(text)))
        raise _explain(text, file, line, column, str(error)) from None


_DOLLARS = re.compile(r"\$\w*\$")


def _explain(text: str, file: str, line: int, column: int, message: str) -> MigrationFileError:
    """The clearest error for a text that does not parse: the cause that a person recognises, else the parser's words."""
    lines = text.split("\n")
    if not privacy.quoting():
        message = "it does not parse"  # the parser's words repeat what it could not read
    message = privacy.hidden(message)
    for number in range(1, min(line, len(lines)) + 1):
        if lines[number - 1].lstrip().startswith("\\") and number == line:
            command = lines[number - 1].split()[0]
            return MigrationFileError(
                f"{command} is a psql command, not SQL",
                file=file,
                line=number,
                excerpt=excerpt(text, number),
                hint="write it as SQL, or do it outside of the migration",
            )
    until = sum(map(len, lines[:line])) + line - 1  # the end of that line
    if (copy := _COPY_STDIN.search(text, 0, until + _LONGEST_COPY)) and copy.start() <= until:
        return _copy(file, text, copy.start() + len(copy[0]) - len(copy[0].lstrip()))
    shown = lines[line - 1] if line <= len(lines) else ""
    hint = "mend it; lockstep validate checks the files without a database"
    rest = shown[column - 1 :]
    if opened := _DOLLARS.match(rest):
        hint = f"the text that {opened[0]} begins here does not end: write {opened[0]} where it should"
    elif rest.startswith("\\"):
        hint = "psql's backslash commands are no SQL: leave it out"
    if match := _PLACEHOLDER.search(shown):
        hint = (
            f"{match[0] if privacy.quoting() else 'something'} looks like a placeholder that nothing filled in; "
            "values reach SQL as settings: current_setting('lockstep.NAME')"
        )
    return MigrationFileError(
        _short(message), file=file, line=line, column=column, excerpt=excerpt(text, line, column), hint=hint
    )


def _short(message: str) -> str:
    """The parser's words. It quotes what it could not read, which may be all the rest of a file."""
    return message if len(message) <= _WORDS else f'{message[:_WORDS]}…"'


_WORDS = 160  # characters of them


def _copy(file: str, text: str, start: int) -> MigrationFileError:
    return problem_at(
        file,
        text,
        start,
        "COPY from or to the client (stdin, stdout) works in psql only",
        hint="write the rows as INSERT … VALUES (pg_dump --inserts does)",
    )
