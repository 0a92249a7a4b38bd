"""Files outside of a transaction, on a real server: exactly once where that can be, else checked; resumed; healed."""

from __future__ import annotations

import re
import threading
import time

import psycopg
import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.proxy import CountingProxy
from tests.project import Project

NONE = "-- lockstep: transaction=none\n"
TABLE = "CREATE TABLE a (id bigint, n int, done boolean NOT NULL DEFAULT false);\nCREATE TABLE effects (tag text);"


@pytest.fixture
def table(project: Project) -> Project:
    """A project whose version 1 made the tables `a` and `effects`."""
    project.run("init")
    project.write("001-tables.sql", TABLE)
    project.write("001-tables.down.sql", "DROP TABLE a, effects;")
    assert project.run("sync").code == 0
    return project


def effects(project: Project) -> dict[str, int]:
    return dict(project.query("SELECT tag, count(*) FROM effects GROUP BY tag"))


def indexes(project: Project) -> dict[str, bool]:
    return dict(
        project.query("SELECT c.relname::text, indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
                      " WHERE indrelid = 'a'::regclass")
    )  # fmt: skip


def state(project: Project, version: int = 2) -> tuple[str, int, int]:
    rows = project.query(
        f"SELECT state, statements_done, statements_total FROM schema_migrations WHERE version = {version}"
    )
    return rows[0]


# -- units ---------------------------------------------------------------------------------------------------------------


def test_every_unit_runs_once_and_the_entry_says_applied(table: Project) -> None:
    table.write(
        "002-mixed.sql",
        NONE + "SET work_mem = '8MB';\nCREATE INDEX CONCURRENTLY a_id ON a (id);\n"
        "BEGIN;\nINSERT INTO effects VALUES ('block');\nINSERT INTO effects SELECT current_setting('work_mem');\nCOMMIT;\n"
        "VACUUM a;\nINSERT INTO effects VALUES ('single');\n",
    )
    done = table.run("sync")
    assert done.code == 0, done.err
    assert effects(table) == {"block": 1, "8MB": 1, "single": 1}
    assert indexes(table) == {"a_id": True}
    assert state(table) == ("applied", 8, 8)
    assert table.query("SELECT progress FROM schema_migrations WHERE version = 2") == [(None,)]
    assert [row[0] for row in table.query("SELECT event FROM schema_migrations_log WHERE version = 2 ORDER BY id")] == [
        "start",
        "apply",
    ]
    assert table.run("status", "--check").code == 0
    assert "audit log whole" in table.run("history", "--verify").out


def test_after_an_error_the_next_run_goes_on_behind_what_is_done(table: Project) -> None:
    text = (
        NONE
        + "INSERT INTO effects VALUES ('one');\nINSERT INTO effects VALUES ('two');\nINSERT INTO nowhere VALUES (1);"
    )
    table.write("002-x.sql", text)
    table.write("003-y.sql", "SELECT 1;")
    done = table.run("sync")
    assert done.code == 6
    assert '002-x.sql:4:13: relation "nowhere" does not exist' in done.err
    assert "0 of 2 done; of 002-x 2 of 3 statements done, which stay; that one was rolled back." in done.err
    assert "lockstep sync dev goes on behind the statements that are done" in done.err
    assert state(table) == ("failed", 2, 3)
    assert "failed 2/3" in table.run("status").out
    assert table.run("status", "--check").code == 4
    assert "002-x was begun and did not finish → lockstep sync dev goes on with it" in table.run("status").out
    table.write("002-x.sql", text.replace("nowhere VALUES (1)", "effects VALUES ('three')"))
    plan = table.run("plan")
    assert "002-x.sql goes on where it stopped: 2 of 3 statements done" in plan.out
    assert table.run("sync").code == 0
    assert effects(table) == {"one": 1, "two": 1, "three": 1}
    assert table.run("status", "--check").code == 0


def test_what_ran_already_must_not_be_changed(table: Project) -> None:
    text = NONE + "INSERT INTO effects VALUES ('one');\nSELECT 1/0;"
    table.write("002-x.sql", text)
    assert table.run("sync").code == 6
    table.write("002-x.sql", text.replace("'one'", "'uno'").replace("1/0", "1"))
    done = table.run("sync")
    assert done.code == 4
    assert "statements that ran already were changed since (1 of 2 statements done)" in done.err
    assert "git log -- 002-x.sql" in done.err
    table.write("002-x.sql", text.removeprefix(NONE).replace("1/0", "1"))
    done = table.run("sync")
    assert done.code == 4 and "has lost its directive transaction=none" in done.err
    table.write("002-x.sql", NONE + "-- a comment may change\n" + text.removeprefix(NONE).replace("1/0", "1"))
    assert table.run("sync").code == 0
    assert effects(table) == {"one": 1}


