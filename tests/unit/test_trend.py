"""Times side by side, and bars that stay legible; periods as people write them; cells that are no formulas."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.csvtext import cell, csv_text
from lockstep.core.period import parse_moment
from lockstep.core.text import printable
from lockstep.core.trend import BAR, Timing, Trend, Waits, bar, side_by_side

NOW = datetime(2026, 3, 12, 12, tzinfo=UTC)


def timing(name: str, newest: int, event: str = "apply") -> Timing:
    return Timing(
        migration_name=name, version=1, event=event, count=1, newest_ms=newest, median_ms=newest, worst_ms=newest,
        newest_at=NOW, waited=0,
    )  # fmt: skip


def trend(environment: str, *timings: Timing) -> Trend:
    waits = Waits(migrations=0, gave_up=0, total_ms=0, worst_ms=0, blockers=())
    return Trend(environment=environment, target=environment, timings=timings, runs=(), waits=waits)


def test_every_migration_stands_once_the_slowest_anywhere_first() -> None:
    rows = side_by_side(
        [
            trend("dev", timing("001", 500), timing("002", 12), timing("002", 900, "revert")),
            trend("prod", timing("002", 4100), timing("003", 1)),
        ]
    )
    assert [(row.migration_name, row.event, row.slowest_ms) for row in rows] == [
        ("002", "apply", 4100), ("002", "revert", 900), ("001", "apply", 500), ("003", "apply", 1),
    ]  # fmt: skip
    assert {name: one.newest_ms for name, one in rows[0].by_environment.items()} == {"dev": 12, "prod": 4100}
    assert side_by_side([]) == ()


def test_a_bar_is_as_long_as_its_time_and_whatever_took_time_shows() -> None:
    assert bar(4000, 4000) == "█" * BAR
    assert bar(2000, 4000) == "█" * (BAR // 2)
    assert bar(1, 4000) == "▏"
    assert bar(0, 4000) == "" and bar(0, 0) == ""
    lengths = [len(bar(ms, 1000)) for ms in range(0, 1001, 10)]
    assert lengths == sorted(lengths) and max(lengths) == BAR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-10", datetime(2026, 3, 10, tzinfo=UTC)),
        ("2026-03-10T09:30", datetime(2026, 3, 10, 9, 30, tzinfo=UTC)),
        ("2026-03-10 09:30:15.5Z", datetime(2026, 3, 10, 9, 30, 15, 500_000, tzinfo=UTC)),
        ("2026-03-10T09:30+02:00", datetime(2026, 3, 10, 7, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 3, 5, 12, tzinfo=UTC)),
        (" 12h ", datetime(2026, 3, 12, tzinfo=UTC)),
    ],
)
def test_a_moment_is_what_a_person_means(text: str, expected: datetime) -> None:
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30", "2026-3-1", "7", "-7d", "99999999999d", "٢d", "1e9d"])
def test_what_is_no_moment_is_refused_with_the_forms(text: str) -> None:
    try:
        found = parse_moment(text, NOW)
    except ValueError as error:
        assert "write a date such as" in str(error)
    else:
        assert text == "٢d" and found.tzinfo is not None  # digits of another script are digits


@given(st.text())
def test_no_cell_is_a_formula_and_the_text_is_still_in_it(text: str) -> None:
    shown = cell(text)
    assert not shown.lstrip().startswith(("=", "+", "-", "@"))
    (row,) = list(csv.reader(io.StringIO(csv_text([[text, None, 7]], header=["a", "b", "c"]), newline="")))[1:]
    assert row == [shown, "", "7"]
    assert not [c for c in shown if ord(c) < 32 and c not in "\t\r\n"]


@given(st.text())
def test_what_is_printable_steers_no_terminal_and_stays_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
