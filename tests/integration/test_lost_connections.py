"""The line is cut at any byte, a client dies, a machine vanishes: applied exactly once, and nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service import worksession
from tests.integration.joined import sync_through
from tests.integration.proxy import CountingProxy
from tests.integration.test_ledger import database_of, role
from tests.project import Project

CUTS = int(os.environ.get("LOCKSTEP_CUTS", "8"))  # a direction

#: Each leaves a mark, so that twice would show. Long enough, both ways, that most cuts fall between them: before and after
#: them the schema is looked at.
FILES = {
    "001-a.sql": "CREATE TABLE journal (n int);\nINSERT INTO journal VALUES (1);\n",
    "002-b.sql": "INSERT INTO journal VALUES (2);\n" + "-- some text\n" * 6000,
    "003-c.sql": "INSERT INTO journal VALUES (3);\nSELECT repeat('x', 20000);\n",
}


def one(folder: Path, url: str) -> Project:
    """An initialised project of FILES."""
    (folder / "migrations").mkdir(parents=True)
    project = Project(folder=folder, urls={"dev": url})
    project.configure()
    for name, text in FILES.items():
        project.write(name, text)
    assert project.run("init").code == 0
    return project


def others(project: Project, what: str) -> int:
    """How many backends of the database, our own left out, are in that state."""
    rows = project.query(
        f"SELECT count(*) FROM pg_stat_activity a WHERE datname = current_database() AND pid <> pg_backend_pid() AND {what}"
    )
    return int(rows[0][0])


def gone_within(seconds: float, project: Project) -> bool:
    """Whether no backend of Lockstep is left within that time: no lock, no open transaction."""
    deadline = time.monotonic() + seconds
    while others(project, "application_name LIKE 'lockstep/%'"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return project.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


@pytest.mark.parametrize(
    ("who", "stays_down"),
    [
        pytest.param("client", False, id="client-a moment"),
        pytest.param("server", True, id="server-for good"),
        pytest.param("client", True, id="client-for good", marks=pytest.mark.slow),
        pytest.param("server", False, id="server-a moment", marks=pytest.mark.slow),
    ],
)
def test_a_line_cut_at_any_byte_loses_nothing_and_applies_nothing_twice(
    who: str,
    stays_down: bool,
    server: ThrowawayServer,
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worksession, "BACK_SECONDS", 0.0)  # it does not come back
    whole = one(tmp_path / "whole", new_database())
    with CountingProxy(server.port) as proxy:
        assert sync_through(server, whole, proxy).code == 0
    seen: set[str] = set()
    places = [round(proxy.bytes[who] * (number + 0.5) / CUTS) for number in range(CUTS)]
    for number, at in enumerate([*places, proxy.bytes[who] - 400]):  # the last: in the check, which is short
        project = one(tmp_path / str(number), new_database())
        with CountingProxy(server.port, cut_after=(who, at), stays_down=stays_down) as cutting:
            done = sync_through(server, project, cutting)
        where = f"{who} cut after {at} of {proxy.bytes[who]} bytes: {done}"
        assert done.code in (0, 8), where
        count = project.query("SELECT count(*) FROM schema_migrations")[0][0]
        if done.code == 0:
            seen.add("settled")
            assert count == 3, where
        else:
            seen.add(what_is_said(done.err, count, where))
        again = project.run("sync")
        assert again.code == 0, (where, again)
        assert project.query("SELECT n FROM journal ORDER BY n") == [(1,), (2,), (3,)], where
        assert project.query("SELECT version, state FROM schema_migrations ORDER BY 1") == [
            (n, "applied") for n in (1, 2, 3)
        ]
        assert project.run("history", "--verify").code == 0, where
        assert gone_within(2, project), where
    # The sweep went through all of it: the lines before the plan, each migration, the answers to COMMIT, the check.
    expected = {"nothing", "the check"} | ({"unknown"} if stays_down else {"settled"} if who == "server" else {"back"})
    assert expected <= seen, seen


def what_is_said(text: str, count: int, where: str) -> str:
    """The message's account of what was done; it must be what the ledger says."""
    assert "next: " in text, where
    if "Nothing was applied." in text:
        assert count == 0, where
        return "nothing"
    if "3 migrations are applied; only the check after them is missing." in text:
        assert count == 3, where
        return "the check"
    match = re.search(r"(\d) of 3 done\. (.*)", text)
    assert match, where
    if "was rolled back, nothing of it stayed" in match[2]:
        assert count == int(match[1]), where
        return "back"
    assert "could not be found out" in match[2], where
    assert count - int(match[1]) in (0, 1), where
    return "unknown"


