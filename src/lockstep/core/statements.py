"""A script taken apart into statements, by PostgreSQL's own grammar (libpg_query 18 through postgast).

Says where each statement stands and whether the script can run in one transaction. It never changes what a statement
says: the text that is sent is the text of the file, with the outer BEGIN/COMMIT blanked out in place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lockstep.core.checksum import mask_restrict
from lockstep.core.do_blocks import ends_transactions, place_of_end
from lockstep.core.text import excerpt, line_and_column
from lockstep.errors import MigrationFileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a script. Offsets are characters from 0 into `Script.text`."""

    start: int  # of its first character
    end: int  # after its last character, without the semicolon
    line: int  # of its start, from 1
    kind: str  # node name of the grammar: select_stmt, index_stmt, …
    alone: str | None  # what forbids a transaction block, in words for a person; None: it can run in one


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A parsed file: what is sent, and its statements in order."""

    file: str  # name for messages
    text: str  # as sent: outer BEGIN/COMMIT and \\restrict lines blanked, all positions as in the file
    statements: tuple[Statement, ...]  # without the absorbed pair


@lru_cache(maxsize=512)
def parse_script(text: str, file: str, *, transactional: bool = True) -> Script:
    """Parse a decoded text.

    Raises MigrationFileError with line, column and caret for: a syntax error, a psql meta-command, COPY from or to the
    client, an unrendered placeholder; and, in a transactional script, transaction control in the middle and statements
    that PostgreSQL refuses inside a transaction block.
    """
    masked = mask_restrict(text)
    parsed = _parse(masked, file)
    to_char = _Offsets(masked)
    statements: list[Statement] = []
    control: list[tuple[int, str, Any]] = []
    for raw in parsed.stmts:
        start = to_char(raw.stmt_location)
        end = to_char(raw.stmt_location + raw.stmt_len) if raw.stmt_len else len(masked.rstrip())
        kind = raw.stmt.WhichOneof("node")
        node = getattr(raw.stmt, kind)
        statement = Statement(
            start=start, end=end, line=masked.count("\n", 0, start) + 1, kind=kind, alone=_alone(kind, node)
        )
        if kind == "copy_stmt" and not node.filename and not node.is_program:
            raise _copy(file, masked, start)
        if kind == "transaction_stmt" and (name := _CONTROL.get(node.kind)):
            control.append((len(statements), name, node))
        statements.append(statement)
    if transactional:
        masked, statements = _absorb(file, masked, statements, control)
        for statement in statements:
            if statement.alone:
                inside = place_of_end(masked[statement.start : statement.end]) if statement.kind == "do_stmt" else None
                line, column = line_and_column(masked, statement.start + (inside or 0))
                raise MigrationFileError(
                    f"{statement.alone} cannot run inside a transaction",
                    file=file,
                    line=line,
                    column=column,
                    excerpt=excerpt(masked, line, column),
                    hint="give it a file of its own, with this line at its head: -- lockstep: transaction=none",
                )
    return Script(file=file, text=masked, statements=tuple(statements))


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


# TransactionStmtKind of libpg_query. SAVEPOINT, RELEASE and ROLLBACK TO are fine inside a transaction.
_CONTROL = {1: "BEGIN", 2: "START TRANSACTION", 3: "COMMIT", 4: "ROLLBACK", 8: "PREPARE TRANSACTION",
            9: "COMMIT PREPARED", 10: "ROLLBACK PREPARED"}  # fmt: skip
_OPEN = {"BEGIN", "START TRANSACTION"}

_ALONE_KINDS = {
    "vacuum_stmt": "VACUUM",
    "createdb_stmt": "CREATE DATABASE",
    "dropdb_stmt": "DROP DATABASE",
    "create_table_space_stmt": "CREATE TABLESPACE",
    "drop_table_space_stmt": "DROP TABLESPACE",
    "alter_system_stmt": "ALTER SYSTEM",
}


def _alone(kind: str, node: Any) -> str | None:
    """Name what forbids a transaction block, after PostgreSQL's PreventInTransactionBlock callers; None if nothing."""
    if kind == "vacuum_stmt":
        return "VACUUM" if node.is_vacuumcmd else None  # ANALYZE shares the node and is fine
    if kind in _ALONE_KINDS:
        return _ALONE_KINDS[kind]
    if kind == "index_stmt" and node.concurrent:
        return "CREATE INDEX CONCURRENTLY"
    if kind == "drop_stmt" and node.concurrent:
        return "DROP INDEX CONCURRENTLY"
    if kind == "reindex_stmt":
        return "REINDEX CONCURRENTLY" if any(p.def_elem.defname == "concurrently" for p in node.params) else None
    if kind == "alter_table_stmt":
        commands = (command.alter_table_cmd for command in node.cmds)
        detaches = (getattr(getattr(c, "def").partition_cmd, "concurrent", False) for c in commands)
        return "DETACH PARTITION CONCURRENTLY" if any(detaches) else None
    if kind == "do_stmt":
        words = {argument.def_elem.defname: argument.def_elem.arg.string.sval for argument in node.args}
        plpgsql = words.get("language", "plpgsql") == "plpgsql"
        return "COMMIT or ROLLBACK in a DO block" if plpgsql and ends_transactions(words.get("as", "")) else None
    return None


