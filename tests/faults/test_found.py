"""What the random faults found, each as a test of its own. Each of these once worked otherwise."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockstep.postgres import poolers
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.pooler import Pooler
from tests.project import Outcome, Project


def cancel_when_it_waits(project: Project, table: str, *words: str) -> Outcome:
    """Call a command, and cancel the query with which it waits for a table that somebody else has locked."""
    cancelled = threading.Event()

    def cancel(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            deadline = time.monotonic() + 20
            while not cancelled.is_set() and time.monotonic() < deadline:
                found = connection.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lockstep/%'"
                    " AND wait_event_type = 'Lock' AND datname = current_database()"
                ).fetchall()
                if found:
                    cancelled.set()
                time.sleep(0.01)

    with psycopg.connect(project.urls["dev"]) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        thread = threading.Thread(target=cancel, args=(project.urls["dev"],))
        thread.start()
        try:
            return project.run(*words)
        finally:
            thread.join()
            assert cancelled.is_set()


def test_a_query_of_lockstep_itself_that_somebody_cancels_is_no_unexpected_error(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    for words in (("sync", "dev"), ("status",), ("repair", "dev")):
        done = cancel_when_it_waits(project, "schema_migrations", *words)
        assert done.code == 6 or words == ("status",), (words, done)
        assert "was cancelled on the server" in done.err + done.out and "unexpected" not in done.err, (words, done)
    assert project.run("sync").code == 0


@pytest.mark.pooler
def test_a_server_that_crashes_is_not_taken_for_a_pooler_in_transaction_mode(
    pg_bin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "migrations").mkdir()
    with ThrowawayServer(pg_bin) as server, Pooler(server.url(), mode="session") as pooler:
        project = Project(folder=tmp_path, urls={"dev": server.url()})
        project.configure()
        project.run("init")
        project.urls["dev"] = pooler.url()
        # The second session's question takes a while, so that the crash comes in the middle of it.
        monkeypatch.setattr(poolers, "_OTHERS", f"SELECT pg_sleep(10); {poolers._OTHERS}")
        monkeypatch.setattr(poolers, "_QUEUED", 20.0)

        def crash() -> None:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                asked = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(10)%' AND state = 'active'"
                while not connection.execute(asked).fetchall():
                    time.sleep(0.01)
            server.kill()

        thread = threading.Thread(target=crash)
        thread.start()
        done = project.run("sync")
        thread.join()
    assert done.code == 8 and "transaction mode" not in done.err, done


@pytest.mark.parametrize("pooled", [False, pytest.param(True, marks=pytest.mark.pooler)], ids=["direct", "pooled"])
def test_a_session_that_is_ended_in_its_commit_is_a_lost_connection(pooled: bool, project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    assert project.run("sync").code == 0
    project.query(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER slowly AFTER DELETE ON schema_migrations DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
    direct = project.urls["dev"]

    def end_it() -> None:
        with psycopg.connect(direct, autocommit=True) as connection:
            asked = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%COMMIT%' AND wait_event = 'PgSleep'"
            while not connection.execute(asked).fetchall():
                time.sleep(0.01)

    with ExitStack() as stack:
        if pooled:
            project.urls["dev"] = stack.enter_context(Pooler(direct, mode="session")).url()
        thread = threading.Thread(target=end_it)
        thread.start()
        done = project.run("repair", "dev", "--forget", "1")
        thread.join()
        project.urls["dev"] = direct
    assert done.code == 8 and "the connection was lost" in done.err, done
    assert project.query("SELECT count(*) FROM schema_migrations") == [(1,)]


@pytest.mark.pooler
def test_a_session_that_is_ended_as_it_reads_the_schema_is_a_lost_connection(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    direct = project.urls["plain"] = project.urls["dev"]
    ended = threading.Event()

    def end_it() -> None:
        with psycopg.connect(direct, autocommit=True) as connection:
            asked = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %' AND state = 'active'"
            )
            while not ended.is_set():
                if connection.execute(asked).fetchall():
                    ended.set()

    project.query("CREATE TABLE by_hand (id int)")  # so that it is read, and not only the token
    with Pooler(direct, mode="session") as pooler:
        project.urls["dev"] = pooler.url()
        thread = threading.Thread(target=end_it)
        thread.start()
        try:
            for _ in range(30):
                done = project.run("drift", "dev", "--accept", "x")
                if ended.is_set():
                    break
                project.query(
                    f"CREATE TABLE IF NOT EXISTS by_hand (id int); ALTER TABLE by_hand ADD n{time.monotonic_ns()} int",
                    "plain",
                )
        finally:
            ended.set()
            thread.join()
    assert done.code == 8 and "the connection was lost" in done.err, done


class Ending:
    """Ends a session of Lockstep's right before its nth question, counted over all of a command."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nth = self.asked = 0
        ask = psycopg.Cursor.execute

        def execute(cursor: psycopg.Cursor, *words: Any, **more: Any) -> psycopg.Cursor:
            if cursor.connection.info.get_parameters().get("application_name", "").startswith("lockstep/"):
                self.asked += 1
                if self.asked == self.nth:
                    with other.cursor() as killer:
                        ask(killer, "SELECT pg_terminate_backend(%s, 5000)", (cursor.connection.info.backend_pid,))
            return ask(cursor, *words, **more)

        other = psycopg.connect(url, autocommit=True)
        self.close = other.close
        monkeypatch.setattr(psycopg.Cursor, "execute", execute)

    def before(self, nth: int) -> None:
        self.nth, self.asked = nth, 0


@pytest.mark.parametrize(
    "words", ["init", "status", "plan", "sync", "drift dev", "history dev", "repair dev", "revert dev --to none"]
)
def test_a_session_that_is_ended_before_any_question_is_a_lost_connection(
    words: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("001-a.down.sql", "DROP TABLE a;")
    if words != "init":
        assert project.run("init").code == 0
    if words.startswith(("drift", "revert")):
        assert project.run("sync").code == 0
    ending = Ending(project.urls["dev"], monkeypatch)
    hits = 0
    for nth in range(1, 200):
        ending.before(nth)
        done = project.run(*words.split())
        if ending.asked < nth:
            break  # it asked no more
        hits += 1
        assert done.code in (0, 8) and "error: unexpected" not in done.err, (nth, done)
        if words == "sync" and done.code == 0:
            project.run("revert", "dev", "--to", "none")
        if words.startswith("revert") and done.code == 0:
            project.run("sync")
    ending.close()
    assert hits
