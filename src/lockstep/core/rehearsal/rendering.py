"""A rehearsal as text for a terminal: verdict, the copy, a row per migration, problems with advice, the ways back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from textwrap import wrap

from lockstep.core.counting import counted
from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.moments import utc_minute
from lockstep.core.rehearsal.proof import Standing
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.core.rehearsal.rules import BINDING, page_of
from lockstep.core.rehearsal.summary import in_short, noteworthy, split_advice
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.core.rehearsal.windows import worst_window
from lockstep.core.size import format_bytes
from lockstep.core.table import render_table
from lockstep.core.text import display_width

Paint = Callable[[str, str], str]  # (text, colour) -> decorated text

_COLOURS = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.UNVERIFIED: "yellow"}
_SHOWN = 25  # migrations from which the quiet ones are noteworthy and not listed
_QUIET_MS = 100  # what nobody notices
_TELLING_WAL = 1_000_000  # bytes


def _plain(text: str, _colour: str) -> str:
    return text


def rehearsal_text(rehearsal: Rehearsal, *, width: int = 100, statements: bool = False, paint: Paint = _plain) -> str:
    """Return the report. `statements`: with what each statement did."""
    parts = [_first(rehearsal, width, paint), _copy(rehearsal, width)]
    if rehearsal.files or rehearsal.planned:
        parts.append(_indented(_table(rehearsal, width - 2, paint)))
    if statements:
        parts += [_statements(one, width) for one in rehearsal.files]
    parts += _problems(rehearsal.verdict.problems, width, paint)
    parts += [_allowed(one, width) for one in rehearsal.verdict.allowed]
    notes = [f"note: {_at(one.file, one.line)}{one.message}" for one in rehearsal.verdict.notes]
    if notes:
        parts.append("\n".join(_wrapped(note, width) for note in notes))
    if backs := _ways_back(rehearsal, width - 2):
        parts.append(_indented(backs))
    if rehearsal.verdict.outcome is not Outcome.PASSED:
        files = list(dict.fromkeys(one.file for one in rehearsal.verdict.problems if one.file))
        mend = f"change {', '.join(files)}, then " if files else ""
        parts.append(
            f"{_verdict(rehearsal, paint)}; nothing was changed\n  next: {mend}lockstep rehearse {rehearsal.environment}"
        )
    return "\n\n".join(parts)


def _verdict(rehearsal: Rehearsal, paint: Paint) -> str:
    outcome = rehearsal.verdict.outcome
    return f"{rehearsal.environment}: rehearsal {paint(outcome.value, _COLOURS[outcome])}"


def _first(rehearsal: Rehearsal, width: int, paint: Paint) -> str:
    """The verdict. What is wrong stands below, so that it is only noteworthy here."""
    text = wrap(_unbroken(f"{_verdict(rehearsal, _plain)}: {in_short(rehearsal)}"), width, subsequent_indent="  ")
    return _broken("\n".join(text)).replace(_verdict(rehearsal, _plain), _verdict(rehearsal, paint), 1)


# -- what it was tried on -----------------------------------------------------------------------------------------


def _copy(rehearsal: Rehearsal, width: int) -> str:
    copy = rehearsal.copy
    differs = any(one.rule == "copy-differs" for one in rehearsal.verdict.problems)
    same = "not as it was backed up" if differs else "as it was backed up"
    if copy.tier != "full":
        same = f"in part ({copy.tier})"
    lines = [
        f"backup {copy.backup} of {utc_minute(copy.taken_at)}",
        f"restored in {format_ms(copy.restore_ms)}, {format_bytes(copy.size)}, {same}; {server_words(rehearsal)}",
        *copy.notes,
    ]
    return "\n".join(_wrapped(line, width) for line in lines)


def server_words(rehearsal: Rehearsal) -> str:
    """The server that it was tried on, and whether it is the source's."""
    copy = rehearsal.copy
    words = f"PostgreSQL {copy.server_version}"
    if _major(copy.server_version) != _major(copy.source_version):
        words += f" instead of {copy.source_version}"
    return words if copy.isolated else f"{words}, not cut off from the network"


def _major(version: str) -> str:
    return version.split(".")[0].split(" ")[0]


