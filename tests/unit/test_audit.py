"""Which ends of a log fit it, what explains one that does not, and which rows a prune must leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lockstep.core.audit import (
    Anchor,
    Chain,
    KnownHead,
    Needed,
    Restore,
    Standing,
    false_restores,
    judge_heads,
    last_to_go,
)

T = datetime(2026, 3, 12, 12, tzinfo=UTC)


def day(number: int) -> datetime:
    return T + timedelta(days=number)


def chain(first: int, newest: int, up_to: int | None = None) -> Chain:
    anchor = None
    if up_to is not None:
        anchor = Anchor(
            number=newest, at=T, up_to=up_to, hash=f"h{up_to}", key="k", sha256="s", size=1, plain_sha256=None,
            encrypted_to=(),
        )  # fmt: skip
    return Chain(length=newest - first + 1, first=first, newest=newest, head=f"h{newest}", broken=None, anchor=anchor)


def head(number: int, at: int | None = 0, hash_: str | None = None) -> KnownHead:
    return KnownHead(
        number=number, hash=hash_ or f"h{number}", at=None if at is None else day(at), source=f"backup {number}"
    )


def restore(number: int, at: int, of: str = "prod") -> Restore:
    return Restore(number=number, at=day(at), backup="B", of=of, previous_hash=f"h{number - 1}")


def standing(one: KnownHead, there: Chain, *restores: Restore) -> Standing:
    hashes = {number: f"h{number}" for number in range(there.first, there.newest + 1)}
    (judged,) = judge_heads([one], hashes, there, restores, "prod")
    return judged.standing


@pytest.mark.parametrize(
    ("one", "there", "restores", "expected"),
    [
        (head(5), chain(1, 9), (), Standing.FITS),
        (head(9), chain(1, 9), (), Standing.FITS),
        (head(10), chain(1, 9), (), Standing.MISSING),
        (head(5, hash_="other"), chain(1, 9), (), Standing.DIFFERS),
        (head(3), chain(6, 9, up_to=5), (), Standing.PRUNED),
        (head(5), chain(6, 9, up_to=5), (), Standing.FITS),  # the anchor knows that one
        (head(5, hash_="other"), chain(6, 9, up_to=5), (), Standing.DIFFERS),
        (head(3), chain(6, 9), (), Standing.MISSING),  # rows are gone, and no anchor says why
        # A restore at row 4, on day 5, to a backup whose log ended at row 3.
        (head(8, at=4), chain(1, 6), (restore(4, 5),), Standing.REPLACED),
        (head(5, at=4, hash_="old"), chain(1, 6), (restore(4, 5),), Standing.REPLACED),
        (head(3, at=4, hash_="old"), chain(1, 6), (restore(4, 5),), Standing.DIFFERS),  # the backup had that row
        (head(8, at=6), chain(1, 6), (restore(4, 5),), Standing.MISSING),  # seen after the restore
        (head(8, at=None), chain(1, 6), (restore(4, 5),), Standing.MISSING),  # when is not known
        # Another environment's backup: nothing of the log before it is left.
        (head(2, at=4, hash_="old"), chain(1, 6), (restore(4, 5, of="dev"),), Standing.REPLACED),
        (head(8, at=4), chain(7, 9, up_to=6), (restore(4, 5),), Standing.FITS),
        (head(8, at=4, hash_="old"), chain(7, 9, up_to=6), (restore(4, 5),), Standing.REPLACED),
    ],
)
def test_an_end_fits_or_a_restore_explains_it_or_it_is_wrong(
    one: KnownHead, there: Chain, restores: tuple[Restore, ...], expected: Standing
) -> None:
    assert standing(one, there, *restores) is expected


def test_a_restore_that_does_not_continue_its_backup_is_false() -> None:
    one = restore(4, 5)
    assert false_restores([one], {("prod", "B"): head(3)}) == ()
    assert false_restores([one], {("prod", "B"): head(2)}) == (one,)
    assert false_restores([one], {("prod", "B"): head(3, hash_="x")}) == (one,)
    assert false_restores([one], {("dev", "B"): head(9)}) == ()  # another backup; this one is not known any more


@pytest.mark.parametrize(
    ("wanted", "needed", "undone", "cut", "stopped"),
    [
        (10, (), (), 10, ()),
        (10, (15,), (), 10, ()),
        (10, (11,), (), 10, ()),
        (10, (10,), (), 9, (10,)),
        (10, (7, 3), (), 2, (3,)),
        (10, (1,), (), 0, (1,)),
        (10, (), ((4, 12),), 3, (4,)),  # 12 stays and took 4 back
        (10, (), ((4, 8),), 10, ()),  # both go
        (10, (8,), ((4, 9), (3, 7)), 2, (3,)),
        (10, (8,), ((4, 9), (2, 5)), 1, (2,)),  # one leads to the next
        (0, (1,), (), 0, ()),
    ],
)
def test_a_prune_stops_before_the_oldest_row_that_something_needs(
    wanted: int, needed: tuple[int, ...], undone: tuple[tuple[int, int], ...], cut: int, stopped: tuple[int, ...]
) -> None:
    found, stops = last_to_go(wanted, [Needed(number=number, why="w") for number in needed], undone)
    assert (found, tuple(stop.number for stop in stops)) == (cut, stopped)
