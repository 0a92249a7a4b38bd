"""`backups list` and `backups prune`: what is shown is what lies there, what goes has no reason to stay, by the rule of
tests/unit/test_retention.py; and what an interrupted backup leaves is found."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lockstep.service.pruning import PrunePlan, plan_pruning, prune
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from lockstep.storage.folders import BackupFolder
from lockstep.storage.manifest import LedgerHead, Manifest
from lockstep.storage.verification import Level, Verification
from tests.integration.backup.store import Store
from tests.manifests import manifest
from tests.project import Project

NOW = datetime.now(UTC)
AT_ONCE = -60_000  # milliseconds: what was stored just now is old enough


@pytest.fixture
def kept(project: Project, store: Store) -> Project:
    """dev and its ledger; keep is the last 2, and 10 days."""
    project.toml = (
        f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
        "keep = { last = 2, days = 10 }\n"
    )
    project.configure()
    assert project.run("init").code == 0
    return project


@pytest.fixture
def taken(store: Store) -> Callable[..., Manifest]:
    """Record a backup of so many days ago."""

    def taken(days: float, run: str = "r", environment: str = "dev", **more: Any) -> Manifest:
        made = manifest(
            taken_at=NOW - timedelta(days=days), environment=environment, run_id=run, prefix=store.prefix, **more
        )
        store.client.put_object(Bucket=store.name, Key=made.key, Body=b"dump")
        with Bucket(store.settings) as bucket:
            Backups(bucket).record(made)
        return made

    return taken


def verify(store: Store, made: Manifest, *, ok: bool = True, level: Level = Level.RESTORED) -> None:
    with Bucket(store.settings) as bucket:
        Backups(bucket).record_verification(
            made, Verification(level=level, ok=ok, at=NOW, duration_ms=1, run_id="v", tool_version="0.1.0")
        )  # fmt: skip


def planned(project: Project, *, leftovers_after_ms: int = AT_ONCE) -> PrunePlan:
    settings = project.settings()
    (plan,) = plan_pruning(settings, settings.chosen(["dev"]), leftovers_after_ms=leftovers_after_ms)
    return plan


def ids(folders: tuple[BackupFolder, ...]) -> list[str]:
    return [folder.id for folder in folders]


def there(store: Store) -> set[str]:
    return {key.removeprefix(store.prefix) for key in store.stored()}


# -- list -------------------------------------------------------------------------------------------------------------


def test_a_list_shows_each_backup_with_what_is_known_of_it(
    kept: Project, taken: Callable[..., Manifest], store: Store
) -> None:
    assert kept.run("backups", "list").out == f"there is no backup in {store.settings.url}\n"
    old = taken(400, "a", ledger=LedgerHead(version=12, entries=3))
    taken(300, "b", encrypted_to=("age1x",), plain_sha256="ab" * 32)
    cut = taken(200, "c")
    store.client.put_object(Bucket=store.name, Key=cut.key, Body=b"du")
    former = taken(100, "d", environment="former")
    damaged = f"{store.prefix}dev/20260101T000000Z-e/"
    store.client.put_object(Bucket=store.name, Key=f"{damaged}manifest.json", Body=b"{")
    store.client.put_object(Bucket=store.name, Key=f"{store.prefix}dev/20260102T000000Z-f/database.dump", Body=b"x")
    verify(store, old)
    verify(store, former, ok=False)
    rows = kept.run("backups", "list").out.splitlines()
    words = {row.split()[0][-1]: " ".join(row.split()[1:]) for row in rows[1:]}
    assert set(words) == set("abcde")  # what has no manifest is no backup
    assert words["a"].startswith("dev ") and " 012 restored today " in words["a"] and words["a"].endswith(" no a")
    assert " none never age b" in words["b"]
    assert "failed: objects are missing or cut" in words["c"]
    assert words["d"].startswith("former ") and " failed today" in words["d"]
    assert "manifest cannot be read" in words["e"]
    document = kept.run("backups", "list", "dev", "--json").document
    assert {one["id"][-1] for one in document["backups"]} == set("abce")
    first = next(one for one in document["backups"] if one["id"] == old.id)
    assert (first["verified"], first["failed"], first["whole"], first["ledger"]["version"]) == (
        "restored",
        False,
        True,
        12,
    )
    assert next(one for one in document["backups"] if one["run_id"] == "b")["encrypted_to"] == ["age1x"]
    assert kept.run("backups", "--json", "list", "dev").document == document  # options stand before the word, too
    done = kept.run("backups", "list", "nowhere")
    assert done.code == 2 and "there is no environment 'nowhere'" in done.err


# -- what goes --------------------------------------------------------------------------------------------------------


def test_only_what_nothing_holds_goes_and_whole(kept: Project, taken: Callable[..., Manifest], store: Store) -> None:
    gone, proven, referenced, by_run = taken(90, "gone"), taken(80, "v"), taken(70, "x"), taken(60, "run-7")
    last, cut, young = taken(40, "l"), taken(30, "cut"), taken(1, "y")
    elsewhere = taken(95, "e", environment="former")
    verify(store, gone)
    verify(store, proven)
    store.client.put_object(Bucket=store.name, Key=cut.key, Body=b"du")
    log = "INSERT INTO public.schema_migrations_log (event, run_id, details) VALUES "
    kept.query(f"""{log} ('restore', 'z', '{{"backup": "{referenced.id}"}}'), ('apply', 'run-7', '{{}}')""")

    before = there(store)
    done = kept.run("backups", "prune", "--dry-run")
    assert done.code == 0
    assert "dev: 1 would be removed" in done.out and "6 kept" in done.out
    assert there(store) == before

    done = kept.run("backups", "prune")
    assert done.code == 0
    assert "removed: 1 backup, 0 leftovers" in done.out
    assert done.err.splitlines() == [f"dev: removed {gone.id}"]
    left = {key.split("/")[1] for key in there(store)}
    assert left == {one.id for one in (proven, referenced, by_run, last, cut, young, elsewhere)}
    plan = planned(kept)
    reasons = {backup: sorted(reason.name for reason in why) for backup, why in plan.kept.items()}
    assert reasons == {
        proven.id: ["VERIFIED"],
        referenced.id: ["REFERENCED"],
        by_run.id: ["REFERENCED"],
        last.id: ["LAST"],
        cut.id: ["LAST"],  # among them, and pushes none out
        young.id: ["LAST", "YOUNG"],
    }
    document = kept.run("backups", "prune", "--json").document
    assert document["removed"] is None and document["environments"][0]["backups"] == []


@pytest.mark.slow
def test_an_old_reference_holds_nothing(kept: Project, taken: Callable[..., Manifest]) -> None:
    old, _, _ = taken(60, "o"), taken(2), taken(1)
    kept.query(
        "ALTER TABLE public.schema_migrations_log DISABLE TRIGGER USER; "
        "INSERT INTO public.schema_migrations_log (id, at, event, actor, previous_hash, hash, details) VALUES "
        f"""(99, now() - interval '11 days', 'backup', 'a', 'p', 'h', '{{"backup": "{old.id}"}}')"""
    )
    assert ids(planned(kept).backups) == [old.id]


def test_an_environment_that_cannot_be_asked_keeps_everything(
    kept: Project, taken: Callable[..., Manifest], store: Store
) -> None:
    taken(90), taken(80), taken(70), taken(60)
    store.client.put_object(Bucket=store.name, Key=f"{store.prefix}dev/20250102T000000Z-f/database.dump", Body=b"x")
    before = there(store)
    kept.urls["dev"] = "postgresql://postgres:geheim@127.0.0.1:1/x"
    done = kept.run("backups", "prune")
    assert done.code == 8
    assert "dev: nothing is removed, since its audit log cannot be read" in done.out
    assert "127.0.0.1:1/x" in done.err and "geheim" not in done.err
    assert kept.run("backups", "prune", "--json").document["environments"][0]["skipped"]["kind"] == "Unreachable"
    assert there(store) == before


@pytest.mark.slow
def test_a_database_without_a_ledger_keeps_everything(
    kept: Project, taken: Callable[..., Manifest], new_database: Callable[[], str]
) -> None:
    taken(90), taken(80), taken(70), taken(60)
    kept.urls["dev"] = new_database()
    assert kept.run("backups", "prune").code == 4
    assert planned(kept).skipped is not None


@pytest.mark.parametrize("keep", ["last = 0", "last = 3, days = -1"])
def test_a_rule_that_would_keep_nothing_is_refused(kept: Project, keep: str) -> None:
    kept.toml = kept.toml.replace("last = 2, days = 10", keep)
    kept.configure()
    done = kept.run("backups", "prune")
    assert done.code == 2 and "lockstep.toml:4: backup.keep." in done.err


def test_a_manifest_that_cannot_be_read_is_left_to_a_person(kept: Project, store: Store) -> None:
    folder = f"{store.prefix}dev/20250101T000000Z-e/"
    for name in ("manifest.json", "database.dump"):
        store.client.put_object(Bucket=store.name, Key=folder + name, Body=b"{")
    plan = planned(kept)
    assert ids(plan.unreadable) == ["20250101T000000Z-e"]
    assert plan.doomed == ()


@pytest.mark.slow
def test_a_backup_that_is_half_deleted_is_no_backup_any_more(
    kept: Project, taken: Callable[..., Manifest], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _, _ = taken(60, "o"), taken(2), taken(1)
    verify(store, old, ok=False)
    original, deleted = Bucket.delete, list[str]()

    def interrupted(self: Bucket, key: str) -> bool:
        if deleted:
            raise KeyboardInterrupt
        deleted.append(key)
        return original(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "delete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prune(kept.settings(), [planned(kept)])
    with Bucket(store.settings) as bucket:
        assert old not in Backups(bucket).listing("dev").backups
    plan = planned(kept)
    assert ids(plan.leftovers) == [old.id]
    prune(kept.settings(), [plan])
    assert not [key for key in there(store) if old.id in key]


# -- leftovers --------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from lockstep.service.backup import back_up
from lockstep.storage.bucket import BucketSettings

conninfo, url, endpoint = sys.argv[1:]
back_up(target="t", environment="dev", conninfo=conninfo, run_id="killed",
        bucket=BucketSettings(url=url, endpoint_url=endpoint),
        progress=lambda done: done.size > 30_000_000 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_backup_leaves_is_found_and_removed(kept: Project, store: Store, large_database: str) -> None:
    settings = store.settings
    command = [sys.executable, "-c", KILLED, large_database, settings.url, settings.endpoint_url or ""]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).returncode == -9
    assert len(store.unfinished()) == 1
    # It could be a backup that is running.
    done = kept.run("backups", "prune")
    assert done.code == 0
    assert "no manifest yet: running, or interrupted of late" in done.out
    assert kept.run("backups", "prune", "--leftovers-older-than", "2s").code == 2
    assert len(store.unfinished()) == 1

    plan = planned(kept)
    (leftover,) = plan.leftovers
    assert leftover.id.endswith("-killed")
    assert leftover.size >= 8 * 1024 * 1024
    done_by = prune(kept.settings(), [plan])
    assert (done_by.leftovers, done_by.size) == (1, leftover.size)
    store.assert_empty()


@pytest.mark.slow
def test_a_dump_without_a_manifest_goes_and_what_is_not_ours_stays(kept: Project, store: Store) -> None:
    ours = "dev/20250102T000000Z-f"
    foreign = {
        "dev/notes.txt",
        "dev/2025/x",
        "dev/20250102T000000Z-f-and/deeper/x",
        "dev/20251399T000000Z-f/x",
        "dev.txt",
    }
    for name in ("database.dump", "contents.json"):
        store.client.put_object(Bucket=store.name, Key=f"{store.prefix}{ours}/{name}", Body=b"x")
    for key in foreign:
        store.client.put_object(Bucket=store.name, Key=store.prefix + key, Body=b"x")
    upload = store.client.create_multipart_upload(Bucket=store.name, Key=f"{store.prefix}dev/film.mov")
    plan = planned(kept)
    assert ids(plan.leftovers) == ["20250102T000000Z-f"]
    prune(kept.settings(), [plan])
    assert there(store) == foreign
    assert store.unfinished() == [f"{store.prefix}dev/film.mov"]
    store.client.abort_multipart_upload(
        Bucket=store.name, Key=f"{store.prefix}dev/film.mov", UploadId=upload["UploadId"]
    )  # fmt: skip


@pytest.mark.slow
def test_a_leftover_that_becomes_a_backup_meanwhile_stays(
    kept: Project, taken: Callable[..., Manifest], store: Store
) -> None:
    made = taken(1)
    key = made.key.replace("database.dump", "manifest.json")
    document = store.read(key)
    store.delete(key)
    plan = planned(kept)
    assert ids(plan.leftovers) == [made.id]
    store.client.put_object(Bucket=store.name, Key=key, Body=document)
    assert prune(kept.settings(), [plan]).leftovers == 0
    assert len(there(store)) == 2


# -- locked -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_the_store_locks_is_kept_and_told(kept: Project, s3: Any, store: Store) -> None:
    name = f"locked-{os.getpid()}-prune"
    store.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    settings = replace(store.settings, url=f"s3://{name}/team", lock_ms=86_400_000)
    kept.toml = kept.toml.replace(store.settings.url, settings.url)
    kept.configure()
    made = [manifest(taken_at=NOW - timedelta(days=days), environment="dev") for days in (90, 2, 1)]
    with Bucket(settings) as bucket:
        for one in made:
            bucket.create(one.key, b"dump", sha256=hashlib.sha256(b"dump").digest(), content_type="x/y")
            Backups(bucket).record(one)
    old = made[0]
    plan = planned(kept)
    assert [one.folder.id for one in plan.locked] == [old.id]
    assert timedelta(hours=23) < plan.locked[0].until - datetime.now(UTC) < timedelta(hours=25)
    assert plan.doomed == ()
    assert "locked until" in kept.run("backups", "prune").out
    with Bucket(settings) as bucket:
        assert len(Backups(bucket).listing("dev").backups) == 3