# -- a row per migration ------------------------------------------------------------------------------------------

_HEADERS = ("migration", "time", "others wait", "for", "written anew", "rows read", "rows written", "way back")
_ALWAYS = 4  # columns that are there in any case
_FIRST_TO_GO = (6, 5, 4)  # where the terminal is narrow


def _table(rehearsal: Rehearsal, width: int, paint: Paint) -> str:
    files, quiet = _listed(rehearsal.files)
    backs = {one.name: one.standing for one in rehearsal.proofs}
    rows = [_row(one, backs.get(one.name)) for one in files]
    rows += _unfinished(rehearsal)
    columns = [n for n in range(len(_HEADERS)) if n < _ALWAYS or any(row[n] for row in rows)]
    for gone in _FIRST_TO_GO:
        if _width(rows, columns) > width and gone in columns:
            columns.remove(gone)
    bad = _bad(rehearsal)

    def decorate(column: int, cell: str) -> str:
        return paint(cell, "red") if column == 0 and cell.strip() in bad else cell

    table = render_table([_HEADERS[n] for n in columns], [[row[n] for n in columns] for row in rows], decorate)
    if quiet:
        table += f"\nand {quiet} more, of which nobody waits for any longer than {_QUIET_MS} ms"
    return table


def _bad(rehearsal: Rehearsal) -> set[str]:
    """Labels of the migrations that did not pass."""
    return {label(one.file) for one in rehearsal.verdict.problems if one.file is not None}


def _width(rows: list[list[str]], columns: list[int]) -> int:
    widths = [max(map(display_width, (_HEADERS[n], *(row[n] for row in rows)))) for n in columns]
    return sum(widths) + 2 * (len(columns) - 1)


def _listed(files: tuple[FileTrace, ...]) -> tuple[tuple[FileTrace, ...], int]:
    """The files to list, and how many quiet ones are not."""
    if len(files) <= _SHOWN:
        return files, 0
    loud = tuple(one for one in files if one.ms > _QUIET_MS or any(window.ms > _QUIET_MS for window in one.windows))
    return loud, len(files) - len(loud)


def _row(file: FileTrace, standing: Standing | None) -> list[str]:
    worst = worst_window(file)
    rewritten = [one for statement in file.statements for one in statement.rewrites]
    read = sum(one.rows for statement in file.statements for one in statement.scans)
    written = sum(one.rows for statement in file.statements for one in statement.written)
    return [
        label(file.name),
        format_ms(file.ms),
        format_ms(worst.ms) if worst else "nobody",
        f"{worst.mode.value} on {worst.relation}" if worst else "",
        format_bytes(sum(one.bytes for one in rewritten)) if rewritten else "",
        noteworthy(read),
        noteworthy(written),
        standing.value if standing else "",
    ]


def _unfinished(rehearsal: Rehearsal) -> list[list[str]]:
    """The step that failed, and those that it kept from being tried."""
    done = {one.name for one in rehearsal.files}
    left = [name for name in rehearsal.planned if name not in done]
    failed = any(one.file == left[0] and one.rule in BINDING for one in rehearsal.verdict.problems) if left else False
    words = ["failed" if failed else "not tried", *["not tried"] * (len(left) - 1)]
    rows = [[label(name), word, *[""] * 6] for name, word in zip(left, words, strict=False)]
    if len(rows) > _SHOWN:
        rows = [*rows[:3], [f"and {len(left) - 3} more", "not tried", *[""] * 6]]
    return rows


def _statements(file: FileTrace, width: int) -> str:
    """What each statement of a file did."""
    lines = [f"  {label(file.name)}"]
    for one in file.statements:
        seen = ", as far as was seen" if one.sampled else ""
        took = format_ms(one.ms) if one.ms >= 1 else "under 1 ms"
        lines.append(f"    line {one.line}: {one.kind}, {took}{seen}")
        lines += [_wrapped(words, width, 6) for words in _did(one)]
    return "\n".join(lines)


