"""Trial B: each migration's down on a clone, compared to the letter, counted, and the up again."""

from __future__ import annotations

import pytest

from lockstep.core.rehearsal.proof import RevertProof, Standing
from tests.integration.rehearsal.proving import proofs
from tests.project import Project

BASE = """
CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, total numeric, state text DEFAULT 'new');
INSERT INTO orders SELECT n, 'customer ' || n, n * 1.5, 'new' FROM generate_series(1, 100) n;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER orders_touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE INDEX orders_customer ON orders (customer);
COMMENT ON TABLE orders IS 'what people bought';
"""


@pytest.fixture
def shop(prod: Project) -> Project:
    """prod with a table of a hundred orders that Lockstep did not make."""
    prod.query(BASE, "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    return prod


def pair(project: Project, version: int, up: str, down: str | None, head: str = "") -> None:
    project.write(f"{version:03d}-m.sql", head + up)
    if down is not None:
        project.write(f"{version:03d}-m.down.sql", down)


def shown(found: dict[int, RevertProof]) -> dict[int, str]:
    return {version: one.text for version, one in found.items()}


@pytest.mark.slow
def test_a_down_that_forgets_something_is_not_proven_and_the_object_is_named(shop: Project) -> None:
    shop.query("CREATE ROLE reader_of_orders; GRANT SELECT ON orders TO reader_of_orders", "prod")
    forgotten = {
        1: ("CREATE INDEX orders_total ON orders (total);", "SELECT 1;"),
        2: ("REVOKE SELECT ON orders FROM reader_of_orders;", "SELECT 1;"),
        3: ("ALTER TABLE orders ALTER state DROP DEFAULT;", "SELECT 1;"),
        4: ("COMMENT ON TABLE orders IS NULL;", "SELECT 1;"),
        5: ("DROP TRIGGER orders_touch ON orders;", "SELECT 1;"),
        6: ("ALTER TABLE orders ADD COLUMN note text;", "ALTER TABLE orders DROP COLUMN note;"),
    }
    for version, (up, down) in forgotten.items():
        pair(shop, version, up, down)
    try:
        found = proofs(shop)
    finally:
        shop.query("DROP OWNED BY reader_of_orders; DROP ROLE reader_of_orders", "prod")
    assert shown(found) == {
        1: "not proven: differs at index public.orders_total is left over",
        2: "not proven: differs at grant to reader_of_orders on table public.orders is gone",
        3: "not proven: differs at column public.orders.state is another one",
        4: "not proven: differs at comment on table public.orders is gone",
        5: "not proven: differs at trigger public.orders.orders_touch is gone",
        6: "proven",
    }


def test_every_standing(shop: Project) -> None:
    pair(shop, 1, "CREATE TABLE empty (id int);", "DROP TABLE empty;")
    pair(shop, 2, "CREATE TABLE kept (id int);", None)
    pair(shop, 3, "CREATE TABLE gone (id int);", "DROP TABLE gone;", '-- lockstep: irreversible="the bank was told"\n')
    pair(shop, 4, "CREATE TABLE four (id int);", "DROP TABLE nowhere;")
    pair(shop, 5, "CREATE TABLE five (id int);", "DROP TABLE five; CREATE TABLE odd (id int);")
    pair(shop, 6, "ALTER TABLE orders DROP COLUMN total;", "ALTER TABLE orders ADD COLUMN total numeric;")
    pair(shop, 7, "CREATE TABLE seven (id int);", "DROP TABLE seven;")
    found = proofs(shop)
    assert shown(found) == {
        1: "proven",
        2: "no down script",
        3: "irreversible: the bank was told",
        4: 'fails: 004-m.down.sql:1: table "nowhere" does not exist (SQLSTATE 42P01)',
        5: "not proven: differs at table public.odd is left over",
        6: "loses data: 100 rows of public.orders.total",
        7: "proven",
    }
    assert found[7].down_checksum is not None and found[7].ms is not None
    assert found[2].down_checksum is None


@pytest.mark.slow
def test_an_up_that_does_not_run_again_after_its_down_fails(shop: Project) -> None:
    """It leaves no object behind, but rows that a second run collides with."""
    pair(shop, 1, "INSERT INTO orders (id, customer) VALUES (1000, 'us');", "SELECT 1;")
    pair(shop, 2, "CREATE TABLE t (id int);", "DROP TABLE t;")
    found = proofs(shop)
    assert found[1].standing is Standing.FAILED
    assert found[1].reason is not None and found[1].reason.startswith("the up does not run again after it: 001-m.sql:1")
    assert "us" not in found[1].reason.split()
    assert found[2].standing is Standing.PROVEN


def test_what_a_down_drops_is_counted_and_what_a_default_makes_again_is_not(shop: Project) -> None:
    up = """
    CREATE TABLE notes (id int, note text);
    INSERT INTO notes SELECT n, 'x' FROM generate_series(1, 40) n;
    ALTER TABLE orders ADD COLUMN cents bigint, ADD COLUMN flag bool NOT NULL DEFAULT false,
        ADD COLUMN code varchar(10) DEFAULT 'none', ADD COLUMN at timestamptz DEFAULT clock_timestamp();
    UPDATE orders SET cents = total * 100 WHERE id <= 30;
    UPDATE orders SET code = 'some' WHERE id <= 7;
    """
    down = """
    DROP TABLE notes;
    ALTER TABLE orders DROP COLUMN cents, DROP COLUMN flag, DROP COLUMN code, DROP COLUMN at;
    """
    pair(shop, 1, up, down)
    found = proofs(shop)[1]
    lost = {(one.relation, one.column): one.rows for one in found.losses}
    assert lost == {
        ("public.notes", None): 40,
        ("public.orders", "cents"): 30,
        ("public.orders", "code"): 7,
        ("public.orders", "at"): 100,
    }
    assert {(one.relation, one.column) for one in found.drops} == lost.keys() | {("public.orders", "flag")}
    assert found.text == "loses data: 100 rows of 3 columns, 40 rows of public.notes"


@pytest.mark.slow
def test_what_up_and_down_together_destroy_is_found(shop: Project) -> None:
    shop.query("CREATE TABLE rates (id int PRIMARY KEY, rate numeric); INSERT INTO rates SELECT n, n / 7.0 FROM generate_series(1, 50) n", "prod")  # fmt: skip
    shop.run("drift", "prod", "--accept", "rates")
    pair(shop, 1, "UPDATE orders SET customer = 'c' || id WHERE id <= 20;", "SELECT 1;")
    pair(shop, 2, "ALTER TABLE rates ALTER rate TYPE numeric(10,2);", "ALTER TABLE rates ALTER rate TYPE numeric;")
    pair(shop, 3, "DELETE FROM orders WHERE id > 90;", "SELECT 1;")
    pair(shop, 4, "CREATE TABLE t (id int);", "DROP TABLE t; DELETE FROM rates WHERE id = 1;")
    found = proofs(shop)
    assert [(one.relation, one.column, one.rows) for one in found[1].losses] == [("public.orders", "customer", 20)]
    assert [(one.relation, one.column, one.rows) for one in found[2].losses] == [("public.rates", "rate", 50)]
    assert [(one.relation, one.column, one.rows) for one in found[3].losses] == [("public.orders", None, 10)]
    assert [(one.relation, one.column, one.rows) for one in found[4].losses] == [("public.rates", None, 1)]
    assert {one.standing for one in found.values()} == {Standing.LOSES}


def test_a_way_back_that_brings_every_value_back_is_proven(shop: Project) -> None:
    pair(
        shop, 1,
        "UPDATE orders SET total = total * 100;",
        "UPDATE orders SET total = total / 100.0;\nUPDATE orders SET total = trim_scale(total);",
    )  # fmt: skip
    pair(shop, 2, "ALTER TABLE orders RENAME TO sales;", "ALTER TABLE sales RENAME TO orders;")
    pair(shop, 3, "ALTER TABLE sales RENAME customer TO buyer;", "ALTER TABLE sales RENAME buyer TO customer;")
    pair(shop, 4, "ALTER TABLE sales ALTER id TYPE bigint;", "ALTER TABLE sales ALTER id TYPE int;")
    shop.query("UPDATE orders SET total = trim_scale(total)", "prod")
    assert shown(proofs(shop)) == dict.fromkeys(range(1, 5), "proven")


@pytest.mark.slow
def test_repeatables_run_again_after_a_revert_and_are_no_difference(shop: Project) -> None:
    shop.write("repeatable/totals.sql", "DROP MATERIALIZED VIEW IF EXISTS totals; CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) AS total FROM orders GROUP BY 1; CREATE UNIQUE INDEX totals_customer ON totals (customer);")  # fmt: skip
    shop.write("repeatable/names.sql", "CREATE OR REPLACE VIEW names AS SELECT id, customer FROM orders;")
    assert shop.run("sync", "prod", "--override", "first").code == 0
    # The old view stays as it is in the folder; its dependents go with CASCADE, and come back when it runs again.
    pair(
        shop, 1,
        "DROP VIEW IF EXISTS names; ALTER TABLE orders ALTER customer TYPE varchar(200); CREATE VIEW names AS SELECT id, customer FROM orders;",
        "DROP MATERIALIZED VIEW IF EXISTS totals; DROP VIEW names; ALTER TABLE orders ALTER customer TYPE text;",
    )  # fmt: skip
    shop.write("repeatable/totals.sql", "DROP MATERIALIZED VIEW IF EXISTS totals; CREATE MATERIALIZED VIEW totals AS SELECT customer, max(total) AS total FROM orders GROUP BY 1; CREATE UNIQUE INDEX totals_customer ON totals (customer);")  # fmt: skip
    shop.write(
        "001-m.sql",
        "DROP MATERIALIZED VIEW IF EXISTS totals; " + (shop.folder / "migrations" / "001-m.sql").read_text(),
    )
    assert shown(proofs(shop)) == {1: "proven"}


@pytest.mark.slow
def test_a_view_that_needs_the_new_column_is_in_the_way_of_its_down(shop: Project) -> None:
    pair(shop, 1, "ALTER TABLE orders ADD COLUMN note text;", "ALTER TABLE orders DROP COLUMN note;")
    shop.write("repeatable/noted.sql", "CREATE OR REPLACE VIEW noted AS SELECT id, note FROM orders;")
    found = proofs(shop)[1]
    assert found.standing is Standing.FAILED
    assert found.reason is not None and "other objects depend on it" in found.reason


@pytest.mark.slow
def test_outside_of_a_transaction_downs_have_their_own_directives(shop: Project) -> None:
    alone = "-- lockstep: transaction=none\n"
    pair(shop, 1, "CREATE INDEX CONCURRENTLY a ON orders (total);", alone + "DROP INDEX CONCURRENTLY a;", alone)
    pair(shop, 2, "CREATE INDEX b ON orders (state);", alone + "DROP INDEX CONCURRENTLY b;")
    broken = alone + "DROP INDEX CONCURRENTLY c;\nSELECT 1 / 0;"
    pair(shop, 3, "CREATE INDEX c ON orders (state, total);", broken)
    backfill = "-- lockstep: repeat-until-empty\n"
    pair(
        shop, 4,
        "UPDATE orders SET state = 'old' WHERE id IN (SELECT id FROM orders WHERE state = 'new' LIMIT 40);",
        backfill + "UPDATE orders SET state = 'new' WHERE id IN (SELECT id FROM orders WHERE state = 'old' LIMIT 40);",
        backfill,
    )  # fmt: skip
    pair(shop, 5, "CREATE INDEX d ON orders (state);", "DROP INDEX d;")
    found = proofs(shop)
    texts = shown(found)
    assert texts.pop(3) == "fails: 003-m.down.sql:3: SQLSTATE 22012"
    assert texts == dict.fromkeys((1, 2, 4, 5), "proven")


@pytest.mark.slow
def test_partitions_count_as_their_table(shop: Project) -> None:
    shop.query(
        """
        CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
        CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        INSERT INTO events SELECT '2025-06-01'::date + n, 'e' FROM generate_series(1, 300) n;
        """,
        "prod",
    )
    shop.run("drift", "prod", "--accept", "events")
    # Rows move from one partition to the other, and back.
    pair(shop, 1, "UPDATE events SET at = at - 100;", "UPDATE events SET at = at + 100;")
    pair(
        shop, 2,
        "CREATE TABLE log (id int, what text) PARTITION BY HASH (id); CREATE TABLE log_0 PARTITION OF log FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO log SELECT n, 'x' FROM generate_series(1, 20) n;",
        "DROP TABLE log;",
    )  # fmt: skip
    pair(shop, 3, "ALTER TABLE events DROP COLUMN what;", "ALTER TABLE events ADD COLUMN what text;")
    found = proofs(shop)
    assert found[1].text == "proven"
    assert [(one.relation, one.column, one.rows) for one in found[2].losses] == [("public.log", None, 20)]
    assert [(one.relation, one.column, one.rows) for one in found[3].losses] == [("public.events", "what", 300)]


@pytest.mark.slow
def test_values_of_awkward_types_are_compared_without_an_error(shop: Project) -> None:
    shop.query(
        """
        CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
        CREATE TYPE pair AS (a int, b text);
        CREATE TABLE zoo (id int GENERATED ALWAYS AS IDENTITY, f float8, m mood, e email, p pair, j json, x xml, t text,
                          r int4range, a int[], b bytea, "we ird" money, twice int GENERATED ALWAYS AS (2) STORED, q "char",
                          nn numeric, tid tid, ts tsvector);
        INSERT INTO zoo (f, m, e, p, j, x, t, r, a, b, "we ird", q, nn, tid, ts)
        SELECT pi() / n, 'good', 'a@b', ROW(n, 'b')::pair, '{"b":1,"a":2}', '<a/>', repeat(md5(n::text), 300), int4range(1, n + 2),
               ARRAY[n, NULL], decode('00ff', 'hex'), 12.5, 'c', 'NaN', '(0,1)', 'a b' FROM generate_series(1, 50) n;
        ALTER TABLE zoo ENABLE ROW LEVEL SECURITY; ALTER TABLE zoo FORCE ROW LEVEL SECURITY;
        """,
        "prod",
    )
    shop.run("drift", "prod", "--accept", "zoo")
    pair(shop, 1, "UPDATE zoo SET nn = nn;", "UPDATE zoo SET nn = nn;")
    pair(shop, 2, "ALTER TABLE zoo ALTER t TYPE varchar;", "ALTER TABLE zoo ALTER t TYPE text;")
    pair(shop, 3, "UPDATE zoo SET t = left(t, -1) WHERE id = 7;", "SELECT 1;")
    found = proofs(shop)
    assert found[1].text == found[2].text == "proven"
    assert [(one.relation, one.column, one.rows) for one in found[3].losses] == [("public.zoo", "t", 1)]


@pytest.mark.slow
def test_a_large_table_is_counted_and_that_is_said(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import lockstep.service.rehearsal.losses as losses

    monkeypatch.setattr(losses, "SUMMED", 1000)
    pair(shop, 1, "UPDATE orders SET customer = 'x';", "SELECT 1;")
    pair(shop, 2, "DELETE FROM orders WHERE id = 1;", "SELECT 1;")
    found = proofs(shop)
    assert found[1].text == "not tried: values of public.orders were counted, not compared: it is too large"
    assert found[2].text == "loses data: 1 row of public.orders"


@pytest.mark.slow
def test_where_rows_came_and_stayed_the_values_of_the_others_are_not_known(shop: Project) -> None:
    pair(
        shop, 1,
        "INSERT INTO orders (id, customer) VALUES (1000, 'us') ON CONFLICT DO NOTHING; UPDATE orders SET total = total + 1 WHERE id < 1000;",
        "UPDATE orders SET total = total - 1 WHERE id < 1000;",
    )  # fmt: skip
    found = proofs(shop)[1]
    assert found.text == "not tried: values of public.orders were not compared: its rows are not as many as before"
    assert found.notes == ("1 row more in public.orders than before",)


@pytest.mark.slow
def test_rows_of_a_table_with_an_odd_name_are_counted_as_of_any_other(shop: Project) -> None:
    name = '"my.s"."Odd ""T"" é"'
    shop.query(f'CREATE SCHEMA "my.s"; CREATE TABLE {name} AS SELECT n AS id, n AS v FROM generate_series(1, 10) n', "prod")  # fmt: skip
    pair(shop, 1, f"UPDATE {name} SET v = 0 WHERE id <= 3;", "SELECT 1;")
    pair(shop, 2, f"DELETE FROM {name} WHERE id > 8;", "SELECT 1;")
    found = proofs(shop)
    assert found[1].text == 'loses data: 3 rows of my.s.Odd "T" é.v'
    assert found[2].text == 'loses data: 2 rows of my.s.Odd "T" é'


@pytest.mark.slow
def test_what_code_in_a_down_raises_is_not_shown(shop: Project) -> None:
    raising = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 's3cret-token'; END $$;"
    pair(shop, 1, "CREATE TABLE t (id int);", raising)
    assert shown(proofs(shop)) == {1: "fails: 001-m.down.sql:1: SQLSTATE 42501"}


def test_nothing_is_tried_when_the_plan_itself_fails(shop: Project) -> None:
    pair(shop, 1, "CREATE TABLE t (id int);", "DROP TABLE t;")
    pair(shop, 2, "CREATE TABLE t (id int);", "DROP TABLE t;")
    assert shown(proofs(shop)) == dict.fromkeys((1, 2), "not tried: the plan stops at 002-m.sql")
