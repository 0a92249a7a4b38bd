"""What a rehearsal comes to: *passed*, *failed* or *could not verify*, and why. `judging` makes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a rehearsal says. Only the first lets a protected environment go on."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "could not verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What a deploy may cost others."""

    max_blocking_ms: int = 2_000  # that reads or writes of one relation may wait
    max_rewrite: int = 1_000_000_000  # bytes of one table or index that may be written anew under a strong lock
    needs_proven_revert: bool = False
    slower: float = 1.0  # how many times longer things take there than on a copy, by earlier runs; at least 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason why a rehearsal did not pass."""

    outcome: Outcome  # FAILED or UNVERIFIED
    rule: str  # stable name, for `allow=RULE reason="…"`; docs/reference/rules.md
    message: str  # one line; names relation, mode, time
    file: str | None = None  # None: about the whole rehearsal
    line: int | None = None  # from 1
    advice: str | None = None  # what to do instead: a line, then SQL where there is some
    reason: str | None = None  # why the file allows it; None: it does not

    @property
    def place(self) -> str:
        """`002-orders.sql:3`; "" of the whole rehearsal."""
        return ":".join(str(part) for part in (self.file, self.line) if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that a person should know, and that fails nothing."""

    message: str  # one line
    file: str | None = None  # None: about the whole rehearsal
    line: int | None = None  # from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome and all reasons for it."""

    outcome: Outcome
    problems: tuple[Problem, ...] = ()  # failures first
    allowed: tuple[Problem, ...] = ()  # that files allow, each with its reason
    notes: tuple[Note, ...] = ()
