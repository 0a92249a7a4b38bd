"""Eight runs at once: one works, the others wait or are told who works; whoever is killed lets go within a second."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from tests.faults.starter import Runner, Starter
from tests.project import Project
from tests.summary import LINES

RUNNERS = 8
HELD = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND mode = 'ExclusiveLock'"


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter() as made:
        yield made


def files(project: Project, seconds: float) -> None:
    project.write("001-a.sql", "CREATE TABLE effects (tag text);\nINSERT INTO effects VALUES ('1');")
    project.write("002-b.sql", f"INSERT INTO effects VALUES ('2');\nSELECT pg_sleep({seconds});")
    project.write(
        "003-c.sql",
        "-- lockstep: transaction=none\nINSERT INTO effects VALUES ('3');\nVACUUM effects;\n"
        "CREATE INDEX CONCURRENTLY effects_tag ON effects (tag);\nREINDEX INDEX CONCURRENTLY effects_tag;",
    )
    project.write("004-d.sql", "INSERT INTO effects VALUES ('4');")


def ended(starter: Starter, runner: Runner) -> tuple[int, dict[str, dict[str, object]]]:
    """Exit code, and what the run says of each environment."""
    code = starter.wait(runner, 60)
    assert code is not None, (runner.words, runner.said)
    said = json.loads(runner.printed)
    return code, {one["environment"]: one for one in said["environments"]}


def test_of_eight_runs_on_one_database_one_works_and_the_others_wait_or_are_told_who(
    project: Project, starter: Starter
) -> None:
    project.run("init")
    files(project, 2.5)  # a refusal takes a second: the run before may just have ended
    words = ("sync", "dev", "--json")
    runners = [starter.start(project, *words, *(["--wait"] if n % 2 else [])) for n in range(RUNNERS)]
    outcomes = [ended(starter, runner) for runner in runners]
    assert project.query("SELECT tag, count(*) FROM effects GROUP BY 1 ORDER BY 1") == [(n, 1) for n in "1234"]
    ((run_id,),) = project.query("SELECT DISTINCT run_id FROM schema_migrations")
    ((session,),) = project.query("SELECT count(DISTINCT run_id) FROM schema_migrations_log WHERE event = 'apply'")
    assert session == 1
    worked = [said["dev"]["applied"] for _, said in outcomes if said["dev"]["applied"]]
    assert len(worked) == 1, "exactly one applies"
    for number, (code, said) in enumerate(outcomes):
        if number % 2 or said["dev"]["applied"]:
            assert code == 0, (runners[number].words, said)
            continue
        assert code == 5, (runners[number].words, said)
        error = said["dev"]["error"]
        assert isinstance(error, dict)
        assert re.search(rf"run {run_id} \(user postgres, pid \d+, connected since ", str(error["message"])), error
    # A concurrent build waits for whoever has a snapshot: neither for our own lock, nor for those who wait for it.
    ((details,),) = project.query("SELECT details FROM schema_migrations_log WHERE event = 'apply' AND version = 3")
    assert "waited_for" not in details, details
    refusals = project.query("SELECT details->>'lock' FROM schema_migrations_log WHERE event = 'refuse'")
    assert len(refusals) == sum(1 for code, _ in outcomes if code == 5)
    assert all(str(run_id) in text for (text,) in refusals)
    assert project.run("history", "dev", "--verify").code == 0


def test_eight_runs_on_four_databases_apply_everything_once_on_each(
    new_database: Callable[[], str], tmp_path: Path, starter: Starter
) -> None:
    names = ("one", "two", "three", "four")
    project = Project(folder=tmp_path, urls={name: new_database() for name in names})
    project.configure(**{b: f'after = ["{a}"]\nprotected = false' for a, b in pairwise(names)})
    files(project, 0.1)
    assert project.run("init").code == 0
    runners = [starter.start(project, "sync", "--json", "--wait") for _ in range(RUNNERS)]
    outcomes = [ended(starter, runner) for runner in runners]
    assert [code for code, _ in outcomes] == [0] * RUNNERS, [runner.said for runner in runners]
    for name in names:
        assert project.query("SELECT tag, count(*) FROM effects GROUP BY 1 ORDER BY 1", name) == [
            (n, 1) for n in "1234"
        ]
        worked = [said[name]["applied"] for _, said in outcomes if said[name]["applied"]]
        assert len(worked) == 1, (name, worked)
        assert project.query("SELECT count(DISTINCT run_id) FROM schema_migrations", name) == [(1,)]
        assert project.run("history", name, "--verify").code == 0


@pytest.mark.alone
def test_a_killed_holder_frees_the_lock_within_a_second(project: Project, starter: Starter) -> None:
    project.run("init")
    took = []
    works = ("SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 4000000000)", "CREATE TABLE a (id int)")
    with psycopg.connect(project.urls["dev"], autocommit=True) as connection:
        for work in works:
            project.write("001-a.sql", f"{work};\nSELECT pg_sleep(60);")
            runner = starter.start(project, "sync", "dev")
            at_work = (
                "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()"
            )
            deadline = time.monotonic() + 20
            while not connection.execute(at_work, (f"%{work};%",)).fetchall():
                assert time.monotonic() < deadline, runner.said
                time.sleep(0.01)
            assert connection.execute(HELD).fetchall()
            os.kill(runner.pid, signal.SIGKILL)
            began = time.monotonic()
            while connection.execute(HELD).fetchall() and time.monotonic() - began < 20:
                time.sleep(0.005)
            took.append(time.monotonic() - began)
            starter.wait(runner, 10)
    LINES.append(f"lock of a killed run free after {max(took):.2f} s at most (bound 1 s)")
    assert max(took) <= 1.0, took
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("sync", "dev").code == 0
