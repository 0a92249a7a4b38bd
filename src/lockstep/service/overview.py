"""What the morning is told: everything about all environments, looked at in parallel, each within a bounded time.

Gathers and decides nothing. Read-only. An environment that does not answer hides no other one, and a part that could not
be looked at hides no other part: it is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lockstep.core.approval import Request
from lockstep.errors import LockstepError
from lockstep.service.drifting import DriftReport
from lockstep.service.health import HealthReport
from lockstep.service.parity import RecordedParity
from lockstep.service.status import TargetStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """The newest rehearsal of an environment, as its audit log has it."""

    at: datetime
    run_id: str | None
    outcome: str  # passed, failed, could not verify
    headline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A part that could not be looked at."""

    part: str  # drift, health, approvals, parity
    error: LockstepError


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOverview:
    """One environment, as it was when it was looked at."""

    environment: str
    target: str | None  # shown name; None when the configuration does not even say
    protected: bool
    status: TargetStatus  # rows of the matrix, backups by the audit log, recorded schema; or why it could not be read
    drift: DriftReport | None = None  # None: not looked at (no ledger, unreachable, or see `unseen`)
    health: HealthReport | None = None  # None: not looked at
    waiting: tuple[Request, ...] = ()  # runs that wait for approval, oldest first
    rehearsed: Rehearsed | None = None  # of a protected environment
    unseen: tuple[Unseen, ...] = ()
    ms: int = 0  # how long the look took

    @property
    def error(self) -> LockstepError | None:
        """Why nothing at all could be read."""
        return self.status.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All environments, in promotion order."""

    at: datetime  # when it was looked at, UTC
    environments: tuple[EnvironmentOverview, ...]
    parity: tuple[RecordedParity, ...] = ()  # of environments with the same migrations
