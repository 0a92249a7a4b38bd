"""Quick migrations in one message, attacked: large downs, servers that crash, files that say how COMMIT is to wait."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.errors import Unreachable
from lockstep.postgres import message
from lockstep.postgres.connection import Session
from lockstep.postgres.executor import Done
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service import worksession
from lockstep.service.piecewise import PieceRun
from tests.integration.joined import MANY, applied, many
from tests.integration.proxy import CountingProxy
from tests.project import Project

__all__ = ["many"]


def test_a_large_down_script_goes_alone(many: Project) -> None:
    """Its text is part of the ledger's row."""
    for number in (4, 8):
        many.write(f"{number:03d}-t.down.sql", f"DROP TABLE public.t{number};\n-- " + "x" * 1_200_000)
    done = many.run("sync")
    assert done.code == 0, done.err
    assert applied(many) == list(range(1, MANY + 1))


@pytest.mark.parametrize("words", ["SET LOCAL synchronous_commit = off;", "SET synchronous_commit = off;"])
def test_the_last_commit_waits_for_the_disk_whatever_its_file_says(many: Project, words: str) -> None:
    many.write(
        f"{MANY:03d}-t.sql",
        f"{words}\nCREATE TABLE public.t{MANY} (id int);\nCREATE TABLE public.how (at_commit text);\n"
        "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN UPDATE public.how SET at_commit = current_setting('synchronous_commit'); RETURN NULL; END$$;\n"
        "CREATE CONSTRAINT TRIGGER note AFTER INSERT ON public.how DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "EXECUTE FUNCTION public.note();\nINSERT INTO public.how VALUES ('');",
    )
    many.query(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$"
    )
    done = many.run("sync")
    assert done.code == 0, done.err
    assert many.query("SELECT at_commit FROM public.how") == [("on",)]


#: The WAL writer sleeps for so long that what no COMMIT waited for is lost in a crash for certain.
FORGETFUL = {
    "synchronous_commit": "on",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "shared_buffers": "64MB",
}


@pytest.fixture
def forgetful(pg_bin: Path) -> Iterator[ThrowawayServer]:
    with ThrowawayServer(pg_bin, settings=FORGETFUL) as running:
        yield running


