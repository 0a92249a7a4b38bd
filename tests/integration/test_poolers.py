"""Behind a real PgBouncer: transaction mode is refused before anything is changed, session mode works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from lockstep.postgres.connection import open_session
from lockstep.postgres.lock import take_lock
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.project import target_of
from tests.integration.pooler import Pooler
from tests.integration.test_ledger import database_of
from tests.project import Outcome, Project

pytestmark = pytest.mark.pooler

ONE_TABLE = "CREATE TABLE a (id bigint);"


def behind(project: Project, pooler: Pooler) -> str:
    """Lead the project's dev through the pooler; return the direct URL."""
    direct = project.urls["dev"]
    project.urls["dev"] = pooler.url()
    return direct


def ask(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text.encode()).fetchall()


def freed_within(seconds: float, direct: str) -> bool:
    """Whether no advisory lock is held any more within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ask(direct, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]:
            return True
        time.sleep(0.02)
    return False


POOLS: dict[str, tuple[int, dict[str, str], int]] = {
    "one backend, cold": (1, {}, 0),
    "one backend, warm": (1, {}, 1),
    "several, cold": (5, {}, 0),
    "several, warm": (5, {}, 5),
    "given in turn": (5, {"server_round_robin": "1"}, 5),
    "given in turn, two": (2, {"server_round_robin": "1"}, 2),
    "one by one in statement mode": (3, {"pool_mode": "statement"}, 0),
}


@pytest.mark.parametrize("case", POOLS)
def test_transaction_mode_is_refused_before_anything_is_changed(
    case: str, project: Project, dump: Callable[[str], str]
) -> None:
    size, options, warm = POOLS[case]
    project.write("001-a.sql", ONE_TABLE)
    before = dump(project.urls["dev"])
    with Pooler(project.urls["dev"], **{"mode": "transaction", **options}, size=size) as pooler:
        direct = behind(project, pooler)
        # A warm pool: that many backends wait for somebody. `warm` transactions at once make them.
        clients = [psycopg.connect(pooler.url(), autocommit=True) for _ in range(warm)]
        for client in clients:
            client.execute("SELECT 1" if "statement" in case else "BEGIN")
        for client in clients:
            client.close()
        usual = ask(direct, "SELECT current_setting('search_path'), current_setting('statement_timeout')")
        for command in ("init", "status", "sync"):
            done = project.run(command)
            assert "transaction mode" in done.err, (command, done)
            assert "pool_mode = session" in done.err and "Nothing was changed" in done.err
            assert done.code == (2 if command != "status" else done.code) and done.code != 0
        # Whoever gets the pool's backends next finds them as they were: no search_path, no timeout, no read-only.
        found = [
            ask(pooler.url(), "SELECT current_setting('search_path'), current_setting('statement_timeout')")[0]
            for _ in range(size + 1)
        ]
        assert found == usual * (size + 1)
        assert ask(pooler.url(), "SHOW default_transaction_read_only") == [("off",)]
        assert ask(direct, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert dump(direct) == before


def test_transaction_mode_is_found_also_while_others_work_in_the_pool(project: Project) -> None:
    stop = threading.Event()

    def work(url: str) -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while not stop.is_set():
                connection.execute("BEGIN; SELECT pg_sleep(0.002); COMMIT")

    with Pooler(project.urls["dev"], mode="transaction", size=3) as pooler:
        behind(project, pooler)
        threads = [threading.Thread(target=work, args=(pooler.url(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            outcomes = [project.run("init") for _ in range(12)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert [done.code for done in outcomes] == [2] * 12, outcomes


@pytest.mark.parametrize("size", [1, 5])
def test_session_mode_works(size: int, project: Project) -> None:
    project.write("001-a.sql", ONE_TABLE)
    project.write("001-a.down.sql", "DROP TABLE a;")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    project.write("002-b.down.sql", "DROP TABLE b;")
    with Pooler(project.urls["dev"], mode="session", size=size) as pooler:
        direct = behind(project, pooler)
        for words in (["init"], ["sync"], ["status", "--check"], ["revert", "dev", "--steps", "1"]):
            done = project.run(*words)
            assert done.code == 0, (words, done)
            assert freed_within(1, direct), "the pooler's DISCARD ALL lets go of it"
        project.write("003-c.sql", "CREATE TABLE c (id bigint);")
        project.urls["dev"] = direct
        assert project.run("sync", "--include", "2").code == 0, "directly, while the pooler keeps its backends"
        project.urls["dev"] = pooler.url()
        assert "up to date" in project.run("status").out
        # The next client of a backend that Lockstep used finds the defaults.
        assert ask(pooler.url(), "SHOW search_path") == ask(direct, "SHOW search_path")


def test_two_runners_behind_a_session_pooler_apply_everything_once(project: Project) -> None:
    for number in range(1, 6):
        project.write(f"{number:03d}-step.sql", f"CREATE TABLE t{number} (id bigint); SELECT pg_sleep(0.05);")
    with Pooler(project.urls["dev"], mode="session") as pooler:
        behind(project, pooler)
        project.run("init")
        outcomes: list[Outcome] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(project.run_process("sync", "--wait"))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [done.code for done in outcomes] == [0, 0], outcomes
        assert project.query("SELECT count(*), count(DISTINCT version) FROM schema_migrations") == [(5, 5)]


def test_a_lock_behind_a_session_pooler_names_the_backend_that_holds_it(project: Project) -> None:
    project.write("001-a.sql", ONE_TABLE)
    with Pooler(project.urls["dev"], mode="session") as pooler:
        direct = behind(project, pooler)
        project.run("init")
        holder = open_session(target_of(project.settings(), project.environment()), run_id="the-other-run")
        try:
            take_lock(holder)
            ((pid, name),) = ask(
                direct,
                "SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'",
            )
            assert (holder.facts.pid, name) == (pid, "lockstep/the-other-run")
            assert holder.connection.info.backend_pid != pid, "which is not what the pooler called it"
            done = project.run("sync")
            assert done.code == 5
            assert f"run the-other-run (user postgres, pid {pid}, " in done.err
        finally:
            holder.close()
        assert project.run("sync", "--wait").code == 0


@pytest.mark.parametrize("work", ["SELECT pg_sleep(60)", None], ids=["in a statement", "between two"])
def test_a_killed_client_behind_a_session_pooler_leaves_no_lock(work: str | None, project: Project) -> None:
    with Pooler(project.urls["dev"], mode="session") as pooler:
        direct = behind(project, pooler)
        project.run("init")
        script = (
            "import sys\n"
            "from pathlib import Path\n"
            "from lockstep.config import load_settings\n"
            "from lockstep.postgres.connection import open_session\n"
            "from lockstep.postgres.lock import take_lock\n"
            "from lockstep.service.project import target_of\n"
            "settings = load_settings(Path('.'))\n"
            "session = open_session(target_of(settings, settings.environment('dev')), run_id='killed')\n"
            "take_lock(session)\n"
            "print('held', flush=True)\n"
            f"session.connection.execute({work!r}) if {work!r} else sys.stdin.read()\n"
        )
        client = subprocess.Popen(
            [sys.executable, "-c", script], cwd=project.folder, env=project.environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert client.stdout is not None and client.stdout.readline() == b"held\n"
            time.sleep(0.3)  # into the statement
            os.kill(client.pid, signal.SIGKILL)
            assert freed_within(1.5, direct)
        finally:
            client.kill()
            client.communicate()


@pytest.mark.parametrize("options", [{}, {"ignore_startup_parameters": "options"}], ids=["refused", "dropped"])
def test_settings_arrive_where_the_pooler_takes_no_startup_options(
    options: dict[str, str], server: ThrowawayServer, project: Project
) -> None:
    project.query(f"ALTER DATABASE {database_of(project)} SET log_statement = 'all'")
    project.configure(dev='settings = { admins = "${ADMINS}" }')
    project.write("001-a.sql", "CREATE TABLE seen AS SELECT current_setting('lockstep.admins') AS t;")
    project.write("001-a.verify.sql", "SELECT current_setting('lockstep.admins') <> '' AS set;")
    project.variables["ADMINS"] = "p00led-s3cret, one"
    # One backend, so that the second run gets the one that the first has left.
    with Pooler(project.urls["dev"], mode="session", size=1, **options) as pooler:
        behind(project, pooler)
        project.run("init")
        assert project.run("sync").code == 0
        project.variables["ADMINS"] = "p00led-s3cret, two"
        project.write("002-b.sql", "INSERT INTO seen SELECT current_setting('lockstep.admins');")
        project.write("003-c.sql", "INSERT INTO seen SELECT current_setting('lockstep.admins');")
        done = project.run("sync")
        assert done.code == 0, done.err
        one, two = "p00led-s3cret, one", "p00led-s3cret, two"
        assert project.query("SELECT t FROM seen") == [(one,), (two,), (two,)]
    log = (server.folder / "server.log").read_text()
    assert "current_setting('lockstep.admins')" in log, "statements are logged"
    assert "p00led-s3cret" not in log


def test_a_wrong_password_is_tried_once_and_not_again_without_options(
    server: ThrowawayServer, project: Project
) -> None:
    project.configure(dev='settings = { a = "x" }')
    project.urls["dev"] = server.url(database_of(project), password="wr0ng-s3cret")
    log = server.folder / "server.log"
    before = log.read_text().count("password authentication failed")
    done = project.run("init")
    assert done.code == 8, done
    done = project.run("sync")
    assert done.code == 8 and "password authentication failed" in done.err
    assert log.read_text().count("password authentication failed") - before == 2
