"""Quick migrations in one message, attacked: large downs, servers that crash, files that say how COMMIT is to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.errors import Unreachable
from lockstep.postgres.connection import Session
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service import together, worksession
from tests.integration.proxy import CountingProxy
from tests.project import Project

MANY = 12


@pytest.fixture
def many(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(together, "SPAN", 60.0)  # however slow the machine is
    project.run("init")
    for number in range(1, MANY + 1):
        project.write(f"{number:03d}-t.sql", f"CREATE TABLE public.t{number} (id bigint PRIMARY KEY);")
    return project


def applied(project: Project) -> list[int]:
    """Versions in the ledger; each table must be there, and no other."""
    versions = [row[0] for row in project.query("SELECT version FROM schema_migrations ORDER BY 1")]
    tables = project.query(r"SELECT substr(relname, 2)::int FROM pg_class WHERE relname ~ '^t\d+$' ORDER BY 1")
    assert [row[0] for row in tables] == versions
    return versions


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
