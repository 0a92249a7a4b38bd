"""What compares between major versions, and what names alone do not tell apart."""

from __future__ import annotations

import pytest

from lockstep.core.changes import compare
from lockstep.core.fingerprint import Fingerprint, SchemaObject, fingerprint_of, label


def of(major: int, *objects: SchemaObject) -> Fingerprint:
    return fingerprint_of(objects, major=major, schemas=["app"])


def grant(rights: str, kind: str = "grant") -> SchemaObject:
    return SchemaObject(kind, "app", "table t", "reader", rights)


TABLE = SchemaObject("table", "app", "", "t", "")


@pytest.mark.parametrize("kind", ["grant", "default privileges"])
@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ([grant("MAINTAIN")], []),
        ([grant("MAINTAIN WITH GRANT OPTION")], []),
        ([grant("INSERT, MAINTAIN, SELECT")], [grant("INSERT, SELECT")]),
    ],
)
def test_a_right_that_older_servers_do_not_know_is_no_difference(
    kind: str, newer: list[SchemaObject], older: list[SchemaObject]
) -> None:
    newer, older = [one._replace(kind=kind) for one in newer], [one._replace(kind=kind) for one in older]
    left, right = of(17, TABLE, *newer), of(15, TABLE, *older)
    assert compare(left, right).changes == compare(right, left).changes == ()
    assert left.portable_digest == right.portable_digest
    assert [change.key[0] for change in compare(left, of(17, TABLE, *older)).changes] == [kind]


def test_another_right_is_one_between_major_versions_too() -> None:
    assert compare(of(17, grant("DELETE, MAINTAIN")), of(15, grant("SELECT"))).changes
    assert compare(of(17, grant("MAINTAIN")), of(15, grant("SELECT"))).changes
    assert compare(of(17, grant("SELECT, MAINTAIN")), of(15)).changes


def test_an_unlogged_sequence_is_a_difference_only_where_both_know_it() -> None:
    logged, unlogged = (SchemaObject("sequence", "app", "", "s", text) for text in ("AS bigint", "UNLOGGED AS bigint"))
    assert compare(of(14, logged), of(17, unlogged)).changes == ()
    assert compare(of(17, logged), of(17, unlogged)).changes


def test_what_has_one_name_counts_as_one_and_nothing_of_it_is_lost() -> None:
    one, twin = (SchemaObject("collation", "app", "", "c", f"PROVIDER c COLLATE {n}") for n in "ab")
    assert of(17, one, twin).digest == of(17, twin, one).digest
    assert len({of(17, one).digest, of(17, twin).digest, of(17, one, twin).digest}) == 3


def test_every_kind_of_two_words_is_told_whole() -> None:
    assert label(("comment", "app", "text search parser p", "")) == "comment on text search parser app.p"
    assert (
        label(("comment", "app", "operator family f using btree", "")) == "comment on operator family app.f using btree"
    )
    assert label(("grant", "", "foreign server far", "reader")) == "grant to reader on foreign server far"