def test_a_block_that_fails_leaves_nothing_of_itself(table: Project) -> None:
    table.write(
        "002-x.sql",
        NONE
        + "INSERT INTO effects VALUES ('before');\nBEGIN;\nINSERT INTO effects VALUES ('in');\nSELECT 1/0;\nCOMMIT;",
    )
    done = table.run("sync")
    assert done.code == 6 and "002-x.sql:5" in done.err and "statement 4 of 5" in done.err
    assert effects(table) == {"before": 1}


def test_session_state_is_there_again_when_a_file_is_resumed(table: Project) -> None:
    table.query("CREATE SCHEMA other; CREATE TABLE other.effects (tag text)")
    if not table.query("SELECT 1 FROM pg_roles WHERE rolname = 'piece_role'"):
        table.query("CREATE ROLE piece_role")
    table.query("GRANT ALL ON SCHEMA other TO piece_role; GRANT ALL ON other.effects TO piece_role")
    text = (
        NONE + "SET search_path = other;\nSET ROLE piece_role;\nINSERT INTO effects SELECT current_user;\n{}\n"
        "INSERT INTO effects SELECT current_user || current_setting('search_path');\nCREATE TABLE made (id int);\n"
        "CREATE INDEX CONCURRENTLY made_id ON made (id);\nRESET ROLE;\nINSERT INTO effects SELECT current_user;"
    )
    table.write("002-x.sql", text.format("SELECT 1/0;"))
    assert table.run("sync").code == 6
    table.write("002-x.sql", text.format("SELECT 1;"))
    done = table.run("sync")
    assert done.code == 0, done.err
    assert table.query("SELECT tag FROM other.effects") == [("piece_role",), ("piece_roleother",), ("postgres",)]
    assert table.query("SELECT tableowner FROM pg_tables WHERE tablename = 'made'") == [("piece_role",)]
    assert table.query("SELECT applied_by FROM schema_migrations WHERE version = 2") == [("postgres",)]


def test_a_verify_script_runs_before_the_file_counts_as_applied(table: Project) -> None:
    table.write("002-x.sql", NONE + "INSERT INTO effects VALUES ('x');")
    table.write("002-x.verify.sql", "SELECT count(*) = 2 AS holds FROM effects;")
    done = table.run("sync")
    assert done.code == 6 and "002-x.verify.sql:1: verify: holds is false" in done.err
    assert state(table) == ("failed", 1, 1)
    table.query("INSERT INTO effects VALUES ('y')")
    assert table.run("sync").code == 0
    assert effects(table) == {"x": 1, "y": 1}


def test_an_advisory_lock_taken_by_a_unit_does_not_stay(table: Project) -> None:
    table.write("002-x.sql", NONE + "SELECT pg_advisory_lock(4711);\nINSERT INTO effects VALUES ('x');")
    table.write("003-y.sql", "INSERT INTO effects SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';")
    done = table.run("sync")
    assert done.code == 0, done.err
    assert effects(table) == {"x": 1, "1": 1}


def test_a_unit_that_lets_go_of_the_lock_fails(table: Project) -> None:
    table.write("002-x.sql", NONE + "INSERT INTO effects VALUES ('x');\nSELECT pg_advisory_unlock_all();")
    done = table.run("sync")
    assert done.code == 6 and "lock of this run" in done.err


def test_a_repeatable_outside_of_a_transaction_runs_again_when_it_changes(table: Project) -> None:
    table.write("repeatable/tidy.sql", NONE + "INSERT INTO effects VALUES ('r1');\nVACUUM a;")
    assert table.run("sync").code == 0
    table.write("repeatable/tidy.sql", NONE + "INSERT INTO effects VALUES ('r2');\nSELECT 1/0;")
    assert table.run("sync").code == 6
    table.write("repeatable/tidy.sql", NONE + "INSERT INTO effects VALUES ('r2');\nVACUUM a;")
    assert table.run("sync").code == 0
    assert table.run("sync").code == 0
    assert effects(table) == {"r1": 1, "r2": 1}
    assert table.run("status", "--check").code == 0


