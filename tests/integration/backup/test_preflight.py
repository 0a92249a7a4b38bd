"""What a later environment's backup would lack is found before the first environment is changed, once, and at no cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.backup.store import Store
from tests.project import Project

LACKS = {
    "no program": ("programs = '{empty}'", "pg_dump 17 is needed"),
    "no bucket": ("", "there is no such bucket"),
    "wrong credentials": ("", "the credentials were refused"),
    "unreadable": ("", "public.closed: no SELECT"),
    "jobs": ("jobs = 0", "backup.jobs: 0 is none"),
}


@pytest.fixture
def both(project: Project, new_database: Callable[[], str], store: Store) -> Project:
    """dev and a protected prod, both initialised, with one migration to apply."""
    project.urls["prod"] = new_database()
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    configure(project, store)
    project.write("001-a.sql", "SELECT 1;")
    assert project.run("init").code == 0
    return project


def configure(project: Project, store: Store, *, more: str = "", url: str | None = None) -> None:
    project.toml = (
        f'[backup]\nbucket = "{url or store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n{more}\n'
    )
    project.configure(prod='after = ["dev"]')


@pytest.mark.parametrize("fault", LACKS)
def test_what_a_later_backup_lacks_is_found_before_dev_is_changed(
    both: Project,
    store: Store,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_role: Callable[..., str],
) -> None:
    more, expected = LACKS[fault]
    (tmp_path / "empty").mkdir()
    url = store.settings.url.replace("s3://backups", "s3://not-there") if fault == "no bucket" else None
    configure(both, store, more=more.format(empty=tmp_path / "empty"), url=url)
    if fault == "wrong credentials":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim-und-falsch")
    if fault == "unreadable":
        both.urls["prod"] = new_role(both.urls["prod"])
        with psycopg.connect(
            both.urls["dev"].rsplit("/", 1)[0] + "/" + both.urls["prod"].split("dbname=")[1].split()[0], autocommit=True
        ) as admin:
            admin.execute(
                "CREATE TABLE closed (); GRANT SELECT ON schema_migrations, schema_migrations_log, schema_migrations_states TO backup_role_0; CREATE POLICY seen ON schema_migrations USING (true); ALTER ROLE backup_role_0 BYPASSRLS"
            )
    done = both.run("sync")
    assert done.code != 0
    assert expected in done.err
    assert "dev: nothing was applied: prod, which comes later, could not be backed up" in done.err
    assert "geheim" not in done.err
    assert both.query("SELECT count(*) FROM schema_migrations") == [(0,)]
    store.assert_empty()


@pytest.mark.parametrize("fault", ["no bucket", "pg_dump fails when all is written"])
def test_without_a_backup_that_exists_nothing_is_changed(
    both: Project, store: Store, fault: str, pg_bin: Path, tmp_path: Path
) -> None:
    assert both.run("sync", "dev").code == 0
    if fault == "no bucket":
        configure(both, store, url=store.settings.url.replace("s3://backups", "s3://not-there"))
    else:
        (tmp_path / "programs").mkdir()
        for name in ("pg_dump", "pg_restore"):
            program = tmp_path / "programs" / name
            fails = '[ "$1" = --version ]' if name == "pg_dump" else "true"
            program.write_text(f'#!/bin/sh\n"{pg_bin / name}" "$@" && {fails}\n')
            program.chmod(0o755)
        configure(both, store, more=f"programs = '{tmp_path / 'programs'}'")
    done = both.run("sync", "prod", "--approve", "OPS-1")
    assert done.code == 7 and "no backup was made" in done.err, done
    assert both.query("SELECT count(*) FROM schema_migrations", "prod") == [(0,)]
    assert "apply" not in both.query("SELECT string_agg(event, ' ') FROM schema_migrations_log", "prod")[0][0]
    store.assert_empty()


def test_a_run_whose_first_environment_has_nothing_to_do_asks_nobody(both: Project, store: Store) -> None:
    assert both.run("sync").code == 0
    configure(both, store, url="s3://not-there/x")
    assert both.run("sync").code == 0  # nothing to apply anywhere: the bucket is nobody's business
    both.write("002-b.sql", "SELECT 1;")
    assert both.run("sync", "dev").code == 0  # prod is not part of this run


def test_it_is_looked_at_once_and_leaves_nothing(both: Project, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from lockstep.service import safeguard

    seen: list[str] = []
    original = safeguard.preflight

    def look(settings: Any, environment: Any, run: Any, progress: Any) -> None:
        seen.append(environment.name)
        original(settings, environment, run, progress)

    monkeypatch.setattr(safeguard, "preflight", look)
    assert both.run("sync").code == 0
    assert seen == ["prod"]
    assert store.unfinished() == []
    assert sorted({re.sub(r"-.*", "", key.rsplit("/", 1)[1]) for key in store.stored()}) == [
        "contents.json",
        "database.dump",
        "manifest.json",
        "rehearsal",
        "verified",
    ]


def test_an_environment_that_is_away_keeps_nobody_before_it_waiting(both: Project) -> None:
    both.urls["prod"] = "postgresql://u:geheim@127.0.0.1:1/x"
    done = both.run("sync")
    assert done.code == 8
    assert "prod: not looked at beforehand" in done.err
    assert both.query("SELECT count(*) FROM schema_migrations") == [(1,)]
    assert "geheim" not in done.err


# -- the command --------------------------------------------------------------------------------------------------------


def test_backup_takes_one_of_an_environment_that_is_not_protected(both: Project, store: Store) -> None:
    done = both.run("backup", "dev", "--reason", "before the import")
    assert done.code == 0, done.err
    (manifest,) = [key for key in store.stored() if key.endswith("manifest.json")]
    assert done.out == f"backup {manifest.split('/')[-2]}\n"
    assert "dev:   backup  s3://" in done.err
    assert both.query("SELECT details ->> 'reason' FROM schema_migrations_log WHERE event = 'backup'") == [
        ("before the import",)
    ]


def test_backup_tells_as_json_what_is_in_it(both: Project) -> None:
    done = both.run("backup", "prod", "--json")
    assert done.code == 0, done.err
    document = done.document
    assert (document["format"], document["environment"], document["ledger_version"]) == (
        "lockstep.backup/1",
        "prod",
        None,
    )
    assert document["size"] > 0 and document["not_covered"] == [] and document["encrypted"] is False


def test_backup_works_where_there_is_no_ledger(both: Project, new_database: Callable[[], str]) -> None:
    both.urls["dev"] = new_database()
    done = both.run("backup", "dev")
    assert done.code == 0, done.err
    assert "the backup is not in the audit log: there is no ledger yet" in done.err


def test_backup_without_a_bucket_is_a_config_error(both: Project) -> None:
    both.toml = ""
    both.configure(prod='after = ["dev"]\nprotected = false')
    done = both.run("backup", "dev")
    assert done.code == 2
    assert "there is no [backup]" in done.err


def test_several_jobs_are_configured(both: Project, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from lockstep.service import backup as backup_module

    monkeypatch.setattr(backup_module, "LARGE", 64 * 1024)
    configure(both, store, more="jobs = 2")
    both.query(
        "CREATE TABLE a AS SELECT generate_series(1, 9000) i; CREATE TABLE b AS SELECT generate_series(1, 9000) i"
    )
    assert both.run("backup", "dev").code == 0
    assert [key.rsplit("/", 1)[1] for key in store.stored()] == [
        "contents.json",
        "data-1.dump",
        "database.dump",
        "manifest.json",
    ]


def test_what_others_change_while_the_backup_is_taken_stops_the_run_and_is_no_work_of_its_own(both: Project) -> None:
    assert both.run("sync").code == 0
    both.query(
        "CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.event = ''backup'' THEN EXECUTE ''CREATE TABLE IF NOT EXISTS public.by_another (n int)''; END IF; RETURN NULL; END';"
        "CREATE TRIGGER meanwhile AFTER INSERT ON schema_migrations_log FOR EACH ROW EXECUTE FUNCTION meanwhile()",
        "prod",
    )
    assert both.run("drift", "prod", "--accept", "a test").code == 0
    both.write("002-b.sql", "CREATE TABLE own (n int);")
    done = both.run("sync")
    assert done.code == 4, done.err
    assert "table public.by_another was added" in done.err
    assert both.query("SELECT to_regclass('own')", "prod") == [(None,)]
    shown = both.run("drift", "prod", "--json").document["environments"][0]["differences"]
    assert [one["object"] for one in shown] == ["table public.by_another"]
