"""The main path on a real server: applied whole or not at all, explained, recorded, and never twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from lockstep.errors import LockHeld, MigrationFailed, StalePlan
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.lock import take_lock
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.applying import open_apply
from lockstep.service.project import target_of
from lockstep.service.together import LONGEST
from tests.integration.proxy import CountingProxy
from tests.project import Project


def _trips(server: ThrowawayServer, project: Project, *words: str) -> int:
    plain = project.urls["dev"]
    with CountingProxy(server.port) as proxy:
        project.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        assert project.run(*words).code == 0
        project.urls["dev"] = plain
        return proxy.trips


def test_every_further_migration_costs_one_more_round_trip(server: ThrowawayServer, project: Project) -> None:
    project.run("init")
    for number in range(1, 111):
        project.write(f"{number:03d}-step.sql", f"CREATE TABLE t{number} (id bigint);")
    few = _trips(server, project, "sync", "--to", "10")
    many = _trips(server, project, "sync")
    assert (many - few) / 90 <= 1.1, (few, many)
    assert few <= 10 + 35, (
        "what a run costs beside its migrations: connect twice, plan, lock, look at the schema twice, verify"
    )


def test_a_migration_that_travels_alone_costs_one_round_trip(server: ThrowawayServer, project: Project) -> None:
    """As each does in a protected environment: here, because it is too long to go with others."""
    project.run("init")
    long = f"-- {'x' * LONGEST}\n"
    for number in range(1, 23):
        project.write(f"{number:03d}-step.sql", f"{long}CREATE TABLE t{number} (id bigint);")
    few = _trips(server, project, "sync", "--to", "2")
    assert (_trips(server, project, "sync") - few) / 18 <= 1.1


FAILURES = {
    "in the middle": (
        "CREATE TABLE b (id bigint);\nINSERT INTO a VALUES (2, 'ok');\n\nINSERT INTO a\n  VALUES (3, 'bad');\nSELECT 1;",
        "002-b.sql:4:",
        "statement 3 of 4",
    ),
    "unknown column": ("CREATE TABLE b (id bigint);\nSELECT 'é', nope FROM a;", "002-b.sql:2:13:", "statement 2 of 2"),
    "at COMMIT": (
        "CREATE TABLE b (id bigint PRIMARY KEY, p bigint CONSTRAINT own_parent REFERENCES b DEFERRABLE INITIALLY DEFERRED);\n"
        "INSERT INTO b VALUES (1, 2);",
        "002-b.sql:",
        "deferred constraint own_parent",
    ),
    "made for a newer server": (
        "CREATE TABLE b (id bigint);\nALTER TABLE b ALTER id SET EXPRESSION AS (1);",
        "002-b.sql:2",
        "b",
    ),
    "in PL/pgSQL": (
        "CREATE TABLE b (id bigint);\nDO $$\nBEGIN\n  RAISE EXCEPTION 'no way';\nEND $$;",
        "002-b.sql:2:",
        "PL/pgSQL function inline_code_block line 3 at RAISE",
    ),
    "commit in a procedure": (
        "CREATE TABLE b (id bigint);\nCREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;\nCALL p();",
        "002-b.sql:3:",
        "2D000",
    ),
    "releases the lock": (
        "CREATE TABLE b (id bigint);\nSELECT pg_advisory_unlock_all();",
        "002-b.sql",
        "lock of this run",
    ),
    "leaves a savepoint": ("CREATE TABLE b (id bigint);\nROLLBACK TO SAVEPOINT nowhere;", "002-b.sql:2", "nowhere"),
    "verify raises": ("CREATE TABLE b (id bigint);", "002-b.verify.sql:1:", "division by zero"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_leaves_the_database_as_it_was_to_the_byte(
    case: str, project: Project, dump: Callable[[str], str]
) -> None:
    text, place, words = FAILURES[case]
    project.write("001-a.sql", "CREATE TABLE a (id bigint PRIMARY KEY, n text CHECK (n <> 'bad'));")
    assert project.run("init").code == 0
    assert project.run("sync").code == 0
    before = dump(project.urls["dev"])
    project.write("002-b.sql", text)
    project.write("003-c.sql", "CREATE TABLE c (id bigint);")
    if case == "verify raises":
        project.write("002-b.verify.sql", "SELECT 1 / 0;")
    done = project.run("sync")
    assert done.code == 6, done.err
    assert place in done.err
    assert words in done.err
    assert "0 of 2 done; 002-b rolled back, nothing of it stayed; 1 after it not started." in done.err
    assert dump(project.urls["dev"]) == before
    events = project.query("SELECT event, migration_name FROM schema_migrations_log ORDER BY id DESC LIMIT 1")
    assert events == [("fail", "002-b.sql")]
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    if case == "verify raises":
        project.remove("002-b.verify.sql")
    assert project.run("sync").code == 0, "the next run goes on as if nothing had happened"


def test_a_syntax_error_is_found_before_anything_is_sent(project: Project, dump: Callable[[str], str]) -> None:
    project.run("init")
    before = dump(project.urls["dev"])
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);\nSELECT 'é' frm a b;\n")
    done = project.run("sync")
    assert done.code == 7
    assert "002-b.sql:2:" in done.err and "^" in done.err
    assert dump(project.urls["dev"]) == before


HOSTILE = {
    "ends in a comment": "CREATE TABLE x (id bigint) -- the end",
    "ends without a semicolon": "CREATE TABLE x (id bigint)",
    "empty": "",
    "only a comment": "-- nothing\n",
    "a lone semicolon": ";",
    "wrapped in its own transaction": "BEGIN;\nCREATE TABLE x (id bigint);\nCOMMIT;",
    "BOM and CRLF": "\ufeffCREATE TABLE x (id bigint);\r\nCREATE TABLE y (id bigint);\r\n",
    "takes the search path away": "CREATE TABLE x (id bigint); SELECT set_config('search_path', '', false);",
    "ends as another role": "CREATE TABLE x (id bigint); SET ROLE pg_read_all_data;",
    "ends as another user": "CREATE TABLE x (id bigint); SET SESSION AUTHORIZATION pg_monitor;",
    "changes settings": "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET lock_timeout = '1ms'; SET statement_timeout = '1h';",
    "turns triggers off": "SET session_replication_role = replica; CREATE TABLE x (id bigint);",
    "takes an advisory lock": "SELECT pg_advisory_lock(4711);",
    "leaves a temp table": "CREATE TEMP TABLE schema_migrations (id int); CREATE TEMP TABLE x (id int);",
    "leaves a prepared statement": "PREPARE p AS SELECT 1;",
    "leaves a cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT 1;",
    "listens": "LISTEN x;",
    "returns many rows": "SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g;",
    "strings and dollars": "SELECT ';', E'\\';', $$;'$$, $a$ $b$;$b$ $a$, U&'\\0041'; /* ; */ CREATE TABLE x (t text DEFAULT '--');",
    "4,600 statements": "SELECT 1;\n" * 4_600,
    "shadowing names": "CREATE SCHEMA evil; SET search_path = evil, public; CREATE FUNCTION evil.clock_timestamp() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "1.5 million characters": "CREATE TABLE x (t text);\n" + f"SELECT length('{'é' * 40_000}');\n" * 38,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_strange_file_is_applied_and_leaks_nothing_into_the_next(case: str, project: Project) -> None:
    project.run("init")
    project.write("001-strange.sql", HOSTILE[case])
    project.write(
        "002-next.sql",
        "CREATE TABLE next (id bigint);\n"
        "INSERT INTO next SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();\n"
        "DO $$ BEGIN ASSERT current_user = 'postgres' AND session_user = 'postgres'; ASSERT to_regclass('pg_temp.x') IS NULL;"
        " ASSERT current_setting('search_path') = '\"$user\", public'; ASSERT current_setting('lock_timeout') = '1s';"
        " ASSERT current_setting('statement_timeout') = '0'; ASSERT current_setting('session_replication_role') = 'origin';"
        " ASSERT (SELECT count(*) FROM pg_prepared_statements) = 0; ASSERT (SELECT count(*) FROM pg_cursors) = 0;"
        " ASSERT (SELECT count(*) FROM pg_listening_channels()) = 0; END $$;",
    )
    done = project.run("sync")
    assert done.code == 0, done.err
    assert project.query("SELECT id FROM public.next") == [(1,)], "only the run's own lock is held"
    rows = project.query(
        "SELECT migration_name, state, kind, applied_by FROM public.schema_migrations ORDER BY version"
    )
    assert rows == [(n, "applied", "versioned", "postgres") for n in ("001-strange.sql", "002-next.sql")]
    assert project.run("sync").code == 0
    assert "up to date" in project.run("status").out
    assert "audit log whole: 3 rows" in project.run("history", "--verify").out


def test_two_runners_at_once_apply_everything_exactly_once(project: Project) -> None:
    project.run("init")
    for number in range(1, 11):
        project.write(f"{number:03d}-step.sql", f"CREATE TABLE t{number} (id bigint); SELECT pg_sleep(0.02);")
    outcomes: list[int] = []

    def runner() -> None:
        outcomes.append(project.run_process("sync", "--wait").code)

    threads = [threading.Thread(target=runner) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [0, 0, 0]
    assert project.query("SELECT count(*), count(DISTINCT version) FROM schema_migrations") == [(10, 10)]


def test_a_held_lock_is_refused_with_its_holder_and_logged(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    target = target_of(project.settings(), project.environment())
    holder = open_session(target, run_id="the-other-run")
    try:
        take_lock(holder)
        done = project.run("sync")
        assert done.code == 5
        assert "run the-other-run (user postgres, pid" in done.err
        assert project.query("SELECT event FROM schema_migrations_log ORDER BY id DESC LIMIT 1") == [("refuse",)]
        assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]
    finally:
        holder.close()
    assert project.run("sync").code == 0


def test_a_lock_in_the_way_is_waited_for_by_trying_again(project: Project) -> None:
    project.configure(dev='lock_timeout = "100ms"')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("sync")
    project.write("002-b.sql", "ALTER TABLE a ADD COLUMN b int;")
    with psycopg.connect(project.urls["dev"]) as reader:
        reader.execute("SELECT * FROM a")
        timer = threading.Timer(1.0, reader.rollback)
        timer.start()
        done = project.run("sync")
        timer.join()
    assert done.code == 0, done.err
    assert "waiting for a lock (try 1" in done.err


def test_a_lock_that_stays_ends_in_a_failure_that_says_so(project: Project) -> None:
    project.configure(dev='lock_timeout = "50ms"\nretry_budget = "500ms"')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("sync")
    project.write("002-b.sql", "ALTER TABLE a ADD COLUMN b int;")
    with psycopg.connect(project.urls["dev"]) as reader:
        reader.execute("SELECT * FROM a")
        done = project.run("sync")
        reader.rollback()
    assert done.code == 6
    assert "SQLSTATE 55P03" in done.err and "tried" in done.err


def test_a_plan_that_moved_is_refused_under_the_lock(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    shown = project.run("plan", "--json").document["environments"][0]["digest"]

    def refused() -> None:
        settings, files = project.settings(), project.files()
        with (
            pytest.raises(StalePlan),
            open_apply(settings, project.environment(), files, RunInfo(run_id="r"), expected_digest=shown),
        ):
            raise AssertionError("must not open")

    project.write("002-b.sql", "CREATE TABLE b (id bigint, more text);")
    refused()
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    assert project.run("sync", "--to", "1").code == 0  # somebody else was faster
    refused()
    assert project.query("SELECT to_regclass('b'), (SELECT count(*) FROM schema_migrations)") == [(None, 1)]


def test_a_killed_backend_is_unreachable_and_nothing_is_half_done(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint); SELECT pg_sleep(30);")
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(project.run_process("sync").code))
    thread.start()
    ended: list[tuple[bool]] = []
    deadline = time.monotonic() + 20
    while not ended and time.monotonic() < deadline:
        ended = project.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lockstep/%'"
            " AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
        )
    thread.join()
    assert outcome == [8]
    assert project.query("SELECT to_regclass('a')") == [(None,)]
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]


def test_the_error_survives_for_callers(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;\nSELECT 1/0;")
    with (
        open_apply(project.settings(), project.environment(), project.files(), RunInfo(run_id="r")) as run,
        pytest.raises(MigrationFailed) as caught,
    ):
        run.apply(run.plan.steps[0])
    assert (caught.value.file, caught.value.line, caught.value.sqlstate) == ("001-a.sql", 2, "22012")


def test_lock_held_is_an_error_of_its_own(project: Project) -> None:
    project.run("init")
    first = open_session(target_of(project.settings(), project.environment()), run_id="one")
    second = open_session(target_of(project.settings(), project.environment()), run_id="two")
    try:
        take_lock(first)
        with pytest.raises(LockHeld, match="run one"):
            take_lock(second)
        first.close()
        take_lock(second, wait_seconds=5)
    finally:
        first.close()
        second.close()
