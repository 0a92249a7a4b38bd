"""`sync` asks before it changes a protected environment: at a terminal, or until somebody answers elsewhere."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time

import pytest

from lockstep.core.approval import Approval
from tests.project import Project


def events(prod: Project) -> list[str]:
    query = "SELECT event FROM schema_migrations_log WHERE event NOT IN ('init', 'baseline', 'verify', 'refuse') ORDER BY id"
    return [row[0] for row in prod.query(query, "prod")]


def start(prod: Project, *words: str, stdin: int, stderr: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lockstep", "sync", "prod", *words],
        cwd=prod.folder, env=prod.environ, stdin=stdin, stderr=stderr, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def read_until(descriptor: int, pattern: str) -> str:
    """Read what a process says until it says this."""
    said, deadline = "", time.monotonic() + 300
    while not re.search(pattern, said):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, said
        said += os.read(descriptor, 4096).decode()
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "code", "how", "reason"),
    [
        ("perhaps\nyes\nOPS-3\n", 0, "prompt", "OPS-3"),
        ("no\ntoo late tonight\n", 7, "prompt", "too late tonight"),
        (None, 0, "command", None),
    ],
    ids=["yes", "no", "elsewhere"],
)
def test_at_a_terminal_it_asks_and_takes_the_first_answer(
    prod: Project, typed: str | None, code: int, how: str, reason: str | None
) -> None:
    prod.write("001-a.sql", "CREATE TABLE a (id int);")
    terminal, end = os.openpty()
    with start(prod, stdin=end, stderr=end) as process:
        os.close(end)
        asked = read_until(terminal, r"Apply it\?")
        assert "001-a.sql" in asked and "passed: backup verified" in asked and "expires" in asked
        if typed is None:
            assert prod.run("approve", "--yes").code == 0  # the only run that waits
        else:
            os.write(terminal, typed.encode())
        assert process.wait(timeout=300) == code, asked
        os.close(terminal)
    answer = "approve" if code == 0 else "reject"
    assert events(prod) == ["backup", "rehearse", "ask", answer, *(["apply"] if code == 0 else [])]
    query = f"SELECT details->>'how', details->>'reason' FROM schema_migrations_log WHERE event = '{answer}'"
    assert prod.query(query, "prod") == [(how, reason)]
    assert prod.run("history", "prod", "--verify").code == 0


def test_without_a_terminal_it_waits_under_its_lock_until_somebody_answers(prod: Project) -> None:
    prod.write("001-a.sql", "CREATE TABLE a (id int);")
    with start(prod, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = read_until(process.stderr.fileno(), r"waits for approval until .*: lockstep approve (\S+).*\n")
        run_id = said.rsplit("lockstep approve ", 1)[1].split()[0]
        other = prod.run("sync", "prod")
        assert prod.query("SELECT to_regclass('a')", "prod") == [(None,)]
        assert prod.run("approve", run_id, "prod").code == 0
        assert process.wait(timeout=300) == 0
    assert "(Ctrl-C withdraws; --approve REASON gives it beforehand)" in said
    assert other.code == 5 and f"waits for approval: run {run_id} " in other.err, other
    assert f"next: lockstep approve {run_id}, or: lockstep reject {run_id} --reason" in other.err, other
    assert events(prod) == ["backup", "rehearse", "ask", "approve", "apply"]


@pytest.mark.slow
def test_what_was_changed_while_it_waited_is_rehearsed_again_and_the_approval_holds(prod: Project) -> None:
    prod.toml += '[drift]\non_drift = "warn"\n'
    prod.configure(prod="protected = true")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-a.sql", "CREATE TABLE a (id int);")

    def prompt(_: Approval) -> tuple[bool, str | None]:
        prod.query("CREATE TABLE by_hand (id int)", "prod")
        return True, None

    prod.prompt = prompt
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    assert "the schema was changed since the backup: backed up and rehearsed again" in done.err + done.out
    assert events(prod) == ["backup", "rehearse", "ask", "approve", "backup", "rehearse", "apply"]


def test_the_word_of_one_person_does_not_stand_for_two(prod: Project) -> None:
    prod.toml += "[approval]\ntwo_person = true\n"
    prod.configure(prod="protected = true")
    prod.write("001-a.sql", "CREATE TABLE a (id int);")
    refused = prod.run("sync", "prod", "--approve", "OPS-1")
    assert refused.code == 2 and "two_person" in refused.err
    assert events(prod) == []


def test_an_approval_given_beforehand_is_told_from_one_at_the_prompt(prod: Project) -> None:
    prod.write("001-a.sql", "CREATE TABLE a (id int);")
    done = prod.run("sync", "prod", "--approve", "OPS-1")
    assert done.code == 0, done
    rows = prod.query("SELECT details->>'how', run_id FROM schema_migrations_log WHERE event = 'approve'", "prod")
    assert [how for how, _ in rows] == ["flag"]
    told = prod.run("explain", str(rows[0][1]))
    assert "(by --approve beforehand)" in told.out and "(prompt)" not in told.out, told
