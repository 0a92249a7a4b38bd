"""Trial C: a file outside of a transaction is cut off half-way and gone on with, and must come to the same end."""

from __future__ import annotations

import pytest

from lockstep.service.rehearsal.resuming import Resumed, resume_halfway
from tests.integration.rehearsal.proving import tried
from tests.project import Project

ALONE = "-- lockstep: transaction=none\n"


@pytest.fixture
def shop(prod: Project) -> Project:
    prod.query(
        """
        CREATE TABLE orders (id int PRIMARY KEY, total int, state text);
        INSERT INTO orders SELECT n, n, 'new' FROM generate_series(1, 100) n;
        CREATE INDEX old ON orders (state);
        CREATE SEQUENCE tries;
        """,
        "prod",
    )
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    return prod


def resumed(prod: Project) -> Resumed:
    with tried(prod) as (stage, found, run):
        assert found.error is None, found.error
        return resume_halfway(stage, found, prod.files(), run)


def test_what_can_be_gone_on_with_comes_to_the_same_end(shop: Project) -> None:
    shop.write("001-built.sql", ALONE + "CREATE INDEX CONCURRENTLY totals ON orders (total);\nCREATE TABLE a (id int);")
    shop.write("002-gone.sql", ALONE + "DROP INDEX CONCURRENTLY old;")
    shop.write(
        "003-filled.sql",
        "-- lockstep: repeat-until-empty\n"
        "UPDATE orders SET state = 'old' WHERE id IN (SELECT id FROM orders WHERE state = 'new' LIMIT 20);",
    )
    shop.write(
        "004-units.sql", ALONE + "CREATE TABLE b (id int);\nINSERT INTO b SELECT generate_series(1, 5);\nSELECT 1;"
    )
    shop.write("005-whole.sql", "CREATE TABLE c (id int);")
    found = resumed(shop)
    assert found.problems == ()
    assert found.cut == ("001-built.sql", "002-gone.sql", "003-filled.sql", "004-units.sql")


@pytest.mark.slow
def test_another_end_is_a_problem_that_names_the_object(shop: Project) -> None:
    """A sequence does not go back with the transaction that asked it."""
    shop.write(
        "001-first.sql",
        ALONE + "SELECT 1;\nDO $$ BEGIN IF nextval('tries') = 1 THEN CREATE TABLE made (id int); END IF; END $$;",
    )
    found = resumed(shop)
    assert [(one.rule, one.file) for one in found.problems] == [("resume-differs", "001-first.sql")]
    assert found.problems[0].message == (
        "cut off half-way and gone on with, it comes to another schema: table public.made is gone"
    )


@pytest.mark.slow
def test_other_rows_are_a_problem_as_well(shop: Project) -> None:
    shop.write(
        "001-first.sql",
        ALONE + "SELECT 1;\nDO $$ BEGIN IF nextval('tries') = 1 THEN DELETE FROM orders WHERE id <= 5; END IF; END $$;",
    )
    found = resumed(shop)
    assert found.problems[0].message == (
        "cut off half-way and gone on with, it leaves 100 rows instead of 95 in public.orders"
    )


@pytest.mark.slow
def test_what_asks_for_a_repair_by_design_is_a_note(shop: Project) -> None:
    shop.write("001-commits.sql", ALONE + "DO $$ BEGIN UPDATE orders SET total = 0; COMMIT; END $$;")
    found = resumed(shop)
    assert (found.problems, found.cut) == ((), ())
    assert [(one.file, one.line) for one in found.notes] == [("001-commits.sql", 2)]
    assert "ask for a repair" in found.notes[0].message


@pytest.mark.slow
def test_a_plan_of_transactions_alone_is_not_cut_off(shop: Project) -> None:
    shop.write("001-whole.sql", "CREATE TABLE c (id int);")
    assert resumed(shop) == Resumed()