def _absorb(
    file: str, text: str, statements: list[Statement], control: list[tuple[int, str, Any]]
) -> tuple[str, list[Statement]]:
    """Blank out one BEGIN … COMMIT round the whole script; refuse any other transaction control."""
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
        and not control[1][2].chain
    )
    if wraps:
        for statement in (statements[0], statements[-1]):
            blank = _NOT_A_LINE_END.sub(" ", text[statement.start : statement.end])
            text = text[: statement.start] + blank + text[statement.end :]
        return text, statements[1:-1]
    index, name, node = control[0]
    if index == 0 and name in _OPEN and len(control) == 1:
        problem = f"{name} without COMMIT: psql would have applied nothing"
    elif index == 0 and name in _OPEN and node.options:
        problem = f"{name} with options cannot be taken over"
    else:
        index, name, _ = next(
            (c for c in control if c[0] not in (0, last) or c[1] not in (*_OPEN, "COMMIT")), control[0]
        )
        problem = f"{name} in the middle of a transactional file"
    line, column = line_and_column(text, statements[index].start)
    raise MigrationFileError(
        problem,
        file=file,
        line=line,
        column=column,
        excerpt=excerpt(text, line, column),
        hint="remove the transaction statements (Lockstep wraps each file in one transaction), "
        "or put this line at the head: -- lockstep: transaction=none",
    )


_NOT_A_LINE_END = re.compile(r"[^\n]")
_COPY_STDIN = re.compile(r"^\s*copy\b[^;]*\bfrom\s+stdin\b", re.IGNORECASE | re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\$\{\w+\}|(?<![:\w]):['\"]?[A-Za-z_]\w*")


def _parse(text: str, file: str) -> Any:
    from postgast import PgQueryError, parse  # late: 70 ms that a status does not need

    try:
        return parse(text)
    except PgQueryError as error:
        offset = max(0, int(error.cursorpos) - 1)
        line, column = line_and_column(text, min(offset, len(text)))
        raise _explain(text, file, line, column, str(error)) from None


_DOLLARS = re.compile(r"\$\w*\$")


def _explain(text: str, file: str, line: int, column: int, message: str) -> MigrationFileError:
    """The clearest error for a text that does not parse: the cause that a person recognises, else the parser's words."""
    lines = text.split("\n")
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
    if (copy := _COPY_STDIN.search(text)) and copy.start() <= len("\n".join(lines[:line])):
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
            f"{match[0]} looks like a placeholder that nothing filled in; "
            "values reach SQL as settings: current_setting('lockstep.NAME')"
        )
    return MigrationFileError(
        message, file=file, line=line, column=column, excerpt=excerpt(text, line, column), hint=hint
    )


def _copy(file: str, text: str, start: int) -> MigrationFileError:
    line, column = line_and_column(text, start)
    return MigrationFileError(
        "COPY from or to the client (stdin, stdout) works in psql only",
        file=file,
        line=line,
        column=column,
        excerpt=excerpt(text, line, column),
        hint="write the rows as INSERT … VALUES (pg_dump --inserts does)",
    )
