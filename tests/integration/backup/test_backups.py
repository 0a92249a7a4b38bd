"""What lies in a bucket, and what of it is a backup. Without a database: manifests are written as a backup writes them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from pyrage import x25519

from lockstep.core.contents import Contents, DatabaseShape
from lockstep.errors import BackupDamaged, BackupFailed, BucketError, UsageError
from lockstep.service.backup import back_up
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from lockstep.storage.manifest import Manifest
from lockstep.storage.verification import Level, Verification
from tests.integration.backup.store import Store
from tests.manifests import manifest

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

SHAPE = DatabaseShape(
    owner="o", encoding="UTF8", locale_provider="c", collate="C", ctype="C", locale=None, icu_rules=None,
    connection_limit=-1, comment=None, acl=None, tablespace="pg_default", oid=5,
)  # fmt: skip
CONTENTS = Contents(database=SHAPE, tables=(), sequences=(), large_objects=0)


@pytest.fixture
def backups(store: Store) -> Iterator[Backups]:
    with Bucket(store.settings) as bucket:
        yield Backups(bucket)


@pytest.fixture
def taken(store: Store, backups: Backups) -> Callable[..., Manifest]:
    """Record a backup of so many hours ago."""

    def taken(hours: float = 1, environment: str = "prod", run: str = "r") -> Manifest:
        made = manifest(taken_at=NOW - timedelta(hours=hours), environment=environment, run_id=run, prefix=store.prefix)
        store.client.put_object(Bucket=store.name, Key=made.key, Body=b"dump")
        backups.record(made)
        return made

    return taken


def proof(level: Level = Level.RESTORED, *, ok: bool = True, minutes: int = 0) -> Verification:
    return Verification(
        level=level, ok=ok, at=NOW + timedelta(minutes=minutes), duration_ms=7, run_id="v", tool_version="0.1.0"
    )  # fmt: skip


def test_environments_are_the_folders_of_the_bucket(
    backups: Backups, taken: Callable[..., Manifest], store: Store
) -> None:
    assert backups.environments() == ()
    taken(environment="prod"), taken(environment="dev")
    for key in ("a file", "odd name/x", "README"):
        store.client.put_object(Bucket=store.name, Key=f"{store.prefix}{key}", Body=b"")
    assert backups.environments() == ("dev", "prod")


def test_two_backups_of_one_second_are_listed_in_the_order_of_their_time(
    backups: Backups, taken: Callable[..., Manifest]
) -> None:
    earlier, later = taken(1, run="b"), taken(1 - 0.0001, run="a")
    assert earlier.id[:16] == later.id[:16] and earlier.id > later.id
    assert backups.listing("prod").backups == (earlier, later)


def test_resolve_looks_into_every_environment_or_one(backups: Backups, taken: Callable[..., Manifest]) -> None:
    old, new, other = taken(2), taken(1, run="s"), taken(3, environment="dev")
    assert backups.resolve("latest", "prod", NOW) == new
    assert backups.resolve(old.id, None, NOW) == old
    assert backups.resolve(other.id, None, NOW) == other
    with pytest.raises(UsageError, match="dev, prod"):
        backups.resolve("latest", None, NOW)
    with pytest.raises(UsageError, match="there is no backup of stage"):
        backups.resolve("latest", "stage", NOW)


def test_a_manifest_in_another_folder_is_no_backup(
    backups: Backups, taken: Callable[..., Manifest], store: Store
) -> None:
    # Copied by hand, it would have another backup's dump restored.
    made = taken()
    document = store.read(made.key.replace("database.dump", "manifest.json"))
    for folder in ("prod/20260101T000000Z-x", f"dev/{made.id}"):
        store.client.put_object(Bucket=store.name, Key=f"{store.prefix}{folder}/manifest.json", Body=document)
    assert backups.listing("prod").backups == (made,)
    assert backups.listing("prod").unreadable == (f"{store.prefix}prod/20260101T000000Z-x/manifest.json",)
    assert backups.listing("dev").backups == ()
    with pytest.raises(BackupDamaged):
        backups.resolve("20260101T000000Z-x", "prod", NOW)


def test_nothing_without_a_manifest_is_offered(backups: Backups, taken: Callable[..., Manifest], store: Store) -> None:
    made = taken()
    store.client.put_object(Bucket=store.name, Key=f"{store.prefix}prod/20261124T113000Z-s/database.dump", Body=b"x")
    assert backups.listing("prod").backups == (made,)
    assert backups.resolve("latest", "prod", NOW) == made
    with pytest.raises(UsageError, match="no backup has the id"):
        backups.resolve("20261124T113000Z-s", "prod", NOW)
    assert [listed.manifest for listed in backups.listed(backups.folders("prod"))] == [made]


# -- contents ---------------------------------------------------------------------------------------------------------


def test_contents_are_those_that_were_stored_or_damage(
    backups: Backups, taken: Callable[..., Manifest], store: Store
) -> None:
    made = taken()
    assert backups.contents(made) is None  # an earlier Lockstep's
    key, digest = backups.store_contents(made.key.rsplit("/", 1)[0], CONTENTS)
    made = replace(made, contents_key=key, contents_sha256=digest)
    assert backups.contents(made) == CONTENTS
    assert backups.store_contents(made.key.rsplit("/", 1)[0], CONTENTS) == (key, digest)  # the first answer was lost
    with pytest.raises(BucketError, match="exists already"):
        backups.store_contents(made.key.rsplit("/", 1)[0], replace(CONTENTS, large_objects=1))
    changed = store.read(key).replace(b'"large_objects":0', b'"large_objects":7')
    assert changed != store.read(key)
    store.client.put_object(Bucket=store.name, Key=key, Body=changed)
    with pytest.raises(BackupDamaged, match=key):
        backups.contents(made)
    store.delete(key)
    with pytest.raises(BackupDamaged, match="is not in the bucket"):
        backups.contents(made)


# -- verifications ----------------------------------------------------------------------------------------------------


def test_verifications_lie_beside_the_manifest_and_none_is_overwritten(
    backups: Backups, taken: Callable[..., Manifest], store: Store
) -> None:
    made = taken()
    assert backups.verifications(made) == ()
    good, bad = proof(), proof(Level.ARCHIVE, ok=False, minutes=1)
    key = backups.record_verification(made, good)
    assert key == made.key.replace("database.dump", "verified-20261124T120000Z-restored.json")
    assert backups.record_verification(made, good) == key  # the first answer was lost
    other = backups.record_verification(made, replace(good, run_id="w"))  # two at once
    assert other == key.replace(".json", "-1.json")
    backups.record_verification(made, bad)
    store.client.put_object(Bucket=store.name, Key=made.key.replace("database.dump", "verified-x.json"), Body=b"{")
    assert set(backups.verifications(made)) == {good, replace(good, run_id="w"), bad}
    (listed,) = backups.listed(backups.folders("prod"))
    assert listed.standing.failed
    assert backups.verifications(replace(made, key=made.key.replace("Z-r", "Z-q"))) == ()


def test_two_that_record_at_once_have_one_winner(backups: Backups, store: Store) -> None:
    made = manifest(taken_at=NOW, prefix=store.prefix)
    failures: list[BucketError] = []

    def record(attempt: int) -> None:
        try:
            backups.record(replace(made, attempt=attempt))
        except BucketError as error:
            failures.append(error)

    threads = [threading.Thread(target=record, args=(attempt,)) for attempt in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 5
    assert all("exists already and was not overwritten" in str(error) for error in failures)
    assert len(backups.listing("prod").backups) == 1


@pytest.mark.parametrize("runs", [("a", "b", "c"), ("a", "a", "a")])
def test_backups_at_once_are_each_whole_or_not_there(
    database: str, backups: Backups, store: Store, runs: tuple[str, ...]
) -> None:
    # Of one run and one second, all have the same key: one of them gets it. Encrypted, no two have the same bytes.
    recipients = [str(x25519.Identity.generate().to_public())]
    failures: list[BackupFailed] = []
    taken: list[Manifest] = []
    together = threading.Barrier(len(runs))

    def take(run: str) -> None:
        def wait(_connection: psycopg.Connection) -> None:
            together.wait(30)

        try:
            report = back_up(
                target="t", environment="prod", conninfo=database, bucket=store.settings, run_id=run, read_ledger=wait,
                encrypt_to=recipients,
            )  # fmt: skip
            taken.append(report.manifest)
        except BackupFailed as error:
            failures.append(error)

    threads = [threading.Thread(target=take, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("exists already and was not overwritten" in str(error) for error in failures)
    assert len(taken) == len(runs) - len(failures) >= len(set(runs))
    listed = backups.listed(backups.folders("prod"))
    assert {one.manifest.id for one in listed if one.manifest} == {one.id for one in taken}
    assert all(one.is_whole for one in listed)
    for one in taken:
        assert hashlib.sha256(store.read(one.key)).hexdigest() == one.sha256
    assert store.unfinished() == []
