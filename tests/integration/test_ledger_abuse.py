"""Files that touch the ledger: what would falsify it fails and is rolled back whole, what does not is harmless."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.project import Project

WRITES = "writes to the ledger"
GONE = "removed or renamed the ledger"

FALSIFYING = {
    "deletes an entry": ("DELETE FROM schema_migrations WHERE version = 1;", WRITES),
    "deletes all": ("DELETE FROM schema_migrations;", WRITES),
    "deletes and inserts again": (
        "CREATE TEMP TABLE k AS TABLE schema_migrations; DELETE FROM schema_migrations;"
        " INSERT INTO schema_migrations TABLE k;",
        WRITES,
    ),
    "deletes in a block": ("DO $$ BEGIN DELETE FROM schema_migrations; END $$;", WRITES),
    "undoes what it did": ("SAVEPOINT a; DELETE FROM schema_migrations; ROLLBACK TO a;", WRITES),
    "deletes as a replica": ("SET session_replication_role = replica; DELETE FROM schema_migrations;", WRITES),
    "updates": ("UPDATE schema_migrations SET checksum = 'x';", WRITES),
    "truncates": ("TRUNCATE schema_migrations;", WRITES),
    "records itself": (
        "INSERT INTO schema_migrations (migration_name, version, checksum) VALUES ('002-x.sql', 2, 'x');",
        WRITES,
    ),
    "records another": (
        "INSERT INTO schema_migrations (migration_name, version, checksum) VALUES ('003-y.sql', 3, 'x');",
        WRITES,
    ),
    "drops": ("DROP TABLE schema_migrations CASCADE;", GONE),
    "drops the log": ("DROP TABLE schema_migrations_log CASCADE;", GONE),
    "renames": ("ALTER TABLE schema_migrations RENAME TO other;", GONE),
    "moves": ("CREATE SCHEMA z; ALTER TABLE schema_migrations SET SCHEMA z;", GONE),
    "drops a column": ("ALTER TABLE schema_migrations DROP COLUMN run_id;", "run_id"),
    "renames a column": ("ALTER TABLE schema_migrations RENAME COLUMN checksum TO sum;", "checksum"),
    "narrows a column": (
        "ALTER TABLE schema_migrations ALTER COLUMN checksum TYPE varchar(3) USING 'abc';",
        "value too long",
    ),
    "swallows entries by a trigger": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER t BEFORE INSERT ON schema_migrations FOR EACH ROW EXECUTE FUNCTION f();",
        "SQLSTATE 22012",
    ),
    "truncates the log": ("TRUNCATE schema_migrations_log;", "append-only"),
    "deletes from the log": ("DELETE FROM schema_migrations_log;", "append-only"),
    "turns the log's triggers off": (
        "ALTER TABLE schema_migrations_log DISABLE TRIGGER ALL; DELETE FROM schema_migrations_log;",
        "schema_migrations_log",
    ),
}

HARMLESS = {
    "adds a column": "ALTER TABLE schema_migrations ADD COLUMN note text;",
    "locks": "LOCK TABLE schema_migrations;",
    "revokes": "REVOKE ALL ON schema_migrations FROM CURRENT_USER, PUBLIC;",
    "reads": "CREATE VIEW versions AS SELECT * FROM schema_migrations; SELECT * FROM schema_migrations FOR UPDATE;",
    "deletes where nobody hears": (
        "DO $$ BEGIN BEGIN DELETE FROM schema_migrations; EXCEPTION WHEN OTHERS THEN NULL; END; END $$;"
    ),
    "hardens all tables": "ALTER TABLE schema_migrations ENABLE ROW LEVEL SECURITY; ALTER TABLE schema_migrations FORCE ROW LEVEL SECURITY;",
    "has a table of that name": "CREATE TEMP TABLE schema_migrations (id int); INSERT INTO schema_migrations VALUES (1);",
    "creates it where it is missing": "CREATE TABLE IF NOT EXISTS schema_migrations (migration_name text);",
}


@pytest.fixture
def started(project: Project) -> Project:
    """001 applied, 002 to be written by the test, 003 behind it."""
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    assert project.run("sync").code == 0
    project.write("003-y.sql", "CREATE TABLE public.y (id bigint);")
    return project


@pytest.mark.parametrize("case", FALSIFYING)
def test_a_file_that_falsifies_the_ledger_fails_whole(case: str, started: Project, dump: Callable[[str], str]) -> None:
    text, said = FALSIFYING[case]
    before = dump(started.urls["dev"])
    started.write("002-x.sql", f"CREATE TABLE public.x (id bigint);\n{text}")
    done = started.run("sync")
    assert done.code == 6, done
    assert "002-x.sql" in done.err and said in done.err
    assert "0 of 2 done; 002-x rolled back, nothing of it stayed" in done.err and "next: " in done.err
    assert dump(started.urls["dev"]) == before
    assert started.run("history", "--verify").code == 0
    started.write("002-x.sql", "CREATE TABLE public.x (id bigint);")
    assert started.run("sync").code == 0


@pytest.mark.parametrize("case", HARMLESS)
def test_a_file_that_only_touches_the_ledger_does_no_harm(case: str, started: Project) -> None:
    started.write("002-x.sql", f"CREATE TABLE public.x (id bigint);\n{HARMLESS[case]}")
    done = started.run("sync")
    assert done.code == 0, done
    assert started.run("status", "--check").code == 0
    assert started.query("SELECT version FROM public.schema_migrations ORDER BY 1") == [(1,), (2,), (3,)]
    assert started.run("history", "--verify").code == 0


def test_a_down_script_leaves_the_ledger_alone_too(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("001-a.down.sql", "DROP TABLE a; DELETE FROM schema_migrations WHERE version = 1;")
    project.run("sync")
    done = project.run("revert", "dev", "--steps", "1")
    assert done.code == 6 and WRITES in done.err
    assert project.query("SELECT to_regclass('a')::text, (SELECT count(*) FROM schema_migrations)") == [("a", 1)]
