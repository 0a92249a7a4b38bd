"""The rules of `validate`: what each one finds, and why it matters. Formats that carry help texts take them from here.

Rules of the linter are not listed: their own messages explain them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.core.findings import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of finding."""

    name: str  # as findings carry it
    severity: Severity
    summary: str  # what is wrong, one sentence
    why: str  # what would come of it, and what to do


def _error(name: str, summary: str, why: str) -> Rule:
    return Rule(name=name, severity=Severity.ERROR, summary=summary, why=why)


def _warning(name: str, summary: str, why: str) -> Rule:
    return Rule(name=name, severity=Severity.WARNING, summary=summary, why=why)


RULES = (
    _error(
        "file",
        "A file cannot be read, is not UTF-8, or its directives are wrong.",
        "Nothing is applied while such a file is in the folder. Mend the line that is named.",
    ),
    _error(
        "parse",
        "PostgreSQL's grammar refuses the file, or it cannot run the way it asks to.",
        "A deploy would refuse it before anything runs. Mend the place that is named.",
    ),
    _error("name", "A .sql file's name has no number.", "Its place in the order is not known. Rename or move it."),
    _error(
        "duplicate",
        "Two files have the same number and the same purpose.",
        "Which one a number means must be certain. Give the one that is applied nowhere the next free number.",
    ),
    _error(
        "older-than-base",
        "A new file is older than the newest one on the base branch.",
        "Where the newer one is applied, this one comes out of order, and a deploy stops. Renumber it before it is merged.",
    ),
    _error(
        "duplicate-on-base",
        "A new file has the number of a file on the base branch.",
        "Merged, both are there, and nothing is applied any more. Renumber it before it is merged.",
    ),
    _error(
        "changed-since-base",
        "The SQL of a file that is on the base branch was changed.",
        "It counts as applied: a deploy stops where it is, and the change would never reach that database. "
        "Restore it and write a new migration.",
    ),
    _error(
        "removed-since-base",
        "A file that is on the base branch was removed.",
        "It counts as applied: a deploy stops where it is. Restore it; what it made is taken back by a new migration.",
    ),
    _error(
        "renamed-since-base",
        "A file that is on the base branch was renamed.",
        "It counts as applied under its name and number. Give it its name back.",
    ),
    _warning(
        "reformatted-since-base",
        "Comments or white space of a file that is on the base branch were changed.",
        "Where it is applied it is reported as reformatted. It stops nothing.",
    ),
    _warning(
        "orphan",
        "A down or verify script belongs to no migration.",
        "It never runs. Remove it, or add its migration.",
    ),
    _warning("gap", "A number is skipped.", "A file may have been forgotten. Fine if it was renumbered on purpose."),
    _warning(
        "empty",
        "There is no statement in a file.",
        "Once it is applied, it cannot be filled in any more. Write it, or remove it.",
    ),
    _warning(
        "misplaced-directive",
        "A directive stands below the head of the file.",
        "It has no effect there. Move it above the first statement.",
    ),
    _warning(
        "missing-down",
        "There is no down script.",
        "The migration cannot be reverted. Write one, or say why there is no way back: irreversible=\"…\".",
    ),
)  # fmt: skip

_BY_NAME = {rule.name: rule for rule in RULES}


def rule_of(name: str, severity: Severity) -> Rule:
    """Return the rule of that name; one of the linter's for every other name."""
    from lockstep.core.locking.hazards import RULES as HAZARDS  # late: the other rules need no reading of trees

    if name in _BY_NAME:
        return _BY_NAME[name]
    found = HAZARDS.get(name)
    return Rule(
        name=name,
        severity=severity,
        summary=f"{found[0].upper()}{found[1:]}." if found else f"The linter's rule {name}.",
        why=f"{'Described in' if found else 'Listed in'} docs/reference/rules.md#{name if found else 'rules-of-the-linter'}. "
        "The finding says what happens and what to do instead. To accept one, say why at the head of the file: "
        f'-- lockstep: allow={name} reason="…"',
    )
