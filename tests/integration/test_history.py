"""`history`: what is asked for and nothing else, in forms that nobody's text can break, and what it says of times."""

from __future__ import annotations

import csv
import io
import json
import threading
import time

import psycopg
import pytest

from tests.project import Outcome, Project


@pytest.fixture
def logged(project: Project) -> Project:
    """dev with two migrations from two runs, and a few events of others from long ago."""
    project.write("001-a.sql", "SELECT 1;")
    project.run("init")
    project.run("sync")
    project.write("017-orders.sql", "SELECT pg_sleep(0.05);")
    project.write("017-orders.down.sql", "SELECT 1;")
    project.run("sync")
    insert = "INSERT INTO schema_migrations_log (event, actor, run_id, at) VALUES "
    project.query(
        insert + "('note', 'alice', 'RUN-A', '2020-01-01T12:00Z'), ('note', 'bob', 'RUN-B', '2020-01-02T00:00Z')"
    )
    return project


def numbers(done: Outcome) -> list[int]:
    assert done.code == 0, done.err
    return [event["id"] for event in done.document["environments"][0]["events"]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [5, 4, 3, 2, 1]),
        (["-n", "2"], [5, 4]),
        (["--actor", "alice"], [4]),
        (["--actor", "'; DROP TABLE x --"], []),
        (["--run", "RUN-B"], [5]),
        (["--event", "apply"], [3, 2]),
        (["--event", "apply", "-n", "1"], [3]),
        (["--migration", "17"], [3]),
        (["--migration", "017"], [3]),
        (["--migration", "017-orders"], [3]),
        (["--migration", "017-orders.sql"], [3]),
        (["--migration", "999999999999999999999999"], []),
        (["--since", "1h"], [3, 2, 1]),
        (["--since", "2020-01-02", "--until", "2021-01-01"], [5]),
        (["--until", "2020-01-02"], [4]),
        (["--until", "2020-01-02T00:00"], [4]),
        (["--until", "2020-01-02T01:00+01:00"], [4]),
        (["--since", "2020-01-01T12:00:00Z", "--until", "2020-01-01 12:01"], [4]),
    ],
)
def test_what_is_asked_for_and_nothing_else(words: list[str], expected: list[int], logged: Project) -> None:
    assert numbers(logged.run("history", "dev", "--json", *words)) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "yesterday"], ["--until", "2020-13-01"], ["--since", "1h", "--until", "2h"], ["--csv", "--json"],
        ["--verify", "--actor", "x"], ["--stats", "--run", "x"], ["--head", "1:0123456789ab"], ["--reason", "x"],
        ["--verify", "--head", "x"], ["--verify", "--csv"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_never_passed_over(words: list[str], logged: Project) -> None:
    assert logged.run("history", "dev", *words).code == 2


HOSTILE = "\x1b[2J\x1b]0;gone\x07=cmd|'/c calc'!A0\r\n\u202eevil"


def test_hostile_text_steers_no_terminal_and_becomes_no_formula(logged: Project) -> None:
    with psycopg.connect(logged.urls["dev"], autocommit=True) as connection:
        for text in (HOSTILE, "=1+1", "  @SUM(A1)", "\t=1", "-2+3", "+1", "＝1+1", 'a,"b"\nc'):
            connection.execute(
                "INSERT INTO schema_migrations_log (event, actor, host, run_id, migration_name, details) "
                "VALUES ('repair', %(t)s, %(t)s, %(t)s, %(t)s, jsonb_build_object('reason', %(t)s::text))",
                {"t": text},
            )
    for words in ([], ["--stats"], ["--verify"]):
        done = logged.run("history", *words)
        assert done.code == 0
        assert not [char for char in done.out + done.err if char != "\n" and not char.isprintable()], words
    assert "\\x1b[2J" in logged.run("history").out

    done = logged.run("history", "--csv")
    assert done.code == 0 and "\x1b" not in done.out
    head, *rows = list(csv.reader(io.StringIO(done.out, newline="")))
    assert head[:4] == ["environment", "id", "at", "event"] and len(rows) == 13
    assert all(len(row) == len(head) for row in rows)
    texts = [row[head.index("actor")] for row in rows[:8]]
    assert texts[::-1] == [
        "\\x1b[2J\\x1b]0;gone\\x07=cmd|'/c calc'!A0\r\n\u202eevil",
        "'=1+1", "'  @SUM(A1)", "'\t=1", "'-2+3", "'+1", "'＝1+1", 'a,"b"\nc',
    ]  # fmt: skip
    assert json.loads(rows[0][head.index("details")]) == {"reason": 'a,"b"\nc'}
    first = next(row for row in rows if row[1] == "1")
    assert (first[head.index("previous_hash")], first[head.index("event")]) == ("", "init")
    assert done.out.split("\r\n")[0] == ",".join(head)


def test_csv_has_one_header_for_all_environments_and_every_row(logged: Project) -> None:
    with psycopg.connect(logged.urls["dev"], autocommit=True) as connection:
        connection.execute("INSERT INTO schema_migrations_log (event) SELECT 'note' FROM generate_series(1, 40)")
    logged.urls["prod"] = logged.urls["dev"]
    logged.configure(prod="protected = false")
    rows = list(csv.reader(io.StringIO(logged.run("history", "--csv").out)))
    assert len(rows) == 1 + 2 * 45 and [row[0] for row in rows].count("environment") == 1
    assert len(list(csv.reader(io.StringIO(logged.run("history", "--csv", "-n", "3").out)))) == 1 + 2 * 3


# -- times ------------------------------------------------------------------------------------------------------------


def test_times_stand_side_by_side_the_slowest_first(logged: Project, database: str) -> None:
    assert logged.run("revert", "dev", "--steps", "1").code == 0
    assert logged.run("sync", "dev", "--include", "17").code == 0
    done = logged.run("history", "--stats")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["migration", "dev"]
    assert lines[1].startswith("017-orders ") and "(2×, median" in lines[1] and "█" in lines[1]
    assert {line.split("  ")[0] for line in lines[2:4]} == {"001-a", "017-orders (revert)"}
    assert lines[5].split() == ["run", "environment", "began", "took", "what"]
    assert [line.split("  ")[-1].strip() for line in lines[6:10]] == [
        "1 applied",
        "1 reverted",
        "1 applied",
        "1 applied",
    ]
    document = logged.run("history", "--stats", "--json").document
    timings = {(t["migration_name"], t["event"]): t for t in document["environments"][0]["timings"]}
    slow = timings["017-orders.sql", "apply"]
    assert slow["count"] == 2 and slow["worst_ms"] >= slow["median_ms"] >= 50 and slow["version"] == 17
    run = document["environments"][0]["runs"][0]
    assert run["applied"] == 1 and run["duration_ms"] >= 50
    assert logged.run("history", "--stats", "--since", "2999-01-01").out == "nothing was applied or reverted\n"


def test_who_was_in_the_way_is_counted_with_the_time_that_it_cost(project: Project) -> None:
    project.configure(dev='lock_timeout = "300ms"\nretry_budget = "20s"')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE orders (id int);")
    project.run("sync")
    project.write("002-b.sql", "ALTER TABLE orders ADD COLUMN b int;")
    outcomes: list[Outcome] = []
    with psycopg.connect(project.urls["dev"], application_name="forgotten") as holder:
        holder.execute("SELECT * FROM orders")
        syncing = threading.Thread(target=lambda: outcomes.append(project.run_process("sync")))
        syncing.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not project.query(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
        ):
            time.sleep(0.02)
        time.sleep(0.8)  # two tries and more
        holder.rollback()
        syncing.join()
    assert outcomes[0].code == 0, outcomes[0].err
    (details,) = project.query("SELECT details FROM schema_migrations_log WHERE event = 'apply' AND version = 2")[0]
    assert details["waited_on"] == ["postgres, forgotten"] and 500 < details["waited_ms"] < 10_000
    done = project.run("history", "--stats")
    assert "waited 1×" in done.out
    assert "dev: 1 migration waited for locks: " in done.out and "before the try that held" in done.out
    assert "in the way most often: postgres, forgotten (1×)" in done.out
