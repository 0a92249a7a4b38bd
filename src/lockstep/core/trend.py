"""How long migrations, whole runs and waits took, over environments. Pure; the numbers come from the audit logs.

Milliseconds everywhere. A migration's time is what the server measured, from its BEGIN to its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

BAR = 16  # characters of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All that one environment's log says of the times of one migration, applied or taken back."""

    migration_name: str
    version: int | None
    event: str  # apply, revert
    count: int  # how often
    newest_ms: int
    median_ms: int
    worst_ms: int
    newest_at: datetime
    waited: int  # how often somebody was in the way


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """One run on one target: from the begin of its first event to its last."""

    run_id: str
    began: datetime
    duration_ms: int
    applied: int
    reverted: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InTheWay:
    """Who kept migrations waiting."""

    who: str  # user and program, or what process of the server's own
    count: int  # migrations that waited for them
    newest_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What waiting for locks came to on one target."""

    migrations: int  # that had to wait, those that gave up included
    gave_up: int  # of them: the budget was over
    total_ms: int  # that tries took which came to nothing, where recorded
    worst_ms: int  # of one migration
    blockers: tuple[InTheWay, ...]  # most often first


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The times of one target."""

    environment: str
    target: str  # shown name
    timings: tuple[Timing, ...]
    runs: tuple[RunTime, ...]  # newest first
    waits: Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One migration side by side."""

    migration_name: str
    version: int | None
    event: str
    by_environment: Mapping[str, Timing]  # those that have it

    @property
    def slowest_ms(self) -> int:
        """The newest time where that is the longest: what one has to reckon with."""
        return max(timing.newest_ms for timing in self.by_environment.values())


def side_by_side(trends: Sequence[Trend]) -> tuple[Compared, ...]:
    """Return every migration once, with its times in all environments, the slowest first."""
    found: dict[tuple[str, str], dict[str, Timing]] = {}
    for trend in trends:
        for timing in trend.timings:
            found.setdefault((timing.migration_name, timing.event), {})[trend.environment] = timing
    rows = [
        Compared(migration_name=name, version=next(iter(there.values())).version, event=event, by_environment=there)
        for (name, event), there in found.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.slowest_ms, row.migration_name, row.event)))


def bar(ms: int, longest_ms: int) -> str:
    """Return a bar for one time beside the longest one; anything above nothing shows."""
    if ms <= 0 or longest_ms <= 0:
        return ""
    eighths = max(1, round(min(ms / longest_ms, 1) * BAR * 8))
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