# -- what commits by itself ----------------------------------------------------------------------------------------------

PROCEDURE = """
CREATE TABLE fail AS SELECT false AS yes;
CREATE PROCEDURE p() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO effects VALUES ('p');
    COMMIT;
    IF (SELECT yes FROM fail) THEN RAISE EXCEPTION 'half-way'; END IF;
END $$
"""


def test_a_procedure_that_commits_works(table: Project) -> None:
    table.query(PROCEDURE)
    table.write("002-x.sql", NONE + "CALL p();\nDO $$ BEGIN INSERT INTO effects VALUES ('do'); COMMIT; END $$;")
    done = table.run("sync")
    assert done.code == 0, done.err
    assert effects(table) == {"p": 1, "do": 1}


@pytest.mark.parametrize(("verb", "times"), [("--statement-done", 1), ("--statement-undone", 2)])
def test_what_nobody_can_know_is_asked_and_never_repeated(verb: str, times: int, table: Project) -> None:
    table.query(PROCEDURE)
    table.query("UPDATE fail SET yes = true")
    table.write("002-x.sql", NONE + "INSERT INTO effects VALUES ('x');\nCALL p();\nSELECT 1;")
    done = table.run("sync")
    assert done.code == 6 and "half-way" in done.err and "what it did before it failed stays" in done.err
    table.query("UPDATE fail SET yes = false")
    again = table.run("sync")
    assert again.code == 4
    assert "002-x.sql:3: this statement was begun, and nobody can tell whether it took effect" in again.err
    assert "--statement-done 2" in again.err and "--statement-undone 2" in again.err
    assert effects(table) == {"x": 1, "p": 1}
    assert table.run("repair", "dev", verb, "2", "--reason", "looked").code == 0
    assert table.run("repair", "dev", verb, "2").code == 2, "nothing is in doubt any more"
    assert table.run("sync").code == 0
    assert effects(table) == {"x": 1, "p": times}


# -- indexes -------------------------------------------------------------------------------------------------------------


def invalid(project: Project, name: str, on: str = "a (n)") -> None:
    """Leave an invalid index behind, as a broken build does."""
    project.query("INSERT INTO a SELECT 1, 1 FROM generate_series(1, 2)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        project.query(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {on}")
    project.query("DELETE FROM a")
    assert indexes(project)[name] is False


@pytest.mark.parametrize("words", ["", "IF NOT EXISTS "])
def test_an_invalid_index_of_a_broken_build_is_dropped_and_built_anew(words: str, table: Project) -> None:
    invalid(table, "a_n")
    table.write("002-i.sql", NONE + f"CREATE INDEX CONCURRENTLY {words}a_n ON a (n);")
    done = table.run("sync")
    assert done.code == 0, done.err
    assert "drops the invalid index public.a_n that a broken build left" in done.err
    assert indexes(table) == {"a_n": True}
    assert table.query("SELECT details->>'dropped' FROM schema_migrations_log WHERE event = 'heal'") == [
        ("public.a_n",)
    ]


def test_a_build_that_fails_leaves_no_invalid_index(table: Project) -> None:
    table.query("INSERT INTO a SELECT 1, 1 FROM generate_series(1, 2)")
    table.write("002-i.sql", NONE + "CREATE UNIQUE INDEX CONCURRENTLY a_n ON a (n);")
    done = table.run("sync")
    assert done.code == 6 and "SQLSTATE 23505" in done.err
    assert indexes(table) == {}
    table.query("DELETE FROM a")
    assert table.run("sync").code == 0
    assert indexes(table) == {"a_n": True}


def test_if_not_exists_is_not_content_with_something_else_of_that_name(table: Project) -> None:
    table.query("CREATE TABLE b (n int); CREATE INDEX a_n ON b (n)")
    table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);")
    done = table.run("sync")
    assert done.code == 6
    assert 'there is something else of the name "a_n", so no index was built' in done.err
    assert indexes(table) == {}


def test_an_index_that_is_there_and_valid_is_told_and_left(table: Project) -> None:
    table.query("CREATE INDEX a_n ON a (id)")
    table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);")
    done = table.run("sync")
    assert done.code == 0
    assert (
        "there already, valid, and not compared with the file: CREATE INDEX a_n ON public.a USING btree (id)"
        in done.err
    )


