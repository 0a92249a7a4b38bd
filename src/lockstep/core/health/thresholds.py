"""From which number on something is a finding: the thresholds of `[health]`, and how a number is held against one."""

from __future__ import annotations

from dataclasses import dataclass, field

from lockstep.core.health.findings import Ignore, Severity


@dataclass(frozen=True, slots=True)
class Limits:
    """Two numbers: from the first on a warning, from the second on critical."""

    warning: float
    critical: float

    def judge(self, value: float | None) -> Severity | None:
        """Return what `value` is; None: in order, or not known. With the larger number first, less is worse."""
        if value is None:
            return None
        sign = 1 if self.critical >= self.warning else -1
        if sign * value >= sign * self.critical:
            return Severity.CRITICAL
        return Severity.WARNING if sign * value >= sign * self.warning else None


def worst(*severities: Severity | None) -> Severity | None:
    """Return the worst of some severities; None where all are None."""
    return min((one for one in severities if one is not None), key=lambda one: one.rank, default=None)


MINUTE = 60_000  # milliseconds, as all durations
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GB = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All of `[health]`, in milliseconds, bytes, percent and days. docs/reference/config.md explains each key."""

    timeout_ms: int = 5_000  # of one check
    key_used: Limits = Limits(70, 90)  # percent of a key's numbers
    key_days_left: Limits = Limits(180, 30)  # days at the observed rate
    transaction: Limits = Limits(10 * MINUTE, 2 * HOUR)
    idle_in_transaction: Limits = Limits(1 * MINUTE, 30 * MINUTE)
    blocked: Limits = Limits(5_000, 1 * MINUTE)
    prepared: Limits = Limits(10 * MINUTE, 2 * HOUR)
    wraparound: Limits = Limits(40, 75)  # percent of the 2^31 transactions after which writes stop
    freeze_overdue: float = 150  # percent of autovacuum_freeze_max_age (the multixacts' likewise)
    connections: Limits = Limits(80, 95)  # percent of what ordinary roles may open
    replica_lag: Limits = Limits(1 * MINUTE, 15 * MINUTE)
    replica_behind: Limits = Limits(1 * GB, 16 * GB)
    slot_retained: Limits = Limits(5 * GB, 50 * GB)
    dead_rows: float = 20  # percent of a table's rows
    changed_rows: float = 30  # percent of a table's rows since it was analysed
    small_table: int = 10_000_000  # bytes; below, dead rows, statistics, foreign keys weigh less or nothing
    growth: Limits = Limits(20, 100)  # percent a day
    growth_size: int = GB  # bytes a day below which growth is no finding
    unused_index: int = 30 * DAY  # how old the counters must be
    backup: Limits = Limits(26 * HOUR, 3 * DAY)  # age of the newest backup of a protected environment
    verified_backup: Limits = Limits(9 * DAY, 30 * DAY)
    ignore: tuple[Ignore, ...] = field(default=())
