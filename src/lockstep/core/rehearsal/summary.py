"""A rehearsal in one sentence, and the words that its reports share."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.core.counting import counted
from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.rehearsal.proof import RevertProof, Standing
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.core.rehearsal.verdict import Outcome


def headline(rehearsal: Rehearsal) -> str:
    """Return what came of it in one sentence, without the environment's name and a full stop."""
    outcome, problems = rehearsal.verdict.outcome, rehearsal.verdict.problems
    if outcome is Outcome.PASSED:
        return f"passed: {', '.join([copy_words(rehearsal), *passed_words(rehearsal)])}"
    first = problems[0]
    where = f"{label(first.file)}: " if first.file else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{outcome.value}: {where}{first.message}{more}"


def in_short(rehearsal: Rehearsal) -> str:
    """Return what came of it where all problems stand below: they are only noteworthy."""
    problems = rehearsal.verdict.problems
    if not problems:
        return ", ".join([copy_words(rehearsal), *passed_words(rehearsal)])
    files = list(dict.fromkeys(label(one.file) for one in problems if one.file))
    count = counted(len(problems), "problem")
    return f"{count} in {', '.join(files[:3])}{' …' if len(files) > 3 else ''}" if files else count


def copy_words(rehearsal: Rehearsal) -> str:
    """What the restore says of the backup."""
    if any(one.rule == "copy-differs" for one in rehearsal.verdict.problems):
        return "backup not as it should be"
    return "backup verified" if rehearsal.copy.tier == "full" else f"backup restored in part ({rehearsal.copy.tier})"


def passed_words(rehearsal: Rehearsal) -> list[str]:
    """What the trials say: how many pass, who waits for how long, the way back."""
    count = len(rehearsal.files)
    words = ["nothing to apply" if not count else counted(count, "migration passes", "migrations pass")]
    if rehearsal.held:
        words.append(f"stops before {label(rehearsal.held)}, which is held there: what is behind it was not tried")
    if not count:
        return words
    worst = rehearsal.worst
    if worst is None:
        words.append("nobody is kept waiting")
    else:
        words.append(f"worst blocking window {format_ms(worst.ms)} on {worst.relation} ({worst.mode.value})")
    if back := revert_words(rehearsal.proofs):
        words.append(back)
    if allowed := len(rehearsal.verdict.allowed):
        words.append(f"{counted(allowed, 'finding')} allowed by the files")
    return words


def revert_words(proofs: Sequence[RevertProof]) -> str:
    """How far the way back is proven; "" where nothing of it was looked at."""
    looked = [one for one in proofs if one.version is not None]
    if not looked:
        return ""
    open_ones = [one for one in looked if one.standing is not Standing.PROVEN]
    if not open_ones:
        return "revert proven"
    first, proven = open_ones[0], len(looked) - len(open_ones)
    more = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
    words = f"revert proven for {proven} of {len(looked)}" if proven else "revert not proven"
    return f"{words}: {label(first.name)} {_SHORT.get(first.standing, first.standing.value)}{more}"


#: What is said of a migration where its way back is not proven.
_SHORT = {
    Standing.DIFFERS: "leaves a difference",
    Standing.MISSING: "has no down script",
    Standing.IRREVERSIBLE: "is irreversible",
    Standing.UNTRIED: "was not tried",
}


def split_advice(advice: str) -> tuple[str, str]:
    """Return an advice as the line that says it, without a colon, and the SQL below it ("" where there is none)."""
    line, _, statements = advice.partition("\n")
    return line.removesuffix(":"), statements


def noteworthy(number: int) -> str:
    """A number of rows; "" below a thousand, which nobody needs to know."""
    return f"{number:,}" if number >= 1_000 else ""