def test_a_build_that_is_under_way_is_awaited(table: Project) -> None:
    table.query("INSERT INTO a SELECT g, g FROM generate_series(1, 1000) g")
    with psycopg.connect(table.urls["dev"]) as old, psycopg.connect(table.urls["dev"], autocommit=True) as builder:
        old.execute("INSERT INTO a VALUES (0, 0)")  # the build waits for this writer
        thread = threading.Thread(target=lambda: builder.execute("CREATE INDEX CONCURRENTLY a_n ON a (n)"))
        thread.start()
        deadline = time.monotonic() + 20
        while indexes(table).get("a_n") is not False and time.monotonic() < deadline:
            time.sleep(0.05)
        timer = threading.Timer(1.5, old.rollback)
        timer.start()
        table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);")
        done = table.run("sync")
        thread.join()
        timer.join()
    assert done.code == 0, done.err
    assert "waits for a build of a_n that is under way already" in done.err
    assert "drops" not in done.err
    assert indexes(table) == {"a_n": True}


def test_a_build_waits_for_long_snapshots_without_a_lock_timeout(table: Project) -> None:
    table.configure(dev='lock_timeout = "100ms"')
    with psycopg.connect(table.urls["dev"]) as reader:
        reader.execute("INSERT INTO a VALUES (0, 0)")
        timer = threading.Timer(1.0, reader.rollback)
        timer.start()
        table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY a_n ON a (n);")
        done = table.run("sync")
        timer.join()
    assert done.code == 0, done.err
    assert indexes(table) == {"a_n": True}


def test_a_build_that_waits_for_ever_is_given_up_naming_who_is_in_the_way(table: Project) -> None:
    table.configure(dev='retry_budget = "1500ms"')
    table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY a_n ON a (n);")
    with psycopg.connect(table.urls["dev"], application_name="the-sleeper") as idle:
        idle.execute("INSERT INTO a VALUES (1, 1)")
        done = table.run("sync")
        assert done.code == 6, done.err
        assert "it waited for others for 1.5 s (retry_budget)" in done.err
        assert "in the way: pid" in done.err and "the-sleeper, idle in transaction for" in done.err
        assert "the invalid index public.a_n is there and could not be dropped: the next run tries again" in done.err
        assert "nothing of the failed one stayed" not in done.err
        idle.rollback()
    table.write("002-i.sql", NONE + "SELECT 1;")
    edited = table.run("sync")
    assert edited.code == 4 and "was begun, and was changed since" in edited.err, "the index would stay for ever"
    table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY a_n ON a (n);")
    assert table.run("sync").code == 0
    assert indexes(table) == {"a_n": True}


def test_reindex_and_drop_and_detach_work_and_heal(table: Project) -> None:
    table.query(
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);"
        "CREATE INDEX a_id ON a (id); CREATE INDEX a_old ON a (n)"
    )
    table.write(
        "002-x.sql",
        NONE + "REINDEX INDEX CONCURRENTLY a_id;\nREINDEX TABLE CONCURRENTLY a;\nDROP INDEX CONCURRENTLY a_old;\n"
        "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY;\nCLUSTER a USING a_id;\nVACUUM (ANALYZE) a;",
    )
    done = table.run("sync")
    assert done.code == 0, done.err
    assert indexes(table) == {"a_id": True}
    assert table.query("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'p1'::regclass") == [(0,)]


