"""What a trace sees of a file that is one transaction, and that the looking changes nothing and survives everything."""

from __future__ import annotations

import pytest

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.rehearsal.trace import FileTrace, Rewrite, Scan, Written
from lockstep.postgres.tracing.relations import query
from tests.integration.rehearsal.tracing import locks, trace
from tests.project import Project

SHOP = """
CREATE TABLE customers (id bigint PRIMARY KEY, email text);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint REFERENCES customers, total int, note text);
CREATE INDEX orders_total ON orders (total);
CREATE TABLE parent (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE parent_2025 PARTITION OF parent FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE MATERIALIZED VIEW sums AS SELECT customer_id, sum(total) FROM orders GROUP BY 1;
INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 100) i;
INSERT INTO orders SELECT i, 1 + i % 100, i, 'n' || i FROM generate_series(1, 5000) i;
INSERT INTO parent SELECT i, '2025-06-01' FROM generate_series(1, 500) i;
ANALYZE;
"""
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"


@pytest.fixture
def shop(project: Project) -> Project:
    project.query(SHOP)
    assert project.run("init").code == 0
    assert project.run("baseline", "dev", "--version", "none").code == 0
    return project


def only(shop: Project, text: str) -> FileTrace:
    """The trace of one file."""
    shop.write("001-it.sql", text)
    (found,) = trace(shop)
    return found


def test_a_lock_is_seen_with_what_hangs_on_the_table(shop: Project) -> None:
    file = only(shop, "ALTER TABLE orders ADD COLUMN a int;\nDROP TABLE orders CASCADE;")
    first, second = file.statements
    assert (first.kind, first.line, second.line) == ("ALTER TABLE", 1, 2)
    assert locks(first) == {"public.orders": ACCESS_EXCLUSIVE}
    assert locks(second) == {
        "public.customers": ACCESS_EXCLUSIVE, "public.sums": ACCESS_EXCLUSIVE,
        "public.orders_pkey": ACCESS_EXCLUSIVE, "public.orders_total": ACCESS_EXCLUSIVE,
    }  # fmt: skip
    assert first.locks[0].kind == "table" and second.locks[-1].kind == "index"


def test_partitions_and_referenced_tables_are_named(shop: Project) -> None:
    file = only(
        shop,
        "ALTER TABLE parent ADD COLUMN a int;\n"
        "CREATE TABLE notes (order_id bigint REFERENCES orders);\n"
        "INSERT INTO notes VALUES (1);",
    )
    first, second, third = file.statements
    assert locks(first) == {"public.parent": ACCESS_EXCLUSIVE, "public.parent_2025": ACCESS_EXCLUSIVE}
    assert [lock.kind for lock in first.locks] == ["table", "partition"]
    assert locks(second)["public.orders"] == "SHARE ROW EXCLUSIVE"
    assert locks(second, new=True) == {"public.notes": ACCESS_EXCLUSIVE}
    assert third.written == (Written(relation="public.notes", inserted=1),)


def test_a_lock_counts_again_when_it_gets_stronger(shop: Project) -> None:
    first, second, third = only(
        shop,
        "CREATE INDEX i ON orders (note);\nALTER TABLE orders ADD COLUMN a int;\nALTER TABLE orders ADD COLUMN b int;",
    ).statements
    assert locks(first) == {"public.orders": "SHARE"}
    assert locks(second) == {"public.orders": ACCESS_EXCLUSIVE}
    assert third.locks == ()


def test_a_window_begins_with_the_statement_that_took_the_lock_and_ends_with_the_commit(shop: Project) -> None:
    file = only(
        shop,
        "CREATE INDEX i ON orders (note);\nSELECT pg_sleep(0.05);\n"
        "ALTER TABLE customers ADD COLUMN a int;\nSELECT pg_sleep(0.1);",
    )
    assert [(one.relation, one.mode.value, one.line) for one in file.windows] == [
        ("public.orders", "SHARE", 1), ("public.customers", ACCESS_EXCLUSIVE, 3),
    ]  # fmt: skip
    long, short = file.windows
    ms = [one.ms for one in file.statements]
    assert long.ms >= sum(ms) and short.ms >= sum(ms[2:]) and long.ms - short.ms == pytest.approx(sum(ms[:2]))
    assert file.worst == long and file.ms >= long.ms


