"""Findings: what validation says about files, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much a finding weighs."""

    ERROR = "error"  # nothing would be applied
    WARNING = "warning"  # worth a look; --strict makes it count


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding about one file."""

    severity: Severity
    rule: str  # name, for `allow=RULE`
    file: str  # file name in the migrations folder; of a finding about the folder itself: its path as configured
    line: int | None  # from 1
    column: int | None  # from 1, in characters
    message: str
    hint: str | None = None
    excerpt: str | None = None  # the line, with a caret

    @property
    def place(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One file that was looked at."""

    name: str  # as findings name it
    text: str | None  # decoded; None when it could not be read, or is not looked into


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the files were compared with."""

    revision: str  # as it was named: origin/main
    commit: str  # what that is
    merge_base: str | None  # where this branch left it; None: nothing is committed here yet
    migrations: int  # numbered ups on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one validation says."""

    findings: tuple[Finding, ...]  # in the order of files and lines
    files: tuple[CheckedFile, ...]  # by name
    folder: str  # the migrations folder as configured
    path: str  # the same from the repository's root (without one: the project's), forward slashes; "" is the root
    base: Base | None = None  # None: the files alone

    def path_of(self, file: str) -> str:
        """Where a finding's file (or the folder itself) is, from the root."""
        if file == self.folder:
            return self.path or "."
        return f"{self.path}/{file}" if self.path else file

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)
