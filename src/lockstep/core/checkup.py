"""What `doctor` found out, line by line, and what that is worth. It must not know how anything was found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from lockstep.core.counting import counted
from lockstep.core.text import display_width
from lockstep.errors import ExitCode


class Outcome(Enum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"  # it works, and somebody will be sorry one day
    PROBLEM = "problem"  # something that Lockstep does will fail
    NOT_CHECKED = "not checked"  # nothing was found out, and the text says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line."""

    name: str  # what was looked at, in a word or two
    outcome: Outcome
    text: str  # what was found, in one line, without secrets
    remedy: str | None = None  # what to do about it, in one line
    exit_code: ExitCode = ExitCode.DONE  # of a problem: as of the command that would meet it


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The checks of one thing."""

    name: str  # machine, project, an environment's name, backups, Prefect
    environment: bool  # it is an environment's
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """All that was looked at."""

    sections: tuple[Section, ...]

    def count(self, outcome: Outcome) -> int:
        """Return how many checks came to this."""
        return sum(check.outcome is outcome for section in self.sections for check in section.checks)

    @property
    def exit_code(self) -> ExitCode:
        """0 when there is no problem, else the highest code of all problems."""
        codes = [c.exit_code for s in self.sections for c in s.checks if c.outcome is Outcome.PROBLEM]
        return max(codes, default=ExitCode.DONE)

    @property
    def summary(self) -> str:
        """The closing line: `3 problems, 2 warnings`."""
        counts = [(self.count(Outcome.PROBLEM), "problem"), (self.count(Outcome.WARNING), "warning")]
        said = [counted(n, word) if n else f"no {word}s" for n, word in counts]
        unknown = self.count(Outcome.NOT_CHECKED)
        return ", ".join([*said, *([f"{unknown} not checked"] if unknown else [])])


def ok(name: str, text: str) -> Check:
    """Return a check that found all in order."""
    return Check(name=name, outcome=Outcome.OK, text=text)


def warning(name: str, text: str, remedy: str | None) -> Check:
    """Return a check that found something to be mended in quiet."""
    return Check(name=name, outcome=Outcome.WARNING, text=text, remedy=remedy)


def problem(name: str, text: str, remedy: str | None, exit_code: ExitCode) -> Check:
    """Return a check that found what would make a command fail, with that command's exit code."""
    return Check(name=name, outcome=Outcome.PROBLEM, text=text, remedy=remedy, exit_code=exit_code)


def not_checked(name: str, why: str) -> Check:
    """Return a check that could not be made."""
    return Check(name=name, outcome=Outcome.NOT_CHECKED, text=why)


Paint = Callable[[Outcome, str], str]  # decorates a word, and must not change its width


def text_of(checkup: Checkup, paint: Paint | None = None) -> str:
    """Return it for people: a block per section, a line per check, the remedy below, and the closing line.

    Checks that were not made for one and the same reason share a line.
    """
    names = [check.name for section in checkup.sections for check in section.checks]
    width = max(map(display_width, names), default=0)
    lines: list[str] = []
    for section in checkup.sections:
        lines.append(section.name)
        for _, group in groupby(section.checks, key=_alike):
            checks = list(group)
            check = checks[0]
            word = check.outcome.value.ljust(_WORDS)
            shown = paint(check.outcome, word) if paint else word
            if len(checks) > 1:
                lines.append(f"  {shown}  {', '.join(one.name for one in checks)}: {check.text}")
                continue
            name = check.name + " " * (width - display_width(check.name))
            lines.append(f"  {shown}  {name}  {check.text}")
            if check.remedy:
                lines.append(f"  {'':{_WORDS}}  {'':{width}}  → {check.remedy}")
        lines.append("")
    return "\n".join([*lines, checkup.summary])


def _alike(check: Check) -> object:
    return check.text if check.outcome is Outcome.NOT_CHECKED else id(check)


_WORDS = max(len(outcome.value) for outcome in Outcome)
