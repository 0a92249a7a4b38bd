"""The commands as users call them: what they print, what they change, and their exit codes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from lockstep.cli.main import COMMANDS, main
from lockstep.core.address import parse_address
from tests.integration.proxy import CountingProxy
from tests.project import Project


@pytest.fixture
def two(project: Project, new_database: Callable[[], str]) -> Project:
    """dev and prod, prod not protected (backups have tests of their own), both initialised."""
    project.urls["prod"] = new_database()
    project.configure(prod='after = ["dev"]\nprotected = false')
    assert project.run("init").code == 0
    return project


def test_status_reads_like_a_table_for_people(two: Project) -> None:
    two.write("001-initial-setup.sql", "SELECT 1;")
    two.run("sync")
    two.write("005-your-new-feature.sql", "SELECT 1;")
    two.run("sync", "dev")
    lines = two.run("status").out.splitlines()
    assert lines[0].split() == ["migration", "dev", "prod"]
    assert lines[1].startswith("001-initial-setup     applied  today ")
    assert lines[2].startswith("005-your-new-feature  applied  today ")
    assert lines[2].endswith("pending")
    assert lines[4].endswith("up to date")
    assert lines[5].endswith("1 pending → lockstep sync prod")


def test_status_check_tells_by_exit_code(two: Project) -> None:
    assert two.run("status", "--check").code == 0
    two.write("001-a.sql", "SELECT 1;")
    assert two.run("status", "--check").code == 3
    assert two.run("status").code == 0
    two.run("sync")
    two.write("001-a.sql", "SELECT 2;")
    assert two.run("status", "--check").code == 4
    assert "files and ledger disagree: 001-a changed" in two.run("status").out


def test_an_unreachable_environment_does_not_hide_the_others(two: Project) -> None:
    two.write("001-a.sql", "SELECT 1;")
    two.urls["prod"] = "postgresql://postgres:s3cret@127.0.0.1:1/x"
    done = two.run("status", "--check")
    assert done.code == 8
    assert "001-a      pending" in done.out
    assert "prod (127.0.0.1:1/x)" in done.err
    assert "s3cret" not in done.out + done.err


def test_a_watch_goes_on_when_an_environment_goes_away_and_ends_with_what_it_saw_last(two: Project) -> None:
    """In place on a terminal, one after the other elsewhere; Ctrl-C is no failure."""
    words = [sys.executable, "-m", "lockstep", "status", "--check", "--watch", "1"]
    with subprocess.Popen(words, cwd=two.folder, env=two.environ, stdout=subprocess.PIPE, text=True) as plain:
        assert plain.stdout is not None
        seen = read_until(plain.stdout, "Ctrl-C ends it", 2)
        assert "\033" not in seen and "dev (" in seen
        plain.send_signal(signal.SIGINT)
        assert plain.wait(20) == 0

    two.write("001-a.sql", "SELECT 1;")
    port = parse_address(two.urls["prod"]).port
    with CountingProxy(int(port)) as proxy:
        two.urls["prod"] = two.urls["prod"].replace(f":{port}/", f":{proxy.port}/")
        master, slave = pty.openpty()
        live = subprocess.Popen(words, cwd=two.folder, env=two.environ, stdout=slave, stderr=slave)
        os.close(slave)
        screen = os.fdopen(master, encoding="utf-8", errors="replace")
        assert "\033[2J\033[H" in read_until(screen, "1 pending", 2)
    assert "dev (" in read_until(screen, "error: prod", 2)
    live.send_signal(signal.SIGINT)
    assert live.wait(20) == 8
    screen.close()


def read_until(stream: IO[str], text: str, times: int) -> str:
    seen = ""
    while seen.count(text) < times:
        line = stream.readline()
        assert line, seen
        seen += line
    return seen


@pytest.mark.parametrize("files", [1, 400])
@pytest.mark.parametrize("words", [("validate", "--locks"), ("validate", "--json")])
def test_a_reader_that_has_gone_ends_a_command_quietly(project: Project, files: int, words: tuple[str, ...]) -> None:
    for number in range(1, files + 1):
        project.write(f"{number:03d}-a.sql", f"CREATE TABLE public.t{number} (id bigint PRIMARY KEY);")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lockstep", *words], cwd=project.folder, env=project.environ,
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_does_is_told_in_lines_of_80_characters(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    told, examples = capsys.readouterr().out.split("\nexamples:\n")
    shown = told + examples if command in ("sync", "deploy") else told
    assert [line for line in shown.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(("tables", "said"), [(1, "holds 1 table already"), (2, "holds 2 tables already")])
def test_init_says_how_many_tables_are_there(project: Project, tables: int, said: str) -> None:
    for number in range(tables):
        project.query(f"CREATE TABLE public.t{number} (id bigint)")
    assert said in project.run("init").err


def test_a_wrong_password_is_said_without_showing_it(two: Project) -> None:
    two.urls["dev"] = two.urls["dev"].replace(":" + two.urls["dev"].split(":")[2].split("@")[0], ":wr0ng-s3cret")
    done = two.run("sync", "dev")
    assert done.code == 8
    assert "password authentication failed" in done.err
    assert "check user, password and database name in .env" in done.err
    assert "wr0ng" not in done.err


def test_sync_promotes_in_order_and_stops_at_the_first_failure(two: Project) -> None:
    two.write("001-a.sql", "SELECT 1;")
    two.write("002-b.sql", "SELECT 1/0;")
    done = two.run("sync")
    assert done.code == 6
    assert "not started, because dev failed: prod" in done.err
    assert two.query("SELECT count(*) FROM schema_migrations", "dev") == [(1,)]
    assert two.query("SELECT count(*) FROM schema_migrations", "prod") == [(0,)]


def test_sync_json_is_one_document(two: Project) -> None:
    two.write("001-a.sql", "SELECT 1;")
    done = two.run("sync", "--json")
    assert done.err == ""
    assert done.document["format"] == "lockstep.sync/1"
    assert [e["environment"] for e in done.document["environments"]] == ["dev", "prod"]
    assert done.document["environments"][0]["applied"][0]["name"] == "001-a.sql"
    two.write("002-b.sql", "SELECT 1/0;")
    failed = two.run("sync", "--json")
    assert failed.code == 6
    assert failed.document["not_started"] == ["prod"]
    assert failed.document["environments"][0]["error"]["kind"] == "MigrationFailed"


def test_an_error_is_json_too(two: Project) -> None:
    done = two.run("plan", "nowhere", "--json")
    assert done.code == 2
    assert done.document["format"] == "lockstep.error/1"
    assert done.document["error"]["exit_code"] == 2


def test_a_protected_environment_without_a_backup_place_is_a_config_error(project: Project, database: str) -> None:
    project.urls["prod"] = database
    project.configure()
    done = project.run("status")
    assert done.code == 2
    assert "'prod' is protected, but there is no [backup]" in done.err


def test_revert_takes_back_newest_first_and_holds(project: Project) -> None:
    project.run("init")
    for number in (1, 2, 3):
        project.write(f"00{number}-t.sql", f"CREATE TABLE t{number} (id bigint);")
        project.write(f"00{number}-t.down.sql", f"DROP TABLE t{number};")
    project.run("sync")
    done = project.run("revert", "dev", "--to", "1", "--reason", "INC-42")
    assert done.code == 0, done.err
    assert [line.split()[1] for line in done.err.splitlines()] == ["003-t", "002-t"]
    assert project.query("SELECT to_regclass('t2'), to_regclass('t3'), to_regclass('t1')::text") == [(None, None, "t1")]
    assert (
        project.query("SELECT details->>'reason' FROM schema_migrations_log WHERE event = 'revert'")
        == [("INC-42",)] * 2
    )
    assert project.run("status").out.count("  held\n") == 2
    stopped = project.run("sync")
    assert stopped.code == 7
    assert "stopped before 002-t.sql: it was reverted here" in stopped.err
    project.write("002-t.sql", "CREATE TABLE t2 (id bigint, better text);")
    again = project.run("sync")
    assert again.code == 7 and "stopped before 003-t.sql" in again.err
    assert project.query("SELECT to_regclass('t2')::text") == [("t2",)]
    assert project.run("sync", "--include", "3").code == 0
    assert project.run("status", "--check").code == 0


def test_a_revert_works_when_the_files_are_gone(project: Project) -> None:
    project.run("init")
    project.write("001-t.sql", "CREATE TABLE t (id bigint);")
    project.write("001-t.down.sql", "DROP TABLE t; -- the end")
    project.run("sync")
    project.remove("001-t.down.sql")
    project.remove("001-t.sql")
    done = project.run("revert", "dev", "--steps", "1")
    assert done.code == 0, done.err
    assert "the script that the ledger kept runs" in done.err
    assert project.query("SELECT to_regclass('t')") == [(None,)]


def test_repeatables_run_again_after_a_revert(project: Project) -> None:
    project.run("init")
    project.write("001-t.sql", "CREATE TABLE t (id bigint);")
    project.write("001-t.down.sql", "DROP TABLE t;")
    project.write("repeatable/fill.sql", "INSERT INTO t VALUES (1);")
    project.run("sync")
    project.run("revert", "dev", "--steps", "1")
    assert project.run("sync").code == 7, "the reverted version is held, so nothing behind it runs"
    assert project.run("sync", "--include", "1").code == 0
    assert project.query("SELECT id FROM t") == [(1,)]


def test_a_revert_that_fails_changes_nothing(project: Project, dump: Callable[[str], str]) -> None:
    project.run("init")
    project.write("001-t.sql", "CREATE TABLE t (id bigint PRIMARY KEY);")
    project.write("001-t.down.sql", "DROP TABLE t;")
    project.run("sync")
    project.query("CREATE VIEW v AS SELECT * FROM t")
    before = dump(project.urls["dev"])
    done = project.run("revert", "dev", "--steps", "1")
    assert done.code == 6
    assert "001-t.down.sql:1" in done.err
    assert dump(project.urls["dev"]) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('-- lockstep: irreversible="data is gone"\nSELECT 1;', "is irreversible: data is gone"),
        ("SELECT 1;", "has no down script"),
    ],
)
def test_what_cannot_be_reverted_is_refused_before_anything_runs(text: str, words: str, project: Project) -> None:
    project.run("init")
    project.write("001-t.sql", text)
    project.run("sync")
    done = project.run("revert", "dev", "--to", "0")
    assert done.code == 7
    assert "nothing was reverted" in done.err
    assert words in done.err


def test_an_occupied_database_needs_a_baseline_first(project: Project) -> None:
    project.query("CREATE TABLE users (id bigint)")
    assert "lockstep baseline dev" in project.run("init").err
    project.write("001-users.sql", "CREATE TABLE users (id bigint);")
    project.write("002-more.sql", "CREATE TABLE more (id bigint);")
    refused = project.run("sync")
    assert refused.code == 4
    assert "the database holds 1 table already" in refused.err
    assert "001-users.sql: recorded as present already" in project.run("baseline", "dev", "--version", "1").out
    assert project.run("sync").code == 0
    states = [m["state"] for m in project.run("status", "--json").document["environments"][0]["migrations"]]
    assert states == ["baseline", "applied"]
    again = project.run("baseline", "dev", "--version", "1")
    assert (again.code, "ran here already" in again.err) == (4, True)
    refused = project.run("revert", "dev", "--to", "0")
    assert refused.code == 7 and "part of the baseline" in refused.err


def test_repair_accepts_and_forgets_by_name_and_logs_why(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    project.write("002-b.sql", "SELECT 1;")
    project.run("sync")
    project.write("001-a.sql", "SELECT 2;")
    project.remove("002-b.sql")
    assert project.run("sync").code == 4
    assert project.run("repair", "dev").out == "nothing to repair\n"
    done = project.run("repair", "dev", "--accept", "1", "--forget", "2", "--reason", "squashed")
    assert done.code == 0, done.err
    assert project.run("status", "--check").code == 0
    logged = project.query(
        "SELECT version, details->>'reason' FROM schema_migrations_log WHERE event = 'repair' ORDER BY 1"
    )
    assert logged == [(1, "squashed"), (2, "squashed")]
    assert project.run("repair", "dev", "--forget", "9").code == 2


def test_a_migration_that_was_run_by_hand_is_recorded_by_name(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("002-b.sql", "SELECT 1;")
    project.query("CREATE TABLE a (id bigint)")
    said = project.run("repair", "dev", "--record", "1", "--reason", "by hand").out
    assert said == "001-a.sql: recorded as applied by hand (event 2; take it back: lockstep repair dev --undo 2)\n"
    assert project.run("repair", "dev", "--record", "1").code == 2, "it is not pending any more"
    assert project.run("sync").code == 0
    assert project.run("status", "--check").code == 0


def test_an_entry_without_a_number_is_forgotten_by_name(project: Project) -> None:
    project.query("CREATE TABLE schema_migrations (migration_name text, checksum text, applied_at timestamp)")
    project.query("INSERT INTO schema_migrations VALUES ('initial.sql', 'x', now())")
    project.run("init")
    assert project.run("sync").code == 4
    assert project.run("repair", "dev", "--forget", "initial.sql").code == 0
    assert project.run("status", "--check").code == 0


def test_a_refused_environment_does_not_hide_the_plans_of_others(two: Project) -> None:
    two.write("001-a.sql", "SELECT 1;")
    two.run("sync", "dev")
    two.write("001-a.sql", "SELECT 2;")
    done = two.run("plan")
    assert done.code == 4
    assert "001-a.sql was changed after it was applied" in done.err
    assert "1. 001-a  (one transaction, 1 statement" in done.out


def test_a_reformatted_file_is_reported_and_repaired(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    project.run("sync")
    project.write("001-a.sql", "-- one\nSELECT\r\n 1;")
    assert "reformatted" in project.run("status").out
    assert project.run("sync").code == 0
    assert "001-a.sql: reformatted" in project.run("repair", "dev").out
    assert "reformatted" not in project.run("status").out


def test_validate_finds_everything_at_once(project: Project) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("001-b.sql", "SELECT 1;")
    project.write("003-c.sql", "-- lockstep: lock_timout=1s\nSELECT 1;")
    project.write("004-d.sql", "SELECT 1;\nSELECT 'é' frm a b;")
    project.write("notes.sql", "SELECT 1;")
    project.write("009-z.down.sql", "SELECT 1;")
    project.write("005-e.sql", b"-- caf\xe9")
    project.write("006-f.sql", "ALTER TABLE a ADD COLUMN n int NOT NULL;")
    done = project.run("validate", "--json")
    assert done.code == 7
    found = {(f["file"], f["rule"], f["line"]) for f in done.document["findings"]}
    assert {
        ("001-b.sql", "duplicate", None),
        ("003-c.sql", "file", 1),
        ("004-d.sql", "parse", 2),
        ("notes.sql", "name", None),
        ("009-z.down.sql", "orphan", None),
        ("005-e.sql", "file", 1),
        ("006-f.sql", "adding-required-field", 1),
        ("006-f.sql", "missing-down", None),
    } <= found
    text = project.run("validate").out
    assert "004-d.sql:2:" in text and "^" in text


def test_a_finding_is_allowed_with_a_reason(project: Project) -> None:
    project.write("001-a.sql", '-- lockstep: allow=prefer-bigint-over-int reason="ten rows"\nCREATE TABLE a (id int);')
    project.write("001-a.down.sql", "DROP TABLE a;")
    done = project.run("validate", "--strict")
    assert (done.code, done.out) == (0, "2 files checked: 0 errors, 0 warnings\n")
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("validate", "--strict").code == 7
    assert project.run("validate").code == 0


def test_new_continues_the_folders_own_numbering(project: Project) -> None:
    assert (
        project.run("new", "First things!").out
        == "migrations/001-first-things.sql\nmigrations/001-first-things.down.sql\n"
    )
    project.write("0041-x.sql", "SELECT 1;")
    assert project.run("new", "add invoices").out.splitlines()[0] == "migrations/0042-add-invoices.sql"
    assert project.run("new", "!!!").code == 2


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"lockstep {command}" in shown


def test_a_project_is_found_from_a_folder_below(project: Project) -> None:
    below = project.folder / "migrations"
    assert main(["status", "--project", str(below)]) == 2, "the variable DEV_URL is not set here"


def test_no_project_is_said_with_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--project", str(tmp_path)]) == 2
    assert "lockstep new-project DIR" in capsys.readouterr().err


def test_an_unset_variable_names_itself_and_spares_the_other_environments(
    two: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    del two.urls["prod"]
    done = two.run("status")
    assert done.code == 0
    assert "needs the variable PROD_URL, which is not set" in done.err
    assert "add a line PROD_URL=" in done.err


def test_dotenv_is_read_and_the_environment_wins(project: Project) -> None:
    url = project.urls.pop("dev")
    (project.folder / ".env").write_text(f"DEV_URL={url}\n")
    assert project.run("init").code == 0
    assert "(.env)" in project.run("config").out
    project.variables["DEV_URL"] = "postgresql://u@127.0.0.1:1/x"
    assert project.run("status").code == 8


def test_an_environment_gets_only_what_the_one_before_it_has(two: Project) -> None:
    two.write("001-a.sql", "SELECT 1;")
    refused = two.run("sync", "prod")
    assert refused.code == 7
    assert "001-a.sql: not applied on dev yet, which comes before prod" in refused.err
    assert "next: lockstep sync dev prod" in refused.err
    assert two.query("SELECT count(*) FROM schema_migrations", "prod") == [(0,)]
    assert two.run("sync", "dev").out.startswith("1 applied (dev), run ")
    assert two.run("sync", "prod").code == 0
    two.write("002-b.sql", "SELECT 1;")
    two.urls["dev"] = "postgresql://postgres@127.0.0.1:1/x"
    done = two.run("sync", "prod")
    assert done.code == 0, "an environment that is down does not stop the next one"
    assert "dev could not be asked" in done.err


def test_the_way_on_after_a_failure_on_prod_works_as_printed(two: Project) -> None:
    two.query("CREATE TABLE only_here (id bigint)", "dev")
    two.run("baseline", "dev", "--version", "none")
    two.write("001-a.sql", "SELECT 1;")
    two.write("002-b.sql", "CREATE TABLE b AS SELECT * FROM only_here;")
    two.write("002-b.down.sql", "DROP TABLE b;")
    failed = two.run("sync")
    assert failed.code == 6
    hint = "take it back where it is applied already (lockstep revert dev --to 1), mend 002-b.sql, then: lockstep sync"
    assert f"next: {hint}" in failed.err
    assert two.run("revert", "dev", "--to", "1").code == 0
    two.write("002-b.sql", "CREATE TABLE b (id bigint);")
    assert two.run("sync").code == 0
    assert two.run("status", "--check").code == 0


def test_status_says_what_is_wrong_with_the_folder(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    project.write("001-b.sql", "SELECT 1;")
    done = project.run("status", "--check")
    assert done.code == 7
    assert "001-a.sql and 001-b.sql have the same number" in done.err


def test_an_empty_file_is_legal_and_not_silent(project: Project) -> None:
    project.run("init")
    project.run("new", "fill me in")
    assert "there is no statement in it" in project.run("validate").out
    project.write("002-nothing.sql", b"")
    assert "002-nothing.sql holds no statement; once applied" in project.run("plan").out
    project.remove("002-nothing.sql")
    done = project.run("sync")
    assert done.code == 0 and "001-fill-me-in.sql holds no statement" in done.err