def test_what_is_renamed_or_dropped_is_called_as_it_was(shop: Project) -> None:
    shop.write("001-rename.sql", "ALTER TABLE orders RENAME TO sales;\nALTER TABLE sales ADD COLUMN a int;")
    shop.write("002-drop.sql", "DROP MATERIALIZED VIEW sums;\nDROP TABLE sales;")
    first, second = trace(shop)
    assert locks(first.statements[0]) == {"public.orders": ACCESS_EXCLUSIVE}
    assert "public.orders" in locks(second.statements[1])
    assert {one.relation for one in second.windows} >= {"public.orders", "public.sums", "public.customers"}


def test_what_the_plan_made_is_new_in_later_files_too(shop: Project) -> None:
    shop.write("001-new.sql", 'CREATE TABLE "New one" (id int);')
    shop.write("002-alter.sql", 'ALTER TABLE "New one" ADD COLUMN a uuid DEFAULT gen_random_uuid();')
    _, second = trace(shop)
    assert locks(second.statements[0], new=True) == {'public."New one"': ACCESS_EXCLUSIVE}
    assert second.windows == () and second.statements[0].rewrites == ()


def test_a_rewrite_comes_with_its_reason_and_the_indexes(shop: Project) -> None:
    retyped, volatile, constant, refreshed = only(
        shop,
        "ALTER TABLE orders ALTER COLUMN note TYPE int USING 1;\n"
        "ALTER TABLE customers ADD COLUMN a uuid DEFAULT gen_random_uuid();\n"
        "ALTER TABLE customers ADD COLUMN b int DEFAULT 5;\n"
        "REFRESH MATERIALIZED VIEW sums;",
    ).statements
    assert [(one.relation, one.kind, one.reason) for one in retyped.rewrites] == [
        ("public.orders", "table", "a column's values are converted"),
        ("public.orders_pkey", "index", "its table is written anew"),
        ("public.orders_total", "index", "its table is written anew"),
    ]
    assert all(one.bytes for one in retyped.rewrites)
    assert volatile.rewrites[0].reason == "a new column's value is computed for every row"
    assert constant.rewrites == ()
    assert [(one.relation, one.kind, one.reason) for one in refreshed.rewrites] == [
        ("public.sums", "materialized view", "its query runs anew")
    ]


def test_an_index_that_is_kept_is_no_rewrite_and_one_that_is_built_anew_is(shop: Project) -> None:
    shop.query("ALTER TABLE orders ADD COLUMN v varchar(10); CREATE INDEX orders_v ON orders (v)")
    kept, anew = only(
        shop,
        "ALTER TABLE orders ALTER COLUMN v TYPE varchar(20);\n"
        "ALTER TABLE orders ALTER COLUMN v TYPE text COLLATE \"C\";",
    ).statements  # fmt: skip
    assert kept.rewrites == ()
    assert [(one.relation, one.reason) for one in anew.rewrites] == [("public.orders_v", "built anew")]


def test_truncate_empties(shop: Project) -> None:
    first, second = only(shop, "TRUNCATE orders;\nTRUNCATE parent;").statements
    assert (first.emptied, first.rewrites) == (("public.orders",), ())
    assert (second.emptied, second.rewrites) == (("public.parent_2025",), ())


def test_rows_read_and_written_are_counted_per_statement(shop: Project) -> None:
    update, validate, delete = only(
        shop,
        "UPDATE orders SET total = total + 1 WHERE id <= 1000;\n"
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0);\n"
        "DELETE FROM orders WHERE id <= 10;",
    ).statements
    assert update.written == (Written(relation="public.orders", updated=1000),) and update.scans == ()
    assert validate.scans == (Scan(relation="public.orders", scans=1, rows=5000),) and validate.written == ()
    assert delete.written == (Written(relation="public.orders", deleted=10),)
    assert update.wal > 50_000 > delete.wal > 0


def test_an_index_build_counts_its_scan_though_helpers_were_to_do_it(shop: Project) -> None:
    shop.query("ALTER TABLE orders SET (parallel_workers = 2); ALTER TABLE orders SET (autovacuum_enabled = off)")
    shop.query("ALTER DATABASE current SET min_parallel_table_scan_size = 0".replace("current", name(shop)))
    (build,) = only(shop, "CREATE INDEX i ON orders (note);").statements
    assert build.scans == (Scan(relation="public.orders", scans=1, rows=5000),)


