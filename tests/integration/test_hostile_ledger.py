"""What others wrote into ledger and audit log, read back by every command: it stays text, on its own line.

`test_history.py` looks at the audit log's own page and its CSV, `test_page.py` at the HTML page in a browser.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re

import psycopg
import pytest

from tests.project import Project
from tests.summary import LINES

#: Steers a terminal, turns the direction of reading, hides, ends a line, and would be markup, a link or a formula.
EVIL = (
    "\x1b[2J\x1b]0;gone\x07\x9b1m\u202egnp.exe\u2066\u200b\ufeff\u2028\nprod: 9 applied and verified\r"
    "| --- | ](javascript:alert(1)) <script>alert(1)</script> ![x](http://evil.example/x.png)\n---\n{{7*7}}=1+1"
)

COMMANDS = (
    ["status"], ["status", "--check"], ["plan"], ["plan", "--sql"], ["validate"], ["history"], ["history", "--stats"], ["history", "--verify"],
    ["drift"], ["diff", "dev", "dev"], ["explain", "RUN"], ["explain"], ["sync"], ["revert", "dev", "--steps", "1"], ["health"], ["config"],
    ["repair", "dev", "--forget", "7"], ["baseline", "dev", "--version", "9"], ["doctor"],
)  # fmt: skip


@pytest.fixture
def hostile(project: Project) -> Project:
    """dev whose ledger and audit log were written by somebody else, in every column of text."""
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    project.write("001-a.down.sql", "DROP TABLE a;")
    assert project.run("init").code == 0 and project.run("sync").code == 0
    with psycopg.connect(project.urls["dev"], autocommit=True) as connection:
        for version, state in ((7, "applied"), (8, "started"), (None, "applied")):
            connection.execute(
                "INSERT INTO schema_migrations (migration_name, version, kind, state, checksum, content_digest, applied_by,"
                " run_id, tool_version, down_script, down_checksum, progress, revert_proof) VALUES (%(name)s, %(version)s,"
                " %(kind)s, %(state)s, %(evil)s, %(evil)s, %(evil)s, %(evil)s, %(evil)s, %(evil)s, %(evil)s,"
                " jsonb_build_object('target', %(evil)s::text, 'units', 1, 'digest', %(evil)s::text),"
                " jsonb_build_object('standing', 'proven', 'down_checksum', %(evil)s::text, 'backup', %(evil)s::text,"
                " 'at', '2026-01-01T00:00:00+00:00', 'text', %(evil)s::text, 'losses', %(evil)s::text))",
                {"name": f"{version or 'x'}-{EVIL}", "version": version, "kind": "versioned" if version else "repeatable", "state": state, "evil": EVIL},
            )  # fmt: skip
        for event in ("apply", "revert", "fail", "repair", "ask", "approve", "backup", "rehearse", EVIL):
            connection.execute(
                "INSERT INTO schema_migrations_log (event, actor, host, run_id, orchestrator_url, migration_name, version, details)"
                " VALUES (%(event)s, %(evil)s, %(evil)s, %(run)s, 'javascript:alert(1)', %(evil)s, 5, jsonb_build_object("
                " 'reason', %(evil)s::text, 'message', %(evil)s::text, 'checksum', %(evil)s::text, 'backup', %(evil)s::text,"
                " 'key', %(evil)s::text, 'rehearsal_key', %(evil)s::text, 'text', %(evil)s::text, 'environment', 'dev'))",
                {"event": event, "run": "RUN" if event == "fail" else EVIL, "evil": EVIL},
            )
    project.query('CREATE TABLE "{}" (id int)'.format(EVIL[:20].replace('"', "")))
    return project


def unsafe(text: str) -> list[str]:
    """What of an output would steer a terminal, or was written by others and begins a line."""
    found = [
        f"{char!r} in {text[max(0, at - 60) : at + 20]!r}"
        for at, char in enumerate(text)
        if char != "\n" and not char.isprintable()
    ]
    return found + re.findall(r"^(?:prod: 9 applied.*|---$)", text, re.MULTILINE)


def test_hostile_rows_are_shown_as_text_by_every_command(hostile: Project) -> None:
    for words in COMMANDS:
        done = hostile.run(*words)
        assert "unexpected" not in done.err and "Traceback" not in done.err, (words, done.err)
        assert unsafe(done.out + done.err) == [], words
        assert not [char for char in hostile.run(*words, "--json").out if char not in "\n\t" and not char.isprintable()]


def test_words_that_are_not_utf_8_are_refused(project: Project) -> None:
    for words in (["history", "--actor", "\udce9"], ["repair", "dev", "--accept", "a\0b"], ["new", "caf\udce9"]):
        done = project.run(*words)
        assert done.code == 2 and "is not UTF-8" in done.err and "next: " in done.err
    assert project.run("history", "-n", "9" * 30).code == project.run("sync", "--to", "²").code == 2


#: What may stand where a text, a number, a moment or an object is expected.
VALUES: tuple[object, ...] = (
    None, True, 0, -1, 2**70, 1e300, "", EVIL, "2026-13-45", "infinity", "NaN", [], {}, [[]], {"": None}, "x" * 3000,
    [None, {"a": []}], "00000000-0000-0000-0000-000000000000", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
)  # fmt: skip

#: Names that some event's details have.
NAMES = (
    "ask", "plan", "changes", "how", "by", "reason", "environment", "expires_at", "files", "headline", "backup", "two_person",
    "undoes", "checksum", "content_digest", "held", "salt", "up_to", "hash", "key", "sha256", "size", "encrypted_to", "message",
    "outcome", "lock", "ok", "rehearsal", "worst", "what", "attempt", "role", "flow_run", "url", "before", "after", "waited_on",
    "waited_ms", "why", "changed", "restores", "of", "head", "rehearsed", "predicted", "statements", "line", "file", "sqlstate",
)  # fmt: skip

EVENTS = (
    "init", "apply", "fail", "revert", "repair", "baseline", "refuse", "backup", "rehearse", "ask", "approve", "reject", "expire",
    "withdraw", "begin", "restore", "prune", "drift", "start", "resume", "heal", "override", "check", "stop", "verify",
)  # fmt: skip

FUZZ = int(os.environ.get("LOCKSTEP_FUZZ", "1"))
LOOKING = (["status"], ["plan"], ["history"], ["history", "--stats"], ["history", "--verify"], ["explain", "RUN"], ["drift"], ["report"], ["approve", "RUN", "--reason", "why not"], ["repair", "dev", "--undo", "5"])  # fmt: skip


def test_whatever_a_row_says_ends_in_an_answer(project: Project) -> None:
    seed = int(os.environ.get("LOCKSTEP_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("init").code == 0 and project.run("sync").code == 0
    for _ in range(FUZZ):
        with psycopg.connect(project.urls["dev"], autocommit=True) as connection:
            for event in EVENTS * 3:
                details = {name: chance.choice(VALUES) for name in NAMES if chance.random() < 0.7}
                document = json.dumps(details if chance.random() < 0.9 else chance.choice(VALUES[:-2])).replace(
                    "\\u0000", ""
                )
                with contextlib.suppress(psycopg.errors.DataError):
                    connection.execute(
                        "INSERT INTO schema_migrations_log (event, run_id, migration_name, version, duration_ms, details)"
                        " VALUES (%s, 'RUN', %s, %s, %s, %s::jsonb)",
                        (event, chance.choice((None, EVIL, "001-a.sql")), chance.choice((None, 1, -5, 2**62)), chance.choice((None, -1, 2**60)), document),
                    )  # fmt: skip
            connection.execute("DELETE FROM schema_migrations WHERE version = 3")
            connection.execute(
                "INSERT INTO schema_migrations (migration_name, version, kind, state, progress, revert_proof, execution_time_ms)"
                " VALUES ('003-x.sql', 3, %s, %s, %s::jsonb, %s::jsonb, %s)",
                (
                    chance.choice(("versioned", "baseline", "odd", "")), chance.choice(("applied", "started", "failed", "odd")),
                    json.dumps(chance.choice(VALUES[:-2])), json.dumps(chance.choice(VALUES[:-2])), chance.choice((None, -1, 2**60)),
                ),
            )  # fmt: skip
        for words in LOOKING:
            done = project.run(*words)
            said = f"seed {seed}, {words}: {done.err}"
            assert "unexpected" not in done.err and "Traceback" not in done.err, said
            assert unsafe(done.out + done.err) == [], said
            assert done.code == 0 or "next: " in done.err or done.code in (3, 4), said
    LINES.append(f"hostile rows of ledger and audit log: {FUZZ * (len(EVENTS) * 3 + 1)}, seed {seed}")
