"""Rehearsed times against those that production took: how much slower (or faster) it is there. Pure.

The copy has no other load, no durability and other disks, so its times are not production's. The median ratio of the
migrations that ran on both makes a prediction of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

#: A copy's time below this is mostly round trips and noise: it calibrates nothing.
LEAST_MS = 20.0
#: Runs from which a calibration is believed.
RUNS_NEEDED = 3
#: No statement is given less than this, however quick it was in the rehearsal.
LEAST_TIMEOUT_MS = 300_000
_TIMES = 10  # that a statement may take longer than expected before it is ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One migration that was rehearsed and then applied."""

    name: str
    run_id: str
    rehearsed_ms: float
    actual_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What production takes of what the copy took."""

    ratio: float  # median of actual by rehearsed
    migrations: int  # that it is the median of
    runs: int

    @property
    def believed(self) -> bool:
        """Whether it is of enough runs to predict by."""
        return self.runs >= RUNS_NEEDED

    def expected(self, ms: float) -> float:
        """Return what production should take, in milliseconds."""
        return ms * self.ratio


def calibrate(pairs: Sequence[Pair]) -> Calibration | None:
    """Return the median ratio; None where no migration took long enough to tell."""
    kept = [one for one in pairs if one.rehearsed_ms >= LEAST_MS and one.actual_ms > 0]
    if not kept:
        return None
    ratio = median(one.actual_ms / one.rehearsed_ms for one in kept)
    return Calibration(ratio=ratio, migrations=len(kept), runs=len({one.run_id for one in kept}))


def statement_timeout_ms(slowest_ms: float, calibration: Calibration | None) -> int | None:
    """Return the limit for each statement of a transactional file; None: not enough is known to set one.

    `slowest_ms`: of its slowest statement on the copy. Ten times what is expected, and never below five minutes.
    """
    if calibration is None or not calibration.believed:
        return None
    return max(LEAST_TIMEOUT_MS, round(calibration.expected(slowest_ms) * _TIMES))
