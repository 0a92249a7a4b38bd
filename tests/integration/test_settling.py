"""The line is lost while the server answers a COMMIT: the ledger says what became of it, and the run goes on."""

from __future__ import annotations

import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.proxy import CountingProxy
from tests.project import Outcome, Project

NONE = "-- lockstep: transaction=none\n"
MARK = "the_cut_is_here"


def run_cut(server: ThrowawayServer, project: Project, *words: str) -> Outcome:
    """Run a command through a line that is cut when the message with MARK has reached the server."""
    plain = project.urls["dev"]
    with CountingProxy(server.port, cut=MARK.encode()) as proxy:
        project.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        done = project.run(*words)
    project.urls["dev"] = plain
    return done


#: What is cut: files of version 2, the command, and whether version 2 is applied when the command is over.
CASES = {
    "a unit": ({"002-b.sql": f"{NONE}INSERT INTO seen VALUES (1);\nINSERT INTO seen /* {MARK} */ VALUES (2);\nINSERT INTO seen VALUES (3);"},
               ("sync",), True),
    "a batch": ({"002-b.sql": f"-- lockstep: repeat-until-empty\nINSERT INTO seen /* {MARK} */ SELECT 1 + count(*) FROM seen HAVING count(*) < 3;"},
                ("sync",), True),
    "a down": ({"002-b.sql": "INSERT INTO seen VALUES (1), (2), (3);", "002-b.down.sql": f"DELETE FROM seen /* {MARK} */;"},
               ("revert", "dev", "--steps", "1"), False),
    "a unit of a down": ({"002-b.sql": "INSERT INTO seen VALUES (1), (2), (3);",
                          "002-b.down.sql": f"{NONE}DELETE FROM seen WHERE n = 1;\nDELETE FROM seen /* {MARK} */;\nSELECT 1;"},
                         ("revert", "dev", "--steps", "1"), False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_lost_answer_to_a_commit_is_settled_by_the_ledger(
    case: str, server: ThrowawayServer, project: Project
) -> None:
    files, command, applied = CASES[case]
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE seen (n int);")
    for name, text in files.items():
        project.write(name, text)
    assert project.run("sync", *(("--to", "1") if applied else ())).code == 0
    done = run_cut(server, project, *command)
    assert done.code == 0, done.err
    assert project.query("SELECT n FROM seen ORDER BY n") == ([(1,), (2,), (3,)] if applied else [])
    assert project.query("SELECT state FROM schema_migrations WHERE version = 2") == ([("applied",)] if applied else [])
    assert "audit log whole" in project.run("history", "--verify").out


def test_an_index_whose_answer_is_lost_is_looked_for_by_the_next_run(server: ThrowawayServer, project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE seen (n int);")
    project.run("sync")
    project.write("002-i.sql", f"{NONE}CREATE INDEX CONCURRENTLY seen_n ON seen /* {MARK} */ (n);\nSELECT 1;")
    done = run_cut(server, project, "sync")
    assert done.code == 8
    assert "what became of the next one is looked up by the next run" in done.err and "lockstep sync dev" in done.err
    again = project.run("sync", "--wait")
    assert again.code == 0, again.err
    assert project.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'seen_n'::regclass") == [(True,)]
