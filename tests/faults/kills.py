"""Kills a run of `lockstep sync` with SIGKILL at random moments, and starts it again until one gets through.

The run is a forked copy of this process: it begins at once, without the imports that a new process would do first, so
nearly every kill hits it at work in the database.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field

import psycopg

from lockstep.cli.main import main
from tests.project import Project

NONE = "-- lockstep: transaction=none\n"
ROWS = 3_000

FILES = {
    "001-tables.sql": "CREATE TABLE effects (tag text);\nCREATE TABLE big (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0,"
    f" done boolean NOT NULL DEFAULT false);\nINSERT INTO big SELECT g FROM generate_series(1, {ROWS}) g;\n"
    "INSERT INTO effects VALUES ('001');\nSELECT pg_sleep(0.02);",
    "002-index.sql": NONE + "CREATE UNIQUE INDEX CONCURRENTLY big_id ON big (id);\nINSERT INTO effects VALUES ('002');",
    "003-units.sql": NONE + "SET work_mem = '8MB';\nINSERT INTO effects VALUES ('003a');\n"
    "BEGIN;\nINSERT INTO effects VALUES ('003b');\nSELECT pg_sleep(0.01);\nINSERT INTO effects VALUES ('003c');\nCOMMIT;\n"
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS big_n ON big (n, done);\nVACUUM big;\n"
    "INSERT INTO effects SELECT '003d' WHERE current_setting('work_mem') = '8MB';\n"
    "REINDEX INDEX CONCURRENTLY big_id;\nDROP INDEX CONCURRENTLY big_n;\nINSERT INTO effects VALUES ('003e');",
    "004-fill.sql": "-- lockstep: repeat-until-empty batch_pause=1ms\n"
    "UPDATE big SET n = n + 1, done = true WHERE id IN (SELECT id FROM big WHERE NOT done ORDER BY id LIMIT 250);",
    "005-more.sql": "INSERT INTO effects VALUES ('005');\nALTER TABLE big ADD COLUMN extra text;\nSELECT pg_sleep(0.02);",
    "005-more.verify.sql": "SELECT count(*) = 1 AS holds FROM effects WHERE tag = '005';",
    "006-index.sql": NONE + "CREATE INDEX CONCURRENTLY big_extra ON big (extra);",
    "repeatable/plain.sql": "INSERT INTO effects VALUES ('plain');",
    "repeatable/units.sql": NONE + "INSERT INTO effects VALUES ('units a');\nVACUUM effects;\n"
    "INSERT INTO effects VALUES ('units b');",
}  # fmt: skip

#: What is there exactly once when all of it is applied.
EFFECTS = ("001", "002", "003a", "003b", "003c", "003d", "003e", "005", "plain", "units a", "units b")
INDEXES = {"big_pkey", "big_id", "big_extra"}


@dataclass
class Tally:
    """What happened."""

    kills: int = 0  # processes that were killed while they ran
    hits: int = 0  # of them, those whose session was in the database at that moment
    invalid: int = 0  # of them, those that left an invalid index
    rounds: int = 0  # databases
    began: float = field(default_factory=time.monotonic)


def run_forked(project: Project, *words: str) -> int:
    """Start the command line in a copy of this process; return its pid. Its output goes to a file in the project."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ.update(project.environ)
        with (
            (project.folder / "output.txt").open("a") as out,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            code = main([*words, "--project", str(project.folder)])
    finally:
        os._exit(code)
    raise AssertionError("never reached")


def wait_for(pid: int) -> int:
    """Return the exit code; negative for a signal."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def one_round(project: Project, chance: random.Random, tally: Tally, *, most: int, span: float) -> None:
    """Apply everything on a fresh database, killed up to `most` times on the way; then look at what came of it.

    `span`: seconds that a whole run takes; kills fall anywhere within.
    """
    for name, text in FILES.items():
        project.write(name, text)
    assert project.run("init").code == 0
    for _ in range(chance.randint(1, most)):
        # Now and then a writer is in the way: a concurrent build waits for it, and is invalid when it is killed then.
        writer = _writer(project) if chance.random() < 0.3 else None
        pid = run_forked(project, "sync", "--wait")
        time.sleep(chance.uniform(0.01, 0.9 * span))
        working = project.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'lockstep/%'"
        )[0][0]
        os.kill(pid, signal.SIGKILL)
        code = wait_for(pid)
        if code == -signal.SIGKILL:
            tally.kills += 1
            tally.hits += bool(working)
        else:
            assert code == 0, (project.folder / "output.txt").read_text()
        if writer is not None:
            time.sleep(0.7)  # the server looks for a vanished client every half second
            tally.invalid += project.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid")[0][0]
            writer.close()
    pid = run_forked(project, "sync", "--wait")
    code = wait_for(pid)
    shown = (project.folder / "output.txt").read_text()
    assert code == 0, shown
    tally.rounds += 1
    refuse_any_harm(project, shown)


def _writer(project: Project) -> psycopg.Connection | None:
    """A session with an open transaction that has written to the large table, once that is there."""
    connection = psycopg.connect(project.urls["dev"], application_name="a-writer")
    if connection.execute("SELECT to_regclass('big') IS NULL").fetchone() == (True,):
        connection.close()
        return None
    connection.execute("LOCK TABLE big IN ROW EXCLUSIVE MODE")
    return connection


def refuse_any_harm(project: Project, shown: str) -> None:
    """All that must hold once a run got through, whatever happened before."""
    found = dict(project.query("SELECT tag, count(*) FROM effects GROUP BY tag"))
    assert found == dict.fromkeys(EFFECTS, 1), shown
    assert project.query("SELECT min(n), max(n), count(*) FROM big WHERE done") == [(1, 1, ROWS)], shown
    indexes = project.query(
        "SELECT c.relname::text, i.indisvalid AND i.indisready FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname LIKE 'big%'"
    )
    assert dict(indexes) == dict.fromkeys(INDEXES, True), shown
    assert project.query("SELECT count(*) FROM schema_migrations WHERE state <> 'applied' OR progress IS NOT NULL") == [
        (0,)
    ]
    assert project.query("SELECT count(*) FROM schema_migrations") == [(8,)]
    left = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name LIKE 'lockstep/%'"
    )
    deadline = time.monotonic() + 10
    while project.query(left) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert project.query(left) == [(0,)], "a session of a run is still there"
    assert project.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                         " (SELECT oid FROM pg_database WHERE datname = current_database())") == [(0,)]  # fmt: skip
    assert project.query("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]
    assert "audit log whole" in project.run("history", "--verify").out
    assert project.run("status", "--check").code == 0


def fresh(project: Project, url: str) -> Project:
    """The same folder on another database."""
    (project.folder / "output.txt").unlink(missing_ok=True)
    project.urls["dev"] = url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT 1")
    return project
