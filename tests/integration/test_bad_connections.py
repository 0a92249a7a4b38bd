"""Addresses, servers and roles that are wrong: what is said, the remedy, no secret, nothing applied."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.handshake import refused_with
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.test_ledger import database_of, role
from tests.project import Project

#: fault -> (URL made from the good one, exit code, what is said, the remedy)
ADDRESSES = {
    "no URL": ("s3cret@somewhere", 2, "lockstep.toml:3 (environments.dev.url): neither a postgresql:// URL nor", "lockstep config"),
    "unknown scheme": ("mysql://u:s3cret@h/d", 2, "lockstep.toml:3 (environments.dev.url): the URL must start with postgresql://, not mysql://", "lockstep config"),
    "bad port": ("postgresql://u:s3cret@h:54x/d", 2, "lockstep.toml:3 (environments.dev.url): the URL's host or port cannot be read", "lockstep config"),
    "unknown host": ("postgresql://u:s3cret@no-such-host.invalid/d", 8, "no-such-host.invalid", "lockstep config shows the address"),
    "nothing listens": ("postgresql://u:s3cret@127.0.0.1:1/d", 8, "Connection refused", "lockstep config"),
    "wrong password": ("postgresql://postgres:s3cret@127.0.0.1:{port}/{database}", 8, "password authentication failed", "check user, password and database name in .env"),
    "missing database": ("postgresql://postgres:{password}@127.0.0.1:{port}/nowhere", 8, '"nowhere" does not exist', "check user, password and database name in .env"),
    # 127.1 is this machine, and no address that Lockstep takes for local by its looks.
    "no TLS on another host": ("postgresql://postgres:{password}@127.1:{port}/{database}", 8, "does not offer TLS", "turn TLS on at the server (ssl = on, and a certificate), or reach it through a tunnel"),
    "TLS turned off": ("postgresql://postgres:{password}@127.1:{port}/{database}?sslmode=disable", 2, "sslmode=disable would send the password and all data in clear", "remove sslmode=disable"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ADDRESSES)
def test_a_bad_address_is_said_with_its_remedy(fault: str, server: ThrowawayServer, project: Project) -> None:
    template, code, said, remedy = ADDRESSES[fault]
    good = project.urls["dev"]
    assert project.run("init").code == 0
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.urls["dev"] = template.format(password=server.password, port=server.port, database=database_of(project))
    for command in ("sync", "init"):
        done = project.run(command)
        assert done.code == code, (command, done)
        assert said in done.err and remedy in done.err, done.err
        assert "s3cret" not in done.err and server.password not in done.err
    project.urls["dev"] = good
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]


@pytest.fixture(scope="module")
def standby(server: ThrowawayServer, pg_bin: Path) -> Iterator[ThrowawayServer]:
    """A real one: a base backup of the session's server that follows it."""
    with ThrowawayServer(pg_bin) as made:
        made.kill()
        data, copy = made.folder / "data", made.folder / "copy"
        subprocess.run(
            [str(pg_bin / "pg_basebackup"), "-D", str(copy), "-R", "-c", "fast", "-X", "stream", "-d", server.url()],
            check=True, capture_output=True,
        )  # fmt: skip
        owner = data.stat()
        for path in (copy, *copy.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        shutil.rmtree(data)
        copy.rename(data)
        made.start()
        yield made


def test_a_standby_is_read_and_never_changed(
    server: ThrowawayServer, standby: ThrowawayServer, project: Project
) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("sync")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    # Everything that the primary wrote has arrived.
    ((written,),) = project.query("SELECT pg_current_wal_insert_lsn()::text")
    primary = project.urls["dev"]
    project.urls["dev"] = standby.url(database_of(project), password=server.password)
    with psycopg.connect(standby.url(password=server.password), autocommit=True) as connection:
        for _ in range(200):
            row = connection.execute(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn, pg_sleep(0.05)", (written,)
            ).fetchone()
            if row and row[0]:
                break
    shown = project.run("status")
    assert shown.code == 0 and "001-a      applied" in shown.out and "002-b      pending" in shown.out
    assert project.run("plan").code == 0
    for words in (["sync"], ["init"], ["revert", "dev", "--steps", "1"], ["repair", "dev", "--forget", "1"]):
        done = project.run(*words)
        assert done.code == 2, (words, done)
        assert "this is a standby, which cannot be changed" in done.err
        assert "next: use the primary's address" in done.err
    project.urls["dev"] = primary
    assert project.run("sync").code == 0


def test_a_database_that_is_read_only_by_default_is_written_all_the_same(project: Project) -> None:
    project.run("init")
    for setting, value in {"isolation": "serializable", "deferrable": "on", "read_only": "on"}.items():
        project.query(f'ALTER DATABASE "{database_of(project)}" SET default_transaction_{setting} = {value}')
    look = "SELECT current_setting('transaction_isolation')"
    project.write("001-a.sql", f"CREATE TABLE a AS {look};")
    project.write(
        "002-b.sql", f"-- lockstep: transaction=none\nINSERT INTO a {look};\nBEGIN;\nINSERT INTO a {look};\nCOMMIT;"
    )
    done = project.run("sync")
    assert done.code == 0, done.err
    with psycopg.connect(project.urls["dev"]) as connection:
        assert connection.execute("SELECT DISTINCT a.* FROM a").fetchall() == [("read committed",)]


def test_a_role_without_rights_to_make_the_ledger_is_said(server: ThrowawayServer, project: Project) -> None:
    project.urls["dev"] = role(server, database_of(project), "without_rights")
    done = project.run("init")
    assert done.code == 4
    assert "role without_rights may not create the ledger: permission denied for schema public" in done.err
    assert "next: log in as the migrator (docs/how-to/roles.md)" in done.err
    assert "GRANT CREATE ON SCHEMA public TO without_rights" in done.err


def test_a_role_that_lacks_a_right_that_a_file_needs_is_said_with_the_line(
    server: ThrowawayServer, project: Project
) -> None:
    name = database_of(project)
    project.query("CREATE TABLE not_yours (id bigint)")
    project.urls["dev"] = role(server, name, "half_rights", "GRANT CREATE ON SCHEMA public TO half_rights")
    project.run("init")
    project.run("baseline", "dev", "--version", "none")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);\nALTER TABLE not_yours ADD COLUMN x int;")
    done = project.run("sync")
    assert done.code == 6
    assert "001-a.sql:2" in done.err and "must be owner of table not_yours" in done.err
    assert "next: the role lacks a privilege: set role = … for this environment, or grant it" in done.err
    assert project.query("SELECT to_regclass('a')") == [(None,)]


