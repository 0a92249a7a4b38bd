"""A revert whose way back was proven on the rows of the deploy, and loses rows that were written since."""

from __future__ import annotations

import pytest

from tests.project import Project

#: what there is, the up, the down, what is written after the deploy, what the refusal says
CASES = {
    "a shorter text": (
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(10)); INSERT INTO t VALUES (1, 'short')",
        "ALTER TABLE t ALTER COLUMN v TYPE text;",
        "ALTER TABLE t ALTER COLUMN v TYPE varchar(10) USING left(v, 10);",
        "INSERT INTO t VALUES (2, 'a very long value that was written since')",
        "rows of public.t.v",
    ),
    "fewer decimals": (
        "CREATE TABLE t (id int PRIMARY KEY, v numeric(10,2)); INSERT INTO t VALUES (1, 1.25)",
        "ALTER TABLE t ALTER COLUMN v TYPE numeric(12,4);",
        "ALTER TABLE t ALTER COLUMN v TYPE numeric(10,2);",
        "INSERT INTO t VALUES (2, 1.2345)",
        "rows of public.t.v",
    ),
    "rows of a later kind": (
        "CREATE TABLE t (id int PRIMARY KEY, kind text CONSTRAINT k CHECK (kind IN ('a'))); INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t DROP CONSTRAINT k; ALTER TABLE t ADD CONSTRAINT k CHECK (kind IN ('a', 'b'));",
        "DELETE FROM t WHERE kind = 'b'; ALTER TABLE t DROP CONSTRAINT k; ALTER TABLE t ADD CONSTRAINT k CHECK (kind IN ('a'));",
        "INSERT INTO t SELECT n, 'b' FROM generate_series(2, 41) n",
        "40 rows of public.t",
    ),
    "rows that hang on a seed": (
        "CREATE TABLE plans (code text PRIMARY KEY); CREATE TABLE subs (id int PRIMARY KEY, plan text REFERENCES plans ON DELETE CASCADE)",
        "INSERT INTO plans VALUES ('pro');",
        "DELETE FROM plans WHERE code = 'pro';",
        "INSERT INTO subs SELECT n, 'pro' FROM generate_series(1, 40) n",
        "40 rows of public.subs",
    ),
    "half of an odd number": (
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, n FROM generate_series(1, 10) n",
        "UPDATE t SET v = v * 2;",
        "UPDATE t SET v = v / 2;",
        "INSERT INTO t VALUES (11, 7)",
        "rows of public.t.v",
    ),
    "columns of a type": (
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)",
        "CREATE TYPE mood AS ENUM ('a');",
        "DROP TYPE mood CASCADE;",
        "ALTER TABLE t ADD m mood; UPDATE t SET m = 'a' WHERE id < 4",
        "3 rows of public.t.m",
    ),
    "tables of a schema": (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE SCHEMA app;",
        "DROP SCHEMA app CASCADE;",
        "CREATE TABLE app.by_hand (id int); INSERT INTO app.by_hand SELECT generate_series(1, 100)",
        "100 rows of app.by_hand",
    ),
    "a table that was not there": (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SELECT 1;",
        "DROP TABLE IF EXISTS by_hand;",
        "CREATE TABLE by_hand (id int); INSERT INTO by_hand SELECT generate_series(1, 100)",
        "100 rows of public.by_hand",
    ),
    "rows of a partition": (
        "CREATE TABLE e (at int, v int) PARTITION BY RANGE (at); CREATE TABLE e_1 PARTITION OF e FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE e_2 PARTITION OF e FOR VALUES FROM (10) TO (20);",
        "DROP TABLE e_2;",
        "INSERT INTO e SELECT 15, n FROM generate_series(1, 40) n",
        "40 rows of public.e",
    ),
}


def pair(project: Project, version: int, up: str, down: str) -> None:
    project.write(f"{version:03d}-m.sql", up)
    project.write(f"{version:03d}-m.down.sql", down)


