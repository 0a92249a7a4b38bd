"""`lockstep rehearse`, end to end: a real server, a real bucket, a copy that is thrown away."""

from __future__ import annotations

import pytest

from tests.project import Project


def test_the_plan_is_tried_on_the_backup_and_production_stays_as_it_is(prod: Project) -> None:
    prod.write("001-orders.sql", "CREATE TABLE orders (id int PRIMARY KEY, total int);")
    prod.write("001-orders.down.sql", "DROP TABLE orders;")
    done = prod.run("rehearse", "prod", "--fresh")
    assert done.code == 0, done.err + done.out
    assert prod.query("SELECT count(*) FROM schema_migrations", "prod") == [(0,)]
    assert prod.query("SELECT to_regclass('orders')", "prod") == [(None,)]


@pytest.mark.slow
def test_a_migration_that_fails_on_the_data_is_found(prod: Project) -> None:
    prod.query("CREATE TABLE orders (id int); INSERT INTO orders VALUES (7), (7)", "prod")
    prod.run("baseline", "prod", "--version", "none")
    prod.write("001-unique.sql", "ALTER TABLE orders ADD PRIMARY KEY (id);")
    done = prod.run("rehearse", "prod", "--fresh")
    assert done.code == 7, done.err + done.out


@pytest.mark.slow
def test_a_backup_of_before_is_rehearsed_as_it_was_and_that_is_said(prod: Project) -> None:
    prod.write("001-a.sql", "CREATE TABLE a ();")
    assert prod.run("sync", "prod").code == 0
    prod.write("002-b.sql", "CREATE TABLE b ();")
    done = prod.run("rehearse", "prod")
    assert done.code == 0, done.err
    assert "prod has moved on since this backup was taken: 1 to apply there now, and 2 here" in done.err
    assert "moved on" not in prod.run("rehearse", "prod", "--fresh").err


@pytest.mark.slow
def test_a_migration_may_name_its_database(prod: Project) -> None:
    name = prod.query("SELECT current_database()", "prod")[0][0]
    prod.write("001-named.sql", f"ALTER DATABASE {name} SET timezone = 'UTC'; COMMENT ON DATABASE {name} IS 'shop';")
    done = prod.run("rehearse", "prod", "--fresh")
    assert done.code == 0, done.err + done.out


@pytest.mark.slow
def test_a_lock_that_the_text_did_not_promise_is_a_note(prod: Project) -> None:
    prod.query(
        "CREATE TABLE customers (id int PRIMARY KEY); CREATE TABLE orders (id int, customer int REFERENCES customers)",
        "prod",
    )
    prod.run("baseline", "prod", "--version", "none")
    prod.write("001-wider.sql", "ALTER TABLE public.orders ALTER COLUMN customer TYPE bigint;")
    prod.write("001-wider.down.sql", "ALTER TABLE public.orders ALTER COLUMN customer TYPE int;")
    done = prod.run("rehearse", "prod", "--fresh")
    assert "predicted no lock on public.customers, seen ACCESS EXCLUSIVE" in " ".join(done.out.split()), done.out
