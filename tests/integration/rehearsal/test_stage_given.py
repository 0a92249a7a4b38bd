"""A server that is given for rehearsals: databases of our own in it, and nothing of them stays, however a rehearsal ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.faults.kills import wait_for
from tests.faults.test_rehearsal_kills import start
from tests.integration.rehearsal.stages import staged
from tests.project import Project


@pytest.fixture(scope="module")
def given(pg_bin: Path) -> Iterator[ThrowawayServer]:
    """Somebody's clone host. `rehearser` may create databases, and nothing else."""
    with ThrowawayServer(pg_bin, settings={**FAST, "wal_level": "minimal", "max_wal_senders": "0"}) as running:
        with psycopg.connect(running.url(), autocommit=True) as admin:
            admin.execute("CREATE ROLE rehearser LOGIN CREATEDB PASSWORD 'pw'")
        yield running


@pytest.fixture
def shop(prod: Project, given: ThrowawayServer, server: ThrowawayServer) -> Iterator[Project]:
    """prod with a role that the given server does not have."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE given_reader")
    prod.query(
        "CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders SELECT g, g FROM generate_series(1, 500) g;"
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders TO given_reader USING (true)",
        "prod",
    )
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.variables["REHEARSAL_SERVER_URL"] = given.url(user="rehearser", password="pw")
    prod.toml += '[rehearsal]\nserver = "${REHEARSAL_SERVER_URL}"\n'
    prod.configure(prod="protected = true")
    prod.write("001-index.sql", "CREATE INDEX orders_total ON orders (total);")
    prod.write("001-index.down.sql", "DROP INDEX orders_total;")
    yield prod
    prod.query("DROP POLICY IF EXISTS p ON orders", "prod")
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("DROP ROLE given_reader")


def databases(given: ThrowawayServer) -> list[str]:
    with psycopg.connect(given.url()) as admin:
        return [
            row[0]
            for row in admin.execute("SELECT datname FROM pg_database WHERE datname NOT LIKE 'template_' ORDER BY 1")
        ]


def test_a_plan_is_rehearsed_there_and_nothing_stays(shop: Project, given: ThrowawayServer) -> None:
    done = shop.run("rehearse", "prod", "--fresh", "--json")
    assert done.code == 0, done.out + done.err
    found = done.document["rehearsal"]
    assert found["copy"]["isolated"] is False
    notes = " ".join(found["copy"]["notes"])
    assert "given_reader" in notes and "wal_level minimal" in notes and "pw" not in notes
    assert databases(given) == ["postgres"]


@pytest.mark.slow
def test_with_a_role_that_may_make_roles_they_are_made_and_dropped(shop: Project, given: ThrowawayServer) -> None:
    shop.variables["REHEARSAL_SERVER_URL"] = given.url()
    assert shop.run("rehearse", "prod", "--fresh").code == 0
    with psycopg.connect(given.url()) as admin:
        assert admin.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'given_reader'").fetchone() == (0,)
    assert databases(given) == ["postgres"]


@pytest.mark.slow
def test_a_failure_on_the_way_leaves_nothing(shop: Project, given: ThrowawayServer) -> None:
    with pytest.raises(ZeroDivisionError), staged(shop) as stage:
        stage.clone()
        assert len(databases(given)) == 3
        raise ZeroDivisionError
    assert databases(given) == ["postgres"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda one: one.name)
def test_what_a_killed_one_left_goes_with_the_next_and_what_lives_stays(
    shop: Project, given: ThrowawayServer, tmp_path: Path, how: signal.Signals
) -> None:
    assert shop.run("backup", "prod").code == 0
    shop.write("001-index.sql", "CREATE INDEX orders_total ON orders (total); SELECT pg_sleep(30);")
    pid = start(shop, tmp_path)
    deadline = time.monotonic() + 60
    while len(databases(given)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(pid, how)
    wait_for(pid)
    left = databases(given)
    assert (len(left) > 1) == (how is signal.SIGKILL), (shop.folder / "output.txt").read_text()
    shop.write("001-index.sql", "CREATE INDEX orders_total ON orders (total);")
    with staged(shop) as living:
        assert not set(left) - {"postgres"} & set(databases(given))
        assert shop.run("rehearse", "prod").code == 0
        with psycopg.connect(living.clone().admin) as there:
            assert there.execute("SELECT count(*) FROM orders").fetchone() == (500,)
    assert databases(given) == ["postgres"]


@pytest.mark.slow
def test_what_would_leave_the_database_is_not_run_there_though_its_file_accepts_it(
    shop: Project, given: ThrowawayServer
) -> None:
    shop.write(
        "001-index.sql",
        "-- lockstep: allow=reaches-outside reason=\"we know\"\nCOPY orders FROM PROGRAM 'touch /tmp/never';",
    )
    done = shop.run("rehearse", "prod", "--fresh", "--json")
    assert done.document["rehearsal"]["files"] == []


@pytest.mark.slow
def test_a_role_that_may_not_create_databases_is_told_so(shop: Project, given: ThrowawayServer) -> None:
    with psycopg.connect(given.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE nobody_much LOGIN PASSWORD 'pw'")
    shop.variables["REHEARSAL_SERVER_URL"] = given.url(user="nobody_much", password="pw")
    done = shop.run("rehearse", "prod", "--fresh")
    assert done.code == 7 and "may not create databases" in done.err and "CREATEDB" in done.err