def name(project: Project) -> str:
    return project.urls["dev"].rsplit("/", 1)[1].split("?")[0]


def test_counts_of_the_transaction_before_are_not_counted_again(shop: Project) -> None:
    shop.write("001-a.sql", "UPDATE orders SET total = 1;")
    shop.write("002-b.sql", "UPDATE orders SET total = 2 WHERE id = 1;")
    first, second = trace(shop)
    assert first.statements[0].written[0].updated == 5000
    assert second.statements[0].written[0].updated == 1


def test_counts_of_the_transaction_before_are_not_counted_again_by_an_older_server(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL 14 keeps what a session counted for half a second, whatever it is asked."""
    monkeypatch.setattr("lockstep.postgres.tracing.look.TELLS_SINCE", 990000)
    test_counts_of_the_transaction_before_are_not_counted_again(shop)


def test_a_savepoint_of_the_file_lets_go(shop: Project) -> None:
    file = only(
        shop,
        "SAVEPOINT s;\nALTER TABLE orders ADD COLUMN a int;\nROLLBACK TO SAVEPOINT s;\nSELECT pg_sleep(0.05);\n"
        "ALTER TABLE orders ADD COLUMN b int;",
    )
    assert locks(file.statements[1]) == locks(file.statements[4]) == {"public.orders": ACCESS_EXCLUSIVE}
    (window,) = [one for one in file.windows if one.relation == "public.orders"]
    assert window.ms < 50


# -- what files do -----------------------------------------------------------------------------------------------------

WORK = "ALTER TABLE orders ADD COLUMN a uuid DEFAULT gen_random_uuid();\nUPDATE orders SET total = 0;"


def whole(file: FileTrace) -> None:
    """All of WORK was seen, whatever went before it."""
    alter, update = file.statements[-2:]
    assert locks(alter)["public.orders"] == ACCESS_EXCLUSIVE
    assert alter.rewrites[0].reason == "a new column's value is computed for every row"
    assert update.written == (Written(relation="public.orders", updated=5000),)
    assert file.worst is not None and file.worst.mode is Mode.ACCESS_EXCLUSIVE


@pytest.mark.parametrize(
    "before",
    [
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;",
        "SET LOCAL lock_timeout = '1s';\nSET TRANSACTION ISOLATION LEVEL REPEATABLE READ;",
        "LOCK TABLE customers;\nSET LOCAL transaction_isolation = 'repeatable read';",
        "SET LOCAL client_encoding = 'LATIN1';",
        "SET search_path = evil, public, pg_catalog;",
        "SET search_path = ''; SET search_path = 'public';",
        "SET LOCAL row_security = off;\nSET standard_conforming_strings = off;",
        "SET session_replication_role = replica;",
        "SET LOCAL SESSION AUTHORIZATION owner_of_nothing;\nRESET SESSION AUTHORIZATION;",
        "SELECT pg_advisory_lock(7);",
        "PREPARE p AS SELECT 1;\nDECLARE c CURSOR FOR SELECT * FROM customers;\nFETCH 3 FROM c;",
    ],
)
def test_a_look_survives_what_a_file_sets(shop: Project, before: str) -> None:
    shop.query(
        "DROP ROLE IF EXISTS owner_of_nothing; CREATE ROLE owner_of_nothing;"
        "CREATE SCHEMA evil; CREATE FUNCTION evil.wrong(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT 1/0 = 1';"
        "CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.wrong)"
    )
    whole(only(shop, f"{before}\n{WORK}"))
    shop.query("DROP ROLE owner_of_nothing")


def test_a_look_is_not_cut_short_by_the_time_that_the_file_allows(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = query("look").replace("FROM (\n", "FROM pg_catalog.pg_sleep(0.8) AS slow, (\n", 1)
    assert "slow" in slow
    monkeypatch.setattr("lockstep.postgres.tracing.look.query", lambda _name: slow)
    file = only(shop, "SET statement_timeout = '600ms';\nLOCK TABLE orders;\nLOCK TABLE customers;")
    assert [locks(one) for one in file.statements[1:]] == [
        {"public.orders": ACCESS_EXCLUSIVE}, {"public.customers": ACCESS_EXCLUSIVE},
    ]  # fmt: skip
    assert file.trace_ms > 1_600 > 600 > file.windows[0].ms


def test_a_look_that_fails_costs_what_it_would_have_shown_and_no_more(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockstep.postgres.tracing.look.query", lambda _name: "SELECT 1 / 0")
    file = only(shop, "LOCK TABLE orders;\nALTER TABLE orders ADD COLUMN a int;")
    assert [one.locks for one in file.statements] == [(), ()]
    assert shop.query("SELECT a FROM orders LIMIT 1") == [(None,)]


@pytest.mark.parametrize("switch", ["SET ROLE", "SET SESSION AUTHORIZATION", "SET LOCAL ROLE"])
def test_a_look_survives_a_role_without_rights_and_gives_it_back(shop: Project, switch: str) -> None:
    shop.query(
        "DROP ROLE IF EXISTS nobody_here; CREATE ROLE nobody_here; ALTER TABLE orders OWNER TO nobody_here;"
        "GRANT CREATE ON SCHEMA public TO nobody_here; REVOKE ALL ON customers FROM PUBLIC"
    )
    whole(only(shop, f"{switch} nobody_here;\nCREATE TABLE mine AS SELECT current_user AS who;\n{WORK}"))
    assert shop.query("SELECT who::text, tableowner::text FROM mine, pg_tables WHERE tablename = 'mine'") == [
        ("nobody_here", "nobody_here")
    ]
    shop.query("DROP OWNED BY nobody_here CASCADE; DROP ROLE nobody_here")


def test_a_look_gives_back_the_settings_of_the_file(shop: Project) -> None:
    only(
        shop,
        "SET search_path = 'public';\nSET LOCAL statement_timeout = '7s';\nSET LOCAL work_mem = '7MB';\nANALYZE orders;\n"
        "CREATE TABLE said AS SELECT current_setting('search_path') a, current_setting('statement_timeout') b,"
        " current_setting('work_mem') c, current_setting('transaction_isolation') d;",
    )
    assert shop.query("SELECT a, b, c, d FROM said") == [("public", "7s", "7MB", "read committed")]


def test_a_statement_that_fails_leaves_the_error_as_it_is_and_a_trace_up_to_it(shop: Project) -> None:
    shop.write("001-it.sql", "ALTER TABLE orders ADD COLUMN a int;\nSELECT 1 / 0;")
    (file,) = trace(shop)
    assert [one.kind for one in file.statements] == ["ALTER TABLE"]
    assert file.worst is not None and file.worst.relation == "public.orders"
    failed = shop.run("sync", "dev")
    assert "division by zero" in failed.err
    assert shop.query("SELECT count(*) FROM schema_migrations WHERE version = 1") == [(0,)]


def test_a_session_that_is_replaced_is_traced_on(shop: Project) -> None:
    shop.write("001-keeps.sql", "SELECT pg_advisory_lock(7);\nCREATE TEMP TABLE t (id int);")
    shop.write("002-it.sql", WORK)
    _, second = trace(shop)
    whole(second)


def test_the_event_trigger_is_no_change_of_the_schema(shop: Project) -> None:
    shop.write("001-it.sql", WORK)
    trace(shop)
    document = shop.run("drift", "dev", "--json")
    assert document.code == 0, document.out + document.err


def test_where_no_event_trigger_can_be_a_rewrite_has_no_reason(shop: Project) -> None:
    shop.query("DROP EXTENSION plpgsql CASCADE")
    shop.write("001-it.sql", "ALTER TABLE orders ADD COLUMN a uuid DEFAULT gen_random_uuid();")
    (file,) = trace(shop, reasons=False)
    assert [one for one in file.statements[0].rewrites if one.kind == "table"] == [
        Rewrite(relation="public.orders", kind="table", bytes=file.statements[0].rewrites[0].bytes, reason=None)
    ]


def test_a_lock_that_code_let_go_of_again_kept_others_waiting(shop: Project) -> None:
    found = only(
        shop,
        """
        DO $$ BEGIN
            BEGIN
                ALTER TABLE orders ADD a int;
                PERFORM pg_sleep(0.5);
                RAISE EXCEPTION 'x';
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
        END $$;
        SELECT 1;
        """,
    )
    (window,) = [one for one in found.windows if one.relation == "public.orders"]
    assert (window.mode, window.line) == (Mode.ACCESS_EXCLUSIVE, 2)
    assert window.ms > 300
