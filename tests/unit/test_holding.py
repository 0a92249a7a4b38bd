"""What is not there any more between two looks at tables."""

from __future__ import annotations

from dataclasses import replace

from lockstep.core.rehearsal.holding import Holding, Values, joined, lost, unquoted

NAME = "public.orders"


def held(rows: int, summed: bool = True, **columns: tuple[int, int]) -> Holding:
    """`columns`: name -> (filled, sum)."""
    return Holding(
        relation=NAME,
        rows=rows,
        columns={
            name: Values(number=number, filled=filled, own=filled, sum=total if summed else None)
            for number, (name, (filled, total)) in enumerate(columns.items(), 1)
        },
        summed=summed,
    )


def losses(before: Holding, after: Holding | None, **written: int) -> list[tuple[str | None, int, str]]:
    found, _, _ = lost({NAME: before}, {NAME: after} if after else {}, {NAME: written.get("orders", 0)})
    return [(one.column, one.rows, one.what) for one in found]


def test_equal_tables_lost_nothing() -> None:
    assert losses(held(3, a=(3, 7)), held(3, a=(3, 7))) == []


def test_a_table_that_is_gone_lost_its_rows() -> None:
    assert losses(held(3, a=(3, 7)), None) == [(None, 3, "the table is dropped")]
    assert losses(held(0, a=(0, 0)), None) == []


def test_deleted_rows_take_their_values_along_and_are_told_once() -> None:
    assert losses(held(10, a=(10, 7), b=(4, 2)), held(8, a=(8, 5), b=(2, 1))) == [(None, 2, "rows are deleted")]
    assert losses(held(10, a=(10, 7)), held(8, a=(1, 5))) == [
        (None, 2, "rows are deleted"),
        ("a", 9, "values are gone"),
    ]


def test_values_that_are_gone_or_other_ones_are_told_by_column() -> None:
    assert losses(held(5, a=(5, 7), b=(5, 1)), held(5, a=(0, 0), b=(5, 1))) == [("a", 5, "values are gone")]
    assert losses(held(5, a=(5, 7)), held(5, a=(5, 8)), orders=2) == [("a", 2, "values are other ones")]
    assert losses(held(5, a=(5, 7)), held(5, a=(5, 8))) == [("a", 5, "values are other ones")]
    assert losses(held(5, a=(5, 7)), held(5)) == [("a", 5, "the column is dropped")]


def test_what_a_default_makes_again_is_no_loss() -> None:
    before = held(5, a=(5, 7))
    before = replace(before, columns={"a": replace(before.columns["a"], own=2)})
    assert losses(before, held(5)) == [("a", 2, "the column is dropped")]


def test_what_cannot_be_told_is_said() -> None:
    assert lost({NAME: held(5, False, a=(5, 0))}, {NAME: held(5, False, a=(5, 0))}, {}) == (
        [],
        [],
        ["values of public.orders were counted, not compared: it is too large"],
    )
    assert lost({NAME: held(5, a=(5, 7))}, {NAME: held(6, a=(6, 9))}, {}) == (
        [],
        ["1 row more in public.orders than before"],
        ["values of public.orders were not compared: its rows are not as many as before"],
    )


def test_partitions_are_added_up() -> None:
    one = joined([held(2, a=(2, 5)), held(3, a=(1, 4))])[NAME]
    assert (one.rows, one.columns["a"].filled, one.columns["a"].sum, one.summed) == (5, 3, 9, True)
    other = joined([held(2, a=(2, 5)), held(3, False, a=(1, 0))])[NAME]
    assert (other.summed, other.columns["a"].sum) == (False, None)


def test_names_as_sql_writes_them_and_as_they_are() -> None:
    names = {
        "public.orders": "public.orders",
        '"my.s"."Odd ""T"" é"': 'my.s.Odd "T" é',
        'public."Odd"': "public.Odd",
        '"Odd".t': "Odd.t",
    }
    assert {name: unquoted(name) for name in names} == names
