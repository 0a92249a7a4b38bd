"""A rehearsal as Markdown, on one screen: what whoever approves a deploy sees in the orchestrator."""

from __future__ import annotations

from collections.abc import Iterable

from lockstep.core.duration import format_ms
from lockstep.core.markdown import block, code, table, text
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
        f"**{text(rehearsal.environment)}: rehearsal {rehearsal.verdict.outcome.value}**: {text(in_short(rehearsal))}.",
        *(_problem(one, told) for one in rehearsal.verdict.problems),
        _ways_back(rehearsal),
        _migrations(rehearsal),
        *_allowed(rehearsal.verdict.allowed),
        *(f"Note: {text(f'{one.file}: ' if one.file else '')}{text(one.message)}." for one in rehearsal.verdict.notes),
        f"Tried on backup {code(copy.backup)} of {utc_minute(copy.taken_at)}, {format_bytes(copy.size)}, restored in "
        f"{format_ms(copy.restore_ms)}; {text(server_words(rehearsal))}.",
        *(f"{text(note)}." for note in copy.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _problem(problem: Problem, told: set[str]) -> str:
    word = "Failed" if problem.outcome is Outcome.FAILED else "Could not verify"
    where = f": {code(problem.place)}" if problem.place else ""
    lines = [f"**{word}{where}** ({problem.rule}): {text(problem.message)}."]
    if problem.advice and problem.advice not in told:
        told.add(problem.advice)
        said, statements = split_advice(problem.advice)
        lines.append(f"Instead: {text(said)}{':' if statements else '.'}")
        if statements:
            lines.append(block(statements, "sql"))
    return "\n\n".join(lines)


def _allowed(problems: Iterable[Problem]) -> list[str]:
    return [
        f"Allowed by {code(one.file or '')} ({one.rule}): {text(one.message)}; because: {text(one.reason or '')}"
        for one in problems
    ]


def _ways_back(rehearsal: Rehearsal) -> str:
    """The table, and below it the commands: in a cell they would be cut, and they are what is needed at night."""
    rows = [[one.how, format_ms(one.ms) or "–", text(one.loses or "nothing")] for one in rehearsal.ways_back]
    commands = "\n".join(one.command for one in rehearsal.ways_back if one.command)
    ways = table(["way back", "takes", "loses"], rows)
    return f"{ways}\n\n{block(commands)}" if commands else ways


def _migrations(rehearsal: Rehearsal) -> str:
    backs = {one.name: one.text for one in rehearsal.proofs}
    slowest = sorted(rehearsal.files, key=lambda one: -max((window.ms for window in one.windows), default=one.ms / 1e6))
    kept = {one.name for one in slowest[:_SHOWN]}
    rows = []
    for file in rehearsal.files:
        worst = worst_window(file)
        if file.name in kept:
            rows.append([
                text(label(file.name)),
                format_ms(file.ms),
                f"{format_ms(worst.ms)} on {code(worst.relation)} ({worst.mode.value})" if worst else "nobody",
                text(backs.get(file.name, "")),
            ])  # fmt: skip
    more = (
        f"\n\nand {len(rehearsal.files) - len(rows)} more that keep others waiting for less"
        if len(rehearsal.files) > len(rows)
        else ""
    )
    return table(["migration", "time", "others wait", "way back"], rows) + more
