"""Files and folders that are wrong: each is refused with file, line and remedy, and nothing of the run is applied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project

GOOD = "CREATE TABLE good (id bigint);"


def place(text: str | bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(text.encode() if isinstance(text, str) else text), None)[1]


#: fault -> (what is put at 002-bad.sql, where it is said to be, what is said, the remedy)
FAULTS: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    "duplicate version": (
        lambda path: place(GOOD)(path.with_name("001-other.sql")),
        "001-good.sql and 001-other.sql",
        "have the same number",
        "give one of them the next free number",
    ),
    "a folder": (Path.mkdir, "002-bad.sql", "it is a folder, not a file", "rename or move"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "002-bad.sql", "a link that leads nowhere", "rename or move"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "002-bad.sql", "a link that leads nowhere", "rename or move"),
    "a pipe": (os.mkfifo, "002-bad.sql", "a named pipe", "rename or move"),
    "a link out of the project": (
        lambda path: path.symlink_to("/proc/self/mem"), "002-bad.sql", "leads out of the project", "rename or move",
    ),
    "not UTF-8": (place(b"SELECT 1;\nSELECT 'caf\xe9';"), "002-bad.sql:2", "byte 0xe9 is not UTF-8", "iconv"),
    "UTF-16": (place("SELECT 1;".encode("utf-16")), "002-bad.sql:1", "is not UTF-8", "iconv -f utf-16 -t utf-8 002-bad.sql"),
    "UTF-16, big end first": (
        place(b"\xfe\xff" + "SELECT 1;".encode("utf-16-be")), "002-bad.sql:1", "is in UTF-16", "iconv -f utf-16 -t utf-8 002-bad.sql",
    ),
    "a NUL character": (place("SELECT 1;\nSELECT '\0';"), "002-bad.sql:2", "NUL", "remove it"),
    "no number": (
        lambda path: place(GOOD)(path.with_name("notes.sql")), "notes.sql", "name", "rename or move",
    ),
    "unterminated dollar quote": (
        place("SELECT 1;\nCREATE FUNCTION f() RETURNS int AS $body$ SELECT 1;"),
        "002-bad.sql:2:36",
        "unterminated",
        "write $body$ where it should",
    ),
    "unterminated string": (place("SELECT 1;\nSELECT 'x;"), "002-bad.sql:2:8", "unterminated", "lockstep validate"),
    "unknown directive": (
        place("-- a title\n-- lockstep: lock_timout=1s\nSELECT 1;"),
        "002-bad.sql:2",
        "unknown directive 'lock_timout'; did you mean 'lock_timeout'?",
        "docs/reference/file-format.md",
    ),
    "psql's connect": (place("SELECT 1;\n\\connect other\n"), "002-bad.sql:2", "\\connect is a psql command", "write it as SQL"),
    "psql's include": (place("SELECT 1;\n\\i other.sql\n"), "002-bad.sql:2", "\\i is a psql command", "write it as SQL"),
    "psql's gset": (place("SELECT 1 \\gset\n"), "002-bad.sql:1:10", "syntax error", "psql's backslash commands"),
    "COPY FROM stdin": (place("SELECT 1;\nCOPY t FROM stdin;\n1\n\\.\n"), "002-bad.sql:2", "COPY from or to the client", "INSERT"),
    "COPY TO STDOUT": (place("SELECT 1;\nCOPY t TO STDOUT;"), "002-bad.sql:2", "COPY from or to the client", "INSERT"),
    "CONCURRENTLY": (
        place("SELECT 1;\nCREATE INDEX CONCURRENTLY i ON good (id);"),
        "002-bad.sql:2:1",
        "CREATE INDEX CONCURRENTLY cannot run inside a transaction",
        "transaction=none",
    ),
    "COMMIT in the middle": (place("SELECT 1;\nCOMMIT;\nSELECT 2;"), "002-bad.sql:2:1", "COMMIT in the middle", "remove the transaction statements"),
    "blocks": (place("BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;"), "002-bad.sql:3:1", "COMMIT in the middle", "transaction=none"),
    "COMMIT in a block": (
        place("SELECT 1;\nDO $$ BEGIN\n  COMMIT;\nEND $$;"),
        "002-bad.sql:3:3",
        "COMMIT or ROLLBACK in a DO block cannot run inside a transaction",
        "transaction=none",
    ),
    "BEGIN without COMMIT": (place("BEGIN;\nSELECT 1;"), "002-bad.sql:1:1", "BEGIN without COMMIT", ""),
    "unfilled placeholder": (place("SELECT 1;\nCREATE TABLE ${T} (id int);"), "002-bad.sql:2", "syntax error", "${T} looks like a placeholder"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_stops_the_run_before_anything_with_place_and_remedy(fault: str, project: Project) -> None:
    make, where, said, remedy = FAULTS[fault]
    project.run("init")
    project.write("001-good.sql", GOOD)
    make(project.folder / "migrations" / "002-bad.sql")
    project.write("003-good.sql", "SELECT 1;")
    done = project.run("sync")
    assert done.code == 7, done
    assert where in done.err and said in done.err, done.err
    assert "unexpected" not in done.err and "Traceback" not in done.err
    if remedy:
        (hint,) = [line for line in done.err.splitlines() if line.startswith("  next: ")]
        assert remedy in hint
    assert project.query("SELECT count(*), to_regclass('good') FROM schema_migrations") == [(0, None)]
    checked = project.run("validate")
    assert checked.code == 7 and where.split(" and ")[-1].split(":")[0] in checked.out, checked


def test_a_gap_is_told_and_stops_nothing(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    project.write("003-c.sql", "SELECT 1;")
    done = project.run("sync")
    assert done.code == 0 and "there is no migration 2 (between 1 and 3)" in done.err
    assert "there is no migration 2" in project.run("validate").out


def test_an_empty_folder_is_nothing_to_do(project: Project) -> None:
    project.run("init")
    assert project.run("sync").code == 0
    assert "there are no migrations yet (lockstep new NAME makes the first)" in project.run("status").out


def test_a_folder_that_is_not_there_is_said(project: Project) -> None:
    project.run("init")
    (project.folder / "migrations").rmdir()
    done = project.run("sync")
    assert done.code == 2 and "the migrations folder migrations does not exist" in done.err
    assert "next: lockstep new NAME makes the first one" in done.err


APPLIED = "-- a title\nCREATE TABLE a (id bigint);\nINSERT INTO a VALUES (1);\n"

#: change of an applied file -> (its new bytes, exit code, what status calls it)
CHANGES: dict[str, tuple[bytes, int, str]] = {
    "one byte": (APPLIED.replace("(1)", "(2)").encode(), 4, "changed"),
    "a comment": (APPLIED.replace("a title", "another title").encode(), 0, "reformatted"),
    "white space": (APPLIED.replace("VALUES (1)", "VALUES\n  (1)").encode(), 0, "reformatted"),
    "line endings": (APPLIED.replace("\n", "\r\n").encode(), 0, "applied"),
    "a byte order mark": (b"\xef\xbb\xbf" + APPLIED.encode(), 0, "applied"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_after_it_was_applied(change: str, project: Project) -> None:
    raw, code, word = CHANGES[change]
    project.run("init")
    project.write("001-a.sql", APPLIED)
    assert project.run("sync").code == 0
    project.write("001-a.sql", raw)
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    assert f"001-a      {word}" in project.run("status").out
    done = project.run("sync")
    assert done.code == code, done
    assert project.query("SELECT count(*) FROM a") == [(1,)], "it never runs again"
    assert project.query("SELECT to_regclass('b')::text") == [("b" if code == 0 else None,)]
    if code:
        assert "001-a.sql was changed after it was applied" in done.err
        assert "next: restore the file as it was applied (git log -- 001-a.sql) and write a new migration" in done.err


def test_an_applied_file_that_is_gone_stops_the_run(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", APPLIED)
    project.run("sync")
    project.remove("001-a.sql")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    done = project.run("sync")
    assert done.code == 4 and "001-a.sql" in done.err and "next: " in done.err
    assert project.query("SELECT to_regclass('b')") == [(None,)]


def test_an_older_version_that_comes_later_stops_the_run(project: Project) -> None:
    project.run("init")
    project.write("005-e.sql", APPLIED)
    project.run("sync")
    project.write("003-c.sql", "CREATE TABLE c (id bigint);")
    done = project.run("sync")
    assert done.code == 4 and "003-c.sql is not applied, but version 5 already is" in done.err
    assert "renumber it above 5" in done.err and "lockstep sync dev --include 3" in done.err
    assert project.query("SELECT to_regclass('c')") == [(None,)]


SECRET = "s3cret-in-a-file"
UNREADABLE = {
    "the setting": f"INSERT INTO a VALUES (5 '{SECRET}');",
    "the database's own password": "INSERT INTO a VALUES (5 'PASSWORD');",
    "an address": "SELECTT 'postgresql://u:pw77-of-a-url@h/db'",
    "what looks like a password": "SELECTT 'password=hunter2-of-a-file'",
    "a quote that is never closed": f"SELECT 'it was {SECRET}\n;",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_does_not_parse_tells_no_secret_and_the_log_keeps_the_place_alone(
    case: str, project: Project
) -> None:
    password = project.urls["dev"].split("@")[0].rsplit(":", 1)[-1]
    project.variables["TOKEN"] = SECRET
    project.configure(dev='settings = { token = "${TOKEN}" }')
    project.run("init")
    project.write("001-a.sql", UNREADABLE[case].replace("PASSWORD", password))
    told = []
    for words in (("sync",), ("validate",), ("validate", "--json"), ("plan",), ("sync", "--json")):
        done = project.run(*words)
        assert done.code == 7 and "001-a.sql" in done.out + done.err
        told.append(done.out + done.err)
    details = project.query("SELECT details::text FROM schema_migrations_log WHERE event = 'refuse'")
    assert details and all("001-a.sql:" in row[0] and "the file cannot be used" in row[0] for row in details)
    told += [row[0] for row in details] + [project.run("history").out]
    for secret in (SECRET, password, "pw77-of-a-url", "hunter2-of-a-file", "SELECTT 'p"):
        assert not any(secret in text for text in (told if secret != "SELECTT 'p" else told[-3:])), secret