def _did(one: StatementTrace) -> list[str]:
    locks = [lock for lock in one.locks if lock.existed and lock.mode.strong]
    did = []
    for mode in dict.fromkeys(lock.mode for lock in locks):
        names = [lock.relation for lock in locks if lock.mode is mode]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        did.append(f"locks {', '.join(names[:5])}{more}: {mode.value}")
    did += [
        f"writes {rewrite.relation} anew: {format_bytes(rewrite.bytes)}"
        + (f", {rewrite.reason}" if rewrite.reason else "")
        for rewrite in one.rewrites
    ]
    did += [f"empties {name}" for name in one.emptied]
    did += [f"reads all of {scan.relation}: {_rows(scan.rows)}" for scan in one.scans]
    did += [f"writes {_rows(table.rows)} of {table.relation}" for table in one.written]
    if one.wal >= _TELLING_WAL:
        did.append(f"makes {format_bytes(one.wal)} of write-ahead log")
    return did


def _rows(count: int) -> str:
    return counted(count, "row")


def problems_text(problems: Iterable[Problem], *, width: int = 100) -> str:
    """Return problems with what to do instead, as an error shows them."""
    return "\n".join(_problems(problems, width, _plain))


# -- problems, and what to do -------------------------------------------------------------------------------------


def _problems(problems: Iterable[Problem], width: int, paint: Paint) -> list[str]:
    parts = []
    told: dict[str, str] = {}  # advice -> where it was given
    for one in problems:
        word = paint(one.outcome.value, _COLOURS[one.outcome])
        lines = [f"  {word}: {f'{one.place}  ' if one.place else ''}[{one.rule}]", _wrapped(one.message, width, 4)]
        if one.advice in told:
            lines.append(f"    instead: as for {told[one.advice]}")
        elif one.advice:
            said, statements = split_advice(one.advice)
            lines.append(_wrapped(f"instead: {said}{':' if statements else ''}", width, 4))
            lines += [f"      {line}" for line in statements.splitlines()]
            told[one.advice] = f"[{one.rule}] above"
        lines.append(f"    more: {page_of(one.rule)}")
        parts.append("\n".join(lines))
    return parts


def _allowed(problem: Problem, width: int) -> str:
    lines = [
        f"  allowed: {problem.place}  [{problem.rule}]",
        _wrapped(problem.message, width, 4),
        _wrapped(f"because: {problem.reason}", width, 4),
    ]
    return "\n".join(lines)


def _ways_back(rehearsal: Rehearsal, width: int) -> str:
    """The ways back; where a command does not fit beside what is lost, it stands below it, in one piece."""
    if not rehearsal.ways_back:
        return ""
    rows = [[one.how, format_ms(one.ms) or "–", one.loses or "nothing", one.command] for one in rehearsal.ways_back]
    table = render_table(["way back", "takes", "loses", "command"], rows)
    if max(map(display_width, table.splitlines())) <= width:
        return table
    room = max(width - sum(max(map(display_width, (_BACK[n], *(row[n] for row in rows)))) + 2 for n in (0, 1)), _NARROW)
    lines = []
    for how, takes, loses, command in rows:
        said = [_broken(part) for part in wrap(_unbroken(loses), room, break_on_hyphens=False)]
        said += [f"run: {command}"] if command else []
        lines += [[how, takes, said[0]], *(["", "", part] for part in said[1:])]
    return render_table(_BACK, lines)


_BACK = ("way back", "takes", "loses")
_NARROW = 30  # columns for what is lost, at least


# -- words --------------------------------------------------------------------------------------------------------


def _at(file: str | None, line: int | None) -> str:
    return f"{file}:{line}: " if file and line else f"{file}: " if file else ""


def _wrapped(text: str, width: int, indent: int = 2) -> str:
    margin = " " * indent
    lines = wrap(
        _unbroken(text), width, initial_indent=margin, subsequent_indent=margin + "  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return _broken("\n".join(lines))


_MEASURE = re.compile(r"(?<=\d) (?=(?:ms|s|min|h|B|kB|MB|GB|TB|rows?)\b)|(?<=ACCESS) (?=EXCLUSIVE\b)")


def _unbroken(text: str) -> str:
    """The text with numbers tied to their units."""
    return _MEASURE.sub("\N{NO-BREAK SPACE}", text)


def _broken(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _indented(text: str, by: int = 2) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())
