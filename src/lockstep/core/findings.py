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
    file: str  # file name in the migrations folder
    line: int | None  # from 1
    column: int | None  # from 1, in characters
    message: str
    hint: str | None = None
    excerpt: str | None = None  # the line, with a caret

    @property
    def place(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
