"""Predicted times against actual ones."""

from __future__ import annotations

import pytest

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.rehearsal.calibration import LEAST_TIMEOUT_MS, Calibration, Pair, calibrate, statement_timeout_ms
from lockstep.core.rehearsal.judging import judge
from lockstep.core.rehearsal.trace import FileTrace, Window
from lockstep.core.rehearsal.verdict import Budgets, Outcome


def pair(run: str, rehearsed: float, actual: float) -> Pair:
    return Pair(name=f"{run}.sql", run_id=run, rehearsed_ms=rehearsed, actual_ms=actual)


def test_the_ratio_is_the_median_of_what_took_long_enough_to_tell() -> None:
    found = calibrate([pair("a", 100, 150), pair("b", 100, 300), pair("c", 1000, 2000), pair("d", 3, 90)])
    assert found == Calibration(ratio=2.0, migrations=3, runs=3)


def test_nothing_that_took_long_enough_calibrates_nothing() -> None:
    assert calibrate([]) is None
    assert calibrate([pair("a", 19, 100), pair("b", 100, 0)]) is None


@pytest.mark.parametrize(
    ("slowest", "calibration", "expected"),
    [
        (60_000, None, None),
        (60_000, Calibration(ratio=2.0, migrations=9, runs=2), None),  # two runs are too few
        (60_000, Calibration(ratio=2.0, migrations=3, runs=3), 1_200_000),
        (10, Calibration(ratio=0.1, migrations=3, runs=3), LEAST_TIMEOUT_MS),
    ],
)
def test_a_derived_timeout_is_generous_and_never_short(
    slowest: float, calibration: Calibration | None, expected: int | None
) -> None:
    assert statement_timeout_ms(slowest, calibration) == expected


def test_what_takes_longer_there_than_on_the_copy_is_judged_by_how_long_it_takes_there() -> None:
    window = Window(relation="public.orders", mode=Mode.ACCESS_EXCLUSIVE, ms=1_000, line=1)
    file = FileTrace(name="001-a.sql", transactional=True, ms=1_000, statements=(), windows=(window,))
    assert judge([file], Budgets(max_blocking_ms=2_000)).outcome is Outcome.PASSED
    found = judge([file], Budgets(max_blocking_ms=2_000, slower=3.0))
    assert found.outcome is Outcome.FAILED
    assert "waiting for 3.0 s" in found.problems[0].message
    assert "1.0 s on the copy, and times there are × 3.0 by earlier runs" in found.problems[0].message
