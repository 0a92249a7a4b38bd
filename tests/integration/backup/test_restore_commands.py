"""`restore` and `backups verify` as a person calls them: after a bad deploy, into a copy, with the wrong words."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.core.address import parse_address
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.backup.store import Store
from tests.project import Project


@pytest.fixture
def shop(project: Project, store: Store, server: ThrowawayServer, pg_bin: Path) -> Iterator[Project]:
    """A project whose prod is protected and has one migration, 500 orders, and a bad migration after its backup."""
    name = parse_address(project.urls["dev"]).database
    project.urls = {"prod": project.urls["dev"]}
    project.toml = (
        f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
        f'programs = "{pg_bin}"\n'
    )
    project.configure(prod="protected = true")
    project.write("001-orders.sql", "CREATE TABLE orders (id int PRIMARY KEY, total int);")
    assert project.run("init", "prod").code == 0
    assert project.run("sync", "prod").code == 0
    project.query("INSERT INTO orders SELECT i, i * 10 FROM generate_series(1, 500) i", "prod")
    yield project
    with psycopg.connect(server.url(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{name}_",)
        ).fetchall()
        for (made,) in rows:
            connection.execute(f'DROP DATABASE "{made}" WITH (FORCE)')


def bad_deploy(shop: Project) -> str:
    """Apply a migration that ruins the totals; return its run's id."""
    shop.write("002-bad.sql", "UPDATE orders SET total = 0;")
    done = shop.run("sync", "prod", "--json")
    assert done.code == 0, done.err
    return str(done.document["run_id"])


def test_production_goes_back_to_before_a_bad_deploy(shop: Project, pg_bin: Path) -> None:
    run_id = bad_deploy(shop)
    shop.query("INSERT INTO orders VALUES (501, 1)", "prod")
    name = parse_address(shop.urls["prod"]).database

    refused = shop.run("restore", f"before:{run_id}", "--into", "prod")
    assert refused.code == 7 and "is not empty" in refused.err and "--replace" in refused.err
    refused = shop.run("restore", f"before:{run_id}", "--into", "prod", "--replace")
    assert refused.code == 7 and "nobody said that it is meant" in refused.err
    refused = shop.run("restore", f"before:{run_id}", "--into", "prod", "--replace", "--yes-i-mean", "prod")
    assert refused.code == 7 and f"which is {name}" in refused.err
    assert shop.query("SELECT sum(total) FROM orders", "prod") == [(1,)], "nothing was done so far"

    done = shop.run("restore", f"before:{run_id}", "--into", "prod", "--replace", "--yes-i-mean", name)
    assert done.code == 0, done.err
    assert "501 rows were written to it since the backup" in done.err and "public.orders 501" in done.err
    assert "pending again: 002-bad.sql" in done.err
    assert shop.query("SELECT count(*), sum(total) FROM orders", "prod") == [(500, 1252500)]
    assert "closed to connections" in done.out and "next: lockstep plan prod" in done.out

    # The ledger says where the database stands, and the audit log goes on where the backup's ended.
    plan = shop.run("plan", "prod")
    assert plan.code == 0 and "002-bad" in plan.out
    assert shop.query("SELECT event FROM schema_migrations_log ORDER BY id DESC LIMIT 1", "prod") == [("restore",)]
    assert shop.run("history", "prod", "--verify").code == 0
    shop.write("002-bad.sql", "UPDATE orders SET total = total + 1;")
    assert shop.run("sync", "prod").code == 0
    assert shop.query("SELECT sum(total) FROM orders", "prod") == [(1253000,)]