def test_a_half_done_detach_is_finished(table: Project) -> None:
    table.query("CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    with psycopg.connect(table.urls["dev"]) as reader:
        reader.execute("SELECT * FROM p")
        with (
            psycopg.connect(table.urls["dev"], autocommit=True) as other,
            pytest.raises(psycopg.errors.QueryCanceled),
        ):
            other.execute("SET statement_timeout = '500ms'")
            other.execute("ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY")
        reader.rollback()
    assert table.query("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'p1'::regclass") == [(True,)]
    table.write("002-x.sql", NONE + "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY;")
    done = table.run("sync")
    assert done.code == 0, done.err
    assert table.query("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'p1'::regclass") == [(0,)]


# -- backfills -----------------------------------------------------------------------------------------------------------

BACKFILL = (
    "-- lockstep: repeat-until-empty batch_pause=1ms\n"
    "UPDATE a SET n = coalesce(n, 0) + 1, done = true WHERE id IN (SELECT id FROM a WHERE NOT done ORDER BY id LIMIT 100);"
)


def test_a_backfill_runs_in_batches_until_nothing_is_left(table: Project) -> None:
    table.query("INSERT INTO a SELECT g FROM generate_series(1, 1050) g")
    table.write("002-fill.sql", BACKFILL)
    assert "a backfill in batches" in table.run("plan").out
    done = table.run("sync")
    assert done.code == 0, done.err
    assert table.query("SELECT min(n), max(n), count(*) FILTER (WHERE done) FROM a") == [(1, 1, 1050)]
    details = table.query(
        "SELECT details->>'rows', details->>'batches' FROM schema_migrations_log WHERE event = 'apply' AND version = 2"
    )
    assert details == [("1050", "11")]
    assert table.query("SELECT count(DISTINCT xmin::text) FROM a")[0][0] == 11, "each batch is a transaction of its own"


def test_a_backfill_that_fails_goes_on_where_it_stopped(table: Project) -> None:
    table.query(
        "INSERT INTO a SELECT g FROM generate_series(1, 1000) g; ALTER TABLE a ADD CHECK (NOT (id > 500 AND done))"
    )
    table.write("002-fill.sql", BACKFILL)
    done = table.run("sync")
    assert done.code == 6
    assert "500 rows in 5 batches done, which stay; its last batch was rolled back" in done.err
    table.query("ALTER TABLE a DROP CONSTRAINT a_check")
    assert table.run("sync").code == 0
    assert table.query("SELECT min(n), max(n) FROM a") == [(1, 1)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("UPDATE a SET n = 1;", "touches the same rows again and again"),
        ("UPDATE a SET n = 1 WHERE n IS NULL; SELECT 1;", "exactly one statement"),
        ("SELECT 1;", "how many rows it touched"),
        ("", "exactly one statement"),
    ],
)
def test_a_backfill_that_could_not_end_is_refused_with_line_and_remedy(text: str, problem: str, table: Project) -> None:
    table.write("002-fill.sql", "-- lockstep: repeat-until-empty\n" + text)
    for command in ("plan", "sync", "validate"):
        done = table.run(command)
        assert done.code == 7, command
        assert problem in done.err + done.out and "002-fill.sql:" in done.err + done.out


# -- refused before anything runs ------------------------------------------------------------------------------------------

