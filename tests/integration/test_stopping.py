"""What is left of a run is ended from outside: by its name, as an ordinary role, and never a later try of the same run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from lockstep.postgres.entries import RunInfo
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.stopping import Told, end_sql
from tests.integration.test_ledger import database_of, role
from tests.project import Project

RUN = "20260101-000000-abcd"


@contextmanager
def at_work(url: str, name: str = RUN) -> Iterator[threading.Event]:
    """A session of a run that is at a long statement, as libpq leaves it when its client is gone; set: it was ended."""
    ended = threading.Event()
    connection = psycopg.connect(url, autocommit=True, application_name=f"lockstep/{name}")

    def work() -> None:
        try:
            connection.execute("SELECT pg_sleep(60)")
        except psycopg.errors.AdminShutdown:
            ended.set()
        except psycopg.OperationalError:
            return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ended
    finally:
        connection.cancel_safe() if not ended.is_set() else None
        thread.join()
        connection.close()


def stopped(project: Project, how: str = "crashed", **more: object) -> tuple[Told, ...]:
    environments = tuple(project.settings().environments.values())
    return end_sql(project.settings(), RunInfo(run_id=RUN), environments, how=how, **more)  # type: ignore[arg-type]


def rows(project: Project) -> list[Any]:
    query = "SELECT details FROM schema_migrations_log WHERE event = 'stop' ORDER BY id"
    return [row[0] for row in project.query(query)]


def test_sessions_of_a_run_are_ended_and_a_later_try_and_other_runs_are_let_alone(project: Project) -> None:
    project.run("init")
    url = project.urls["dev"]
    with at_work(url) as old, at_work(url, f"{RUN}/watch") as looking, at_work(url, "20260101-000000-abce") as other:
        time.sleep(1.5)
        with at_work(url) as later:
            (told,) = stopped(project, age=1.0)
            assert told.text == "2 sessions were ended; no migration was under way"
            assert old.wait(10) and looking.wait(10)
            assert not later.is_set() and not other.is_set()
    (row,) = rows(project)
    assert (row["how"], row["sessions"], row["sessions_left"]) == ("crashed", 2, 0)


def test_a_role_that_works_as_another_one_ends_its_own_sessions(server: ThrowawayServer, project: Project) -> None:
    name = database_of(project)
    url = role(
        server,
        name,
        "deployer",
        f'GRANT CREATE ON SCHEMA public TO deployer; GRANT CREATE ON DATABASE "{name}" TO deployer',
    )
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute(
            "CREATE ROLE owner_of_it; GRANT owner_of_it TO deployer; GRANT CREATE ON SCHEMA public TO owner_of_it"
        )
    project.urls["dev"] = url
    project.configure(dev='role = "owner_of_it"')
    try:
        done = project.run("init")
        assert done.code == 0, done.err
        with at_work(url) as old:
            (told,) = stopped(project)
            assert old.wait(10), told
        assert rows(project)[0]["sessions"] == 1
    finally:
        with psycopg.connect(server.url(name), autocommit=True) as connection:
            connection.execute("DROP OWNED BY owner_of_it; DROP ROLE owner_of_it")


def test_it_is_told_once_and_only_where_the_run_had_been(project: Project) -> None:
    project.run("init")
    assert stopped(project) == () and not rows(project)
    with at_work(project.urls["dev"]):
        assert len(stopped(project)) == 1
    assert stopped(project) == () and len(rows(project)) == 1


def test_what_cannot_be_reached_raises_nothing_and_shows_no_password(project: Project) -> None:
    project.run("init")
    project.urls["dev"] = "postgresql://somebody:hunter2secret@127.0.0.1:1/nowhere"
    (told,) = stopped(project)
    assert "could not be looked at" in told.text and "hunter2secret" not in told.text
