"""Large tables go into archives of their own, balanced by size; everything is in exactly one archive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.shards import SizedTable, choose_shards


def table(oid: int, size: int, *, apart: bool = True) -> SizedTable:
    return SizedTable(oid=oid, schema="s", name=f"t{oid}", size=size, apart=apart)


def sizes(*given: int) -> list[SizedTable]:
    return [table(number, size) for number, size in enumerate(given)]


def test_one_job_has_one_archive() -> None:
    assert choose_shards(sizes(100, 200), jobs=1, large=1) == ()


def test_small_tables_stay_together() -> None:
    assert choose_shards(sizes(9, 9, 9), jobs=4, large=10) == ()


def test_the_largest_go_apart_and_the_rest_balances() -> None:
    shards = choose_shards(sizes(100, 90, 50, 40, 5), jobs=3, large=10)
    # main: 5, +100; the second 90; the third 50 + 40
    assert [[t.size for t in shard] for shard in shards] == [[100], [90]]
    assert [[t.size for t in shard] for shard in choose_shards(sizes(100, 90, 50, 40, 95), jobs=3, large=50)] == [
        [100],
        [95, 50],
    ]


def test_a_table_of_an_extension_is_never_apart() -> None:
    assert choose_shards([table(1, 100, apart=False)], jobs=2, large=1) == ()


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 6))
def test_no_table_is_twice_and_no_archive_is_empty_or_much_longer(given_sizes: list[int], jobs: int) -> None:
    tables = sizes(*given_sizes)
    shards = choose_shards(tables, jobs=jobs, large=10)
    assert len(shards) < jobs
    assert all(shards)
    apart = [t.oid for shard in shards for t in shard]
    assert len(apart) == len(set(apart))
    loads = [sum(t.size for t in shard) for shard in shards]
    small = sum(t.size for t in tables if t.size < 10)
    # The least laden takes the next one, so nobody has more than an even share and one table.
    assert max([sum(given_sizes) - sum(loads), *loads]) <= sum(given_sizes) / jobs + max(given_sizes, default=0) + small
