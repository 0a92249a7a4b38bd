"""A rehearsal as Markdown, on one screen: what whoever approves a deploy sees in the orchestrator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.moments import utc_minute
from lockstep.core.rehearsal.rendering import server_words
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.core.rehearsal.summary import in_short, split_advice
from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.core.rehearsal.windows import worst_window
from lockstep.core.size import format_bytes

_SHOWN = 15  # migrations; the slowest of more


def rehearsal_markdown(rehearsal: Rehearsal) -> str:
    """Return the report, most important first."""
    copy = rehearsal.copy
    told: set[str] = set()
    parts = [
        f"**{rehearsal.environment}: rehearsal {rehearsal.verdict.outcome.value}**: {_text(in_short(rehearsal))}.",
        *(_problem(one, told) for one in rehearsal.verdict.problems),
        _ways_back(rehearsal),
        _migrations(rehearsal),
        *_allowed(rehearsal.verdict.allowed),
        *(
            f"Note: {_text(f'{one.file}: ' if one.file else '')}{_text(one.message)}."
            for one in rehearsal.verdict.notes
        ),
        f"Tried on backup `{copy.backup}` of {utc_minute(copy.taken_at)}, {format_bytes(copy.size)}, restored in "
        f"{format_ms(copy.restore_ms)}; {_text(server_words(rehearsal))}.",
        *(f"{_text(note)}." for note in copy.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _problem(problem: Problem, told: set[str]) -> str:
    word = "Failed" if problem.outcome is Outcome.FAILED else "Could not verify"
    where = f": `{problem.place}`" if problem.place else ""
    lines = [f"**{word}{where}** ({problem.rule}): {_text(problem.message)}."]
    if problem.advice and problem.advice not in told:
        told.add(problem.advice)
        said, statements = split_advice(problem.advice)
        lines.append(f"Instead: {_text(said)}{':' if statements else '.'}")
        if statements:
            lines.append(f"```sql\n{statements}\n```")
    return "\n\n".join(lines)


def _allowed(problems: Iterable[Problem]) -> list[str]:
    return [
        f"Allowed by `{one.file}` ({one.rule}): {_text(one.message)}; because: {_text(one.reason or '')}"
        for one in problems
    ]


def _ways_back(rehearsal: Rehearsal) -> str:
    """The table, and below it the commands: in a cell they would be cut, and they are what is needed at night."""
    rows = [[one.how, format_ms(one.ms) or "–", _cell(one.loses or "nothing")] for one in rehearsal.ways_back]
    commands = "\n".join(one.command for one in rehearsal.ways_back if one.command)
    table = _table(["way back", "takes", "loses"], rows)
    return f"{table}\n\n```text\n{commands}\n```" if commands else table


def _migrations(rehearsal: Rehearsal) -> str:
    backs = {one.name: one.text for one in rehearsal.proofs}
    slowest = sorted(rehearsal.files, key=lambda one: -max((window.ms for window in one.windows), default=one.ms / 1e6))
    kept = {one.name for one in slowest[:_SHOWN]}
    rows = []
    for file in rehearsal.files:
        worst = worst_window(file)
        if file.name in kept:
            rows.append([
                _cell(label(file.name)),
                format_ms(file.ms),
                f"{format_ms(worst.ms)} on `{_cell(worst.relation)}` ({worst.mode.value})" if worst else "nobody",
                _cell(backs.get(file.name, "")),
            ])  # fmt: skip
    more = (
        f"\n\nand {len(rehearsal.files) - len(rows)} more that keep others waiting for less"
        if len(rehearsal.files) > len(rows)
        else ""
    )
    return _table(["migration", "time", "others wait", "way back"], rows) + more


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """A text that Markdown does not change: names may hold underscores and stars."""
    return re.sub(r"([\\`*_<>\[\]])", r"\\\1", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
