"""`health` reckons rates from an earlier backup's contents, and does without where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from lockstep.storage.backups import Backups, folder_of
from lockstep.storage.bucket import Bucket
from tests.integration.backup.store import Store
from tests.integration.backup.test_backup import take
from tests.project import Project

QUIET = "".join(
    f'[[health.ignore]]\ncheck = "{check}"\nreason = "a test"\n' for check in ("checksums-off", "unsafe-settings")
)


def document(project: Project, store: Store, health: str = "", **body: str) -> Any:
    project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.toml += f"[health]\n{health}\n{QUIET}"
    project.configure(**body)
    done = project.run("health", "--json")
    assert done.code == 0, done.err
    return done.document["environments"][0]


def backed_up_before(url: str, store: Store, age: timedelta) -> str:
    """Take a backup, and store it a second time as one that was taken `age` ago; return that one's id."""
    made = take(url, store).manifest
    taken_at = datetime.now(UTC) - age
    with Bucket(store.settings) as bucket:
        backups = Backups(bucket)
        contents = backups.contents(made)
        assert contents is not None
        key = backups.dump_key(made.environment, taken_at=taken_at, run_id="old")
        old = replace(made, key=key, taken_at=taken_at, run_id="old")
        stored, digest = backups.store_contents(folder_of(old), contents)
        old = replace(old, contents_key=stored, contents_sha256=digest)
        backups.record(old)
    return old.id


def test_days_left_and_growth_are_reckoned_from_the_newest_backup_of_a_day_ago(project: Project, store: Store) -> None:
    url = project.urls["dev"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id serial PRIMARY KEY, x text)")
        connection.execute("SELECT setval('t_id_seq', 1000000000)")
        project.urls = {take_environment(url, store): url}
        name = backed_up_before(url, store, timedelta(days=2))
        connection.execute("SELECT setval('t_id_seq', 1200000000)")
        connection.execute(
            "INSERT INTO t (id, x) SELECT i, repeat('x', 200) FROM generate_series(1, 4000) i; ANALYZE t"
        )
    found = document(project, store, "small_table = '8kB'\ngrowth_size = '100kB'")
    assert found["rates"].startswith("the backup of 20") and name in found["rates"]
    rows = {row["check"]: row for row in found["findings"]}
    key = {m["name"]: m["value"] for m in rows["key-exhaustion"]["measures"]}
    assert rows["key-exhaustion"]["severity"] == "critical"  # 9 days
    assert round(key["rate"] / 1e6) == 100 and round(key["days_left"], 1) == 9.5
    growth = {m["name"]: m["value"] for m in rows["table-growth"]["measures"]}
    assert 400_000 < growth["growth"] < 600_000
    assert "4,000 more rows, since the backup of" in rows["table-growth"]["text"]


def take_environment(url: str, store: Store) -> str:
    """The environment that `take` takes its backups for."""
    return take(url, store).manifest.environment


@pytest.mark.slow
def test_without_a_backup_the_servers_counters_serve_and_it_is_said(project: Project, store: Store) -> None:
    found = document(project, store)
    assert found["rates"].endswith("; there is no backup to compare with")
    assert found["findings"] == []


@pytest.mark.slow
def test_an_unreachable_bucket_costs_the_rates_and_not_the_report(project: Project, store: Store) -> None:
    settings = replace(store.settings, url="s3://not-there/team")
    found = document(project, replace(store, settings=settings))
    assert "; no backup to compare with: s3://not-there" in found["rates"]
    assert found["findings"] == []


@pytest.mark.slow
def test_a_protected_environment_without_backup_or_proof_is_found(project: Project, store: Store) -> None:
    project.urls = {"prod": project.urls["dev"]}
    found = document(project, store)
    assert [row["why"] for row in found["not_judged"] if row["check"] == "backup-age"] == ["there is no ledger"]
    assert project.run("init").code == 0
    (row,) = document(project, store)["findings"]
    assert (row["severity"], row["text"], row["fix"]) == ("critical", "none is recorded", "lockstep backup prod")
    assert project.run("backup", "prod").code == 0
    (row,) = document(project, store)["findings"]
    assert (row["severity"], row["text"]) == ("info", "none was ever verified")
    found = document(project, store, 'backup = ["1ms", "1ms"]')
    assert found["findings"][0]["severity"] == "critical" and "the newest is" in found["findings"][0]["text"]
    assert project.run("backups", "verify", "--level", "digests").code == 0
    assert document(project, store)["findings"] == []
