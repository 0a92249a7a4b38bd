"""Retention: what is needed stays, whatever the numbers; what goes has no reason to stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.retention import Because, Kept, retain

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> list[Kept]:
    ages = draw(st.lists(st.integers(-1, 100 * 24), max_size=30))
    backups = []
    for number, age in enumerate(ages):
        failed = draw(st.booleans())
        backups.append(
            Kept(
                id=f"b{number}",
                taken_at=NOW - timedelta(hours=age),
                run_id=f"r{draw(st.integers(0, 9))}",
                strength=0 if failed else draw(st.integers(0, 3)),
                failed=failed,
            )
        )
    return backups


LAST, DAYS = st.integers(1, 12), st.integers(0, 60)


@given(histories(), LAST, DAYS)
def test_the_last_good_ones_stay_and_damaged_ones_push_none_out(backups: list[Kept], last: int, days: int) -> None:
    why = retain(backups, last=last, days=days, now=NOW)
    good = sorted((b for b in backups if not b.failed), key=lambda b: b.taken_at, reverse=True)
    kept = [b for b in good if why[b.id]]
    assert len(kept) >= min(last, len(good))
    oldest_of_the_last = good[:last][-1].taken_at if good else NOW
    assert all(why[b.id] for b in good if b.taken_at > oldest_of_the_last)


@given(histories(), LAST, DAYS)
def test_everything_young_stays_even_when_it_is_damaged(backups: list[Kept], last: int, days: int) -> None:
    why = retain(backups, last=last, days=days, now=NOW)
    assert all(why[b.id] for b in backups if NOW - b.taken_at < timedelta(days=days))


@given(histories(), LAST, DAYS)
def test_the_newest_of_each_strength_stays(backups: list[Kept], last: int, days: int) -> None:
    why = retain(backups, last=last, days=days, now=NOW)
    for strength in (1, 2, 3):
        as_strong = [b for b in backups if not b.failed and b.strength >= strength]
        if as_strong:
            newest = max(b.taken_at for b in as_strong)
            assert any(why[b.id] for b in as_strong if b.taken_at == newest)


@given(histories(), LAST, DAYS, st.sets(st.sampled_from(["b0", "b1", "b2"])), st.sets(st.sampled_from(["r0", "r1"])))
def test_what_a_run_refers_to_stays(backups: list[Kept], last: int, days: int, ids: set[str], runs: set[str]) -> None:
    why = retain(backups, last=last, days=days, now=NOW, referenced=ids, runs=runs)
    for b in backups:
        assert (Because.REFERENCED in why[b.id]) == (b.id in ids or b.run_id in runs)


@given(histories(), LAST, DAYS)
def test_what_goes_has_enough_good_ones_after_it(backups: list[Kept], last: int, days: int) -> None:
    why = retain(backups, last=last, days=days, now=NOW)
    assert set(why) == {b.id for b in backups}
    for gone in (b for b in backups if not why[b.id]):
        assert NOW - gone.taken_at >= timedelta(days=days)
        newer = [b for b in backups if not b.failed and b.id != gone.id and b.taken_at >= gone.taken_at]
        assert gone.failed or len(newer) >= last
        assert not gone.strength or any(b.strength >= gone.strength for b in newer)


@given(histories(), LAST, DAYS)
def test_the_order_of_the_list_and_a_second_time_change_nothing(backups: list[Kept], last: int, days: int) -> None:
    why = retain(backups, last=last, days=days, now=NOW)
    assert retain(backups[::-1], last=last, days=days, now=NOW) == why
    left = [b for b in backups if why[b.id]]
    assert all(retain(left, last=last, days=days, now=NOW).values())


def test_each_reason_by_example() -> None:
    def kept(name: str, days: float, strength: int = 0, failed: bool = False) -> Kept:
        return Kept(
            id=name, taken_at=NOW - timedelta(days=days), run_id=f"run-{name}", strength=strength, failed=failed
        )

    backups = [
        kept("young", 1), kept("failed", 2, failed=True), kept("last", 40), kept("digests", 50, 1), kept("gone", 55),
        kept("restored", 60, 3), kept("older proof", 70, 3), kept("referenced", 80), kept("failed and old", 90, failed=True),
    ]  # fmt: skip
    why = retain(backups, last=2, days=30, now=NOW, referenced={"referenced"}, runs={"run-young"})
    assert {name: {reason.name for reason in reasons} for name, reasons in why.items()} == {
        "young": {"LAST", "YOUNG", "REFERENCED"},
        "failed": {"LAST", "YOUNG"},
        "last": {"LAST"},
        "digests": {"VERIFIED"},
        "gone": set(),
        "restored": {"VERIFIED"},
        "older proof": set(),
        "referenced": {"REFERENCED"},
        "failed and old": set(),
    }
