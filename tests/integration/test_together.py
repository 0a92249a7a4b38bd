"""Quick migrations that travel in one message: each is a transaction of its own, whatever happens to the others."""

from __future__ import annotations

import re
import threading
import time

import psycopg
import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.applying import ApplyRun
from tests.integration.joined import MANY, applied, many, sync_through
from tests.integration.proxy import CountingProxy
from tests.project import Project

__all__ = ["many"]

UNFLUSHED = "set_config('synchronous_commit', 'off', true)"


def test_they_travel_together_and_the_disk_is_waited_for_once(server: ThrowawayServer, many: Project) -> None:
    with CountingProxy(server.port) as proxy:
        done = sync_through(server, many, proxy)
    assert done.code == 0, done.err
    assert applied(many) == list(range(1, MANY + 1))
    sent = [text for texts in proxy.queries for text in texts if "CREATE TABLE public.t" in text]
    assert len(sent) < MANY / 2 and max(text.count("CREATE TABLE public.t") for text in sent) >= 4
    assert (
        sum(text.count(UNFLUSHED) for text in sent) == MANY - 1 and UNFLUSHED not in sent[-1].rpartition("public.t")[2]
    )
    assert len(re.findall(r"applied  \d+ ms", done.err)) == MANY
    assert many.query("SELECT count(*) FROM schema_migrations_log WHERE event = 'apply'") == [(MANY,)]
    assert many.query("SELECT count(DISTINCT xmin::text) FROM schema_migrations") == [(MANY,)]  # a transaction each


def test_a_protected_environment_waits_for_the_disk_each_time(many: Project) -> None:
    shown = many.run("plan", "--sql").out
    assert shown.count(UNFLUSHED) == MANY - 1 and "may travel in one message" in shown
    many.toml = '[backup]\nbucket = "s3://b/p"\n'
    many.configure(dev="protected = true")
    shown = many.run("plan", "dev", "--sql").out
    assert "CREATE TABLE public.t" in shown and UNFLUSHED not in shown and "in one message" not in shown


FAILING = {
    "in the middle": ("SELECT 1;\nSELECT 'é',\n  1/0;", "008-t.sql:2", "division by zero"),
    "by name": ("SELECT 1;\n  SELECT 'é', nope FROM public.t1;", "008-t.sql:2:15:", "nope"),
    "at COMMIT": (
        "CREATE TABLE public.u (p bigint CONSTRAINT c REFERENCES public.t1 DEFERRABLE INITIALLY DEFERRED);\n"
        "INSERT INTO public.u VALUES (1);",
        "008-t.sql:",
        "deferred constraint c",
    ),
    "the lock": ("SELECT pg_advisory_unlock_all();", "008-t.sql", "lock of this run"),
    "ledger": ("DELETE FROM public.schema_migrations;", "008-t.sql", "writes to the ledger"),
}


@pytest.mark.parametrize("case", FAILING)
def test_what_fails_among_others_is_told_as_if_it_came_alone(many: Project, case: str) -> None:
    text, place, words = FAILING[case]
    good = (many.folder / "migrations" / "008-t.sql").read_text()
    many.write("008-t.sql", text)
    failed = many.run("sync")
    assert failed.code == 6 and place in failed.err and words in failed.err
    assert f"7 of {MANY} done; 008-t rolled back, nothing of it stayed; 4 after it not started." in failed.err
    assert applied(many) == list(range(1, 8))
    assert len(re.findall(r"00\d-t  applied", failed.err)) == 7
    assert many.query(
        "SELECT migration_name, details ->> 'line' IS NULL FROM schema_migrations_log WHERE event = 'fail'"
    ) == [("008-t.sql", place.endswith(("sql", "sql:")) and case != "ledger")]
    many.write("008-t.sql", good)
    assert many.run("sync").code == 0
    assert applied(many) == list(range(1, MANY + 1))


def test_what_the_server_cannot_read_stops_none_before_it(many: Project) -> None:
    # The grammar of a later version: our parser knows it, the server of the tests does not.
    many.write("008-t.sql", "CREATE TABLE public.v (a int, b int GENERATED ALWAYS AS (a) VIRTUAL);")
    failed = many.run("sync")
    assert failed.code in {6, 7} and "008-t.sql:1" in failed.err
    assert applied(many) in ([], list(range(1, 8)))


LEAVING = (
    "SET search_path = pg_temp; SET ROLE pg_monitor;",
    "SET work_mem = '77MB'; SELECT set_config('lockstep.x', 'y', false);",
    "CREATE TEMP TABLE left_behind (id int);",
    "PREPARE left_behind AS SELECT 1; LISTEN left_behind;",
    "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1;",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT pg_advisory_lock(4711);",
    "SET client_encoding = 'LATIN1'; SET standard_conforming_strings = off; SET DateStyle = 'German';",
)
CLEAN = """DO $$ BEGIN
    ASSERT current_user = session_user AND current_setting('work_mem') <> '77MB', 'settings';
    ASSERT coalesce(current_setting('lockstep.x', true), '') = '', 'own setting';
    ASSERT current_setting('search_path') NOT LIKE '%%temp%%', 'search_path';
    ASSERT to_regclass('pg_temp.left_behind') IS NULL, 'temporary table';
    ASSERT NOT EXISTS (SELECT FROM pg_prepared_statements), 'prepared';
    ASSERT NOT EXISTS (SELECT FROM pg_cursors WHERE name = 'left_behind'), 'cursor';
    ASSERT NOT EXISTS (SELECT FROM pg_listening_channels()), 'listening';
    ASSERT current_setting('transaction_isolation') = 'read committed', 'isolation';
    ASSERT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND pid = pg_backend_pid()), 'lock';
    ASSERT current_setting('standard_conforming_strings') = 'on' AND current_setting('DateStyle') LIKE 'ISO%%', 'literals';
END $$; CREATE TABLE public.%s (id int); SELECT 'é';"""