@pytest.mark.slow
def test_the_way_back_that_is_printed_works(shop: Project, server: ThrowawayServer) -> None:
    bad_deploy(shop)
    name = parse_address(shop.urls["prod"]).database
    done = shop.run("restore", "latest", "--into", "prod", "--replace", "--yes-i-mean", name)
    assert done.code == 0, done.err
    statements = [line.strip() for line in done.out.splitlines() if line.startswith("    ")]
    assert len(statements) == 4
    with (
        psycopg.connect(shop.urls["prod"]),  # the application is back already
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        for statement in statements:
            connection.execute(statement.encode())
    assert shop.query("SELECT sum(total) FROM orders", "prod") == [(0,)]
    assert "up to date" in shop.run("status", "prod").out


@pytest.mark.slow
def test_a_copy_by_url_and_by_time(shop: Project, new_database: Callable[[], str], pg_bin: Path) -> None:
    bad_deploy(shop)
    copy = new_database()
    shop.variables["COPY_URL"] = copy
    done = shop.run("restore", "latest", "--into", "${COPY_URL}", "--json")
    assert done.code == 0, done.err
    document = done.document
    assert document["format"] == "lockstep.restore/1"
    assert (document["ledger_version"], document["old_database"]) == (1, None)
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT sum(total) FROM orders").fetchone() == (1252500,)
    password = parse_address(copy).password
    assert password not in done.out + done.err
    again = shop.run("restore", "2026-01-01 00:00", "--of", "prod", "--into", copy)
    assert again.code == 2 and password not in again.err
    nowhere = shop.run("restore", "latest", "--into", "staging")
    assert nowhere.code == 2 and "neither an environment" in nowhere.err


def test_a_verified_backup_is_told_by_status(shop: Project, store: Store) -> None:
    assert "(restored)" in shop.run("status", "prod").out, "its deploy rehearsed on it"
    bad_deploy(shop)
    for level in ("digests", "archive", "restored"):
        done = shop.run("backups", "verify", "latest", "--level", level)
        assert done.code == 0, done.err
        assert f"1 of 1 holds ({level})" in done.out
    meant = shop.run("backups", "verify", "prod")
    assert meant.code == 2 and "lockstep backups verify latest --of prod" in meant.err
    status = shop.run("status", "prod")
    assert "verified today" in status.out and "(restored)" in status.out
    assert shop.run("status", "prod", "--json").document["environments"][0]["backups"]["verified_level"] == "restored"


def test_a_damaged_backup_is_found_recorded_and_never_restored(
    shop: Project, store: Store, new_database: Callable[[], str]
) -> None:
    run_id = bad_deploy(shop)
    (key,) = [key for key in store.stored() if key.endswith(f"-{run_id}/database.dump")]
    body = bytearray(store.read(key))
    body[len(body) // 2] ^= 0x10
    store.client.put_object(Bucket=store.name, Key=key, Body=bytes(body))
    done = shop.run("backups", "verify", "--json")
    assert done.code == 7
    assert done.document["backups"][0]["ok"] is False and done.document["backups"][0]["findings"]
    assert "FAILED its verification" in shop.run("status", "prod").out
    assert "failed" in shop.run("backups", "list").out
    refused = shop.run("restore", "latest", "--into", new_database())
    assert refused.code == 7, refused.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "after"),
    [(signal.SIGTERM, "restore  "), (signal.SIGTERM, "comparison"), (signal.SIGKILL, "statistics")],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value.strip(),
)
def test_whatever_ends_a_replacement_production_is_the_old_or_the_new_one(
    shop: Project, server: ThrowawayServer, after: str, how: signal.Signals
) -> None:
    run_id = bad_deploy(shop)
    name = parse_address(shop.urls["prod"]).database
    words = ["restore", f"before:{run_id}", "--into", "prod", "--replace", "--yes-i-mean", name]
    process = subprocess.Popen(
        [sys.executable, "-m", "lockstep", *words], cwd=shop.folder, env=shop.environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if after in line:
            process.send_signal(how)
            break
    process.stderr.read()
    process.wait(30)
    process.stderr.close()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT datname, datallowconn FROM pg_database WHERE starts_with(datname, %s)", (name,)
        ).fetchall()
        state = {row[0]: row[1] for row in rows}
        if how is signal.SIGKILL and not state[name]:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')  # as the guide says
    kept = [other for other in state if other.startswith(f"{name}_before_")]
    total = 1252500 if kept else 0
    assert shop.query("SELECT sum(total) FROM orders", "prod") == [(total,)]
    if how is signal.SIGTERM:
        assert state[name], "open"
        assert not [other for other in state if "_restored_" in other], "the copy beside it is gone"
    assert shop.run("restore", f"before:{run_id}", "--into", "prod", "--replace", "--yes-i-mean", name).code == 0
    assert shop.query("SELECT sum(total) FROM orders", "prod") == [(1252500,)]