@pytest.mark.parametrize("number", [5, 9, MANY])
def test_what_a_crash_takes_back_is_not_said_to_be_applied(
    forgetful: ThrowawayServer, many: Project, number: int
) -> None:
    with psycopg.connect(forgetful.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE crashed")
    many.urls["dev"] = forgetful.url("crashed")
    assert many.run("init").code == 0
    many.write(f"{number:03d}-t.sql", f"CREATE TABLE public.t{number} ();\nSELECT pg_sleep(20);")
    crashed = threading.Event()

    def crash() -> None:
        with psycopg.connect(forgetful.url("crashed"), autocommit=True) as other:
            while not other.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone():
                time.sleep(0.02)
        forgetful.kill()
        forgetful.start()
        crashed.set()

    thread = threading.Thread(target=crash)
    thread.start()
    lost = many.run("sync", "--json")
    thread.join()
    assert crashed.is_set() and lost.code == 8
    there = applied(many)
    assert len(there) < number - 1, "the crash took something back"
    said = lost.document["environments"][0]
    assert [one["name"] for one in said["applied"]] == [f"{n:03d}-t.sql" for n in there]
    assert f"{len(there)} of {MANY} done." in lost.out and "The server crashed and lost" in lost.out
    many.write(f"{number:03d}-t.sql", f"CREATE TABLE public.t{number} ();")
    assert many.run("sync").code == 0
    assert applied(many) == list(range(1, MANY + 1))
    assert many.run("history", "dev", "--verify").code == 0


def test_what_nobody_can_find_out_is_said_of_all_that_went_together(
    server: ThrowawayServer, many: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_self: object) -> Session:
        raise Unreachable(target="dev", reason="gone")

    monkeypatch.setattr(worksession.WorkSession, "_connected_again", nowhere)
    with CountingProxy(server.port, cut=b"CREATE TABLE public.t6 ") as proxy:
        plain = many.urls["dev"]
        many.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        lost = many.run("sync")
        many.urls["dev"] = plain
    assert lost.code == 8
    assert "3 of 12 done. Whether any of 004-t to 007-t was committed could not be found out" in lost.err


STRANGE = (
    "",
    ";;;\n;",
    "-- a comment alone",
    "/* one */ ; -- and one that does not end with a line",
    "\ufeffBEGIN;\r\nSELECT 1;\r\nCOMMIT;\r\n",
    "CREATE TABLE public.ruled (id int, v text); CREATE TABLE public.heard (duration_ms bigint);"
    "CREATE RULE also AS ON INSERT TO public.ruled DO ALSO SELECT 4711::bigint AS duration_ms;"
    "CREATE RULE nothing AS ON DELETE TO public.ruled DO INSTEAD NOTHING;"
    "CREATE RULE several AS ON UPDATE TO public.ruled DO INSTEAD (SELECT 1; INSERT INTO public.heard VALUES (1); SELECT 2)",
    "INSERT INTO public.ruled SELECT i, 'x' FROM generate_series(1, 1200) AS i; DELETE FROM public.ruled; UPDATE public.ruled SET v = 'y'",
    "INSERT INTO public.ruled VALUES (1, 'a') RETURNING *; WITH a AS (DELETE FROM public.heard RETURNING *) SELECT * FROM a;",
    "SELECT i AS duration_ms FROM generate_series(1, 3000) AS i; SELECT; SELECT FROM generate_series(1, 5); VALUES (1), (2); TABLE public.ruled",
    "DO $$ BEGIN FOR i IN 1..500 LOOP RAISE NOTICE 'noise % COMMIT', i; END LOOP; END $$; SELECT 'COMMIT' AS \"COMMIT\"",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM public.ruled",
    "SET CONSTRAINTS ALL DEFERRED; SAVEPOINT a; INSERT INTO public.heard VALUES (1); ROLLBACK TO a; RELEASE a; SAVEPOINT b",
    "PREPARE p (int) AS SELECT i FROM generate_series(1, $1) AS i; EXECUTE p (700); EXPLAIN EXECUTE p (1); SHOW work_mem",
    "DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 900) AS i; FETCH 600 FROM c; MOVE 10 FROM c; FETCH ALL FROM c",
    "CREATE TABLE public.copied AS SELECT 1 AS a; COPY public.copied TO PROGRAM 'cat > /dev/null'; LISTEN l; NOTIFY l, 'COMMIT'",
    "CREATE PROCEDURE public.calm() LANGUAGE plpgsql AS 'BEGIN NULL; END'; CALL public.calm(); CREATE SCHEMA s1 CREATE TABLE t (id int) CREATE VIEW v AS SELECT 1 AS a",
    "SET LOCAL statement_timeout = '5s'; SET statement_timeout = '1ms'; SET lock_timeout = '1ms'; SET client_min_messages = debug5; SET synchronous_commit = off",
    "SET default_transaction_read_only = on; SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "SET row_security = off; SET session_replication_role = replica; SET check_function_bodies = off; SET client_encoding = 'LATIN1'; SELECT 'é'",
    "-- lockstep: lock_timeout=7s statement_timeout=9s\nSELECT 1",
    "SELECT E'\\'', 'a\\', $x$ ; COMMIT; $x$, U&'\\0041' -- '",
)


def test_whatever_files_are_like_they_are_counted_right(server: ThrowawayServer, many: Project) -> None:
    number = MANY
    for text in STRANGE:
        many.write(f"{number + 1:03d}-strange.sql", text)
        many.write(f"{number + 2:03d}-t.sql", f"CREATE TABLE public.t{number + 2} (); SELECT 1 / 1")
        number += 2
    with CountingProxy(server.port) as proxy:
        plain = many.urls["dev"]
        many.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        done = many.run("sync", "--json")
        many.urls["dev"] = plain
        longest = max(text.count("COMMIT;\nBEGIN READ WRITE") for texts in proxy.queries for text in texts)
    assert done.code == 0, done.err + done.out
    assert longest >= 16
    said = done.document["environments"][0]["applied"]
    names = many.query("SELECT migration_name FROM schema_migrations ORDER BY version")
    assert [(one["name"],) for one in said] == names and len(names) == number
    assert many.query(
        "SELECT count(*), count(DISTINCT migration_name) FROM schema_migrations_log WHERE event = 'apply'"
    ) == [(number, number)]
    assert all(one["execution_ms"] < 4711 for one in said)
    assert many.query(
        "SELECT count(*) FROM schema_migrations WHERE statements_done <> statements_total OR state <> 'applied'"
    ) == [(0,)]
    assert many.run("history", "dev", "--verify").code == 0


def test_what_goes_alone_stands_between_what_goes_together(many: Project) -> None:
    """Roles, settings, another schema for the ledger, verify scripts, files outside of a transaction, repeatables."""
    many.query("DROP TABLE schema_migrations, schema_migrations_log, schema_migrations_states CASCADE")
    many.toml = '[project]\nledger_schema = "the ledger"\n'
    many.configure(
        dev='role = "together_role"\nsearch_path = "app, public"\n[environments.dev.settings]\nmail = "${MAIL}"\n'
    )
    many.variables["MAIL"] = "x@y.z"
    number = 60
    many.query(
        'CREATE ROLE together_role; CREATE SCHEMA app AUTHORIZATION together_role; CREATE SCHEMA "the ledger" AUTHORIZATION together_role'
    )
    try:
        assert many.run("init").code == 0
        for at in range(1, number + 1):
            many.write(
                f"{at:03d}-t.sql",
                f"SELECT 1 / (current_user = 'together_role')::int, 1 / (current_setting('lockstep.mail') = 'x@y.z')::int,"
                f" 1 / (current_setting('search_path') LIKE 'app, public%')::int;\nCREATE TABLE t{at} ();"
                "SELECT set_config('lockstep.mail', 'no', false); RESET ROLE; SET search_path = pg_temp;",
            )
        many.write("020-t.verify.sql", "SELECT to_regclass('app.t20') IS NOT NULL")
        many.write("030-t.sql", "-- lockstep: transaction=none\nCREATE TABLE app.t30 (id int);\nSELECT 1/0;")
        many.write("040-t.sql", "CREATE TABLE t40 ();\n--" + "x" * 70_000)
        many.write(
            "045-t.sql",
            "-- lockstep: lock_timeout=1h statement_timeout=1min\nCREATE TABLE t45 (a text DEFAULT current_setting('lock_timeout'))",
        )
        many.write("repeatable/one.sql", "-- lockstep: uses=mail\nCREATE OR REPLACE VIEW app.one AS SELECT 1 AS a")
        many.write("repeatable/two.sql", "CREATE OR REPLACE VIEW app.two AS SELECT * FROM app.one")
        failed = many.run("sync")
        assert failed.code == 6 and f"29 of {number + 2} done" in failed.err, failed.err
        many.write(
            "030-t.sql",
            "-- lockstep: transaction=none\nCREATE TABLE app.t30 (id int);\nCREATE INDEX CONCURRENTLY i30 ON app.t30 (id);",
        )
        assert many.run("sync", "--to", "50").code == 0
        done = many.run("sync")
        assert done.code == 0, done.err
        assert many.query(
            'SELECT version FROM "the ledger".schema_migrations WHERE version IS NOT NULL ORDER BY 1'
        ) == [(at,) for at in range(1, number + 1)]
        assert many.query(
            r"SELECT count(*) FROM pg_class WHERE relname ~ '^t\d+$' AND relnamespace = 'app'::regnamespace"
        ) == [(number,)]
        assert many.query(
            "SELECT event, count(*) FROM \"the ledger\".schema_migrations_log WHERE event IN ('apply', 'fail') GROUP BY 1 ORDER BY 1"
        ) == [("apply", number + 2), ("fail", 1)]
        many.variables["MAIL"] = "z@y.x"
        many.write("repeatable/one.sql", "-- lockstep: uses=mail\nCREATE OR REPLACE VIEW app.one AS SELECT 2 AS a")
        assert many.run("sync").code == 0
        assert many.run("history", "dev", "--verify").code == 0
    finally:
        many.query("DROP OWNED BY together_role CASCADE; DROP ROLE together_role")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_to_end_in_the_middle_knows_how_far_it_came(many: Project, number: signal.Signals) -> None:
    many.write("006-t.sql", "CREATE TABLE public.t6 ();\nSELECT pg_sleep(20);")
    with subprocess.Popen(
        [sys.executable, "-m", "lockstep", "sync", "dev"], cwd=many.folder, env=many.environ, stderr=subprocess.PIPE, text=True
    ) as started:  # fmt: skip
        asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        while not many.query(asleep):
            assert started.poll() is None
        started.send_signal(number)
        _, said = started.communicate(timeout=30)
    assert started.returncode in {128 + number, -number}
    assert applied(many) == [1, 2, 3, 4, 5] and f"interrupted: 5 of {MANY} done" in said
    assert many.query(
        "SELECT migration_name, details ->> 'outcome', details ->> 'applied' FROM schema_migrations_log WHERE event = 'stop'"
    ) == [("006-t.sql", "006-t was rolled back, nothing of it stayed", "5")]


@pytest.mark.parametrize("at", [4, 6, 7, MANY])
def test_a_reset_that_fails_behind_a_commit_is_no_failure(
    many: Project, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """It goes on in a new session: what is committed is applied, and what stood behind it in the message is not."""
    fails = (
        f"DO $$ BEGIN IF to_regclass('public.t{at}') IS NOT NULL AND to_regclass('public.t{at + 1}') IS NULL"
        " THEN RAISE 'reset'; END IF; END $$"
    )
    monkeypatch.setattr(message, "_RESET", (*message._RESET, fails))
    done = many.run("sync", "--json")
    assert done.code == 0, done.err + done.out
    assert applied(many) == list(range(1, MANY + 1))
    said = done.document["environments"][0]["applied"]
    assert [one["name"] for one in said] == [f"{n:03d}-t.sql" for n in range(1, MANY + 1)]
    assert many.query("SELECT count(*) FROM schema_migrations_log WHERE event = 'apply'") == [(MANY,)]


def test_what_a_crash_takes_back_before_a_file_outside_of_a_transaction(
    forgetful: ThrowawayServer, many: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(forgetful.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE crashed")
    many.urls["dev"] = forgetful.url("crashed")
    assert many.run("init").code == 0
    many.write("009-t.sql", "-- lockstep: transaction=none\nCREATE TABLE public.t9 ();")
    run = PieceRun.run

    def crash_first(self: PieceRun) -> Done:
        forgetful.kill()
        forgetful.start()
        return run(self)

    monkeypatch.setattr(PieceRun, "run", crash_first)
    lost = many.run("sync", "--json")
    there = applied(many)
    assert lost.code == 8 and len(there) < 8
    said = lost.document["environments"][0]
    assert [one["name"] for one in said["applied"]] == [f"{n:03d}-t.sql" for n in there]
    assert f"{len(there)} of {MANY} done. The server crashed and lost" in lost.out
