"""A database that takes too long to restore whole: the rows of what the plan may touch, or none, and that is said."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.project import Project


@pytest.fixture
def shop(prod: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    prod.query(
        """
        CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 100);
        CREATE TABLE orders (id int PRIMARY KEY, who int REFERENCES users); INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g;
        CREATE TABLE lines (id int PRIMARY KEY, of int REFERENCES orders); INSERT INTO lines SELECT g, g FROM generate_series(1, 100) g;
        CREATE TABLE huge AS SELECT g AS id, repeat('x', 500) AS t FROM generate_series(1, 40000) g;
        CREATE FUNCTION look() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
            EXECUTE 'SELECT count(*) FROM ' || quote_ident('hu' || 'ge') INTO n; RETURN n; END $$;
        ANALYZE
        """,
        "prod",
    )
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    # Twenty MB are as slow as twenty GB.
    from lockstep.core.rehearsal import tiers

    monkeypatch.setattr(tiers, "estimate_ms", lambda size, rate=0: size // 100)
    prod.toml += '[rehearsal]\ntime_budget = "60s"\n'
    prod.configure(prod="protected = true")
    return prod


def rehearsed(shop: Project, text: str) -> Any:
    shop.write("001-change.sql", text)
    done = shop.run("rehearse", "prod", "--fresh", "--json")
    assert "rehearsal" in done.document, done.out
    return done.document["rehearsal"]


def test_the_touched_tables_have_their_rows_and_all_that_they_lead_to(shop: Project) -> None:
    found = rehearsed(shop, "ALTER TABLE orders ADD COLUMN n int; UPDATE orders SET n = 1;")
    assert found["verdict"]["outcome"] == "passed", found["verdict"]
    assert found["copy"]["tier"] == "touched tables"
    assert found["copy"]["rowless"] == ["public.huge"]
    assert found["files"][0]["statements"][1]["written"][0]["updated"] == 100
    assert "never" in shop.run("backups", "list").out, "a part proves no backup"


@pytest.mark.slow
def test_what_a_statement_reaches_beyond_them_is_a_doubt(shop: Project) -> None:
    found = rehearsed(shop, "SELECT look();")
    assert found["copy"]["tier"] == "touched tables"
    assert found["verdict"]["outcome"] == "could not verify", found["verdict"]
    assert [one["rule"] for one in found["verdict"]["problems"]] == ["reduced-copy"]


@pytest.mark.slow
def test_a_plan_on_the_large_table_is_tried_on_definitions_alone(shop: Project) -> None:
    found = rehearsed(shop, "CREATE INDEX ON huge (id);")
    assert found["copy"]["tier"] == "schema only"
    assert found["verdict"]["outcome"] == "could not verify"
    assert any(note.startswith("estimated, not tried: public.huge has 40,000 rows") for note in found["copy"]["notes"])


@pytest.mark.slow
def test_a_data_dependent_failure_is_found_in_a_part_as_well(shop: Project) -> None:
    with psycopg.connect(shop.urls["prod"]) as there:
        there.execute("INSERT INTO users VALUES (-1)")
    found = rehearsed(shop, "ALTER TABLE users ADD CHECK (id > 0);")
    assert (found["copy"]["tier"], found["verdict"]["outcome"]) == ("touched tables", "failed")