def test_a_line_that_is_cut_in_the_answer_to_the_last_commit_is_settled(
    server: ThrowawayServer, database: str, tmp_path: Path
) -> None:
    project = one(tmp_path / "p", database)
    with CountingProxy(server.port, cut=b"repeat('x', 2000)") as proxy:
        done = sync_through(server, project, proxy)
    assert done.code == 0, done.err
    assert project.query("SELECT n FROM journal ORDER BY n") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 4000000000)"])
def test_a_killed_client_frees_the_lock_also_during_a_long_statement(statement: str, project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", f"CREATE TABLE a (id bigint);\n{statement};")
    client = subprocess.Popen(
        [sys.executable, "-m", "lockstep", "sync"], cwd=project.folder, env=project.environ, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 20
        while not others(project, "query LIKE '%CREATE TABLE a%' AND state = 'active'"):
            assert time.monotonic() < deadline, client.poll()
            time.sleep(0.02)
        os.kill(client.pid, signal.SIGKILL)
        assert gone_within(1.5, project)
    finally:
        client.kill()
        client.communicate()
    assert project.query("SELECT to_regclass('a')") == [(None,)]
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    assert project.run("sync").code == 0


def test_a_run_right_after_a_killed_one_is_not_refused(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint); SELECT pg_sleep(3);")
    client = subprocess.Popen(
        [sys.executable, "-m", "lockstep", "sync"], cwd=project.folder, env=project.environ, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 20
        while not others(project, "query LIKE '%CREATE TABLE a%' AND state = 'active'"):
            assert time.monotonic() < deadline, client.poll()
            time.sleep(0.02)
    finally:
        client.kill()
        client.communicate()
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    done = project.run("sync")
    assert done.code == 0, done.err


#: What makes the server find out that a client's machine is gone, and what must not come from roles or databases.
PROMISED = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_connection_check_interval": "500",
    "idle_in_transaction_session_timeout": "60000",
    "idle_session_timeout": "0",
    "statement_timeout": "0",
}


def test_the_server_looks_for_a_vanished_client_whatever_role_and_database_say(project: Project) -> None:
    name = database_of(project)
    for setting in PROMISED:
        value = "1h" if "timeout" in setting and "tcp" not in setting else "77"
        project.query(f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
    names = ", ".join(f"'{setting}'" for setting in PROMISED)
    project.run("init")
    look = f"SELECT name, setting FROM pg_settings WHERE name IN ({names})"
    project.write("001-a.sql", f"CREATE TABLE seen AS {look};")
    project.write("002-b.sql", f"RESET ALL;\nCREATE TABLE later AS {look};")
    project.write("003-c.sql", f"INSERT INTO seen {look};")
    assert project.run("sync").code == 0
    expected = sorted(PROMISED.items())
    found = project.query("SELECT * FROM seen ORDER BY 1, 2")
    assert found == sorted(expected * 2), "set again after a file that reset them"
    # libpq's side: a server that vanished is found out as well, also while something sent is not acknowledged.
    from lockstep.postgres.connection import open_session
    from lockstep.service.project import target_of

    session = open_session(target_of(project.settings(), project.environment()), run_id="r")
    try:
        options = session.connection.info.get_parameters()
    finally:
        session.close()
    wanted = {
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "60000",
    }
    assert {name: options.get(name) for name in wanted} == wanted


def test_a_role_that_may_make_no_temporary_tables_has_its_settings_all_the_same(
    server: ThrowawayServer, project: Project
) -> None:
    name = database_of(project)
    url = role(
        server,
        name,
        "no_temp",
        f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC; GRANT CREATE ON SCHEMA public TO no_temp',
    )
    project.urls["dev"] = url
    project.variables["NAME"] = "ü"  # not ASCII: not in the startup packet
    project.configure(dev='settings = { name = "${NAME}" }')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a AS SELECT current_setting('lockstep.name') AS n;")
    done = project.run("sync")
    assert done.code == 0, done.err
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM a").fetchall() == [("ü",)]