def test_nothing_of_one_reaches_the_next(server: ThrowawayServer, many: Project) -> None:
    number = MANY
    for text in LEAVING:
        many.write(f"{number + 1:03d}-leaves.sql", f"CREATE TABLE public.t{number + 1} ();\n" + text)
        many.write(f"{number + 2:03d}-clean.sql", CLEAN % f"t{number + 2}")
        number += 2
    with CountingProxy(server.port) as proxy:
        done = sync_through(server, many, proxy)
    assert done.code == 0, done.err
    assert applied(many) == list(range(1, number + 1))
    sent = [text for texts in proxy.queries for text in texts if "left_behind" in text]
    assert len(sent) < len(LEAVING), "they travelled together"
    assert many.query("SELECT to_regclass('public.left_behind') IS NULL") == [(True,)]


def test_a_lock_in_the_way_of_one_is_waited_for(many: Project) -> None:
    many.run("sync", "--to", "1")
    many.write("008-t.sql", "ALTER TABLE public.t1 ADD COLUMN more int;\nCREATE TABLE public.t8 ();")
    with psycopg.connect(many.urls["dev"], application_name="in-the-way") as other:
        other.execute("LOCK TABLE public.t1 IN ACCESS SHARE MODE")

        def get_out() -> None:
            # Once it has waited with the others, and alone, and comes for the third time.
            deadline, waits = time.monotonic() + 60, set[object]()
            with psycopg.connect(many.urls["dev"], autocommit=True) as looking:
                while len(waits) < 3 and time.monotonic() < deadline:
                    waits |= set(
                        looking.execute(
                            "SELECT waitstart FROM pg_locks WHERE NOT granted AND waitstart IS NOT NULL"
                        ).fetchall()
                    )
                    time.sleep(0.02)
            other.rollback()

        free = threading.Thread(target=get_out)
        free.start()
        done = many.run("sync")
        free.join()
    assert done.code == 0, done.err
    assert applied(many) == list(range(1, MANY + 1))
    assert "waiting for a lock" in done.err and "in-the-way" in done.err


@pytest.mark.parametrize("table", ["t4", "t9", f"t{MANY}"])
def test_a_lost_answer_is_settled_by_the_ledger(server: ThrowawayServer, many: Project, table: str) -> None:
    with CountingProxy(server.port, cut=f"CREATE TABLE public.{table} ".encode()) as proxy:
        done = sync_through(server, many, proxy)
    assert done.code == 0, done.err
    assert applied(many) == list(range(1, MANY + 1))
    assert many.query("SELECT count(*) FROM schema_migrations_log WHERE event = 'apply'") == [(MANY,)]


def test_who_is_stopped_in_the_middle_keeps_what_was_committed(server: ThrowawayServer, many: Project) -> None:
    many.write("006-t.sql", "CREATE TABLE public.t6 (); SELECT pg_sleep(20);")
    process_ended = threading.Event()

    def end_it() -> None:
        with psycopg.connect(many.urls["dev"], autocommit=True) as other:
            while not process_ended.is_set():
                row = other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                    " AND datname = current_database()"
                ).fetchone()
                if row:
                    return
                time.sleep(0.05)

    thread = threading.Thread(target=end_it)
    thread.start()
    lost = many.run("sync")
    process_ended.set()
    thread.join()
    assert lost.code == 8 and f"5 of {MANY} done. 006-t was rolled back, nothing of it stayed." in lost.err
    assert applied(many) == [1, 2, 3, 4, 5]
    assert len(re.findall(r"00\d-t  applied", lost.err)) == 5


def test_each_has_the_time_that_it_took_itself(many: Project) -> None:
    for number in range(1, MANY + 1):
        many.write(f"{number:03d}-t.sql", f"CREATE TABLE public.t{number} ();\nSELECT pg_sleep(0.03);")
    began = time.monotonic()
    assert many.run("sync").code == 0
    wall = (time.monotonic() - began) * 1_000
    times = [row[0] for row in many.query("SELECT execution_time_ms FROM schema_migrations ORDER BY version")]
    assert min(times) >= 30 and sum(times) <= wall, times
    logged = many.query("SELECT duration_ms FROM schema_migrations_log WHERE event = 'apply' ORDER BY id")
    assert all(row[0] >= ms for row, ms in zip(logged, times, strict=True)) and sum(row[0] for row in logged) <= wall
    many.write("099-alone.sql", "SELECT 1;")
    time.sleep(1.2)
    assert many.run("sync").code == 0
    assert many.query("SELECT execution_time_ms < 1000 FROM schema_migrations WHERE version = 99") == [(True,)]


def test_a_fault_of_ours_leaves_nothing_running_behind(many: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    many.write("006-t.sql", "CREATE TABLE public.t6 (); SELECT pg_sleep(0.5);")
    calls = []

    def breaks(run: ApplyRun, under_way: int = 1) -> None:
        calls.append(under_way)
        if under_way > 2:
            raise RuntimeError("a fault of ours")

    monkeypatch.setattr(ApplyRun, "_make_ready", breaks)
    failed = many.run("sync")
    assert failed.code == 1 and "a fault of ours" in failed.err, failed.err
    time.sleep(1)
    versions = applied(many)
    assert versions == list(range(1, len(versions) + 1)) and len(versions) < MANY
    told = many.query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lockstep/%' AND state = 'active'"
    )
    assert told == [(0,)]
