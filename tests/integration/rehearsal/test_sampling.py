"""What a trace sees of files outside of a transaction: sampled statements, units, and backfills in batches."""

from __future__ import annotations

import pytest

from lockstep.core.rehearsal.trace import FileTrace, Written
from tests.integration.rehearsal.test_tracing import shop
from tests.integration.rehearsal.tracing import in_the_way, locks, trace
from tests.project import Project

__all__ = ["shop"]


def only(shop: Project, text: str) -> FileTrace:
    shop.write("001-it.sql", f"-- lockstep: transaction=none\n{text}")
    (found,) = trace(shop)
    return found


def test_an_index_built_concurrently_is_sampled(shop: Project) -> None:
    file = only(shop, "CREATE INDEX CONCURRENTLY i ON orders (note, total);")
    (build,) = file.statements
    assert (build.kind, build.line, build.sampled) == ("CREATE INDEX CONCURRENTLY", 2, True)
    assert locks(build) == {"public.orders": "SHARE UPDATE EXCLUSIVE"}
    assert [(one.relation, one.scans, one.rows) for one in build.scans] == [("public.orders", 2, 10_000)]
    assert file.windows == () and build.wal > 0 and not file.transactional


def test_an_index_built_anew_concurrently_is_a_rewrite_of_the_one_there_was(shop: Project) -> None:
    shop.query("DROP MATERIALIZED VIEW sums; INSERT INTO orders SELECT i, 1, i FROM generate_series(5001, 60000) i")
    shop.write("001-it.sql", "-- lockstep: transaction=none\nREINDEX INDEX CONCURRENTLY orders_total;")
    shop.write("002-it.sql", "ALTER TABLE orders ALTER COLUMN total TYPE bigint;")
    first, second = trace(shop)
    (again,) = first.statements
    assert [(one.relation, one.kind, one.reason) for one in again.rewrites] == [
        ("public.orders_total", "index", "REINDEX")
    ]
    assert locks(again)["public.orders"] == "SHARE UPDATE EXCLUSIVE"
    assert {one.relation for one in second.statements[0].rewrites} == {
        "public.orders", "public.orders_pkey", "public.orders_total",
    }  # fmt: skip


def test_vacuum_full_keeps_everybody_waiting_while_it_runs(shop: Project) -> None:
    # Enough rows that a sample falls into it, however busy the machine is.
    shop.query("DROP MATERIALIZED VIEW sums; INSERT INTO orders SELECT i, 1, i FROM generate_series(5001, 200000) i")
    file = only(shop, "VACUUM FULL orders;")
    (vacuum,) = file.statements
    assert locks(vacuum)["public.orders"] == "ACCESS EXCLUSIVE"
    assert vacuum.rewrites[0].relation == "public.orders" and vacuum.rewrites[0].reason == "VACUUM FULL"
    assert file.worst is not None and file.worst.relation == "public.orders"
    assert 0 < file.worst.ms <= vacuum.ms


def test_what_waits_is_seen_with_the_locks_that_it_has(shop: Project) -> None:
    """A blocker makes sure that the last moment of DROP INDEX CONCURRENTLY is long enough to be seen."""
    with in_the_way(shop.urls["dev"], "SELECT FROM orders LIMIT 1"):
        file = only(shop, "DROP INDEX CONCURRENTLY orders_total;")
    (drop,) = file.statements
    assert locks(drop)["public.orders"] == "SHARE UPDATE EXCLUSIVE"
    assert locks(drop)["public.orders_total"] in ("SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE")


def test_each_transaction_of_a_file_has_its_own_windows_and_the_longest_counts(shop: Project) -> None:
    file = only(
        shop,
        "BEGIN;\nLOCK TABLE orders;\nSELECT pg_sleep(0.05);\nCOMMIT;\n"
        "BEGIN;\nSET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nLOCK TABLE orders;\nSELECT pg_sleep(0.3);\nCOMMIT;\n"
        "UPDATE customers SET email = 'x' WHERE id = 1;",
    )
    (window,) = file.windows
    assert window.line in {8, 9} and window.ms >= 300  # a busy machine samples it a statement later
    assert [one.kind for one in file.statements] == ["LOCK TABLE", "SELECT", "SET", "LOCK TABLE", "SELECT", "UPDATE"]
    assert file.statements[-1].written == (Written(relation="public.customers", updated=1),)