@pytest.mark.parametrize(
    ("name", "said"), [("no_such_role", 'role "no_such_role" does not exist'), ("pg_monitor", "permission denied")]
)
def test_a_configured_role_that_cannot_be_taken_is_said(
    name: str, said: str, server: ThrowawayServer, project: Project
) -> None:
    project.run("init")
    project.urls["dev"] = role(server, database_of(project), "plain_login")
    project.configure(dev=f'role = "{name}"')
    done = project.run("sync")
    assert done.code == 2 and said in done.err
    assert f'next: check role = "{name}" of this environment in lockstep.toml' in done.err


def test_a_server_that_takes_no_connections_for_a_while_is_said_to_be_waited_for(
    project: Project, pg_bin: Path
) -> None:
    """A smart shutdown waits for who is there already, and refuses everybody else with 57P03: as one that starts does."""
    with ThrowawayServer(pg_bin) as server:
        project.urls["dev"] = server.url()
        with psycopg.connect(server.url(), autocommit=True):
            pid = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                done = project.run("status", "dev")
                if "shutting down" in done.err + done.out:
                    break
            shown = project.run("sync", "dev")
            assert shown.code == 8
            assert "it takes no connections now: it is starting, stopping or recovering" in shown.err, shown.err
            full = refused_with({"host": "127.0.0.1", "port": str(server.port), "user": "postgres"})
            assert full == "57P03"
