"""Which runs of one environment applied just what a run applied in another one."""

from __future__ import annotations

import pytest

from lockstep.core.runs import Ran, matching

A, B, C, D = (Ran(f"00{n}.sql", f"sum{n}", "applied") for n in (1, 2, 3, 4))
B2 = Ran("002.sql", "other", "applied")
BACK = Ran("002.sql", "sum2", "reverted")


@pytest.mark.parametrize(
    ("runs", "wanted", "found"),
    [
        # newest first, as they are read
        ([[B], [A]], [A, B], [1, 0]),
        ([[A, B]], [A, B], [0]),
        ([[B], [A]], [B], [0]),
        ([[B], [A]], [A], [1]),
        ([[A, B]], [B], None),  # in company
        ([[C], [A]], [A, B], None),
        ([[B2], [BACK], [B], [A]], [B2], [0]),
        ([[B2], [BACK], [B], [A]], [A, B], [3, 2]),
        ([[B2], [BACK], [B]], [BACK, B2], [1, 0]),
        # what finished nothing belongs to what came after it
        ([[B], [], [A]], [B], [1, 0]),
        ([[B], [], [A]], [A, B], [2, 1, 0]),
        ([[C], [B], [], [], [A]], [B], [3, 2, 1]),
        ([[], [B], [A]], [B], [1]),
        # what nobody knows
        ([[B], None, [A]], [B], None),
        ([[B], None, [A]], [A, B], None),
        ([[C], [B], None, [A]], [C], [0]),
        ([[B], None, [A]], [A], [2]),
        ([], [A], None),
        ([[D]], [], None),
    ],
)
def test_runs_that_applied_just_that(runs: list[list[Ran] | None], wanted: list[Ran], found: list[int] | None) -> None:
    assert matching(runs, wanted) == found
