"""A rehearsed migration beside what it took on the environment itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.core.duration import format_ms
from lockstep.core.rehearsal.calibration import Calibration
from lockstep.core.rehearsal.trace import FileTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One migration, rehearsed and applied. Milliseconds."""

    name: str  # migration_name
    rehearsed_ms: float
    expected_ms: float | None  # by the environment's calibration; None: there is none
    actual_ms: int
    tries: int  # that the lock took; 1: nobody was in the way
    blocking_ms: float | None  # rehearsed: how long others would wait; None: nobody

    @property
    def text(self) -> str:
        """In words: `took 0.5 s, rehearsed 0.3 s`."""
        expected = f", expected {format_ms(round(self.expected_ms))}" if self.expected_ms is not None else ""
        return f"took {format_ms(self.actual_ms)}, rehearsed {format_ms(round(self.rehearsed_ms))}{expected}"


def beside(trace: FileTrace | None, calibration: Calibration | None, *, actual_ms: int, tries: int) -> Beside | None:
    """Return a migration's rehearsal beside what it took; None where it was not rehearsed."""
    if trace is None:
        return None
    expected = calibration.expected(trace.work_ms) if calibration is not None and calibration.believed else None
    return Beside(
        name=trace.name,
        rehearsed_ms=trace.work_ms,
        expected_ms=expected,
        actual_ms=actual_ms,
        tries=tries,
        blocking_ms=trace.worst.ms if trace.worst else None,
    )


def rehearsed_details(trace: FileTrace) -> dict[str, object]:
    """Return what the audit log keeps of a migration's rehearsal, with its `apply` event."""
    found: dict[str, object] = {
        "ms": round(trace.work_ms, 1),
        "statements": [round(one.ms, 1) for one in trace.statements],
    }
    if (worst := trace.worst) is not None:
        found |= {"blocking_ms": round(worst.ms, 1), "relation": worst.relation, "mode": worst.mode.value}
    return found
