"""`explain`: one run out of the audit logs, ledgers, locks and the bucket, without any Prefect."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lockstep.postgres.connection import open_session
from lockstep.postgres.lock import take_lock
from lockstep.service.project import target_of
from tests.integration.backup.conftest import new_store, s3, store
from tests.integration.backup.store import Store
from tests.project import Project

__all__ = ["new_store", "s3", "store"]


@pytest.fixture
def project(tmp_path: Path, new_database: Callable[[], str]) -> Project:
    (tmp_path / "migrations").mkdir()
    made = Project(folder=tmp_path, urls={"dev": new_database(), "prod": new_database()})
    made.variables |= {"PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    made.toml = '[project]\ncontacts = ["ops@example.com"]\nrunbook = "https://example.com/runbook"\n'
    made.configure(prod='after = ["dev"]\nprotected = false')
    assert made.run("init").code == 0
    return made


def test_what_ran_and_what_did_not_and_the_next_command(project: Project) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("sync").code == 0
    project.write("002-b.sql", "CREATE TABLE b (id int);")
    project.write("003-c.sql", "CREATE TABLE c (id int);\nINSERT INTO nowhere VALUES ('s3cr3t');")
    project.write("004-d.sql", "CREATE TABLE d (id int);")
    failed = project.run("sync")
    assert failed.code == 6
    shown = project.run("explain")
    assert shown.code == 0, shown.err
    text = " ".join(shown.out.split())
    for words in (
        "(the newest run)",
        "stopped at dev",
        "003-c failed at 003-c.sql:2, SQLSTATE 42P01: ",
        "dev 1 applied: 002-b",
        "rolled back, nothing of it is left: 003-c",
        "not started: 004-d",
        "prod nothing: the run did not come to it",
        "lock free",
        "revert – loses not known: it was not rehearsed lockstep revert dev --to 1",
        "next: mend 003-c.sql (it may change: it is not applied), then: lockstep sync",
        "contacts: ops@example.com runbook: https://example.com/runbook",
    ):
        assert words in text, f"{words}\n{shown.out}"
    assert "s3cr3t" not in shown.out
    assert len(shown.out.splitlines()) <= 40  # one screen


def test_a_run_under_way_is_told_with_who_holds_the_lock(project: Project) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("sync", "dev").code == 0
    run_id = project.query("SELECT run_id FROM schema_migrations")[0][0]
    target = target_of(project.settings(), project.environment(), with_settings=False)
    with closing(open_session(target, run_id=run_id)) as session:
        take_lock(session)
        document = project.run("explain", run_id, "--json").document
    dev = document["environments"][0]
    assert document["at_work"] is True and document["newest"] is False
    assert run_id in dev["holder"] and len(dev["sessions"]) == 1
    assert document["next"].startswith("it is still at work: wait")
    assert "prod  nothing: it had nothing to do there, or was not asked to" in project.run("explain", run_id).out
    after = project.run("explain", run_id, "--json").document
    assert after["at_work"] is False and after["next"] == "nothing: it ended well"


def test_an_environment_that_cannot_be_asked_is_named_and_hides_nothing(project: Project) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("sync").code == 0
    project.urls["prod"] = "postgresql://u:pa55word@127.0.0.1:1/shop"
    shown = project.run("explain")
    assert shown.code == 0 and "dev" in shown.out and "1 applied: 001-a" in shown.out
    assert "not looked at:" in shown.out and "prod (127.0.0.1:1/shop)" in shown.out and "pa55word" not in shown.out
    project.urls["dev"] = project.urls["prod"]
    nobody = project.run("explain")
    assert nobody.code == 8


def test_files_that_cannot_be_read_are_in_nobodys_way(project: Project) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    assert project.run("sync", "dev").code == 0
    project.write("002-b.sql", "-- lockstep: nonsense=1\nSELECT 1;")
    shown = project.run("explain")
    assert shown.code == 0, shown.err
    assert "1 applied: 001-a" in shown.out and "the migration files, which cannot be read" in shown.out


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (("not-a-run",), "'not-a-run' is no run"),
        (("20200101-000000-abcd",), "no environment's audit log knows the run 20200101-000000-abcd"),
        (("http://h/runs/flow-run/0c3a8a5e-1111-4222-8333-123456789abc",), "no environment's audit log knows the run"),
        ((), "no environment's audit log knows any run"),
    ],
)
def test_a_run_that_nobody_knows_is_a_usage_error(project: Project, run: tuple[str, ...], said: str) -> None:
    done = project.run("explain", *run)
    assert done.code == 2 and said in done.err and "lockstep history" in done.err


def test_the_ways_back_have_the_times_of_the_rehearsal(project: Project, store: Store) -> None:
    bucket = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.toml += bucket
    project.configure(prod='after = ["dev"]\nprotected = true')
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    project.write("001-a.down.sql", "DROP TABLE a;")
    project.configure(prod='after = ["dev"]\nprotected = true\ncheck = { command = ["false"] }')
    assert project.run("sync", "dev").code == 0
    assert project.run("sync", "prod").code == 6  # approved by the fixture

    document = project.run("explain", "--json").document

    prod = document["environments"][1]
    revert, restore = prod["ways_back"]
    assert revert["command"] == "lockstep revert prod --to none" and revert["ms"] is not None
    assert restore["command"] == f"lockstep restore {prod['backup']} --into prod --replace" and restore["ms"] > 0
    assert "written since the backup of" in restore["loses"]
    assert prod["rehearsal"] == "passed" and prod["stop"]["event"] == "check"
    assert prod["asked"]["standing"] == "approved"
    project.toml = project.toml.replace('endpoint_url = "http://', 'endpoint_url = "http://127.0.0.1:1/')
    project.configure(prod='after = ["dev"]\nprotected = true')
    shown = project.run("explain")
    assert shown.code == 0 and "prod: the rehearsal's report in the bucket: " in shown.out
    assert "lockstep revert prod --to none" in shown.out and "lockstep restore 20" in shown.out
