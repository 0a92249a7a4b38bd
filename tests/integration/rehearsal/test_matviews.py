"""Materialized views of a copy: none that could leave it is ever refreshed, and one that fails fails alone."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.integration.rehearsal.stages import staged
from tests.project import Project


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """What production's program leaves behind wherever it runs."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == Path.home().owner() and folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o755)
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace").chmod(0o777)
    return tmp_path / "trace" / "ran"


@pytest.fixture
def reading(prod: Project, trace: Path) -> Project:
    """Materialized views that read a foreign table of a program: directly, by a view, by a partition, by a function."""
    to = conninfo_to_dict(prod.urls["prod"])
    far = f"host={to['host']} port={to['port']} user={to['user']} password={to['password']} dbname={to['dbname']}"
    prod.query(
        f"""
        CREATE EXTENSION file_fdw; CREATE EXTENSION dblink; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE ft (l text) SERVER s OPTIONS (program 'echo ran >> {trace}; echo a', format 'text');
        CREATE VIEW over AS SELECT l FROM ft;
        CREATE TABLE parted (l text) PARTITION BY LIST (l);
        CREATE FOREIGN TABLE parted_far PARTITION OF parted FOR VALUES IN ('a') SERVER s
            OPTIONS (program 'echo ran >> {trace}; echo a', format 'text');
        CREATE FUNCTION hidden() RETURNS bigint LANGUAGE plpgsql AS
            $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM public.f' || 't' INTO n; RETURN n; END $$;
        CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2);
        CREATE MATERIALIZED VIEW direct AS SELECT l FROM ft;
        CREATE MATERIALIZED VIEW by_view AS SELECT l FROM over;
        CREATE MATERIALIZED VIEW by_partition AS SELECT l FROM parted;
        CREATE MATERIALIZED VIEW by_function AS SELECT hidden() AS n;
        CREATE MATERIALIZED VIEW by_dblink AS SELECT id FROM dblink('{far}', 'SELECT 1') AS x (id int);
        CREATE MATERIALIZED VIEW own AS SELECT id FROM orders;
        CREATE MATERIALIZED VIEW of_own AS SELECT count(*) AS n FROM own;
        CREATE MATERIALIZED VIEW never AS SELECT id FROM orders WITH NO DATA
        """,
        "prod",
    )
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    trace.unlink()
    return prod


EMPTY = {"public.direct", "public.by_view", "public.by_partition", "public.by_function", "public.by_dblink"}


@pytest.mark.slow
def test_what_reads_a_foreign_table_is_not_refreshed_and_all_else_is(reading: Project, trace: Path) -> None:
    with staged(reading) as stage:
        assert set(stage.copy.unfilled) == EMPTY
        assert all(any(view in note for note in stage.copy.notes) for view in EMPTY)
        assert not any("password" in note or "public.never" in note for note in stage.copy.notes)
        with psycopg.connect(stage.clone().admin) as copy:
            filled = copy.execute("SELECT relname FROM pg_class WHERE relkind = 'm' AND relispopulated ORDER BY 1")
            assert filled.fetchall() == [("of_own",), ("own",)]
            assert copy.execute("SELECT n FROM of_own").fetchone() == (2,)
            row = copy.execute("SELECT setconfig FROM pg_db_role_setting WHERE setconfig::text ~ 'restrict'").fetchone()
            assert row is None
    assert not trace.exists(), "production's program ran on this machine"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("CREATE TABLE unrelated (id int);", "passed"),
        ("CREATE UNIQUE INDEX own_id ON own (id);", "passed"),
        ("CREATE UNIQUE INDEX direct_l ON direct (l);", "could not verify"),
        ("CREATE TABLE kept AS SELECT * FROM by_dblink;", "could not verify"),
        ("CREATE VIEW v AS SELECT l FROM direct; CREATE TABLE kept AS SELECT l FROM v;", "could not verify"),
        ("REFRESH MATERIALIZED VIEW by_dblink;", "could not verify"),
    ],
)
def test_a_plan_that_works_on_an_empty_one_cannot_be_verified(
    reading: Project, trace: Path, text: str, outcome: str
) -> None:
    reading.write("001-change.sql", text)
    verdict = reading.run("rehearse", "prod", "--fresh", "--json").document["rehearsal"]["verdict"]
    assert verdict["outcome"] == outcome, verdict
    assert not trace.exists()


@pytest.mark.slow
def test_a_backup_with_one_that_cannot_be_filled_is_verified(reading: Project, trace: Path) -> None:
    assert reading.run("backup", "prod").code == 0
    done = reading.run("backups", "verify", "--level", "restored")
    assert done.code == 0, done.err
    assert not trace.exists()
