"""What a check says: findings, what could not be seen, and the order in which a person reads them.

Values and their order. They must not know how they were found or how they are printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase


class Severity(Enum):
    """How much a finding weighs, worst first."""

    CRITICAL = "critical"  # something has stopped, or will: look now
    WARNING = "warning"  # it gets worse by itself, or costs every day: look this week
    INFO = "info"  # worth knowing

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number behind a finding, for programs."""

    name: str
    value: float | int | None  # None: not known
    unit: str  # bytes, ms, days, percent, rows, per day, transactions, …


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found."""

    check: str  # id of the check
    severity: Severity
    object: str  # quoted as SQL where it is an object; what `[[health.ignore]] object` is compared with
    text: str  # what is there, with numbers and units
    fix: str | None = None  # SQL or a command to run; may have several lines
    measures: tuple[Measure, ...] = ()

    @property
    def weight(self) -> float:
        """The finding's first number: larger comes first among findings of one check and severity."""
        return float(self.measures[0].value or 0) if self.measures else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A check that could not look, or saw a part only."""

    check: str  # id of the check
    why: str
    fix: str | None  # what would let it look
    whole: bool = False  # nothing of it was seen: it failed, was locked, or took too long


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """One `[[health.ignore]]` of the configuration."""

    check: str  # id of a check
    object: str  # a glob; * is all
    reason: str

    def covers(self, finding: Finding) -> bool:
        return finding.check == self.check and fnmatchcase(finding.object, self.object)


def sorted_findings(findings: Iterable[Finding], checks: Sequence[str]) -> tuple[Finding, ...]:
    """Return findings worst first; of one severity in the checks' order, in it by weight and name."""
    places = {check: place for place, check in enumerate(checks)}
    return tuple(sorted(findings, key=lambda f: (f.severity.rank, places[f.check], -f.weight, f.object)))


def divided(findings: Iterable[Finding], ignores: Sequence[Ignore]) -> tuple[list[Finding], list[tuple[Finding, str]]]:
    """Return the findings that count, and the ignored ones with the reason given."""
    kept: list[Finding] = []
    ignored: list[tuple[Finding, str]] = []
    for finding in findings:
        reason = next((one.reason for one in ignores if one.covers(finding)), None)
        if reason is None:
            kept.append(finding)
        else:
            ignored.append((finding, reason))
    return kept, ignored
