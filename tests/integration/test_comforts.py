"""The command line as a person has it before them: completion, quiet and verbose, progress, narrow terminals, first steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.core.steps import listening
from tests.cli.screen import left_standing, on_a_terminal
from tests.integration.backup.conftest import fill, new_store, s3, store
from tests.integration.backup.store import Store
from tests.project import Project

__all__ = ["new_store", "s3", "store"]

LOCKSTEP = [sys.executable, "-m", "lockstep"]


@pytest.fixture
def colourful(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    environ = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "TZ"}}
    return {**environ, "TERM": "xterm"}


# -- completion -----------------------------------------------------------------------------------------------------------


def test_bash_completes_commands_options_environments_and_migrations_and_nothing_is_connected_to(
    project: Project, tmp_path: Path
) -> None:
    project.urls = {"dev": "postgresql://u@127.0.0.1:1/x", "staging": "postgresql://u@127.0.0.1:1/x"}
    project.configure()
    project.write("001-orders.sql", "SELECT 1;")
    project.write("001-orders.down.sql", "SELECT 1;")
    project.write("012-email.sql", "SELECT 1;")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "lockstep"
    start = "import sys; sys.argv[0] = 'lockstep'; from lockstep.cli.main import run; run()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    command.chmod(0o755)
    script = project.run("completion", "bash").out
    asked = {
        "lockstep sta": ["status"],
        "lockstep backups v": ["verify"],
        "lockstep sync --ap": ["--approve"],
        "lockstep sync ": ["dev", "staging"],
        "lockstep sync dev st": ["staging"],
        "lockstep plan --to 0": ["001-orders", "012-email"],
        "lockstep plan --to 12": ["12"],
        "lockstep repair dev --accept 00": ["001-orders"],
        "lockstep status --timezone Europe/Berl": ["Europe/Berlin"],
        "lockstep new x": [],
    }
    calls = "\n".join(f'ask "{line}"; printf "%s\\n" "${{COMPREPLY[*]}}"; echo --' for line in asked)
    bash = (
        f"{script}\n"
        'ask() { COMP_LINE=$1; COMP_POINT=${#1}; COMP_TYPE=9; COMPREPLY=(); _python_argcomplete lockstep "${1##* }" ""; }\n'
        f"{calls}\n"
    )
    done = subprocess.run(
        ["bash", "--norc"], input=bash, cwd=project.folder, text=True, capture_output=True, check=False, timeout=120,
        env={**project.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    answers = [answer.split() for answer in done.stdout.split("--\n")[:-1]]
    assert dict(zip(asked, answers, strict=True)) == asked, done.stderr


def test_a_completion_imports_no_driver_no_use_case_and_no_prefect(project: Project) -> None:
    code = (
        "import os, sys, atexit; os.dup2(1, 8); sys.argv[0] = 'lockstep'\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "from lockstep.cli.main import run; run()"
    )
    environ = {"_ARGCOMPLETE": "1", "COMP_LINE": "lockstep sync d", "COMP_POINT": "15", "COMP_TYPE": "9"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.folder, env={**project.environ, **environ},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    loaded = set(done.stderr.split())
    assert "argcomplete" in loaded and done.stdout.strip() == "dev"
    assert not loaded & {"psycopg", "boto3", "prefect", "msgspec", "socket", "lockstep.config", "lockstep.service"}


# -- how much is said -----------------------------------------------------------------------------------------------------


def test_quiet_leaves_the_result_and_errors_and_verbose_says_each_step_without_secrets(project: Project) -> None:
    secret = "v3ry-s3cret-v4lue"
    project.variables["TOKEN"] = secret
    project.configure(dev='settings = { token = "${TOKEN}" }')
    assert project.run("init", "-q").err == ""
    project.write("001-a.sql", f"CREATE TABLE a (id int);\nINSERT INTO a SELECT 1 WHERE '{secret}x' <> '';\n")
    done = project.run("sync", "-v")
    assert done.code == 0 and re.fullmatch(r"in step: 1 applied \(dev\), run \S+\n", done.out)
    password = project.urls["dev"].split("@")[0].rsplit(":", 1)[-1]
    assert re.search(r"001-a\.sql:1: create  \d+ ms", done.err) and re.search(
        r"001-a\.sql:2: insert, 1 row  \d+", done.err
    )
    assert "connecting" in done.err and "SELECT, postgres.ledger." in done.err
    assert secret not in done.err and password not in done.err and "INSERT INTO" not in done.err
    assert "postgres.ledger." in project.run("sync", "-v").err and not listening()
    assert "postgres.ledger." not in project.run("sync").err  # the next call is as it was

    project.write("002-b.sql", "SELECT 1;")
    done = project.run("sync", "--quiet")
    assert (done.code, done.err) == (0, "") and done.out.startswith("in step: 1 applied")
    project.write("003-c.sql", "SELECT 1/0;")
    failed = project.run("sync", "--quiet")
    assert failed.code == 6 and failed.out == "" and failed.err.startswith("error: dev")
    assert (
        failed.err == project.run("sync").err.partition("error: ")[1] + project.run("sync").err.partition("error: ")[2]
    )
    loud, silent = project.run("status", "--json", "-v"), project.run("status", "--json", "-q")
    assert loud.document == silent.document and silent.err == ""
    assert project.run("status", "-q", "-v").code == 2


# -- progress -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(project: Project, store: Store, pg_bin: Path) -> Project:
    """A project with 40 MB that no compression makes smaller, and a bucket."""
    project.toml = (
        f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
        f'programs = "{pg_bin}"\n'
    )
    project.configure()
    assert project.run("init").code == 0
    fill(project.urls["dev"], megabytes=40)
    return project


@pytest.mark.slow  # a backup, a restore and a verification on terminals
def test_a_bar_is_on_a_terminal_alone_and_leaves_nothing_behind(
    shop: Project, new_database: object, colourful: dict[str, str]
) -> None:
    shop.variables["COPY_URL"] = new_database()  # type: ignore[operator]
    environ = {**shop.environ, **colourful, "NO_COLOR": "1"}
    code, written = on_a_terminal([*LOCKSTEP, "backup", "dev"], cwd=shop.folder, env=environ, columns=100)
    assert code == 0, written
    assert re.search(r"\rdev:   backup …|\r\033\[2Kdev:   backup … ", written) or "dev:   backup …" in written
    drawn = [part for part in written.split("\r\033[2K") if "MB/s" in part]
    assert drawn and all(len(part.splitlines()[0]) < 100 for part in drawn)
    assert re.search(r"\[#+\.*\] +\d+% ", written), written
    stays = left_standing(written)
    assert re.fullmatch(r"dev:   backup  s3://\S+ \(4\d\.\d MB\)  .+", stays[0]) and stays[1].startswith("backup ")

    words = ["restore", "latest", "--into", "${COPY_URL}", "--of", "dev"]
    code, written = on_a_terminal([*LOCKSTEP, *words], cwd=shop.folder, env=environ, columns=100)
    assert code == 0, written
    assert re.search(r"restore … \[#*\.*\] +\d+% \d+\.\d MB of 4\d\.\d MB, .*/s, read in about ", written)
    assert not [line for line in left_standing(written) if "…" in line], written

    for more in ([], ["--json"], ["-q"]):
        piped = shop.run_process("backup", "dev", *more)
        assert "\033" not in piped.err + piped.out and "\r" not in piped.err and "[#" not in piped.err
        assert piped.err == "" or not more
    dumb = on_a_terminal([*LOCKSTEP, "backup", "dev"], cwd=shop.folder, env={**environ, "TERM": "dumb"})[1]
    assert "\033" not in dumb and "\r\r" not in dumb


def test_a_failure_stands_on_a_line_of_its_own(project: Project, colourful: dict[str, str]) -> None:
    assert project.run("init").code == 0
    project.write("001-a.sql", "SELECT pg_sleep(0.3);\nSELECT 1/0;")
    code, written = on_a_terminal(
        [*LOCKSTEP, "sync"], cwd=project.folder, env={**project.environ, **colourful, "NO_COLOR": "1"}
    )
    assert code == 6 and "dev:   001-a …" in written
    assert next(line for line in left_standing(written) if "error: dev" in line).startswith("error: dev")
    assert "…" not in "".join(left_standing(written))


# -- narrow terminals, zones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_tables_fit_narrow_terminals_and_no_name_is_broken(
    project: Project, colourful: dict[str, str], columns: int
) -> None:
    project.urls["prod"] = project.urls["dev"]
    project.configure(prod="protected = false")
    assert project.run("init", "dev").code == 0
    name = "001-a-migration-with-a-name-to-be-copied"
    project.write(f"{name}.sql", "SELECT 1;")
    assert project.run("sync", "dev").code == 0
    environ = {**project.environ, **colourful}
    del environ["NO_COLOR"]
    for words in (["status"], ["history", "dev"], ["config"]):
        code, written = on_a_terminal([*LOCKSTEP, *words], cwd=project.folder, env=environ, columns=columns)
        assert code == 0, written
        table = re.sub(r"\033\[\d*m", "", written.split("\r\n\r\n")[0]).splitlines()
        wide = [line for line in table if len(line) > columns]
        assert not [line for line in wide if len(line.split()) > 2], written
        assert words == ["config"] or name in written
    assert "\033[32mapplied" in on_a_terminal([*LOCKSTEP, "status"], cwd=project.folder, env=environ)[1]


def test_times_follow_the_zone_and_json_stays_utc(project: Project) -> None:
    assert project.run("init").code == 0
    project.write("001-a.sql", "SELECT 1;")
    assert project.run("sync").code == 0
    project.query(
        "ALTER TABLE schema_migrations DISABLE TRIGGER USER; UPDATE schema_migrations SET applied_at = '2025-07-01 22:30Z'"
    )
    assert "applied   1 Jul 2025" in project.run("status", "--timezone", "UTC").out
    assert "applied   2 Jul 2025" in project.run("status", "--timezone", "Europe/Berlin").out
    project.variables["LOCKSTEP_TIMEZONE"] = "Europe/Berlin"
    assert "applied   2 Jul 2025" in project.run("status").out
    assert "applied   1 Jul 2025" in project.run("status", "--timezone", "UTC").out  # the option wins
    document = project.run("status", "--json").document
    assert document["environments"][0]["migrations"][0]["applied_at"] == "2025-07-01T22:30:00Z"
    project.variables["LOCKSTEP_TIMEZONE"] = "Europe/Berlni"
    wrong = project.run("status")
    assert (
        wrong.code == 2
        and "LOCKSTEP_TIMEZONE: there is no time zone 'Europe/Berlni'; did you mean 'Europe/Berlin'?" in wrong.err
    )
    del project.variables["LOCKSTEP_TIMEZONE"]
    project.toml = '[display]\ntimezone = "Asia/Tokoy"\n'
    project.configure()
    wrong = project.run("status")
    assert wrong.code == 2 and "lockstep.toml:2: display.timezone" in wrong.err and "'Asia/Tokyo'?" in wrong.err


# -- mistakes and first steps ---------------------------------------------------------------------------------------------


def test_a_mistake_is_answered_with_what_was_meant(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (("stauts",), "there is no command 'stauts'\n  next: did you mean: lockstep status?"),
        (("status", "--chekc"), "lockstep status: error: there is no option --chekc; did you mean '--check'?"),
        (("backups", "lits"), "there is no 'lits'; did you mean 'list'?"),
        (("sync", "dve"), "did you mean 'dev'?"),
        (("--json", "status"), "--json stands behind the command"),
    ):
        done = project.run_process(*words)
        assert done.code == 2 and said in done.err, done


def test_who_begins_is_told_the_next_command_and_who_has_begun_is_not(tmp_path: Path, database: str) -> None:
    project = Project(folder=tmp_path, urls={"dev": database})
    environ = {k: v for k, v in project.environ.items() if k != "DEV_URL"}

    def alone() -> str:
        done = subprocess.run(
            LOCKSTEP, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2
        return done.stdout.splitlines()[-1]

    assert alone().startswith("next: lockstep new-project DIR")
    (tmp_path / "lockstep.toml").write_text("")
    assert "[environments.dev]" in alone() and "[environments.dev]" in project.run("sync").err
    project.configure()
    assert alone() == f"next: no environment's address is known yet: put DEV_URL into {tmp_path / '.env'}"
    environ = project.environ
    (tmp_path / "migrations").mkdir()
    assert alone() == "next: lockstep status"
    assert "no ledger yet → lockstep init dev" in project.run("status").out
    assert "next: lockstep new" in project.run("init").err
    assert project.run("init").err == ""


def test_a_rule_that_is_accepted_under_a_wrong_name_is_told_at_its_finding(project: Project) -> None:
    project.write(
        "001-a.sql",
        '-- lockstep: allow=mising-down reason="throw-away"\nCREATE TABLE public.a (id bigint PRIMARY KEY);',
    )
    told = project.run("validate").out
    assert "its head has allow=mising-down; did you mean 'missing-down'?" in told