def standing(project: Project, version: int) -> object:
    rows = project.query(f"SELECT revert_proof->>'standing' FROM schema_migrations WHERE version = {version}", "prod")
    return rows[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_was_proven_on_the_rows_of_the_deploy_is_not_proven_by_now(prod: Project, name: str) -> None:
    there, up, down, later, told = CASES[name]
    prod.toml = f'[project]\nschemas = ["public", "app"]\n{prod.toml}'
    prod.configure(prod="protected = true")
    prod.query(there, "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    pair(prod, 1, up, down)
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    assert standing(prod, 1) == "proven"
    prod.query(later, "prod")
    refused = prod.run("revert", "prod", "--steps", "1")
    assert refused.code == 7, refused.err
    assert "it loses data: " in refused.err and told in refused.err
    assert prod.query("SELECT version FROM schema_migrations WHERE version > 0", "prod") == [(1,)]


@pytest.mark.slow
def test_two_steps_of_which_the_older_one_empties_a_column(prod: Project) -> None:
    prod.query("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t (id) SELECT generate_series(1, 10)", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    pair(
        prod, 1, "COMMENT ON COLUMN t.v IS 'what it is worth';", "UPDATE t SET v = NULL; COMMENT ON COLUMN t.v IS NULL;"
    )
    pair(prod, 2, "CREATE INDEX vs ON t (v);", "DROP INDEX vs;")
    assert prod.run("sync", "prod").code == 0
    assert (standing(prod, 1), standing(prod, 2)) == ("proven", "proven")
    prod.query("UPDATE t SET v = id WHERE id <= 4", "prod")
    refused = prod.run("revert", "prod", "--steps", "2")
    assert refused.code == 7, refused.err
    assert "it loses data: 4 rows of public.t.v" in refused.err


@pytest.mark.slow
def test_two_steps_of_which_the_newer_one_gives_the_table_its_name_back(prod: Project) -> None:
    prod.query("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    pair(prod, 1, "ALTER TABLE t ADD v int;", "ALTER TABLE t DROP v;")
    pair(prod, 2, "ALTER TABLE t RENAME TO u;", "ALTER TABLE u RENAME TO t;")
    assert prod.run("sync", "prod").code == 0
    prod.query("UPDATE u SET v = id WHERE id <= 4", "prod")
    refused = prod.run("revert", "prod", "--steps", "2")
    assert refused.code == 7, refused.err
    assert "it loses data: 4 rows of public.u.v" in refused.err


@pytest.mark.slow
def test_a_table_that_others_refer_to_needs_no_trial(prod: Project) -> None:
    """What hangs on the rows of a dropped table stays: only its reference goes with the column."""
    prod.query("CREATE TABLE t (id int PRIMARY KEY)", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    pair(
        prod, 1,
        "CREATE TABLE kinds (id int PRIMARY KEY); ALTER TABLE t ADD kind int REFERENCES kinds ON DELETE CASCADE;",
        "ALTER TABLE t DROP kind; DROP TABLE kinds;",
    )  # fmt: skip
    assert prod.run("sync", "prod").code == 0
    prod.query("INSERT INTO t VALUES (1)", "prod")
    done = prod.run("revert", "prod", "--steps", "1")
    assert done.code == 0, done.err
    assert "proven when it was rehearsed" in done.err


@pytest.mark.slow
def test_a_table_too_large_to_be_compared_is_no_proof(prod: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import lockstep.service.rehearsal.losses as losses

    monkeypatch.setattr(losses, "SUMMED", 100)
    prod.query("CREATE TABLE t (id int PRIMARY KEY, v numeric(10,2)); INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n", "prod")  # fmt: skip
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    pair(prod, 1, "ALTER TABLE t ALTER v TYPE numeric(12,4);", "ALTER TABLE t ALTER v TYPE numeric(10,2);")
    assert prod.run("sync", "prod").code == 0
    assert standing(prod, 1) == "not tried"
    prod.query("UPDATE t SET v = v + 0.1234", "prod")
    refused = prod.run("revert", "prod", "--steps", "1")
    assert refused.code == 7, refused.err
    told = "whether it loses data is not known: values of public.t were counted, not compared: it is too large"
    assert told in refused.err
    assert prod.query("SELECT count(*) FROM t WHERE v <> round(v, 2)", "prod") == [(1000,)]
    done = prod.run("revert", "prod", "--steps", "1", "--override", "two decimals are enough")
    assert done.code == 0, done.err