REFUSED = {
    "a temporary table": ("SELECT 1;\nCREATE TEMP TABLE t (id int);\nINSERT INTO t VALUES (1);", 3),
    "a temporary table of a block": ("BEGIN;\nCREATE TEMP TABLE t AS SELECT 1;\nCOMMIT;\nSELECT * FROM t;", 3),
    "an index without a name": ("CREATE INDEX CONCURRENTLY ON a (n);", 2),
    "BEGIN alone": ("SELECT 1;\nBEGIN;\nSELECT 2;", 3),
    "COMMIT alone": ("SELECT 1;\nCOMMIT;", 3),
    "a block that is rolled back": ("BEGIN;\nSELECT 1;\nROLLBACK;", 4),
    "a block in a block": ("BEGIN;\nBEGIN;\nCOMMIT;", 3),
    "AND CHAIN": ("BEGIN;\nSELECT 1;\nCOMMIT AND CHAIN;", 4),
    "options": ("BEGIN ISOLATION LEVEL SERIALIZABLE;\nSELECT 1;\nCOMMIT;", 2),
    "two-phase commit": ("PREPARE TRANSACTION 'x';", 2),
    "CONCURRENTLY in a block": ("BEGIN;\nCREATE INDEX CONCURRENTLY i ON a (n);\nCOMMIT;", 3),
    "DISCARD ALL": ("DISCARD ALL;", 2),
    "SET LOCAL": ("SET LOCAL lock_timeout = '1s';\nSELECT 1;", 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_not_be_resumed_is_refused_with_line_and_remedy(case: str, table: Project) -> None:
    text, line = REFUSED[case]
    table.write("002-x.sql", NONE + text)
    table.write("003-y.sql", "INSERT INTO effects VALUES ('y');")
    done = table.run("sync")
    assert done.code == 7, done.err
    assert f"002-x.sql:{line}:" in done.err and "^" in done.err and "next: " in done.err
    assert effects(table) == {}
    assert f"002-x.sql:{line}:" in table.run("validate").out


# -- reverting -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(table: Project) -> Project:
    table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY a_n ON a (n);\nINSERT INTO effects VALUES ('up');")
    table.write(
        "002-i.down.sql",
        NONE + "DELETE FROM effects;\nINSERT INTO effects VALUES ('down');\nDROP INDEX CONCURRENTLY a_n;",
    )
    assert table.run("sync").code == 0
    return table


def test_a_down_outside_of_a_transaction_takes_it_back(indexed: Project) -> None:
    done = indexed.run("revert", "dev", "--steps", "1")
    assert done.code == 0, done.err
    assert indexes(indexed) == {} and effects(indexed) == {"down": 1}
    assert indexed.query("SELECT count(*) FROM schema_migrations WHERE version = 2") == [(0,)]
    assert "held" in indexed.run("status").out
    assert indexed.run("sync", "--include", "2").code == 0
    assert indexes(indexed) == {"a_n": True}


def test_a_broken_revert_is_finished_by_the_next_one_and_stops_every_sync(indexed: Project) -> None:
    indexed.query("ALTER TABLE effects ADD CHECK (tag <> 'down')")
    done = indexed.run("revert", "dev", "--steps", "1")
    assert done.code == 6
    assert "of 002-i.down 1 of 3 statements done, which stay" in done.err
    sync = indexed.run("sync")
    assert sync.code == 4
    assert (
        "002-i.sql: its revert was begun and did not finish" in sync.err and "lockstep revert dev --steps 1" in sync.err
    )
    assert "lockstep revert dev --steps 1 goes on with it" in indexed.run("status").out
    indexed.query("ALTER TABLE effects DROP CONSTRAINT effects_tag_check")
    assert indexed.run("revert", "dev", "--to", "1").code == 0
    assert effects(indexed) == {"down": 1} and indexes(indexed) == {}


def test_a_half_applied_file_is_not_reverted(table: Project) -> None:
    table.write("002-x.sql", NONE + "SELECT 1;\nSELECT 1/0;")
    table.write("002-x.down.sql", "SELECT 1;")
    assert table.run("sync").code == 6
    done = table.run("revert", "dev", "--steps", "1")
    assert done.code == 4 and "finish it first (lockstep sync dev)" in done.err


# -- plan ------------------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_the_statement_and_the_next_run_goes_on(table: Project) -> None:
    import os
    import signal
    import subprocess
    import sys

    table.write("002-x.sql", NONE + "INSERT INTO effects VALUES ('x');\nSELECT pg_sleep(30);")
    process = subprocess.Popen(
        [sys.executable, "-m", "lockstep", "sync"],
        cwd=table.folder, env=table.environ, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 20
    while table.query(asleep) == [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143 and "interrupted: 0 of 1 done" in err
    assert time.monotonic() - started < 5
    assert table.query(asleep) == [(0,)]
    assert state(table) == ("started", 1, 2)
    table.write("002-x.sql", NONE + "INSERT INTO effects VALUES ('x');\nSELECT 1;")
    assert table.run("sync").code == 0
    assert effects(table) == {"x": 1}


def test_what_the_plan_shows_is_what_is_sent_to_the_letter(server: ThrowawayServer, table: Project) -> None:
    table.variables["TOKEN"] = "s3cret-token"
    table.configure(dev='settings = { token = "${TOKEN}" }\nsearch_path = "public"')
    table.write("002-x.sql", "INSERT INTO effects VALUES ('é');")
    table.write("002-x.verify.sql", "SELECT count(*) = 1 FROM effects;")
    table.write("003-i.sql", NONE + "SET work_mem = '8MB';\nCREATE INDEX CONCURRENTLY a_n ON a (n);\nSELECT 1;")
    table.write("004-fill.sql", BACKFILL)
    shown = table.run("plan", "--sql").out
    assert "s3cret" not in shown and "lockstep.token=***" in shown
    plain = table.urls["dev"]
    with CountingProxy(server.port) as proxy:
        table.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        assert table.run("sync").code == 0
    table.urls["dev"] = plain
    run_id = table.query("SELECT run_id FROM schema_migrations WHERE version = 3")[0][0]
    sent = [text for texts in proxy.queries for text in texts]
    everything = "\n".join(sent)
    for line in shown.splitlines():
        if not line or line.startswith("--"):
            continue
        # MS, BATCHES and ROWS stand for numbers; a semicolon ends what was sent without one.
        parts = re.split(r'(?<= )MS(?= )|"BATCHES"|"ROWS"', line.replace("RUN-ID", run_id).removesuffix(";"))
        assert re.search(r"\d+".join(map(re.escape, parts)), everything), line
    transactions = [text for text in sent if text.startswith("BEGIN ISOLATION LEVEL")]
    assert len(transactions) == shown.count("BEGIN ISOLATION LEVEL"), "and nothing else that changes the database"