def test_a_session_replaced_between_two_units_is_traced_on(shop: Project) -> None:
    file = only(shop, "SELECT pg_advisory_lock(7);\nCREATE INDEX CONCURRENTLY i ON orders (note);")
    assert [one.kind for one in file.statements][:2] == ["SELECT", "CREATE INDEX CONCURRENTLY"]
    assert locks(file.statements[1]) == {"public.orders": "SHARE UPDATE EXCLUSIVE"}


def test_a_backfill_is_one_statement_of_many_batches(shop: Project) -> None:
    shop.query("ALTER TABLE orders ADD COLUMN done boolean")
    shop.write(
        "001-fill.sql",
        "-- lockstep: repeat-until-empty\n"
        "UPDATE orders SET done = true WHERE id IN (SELECT id FROM orders WHERE done IS NULL LIMIT 1000);",
    )
    (file,) = trace(shop)
    (fill,) = file.statements
    assert fill.batches == 5 and fill.written == (Written(relation="public.orders", updated=5000),)
    assert locks(fill)["public.orders"] == "ROW EXCLUSIVE" and not fill.sampled


def test_the_window_of_a_backfill_is_that_of_its_longest_batch(shop: Project) -> None:
    shop.query(
        "CREATE TABLE done (id bigint);"
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE customers IN SHARE MODE;"
        " PERFORM pg_sleep(CASE WHEN (SELECT count(*) FROM done) = 1 THEN 0.3 ELSE 0.01 END); RETURN NULL; END $$;"
        "CREATE TRIGGER slow AFTER INSERT ON done FOR EACH STATEMENT EXECUTE FUNCTION slow()"
    )
    shop.write(
        "001-fill.sql",
        "-- lockstep: repeat-until-empty\n"
        "INSERT INTO done SELECT i FROM generate_series(1, 3) i WHERE i NOT IN (SELECT id FROM done) LIMIT 1;",
    )
    (file,) = trace(shop)
    (window,) = file.windows
    assert (window.relation, window.mode.value) == ("public.customers", "SHARE")
    assert file.statements[0].batches == 3
    assert 300 <= window.ms < sum(one.ms for one in file.statements)


def test_an_index_that_a_file_leaves_invalid_is_named(shop: Project) -> None:
    shop.query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_pkey'::regclass")
    shop.write("001-it.sql", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_total'::regclass;")
    (file,) = trace(shop)
    assert file.invalid_indexes == ("public.orders_total",)


def test_a_build_that_fails_is_told_and_hides_nothing(shop: Project) -> None:
    shop.write(
        "001-it.sql", "-- lockstep: transaction=none\nCREATE UNIQUE INDEX CONCURRENTLY i ON orders (customer_id);"
    )
    (file,) = trace(shop)
    assert file.statements == () and file.invalid_indexes == ()


@pytest.mark.parametrize("setting", ["SET ROLE no_rights;", "SET statement_timeout = '2s';\nSET search_path = public;"])
def test_a_sample_survives_what_a_file_sets(shop: Project, setting: str) -> None:
    shop.query("DROP ROLE IF EXISTS no_rights; CREATE ROLE no_rights; GRANT CREATE ON SCHEMA public TO no_rights")
    shop.query("ALTER TABLE orders OWNER TO no_rights")
    file = only(shop, f"{setting}\nCREATE INDEX CONCURRENTLY i ON orders (note);")
    build = file.statements[-1]
    assert locks(build) == {"public.orders": "SHARE UPDATE EXCLUSIVE"} and build.scans[0].rows == 10_000
    shop.query("DROP OWNED BY no_rights CASCADE; DROP ROLE no_rights")
