"""Others are in the way: the deploy gets through or says who they are, and nobody else stalls beyond the bound."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.connection import open_session
from lockstep.postgres.throwaway import FAST, ThrowawayServer
from lockstep.postgres.watch import Watch
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id
from tests.integration.stall import InTheWay, Stall
from tests.project import Project
from tests.summary import LINES

pytestmark = pytest.mark.alone

#: What a bound may be exceeded by: the machine's own delays come on top of ten per cent.
ALLOWED = 1.1
NOISE = 0.15  # seconds


def within(stall: Stall, bound: float, what: str) -> bool:
    """Note the longest stall for the end of the test run, and hold it against its bound (s)."""
    longest = max(stall.longest.values())
    LINES.append(f"longest stall of other sessions, {what}: {longest:.2f} s (bound {bound:.2f} s)")
    return longest <= bound * ALLOWED + NOISE


@pytest.fixture
def tables(project: Project) -> Project:
    project.run("init")
    project.write("001-tables.sql", "".join(f"CREATE TABLE t{n} (id bigint);" for n in range(1, 6)))
    assert project.run("sync").code == 0
    return project


CHANGES = {
    "a long query": ("SELECT * FROM t1", "ALTER TABLE t1 ADD COLUMN n int;", "active"),
    "a writer": ("INSERT INTO t1 VALUES (1)", "CREATE INDEX t1_id ON t1 (id);", "idle in transaction"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_six_seconds_in_the_way_are_outwaited_and_others_stall_no_longer_than_lock_timeout(
    case: str, tables: Project
) -> None:
    blocker, change, state = CHANGES[case]
    tables.write("002-change.sql", change)
    users = ["SELECT count(*) FROM t1", "INSERT INTO t1 VALUES (2)", "SELECT count(*) FROM t2"]
    with Stall(tables.urls["dev"], users) as stall, InTheWay(tables.urls["dev"], blocker, 6.0, busy=state == "active"):
        done = tables.run("sync")
    assert done.code == 0, done.err
    assert "waiting for a lock (try 1:" in done.err
    assert re.search(rf"in the way: pid \d+ \(user postgres, in-the-way, {state} for", done.err)
    assert stall.longest["INSERT INTO t1 VALUES (2)"] > 0.5, "somebody stalled at all: the test measures something"
    assert within(stall, 1.0, f"{case} for 6 s"), stall.longest
    assert stall.longest["SELECT count(*) FROM t2"] <= NOISE, "tables that are not touched never stall"
    waited = tables.query("SELECT details->'waited_for'->>0 FROM schema_migrations_log WHERE version = 2")
    assert f"in-the-way, {state} for" in waited[0][0]


def test_who_never_ends_is_named_and_nothing_is_changed(tables: Project) -> None:
    tables.configure(dev='retry_budget = "3s"')
    tables.write("002-change.sql", "ALTER TABLE t1 ADD COLUMN n int;")
    url = tables.urls["dev"]
    with (
        Stall(url, ["SELECT count(*) FROM t1"]) as stall,
        InTheWay(url, "SELECT * FROM t1", 60, application="forgotten-psql"),
    ):
        done = tables.run("sync")
    assert done.code == 6
    assert "SQLSTATE 55P03" in done.err and "forgotten-psql, idle in transaction for" in done.err
    assert "pg_terminate_backend" in done.err and "rolled back, nothing of it stayed" in done.err
    assert within(stall, 1.0, "idle in transaction for ever")
    logged = tables.query("SELECT details->'waited_for'->>0 FROM schema_migrations_log WHERE event = 'fail'")
    assert "forgotten-psql" in logged[0][0]


def _four(tables: Project) -> None:
    tables.write("002-four.sql", "".join(f"ALTER TABLE t{n} ADD COLUMN n int;\n" for n in range(1, 5)))


@pytest.mark.parametrize(("config", "bound"), [("", 2.0), ('max_blocking = "1s"', 1.0)])
def test_several_locks_in_one_file_stall_nobody_beyond_max_blocking(config: str, bound: float, tables: Project) -> None:
    tables.configure(dev=config)
    _four(tables)
    url = tables.urls["dev"]
    with (
        Stall(url, ["SELECT count(*) FROM t1", "SELECT count(*) FROM t5"]) as stall,
        # Each of them would be outwaited by a lock_timeout of one second alone; together they hold up readers of t1.
        InTheWay(url, "SELECT * FROM t2", 0.9),
        InTheWay(url, "SELECT * FROM t3", 1.8),
        InTheWay(url, "SELECT * FROM t4", 2.7),
    ):
        done = tables.run("sync")
    assert done.code == 0, done.err
    assert f"it kept others waiting for {bound:.1f} s (max_blocking)" in done.err
    assert stall.longest["SELECT count(*) FROM t1"] > 0.5
    assert within(stall, bound, "four locks in one file"), stall.longest
    assert stall.longest["SELECT count(*) FROM t5"] <= NOISE


def test_a_whole_try_is_bounded_where_max_blocking_is_configured(tables: Project) -> None:
    tables.configure(dev='max_blocking = "500ms"\nretry_budget = "2s"')
    tables.write("002-long.sql", "ALTER TABLE t1 ADD COLUMN n int;\nSELECT pg_sleep(5);")
    with Stall(tables.urls["dev"], ["SELECT count(*) FROM t1"]) as stall:
        done = tables.run("sync")
    assert done.code == 6
    assert "002-long.sql:2" in done.err and "it kept others waiting for 500 ms (max_blocking)" in done.err
    assert within(stall, 0.5, "a long change"), stall.longest
    assert tables.query("SELECT count(*) FROM schema_migrations") == [(1,)]


def test_work_without_strong_locks_is_not_bounded(tables: Project) -> None:
    tables.configure(dev='max_blocking = "300ms"')
    tables.write("002-long.sql", "INSERT INTO t1 VALUES (1);\nCREATE TABLE own (id int);\nSELECT pg_sleep(1);")
    done = tables.run("sync")
    assert done.code == 0, done.err
    assert "waiting" not in done.err


# -- autovacuum ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def vacuuming(pg_bin: Path, tmp_path: Path) -> Iterator[Project]:
    """A project on a server of its own, whose autovacuum is awake and slow."""
    settings = {
        **FAST,
        "autovacuum": "on",
        "autovacuum_naptime": "1s",
        "autovacuum_vacuum_cost_delay": "100ms",
        "autovacuum_vacuum_cost_limit": "1",
        "autovacuum_vacuum_threshold": "100",
        "autovacuum_vacuum_scale_factor": "0",
    }
    with ThrowawayServer(pg_bin, settings=settings) as server:
        project = Project(folder=tmp_path, urls={"dev": server.url()})
        (tmp_path / "migrations").mkdir()
        project.configure()
        project.run("init")
        project.write("001-t.sql", "CREATE TABLE t (id bigint, n text);")
        project.run("baseline", "dev", "--version", "none")
        assert project.run("sync").code == 0
        yield project


WORKER = "SELECT query FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%.t%'"


def await_worker(project: Project) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if rows := project.query(WORKER):
            return str(rows[0][0])
        time.sleep(0.1)
    raise AssertionError("autovacuum never came")


def test_an_ordinary_autovacuum_gives_way_to_the_next_try(vacuuming: Project) -> None:
    vacuuming.query("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g; DELETE FROM t")
    await_worker(vacuuming)
    vacuuming.write("002-change.sql", "ALTER TABLE t ADD COLUMN m int;")
    with Stall(vacuuming.urls["dev"], ["SELECT count(*) FROM t"]) as stall:
        done = vacuuming.run("sync")
    assert done.code == 0, done.err
    assert "in the way: pid" in done.err and "(autovacuum)" in done.err
    assert "try 2" not in done.err, "the second try waits for deadlock_timeout, after which autovacuum is cancelled"
    assert within(stall, 1.25, "autovacuum"), stall.longest


def test_an_autovacuum_against_wraparound_is_named_and_not_fought(vacuuming: Project) -> None:
    vacuuming.configure(dev='retry_budget = "4s"')
    vacuuming.query(
        "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g;"
        "ALTER TABLE t SET (autovacuum_freeze_max_age = 100000)"
    )
    with psycopg.connect(vacuuming.urls["dev"], autocommit=True) as connection:
        connection.execute("DO $$ BEGIN FOR i IN 1..110000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    query = await_worker(vacuuming)
    deadline = time.monotonic() + 30
    while "wraparound" not in query and time.monotonic() < deadline:
        vacuuming.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'")
        time.sleep(0.3)
        query = await_worker(vacuuming)
    vacuuming.write("002-change.sql", "ALTER TABLE t ADD COLUMN m int;")
    with Stall(vacuuming.urls["dev"], ["SELECT count(*) FROM t"]) as stall:
        done = vacuuming.run("sync")
    assert done.code == 6, done.err
    assert "autovacuum to prevent wraparound, which does not give way" in done.err
    assert within(stall, 1.0, "autovacuum against wraparound"), stall.longest
    assert "wraparound" in await_worker(vacuuming), "it is still at work"


def test_a_statement_outside_of_a_transaction_gets_past_an_autovacuum_as_well(vacuuming: Project) -> None:
    vacuuming.query("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g; DELETE FROM t")
    await_worker(vacuuming)
    vacuuming.write("002-again.sql", "-- lockstep: transaction=none\nREINDEX TABLE t;\nCLUSTER;")
    done = vacuuming.run("sync")
    assert done.code == 0, done.err
    assert "try 3" not in done.err


def test_each_transaction_of_a_message_holds_its_own_locks(project: Project) -> None:
    """Of several in one message none is cancelled for what those before it held."""
    assert project.run("init").code == 0
    project.query("CREATE TABLE public.one (); CREATE TABLE public.two ()")
    session = open_session(target_of(project.settings(), project.environment()), run_id=new_run_id())
    watch = Watch(session.target, "test")
    text = "".join(
        f"BEGIN; LOCK TABLE public.{name} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.8); COMMIT;"
        for name in ("one", "two")
    )
    at_work = threading.Thread(target=lambda: session.connection.execute(text.encode()))
    watch.begin(session, patience_ms=None, told=None)
    at_work.start()
    since = set()
    try:
        while at_work.is_alive():
            watch.look()
            since.add(watch._strong_since)
            time.sleep(0.05)
    finally:
        at_work.join()
        watch.close()
        session.close()
    assert len(since - {None}) == 2
