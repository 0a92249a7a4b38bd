"""How objects are stored: encrypted by the store, tagged, locked. All of a backup's objects, or a clear refusal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from demo.s3server import S3Server
from lockstep.errors import BackupFailed, BucketError, ConfigError
from lockstep.service.backup import back_up
from lockstep.service.store import bucket_settings
from lockstep.storage.bucket import Bucket, BucketSettings
from tests.integration.backup.store import Store
from tests.project import Project


def take(url: str, settings: BucketSettings) -> list[str]:
    """Back up, and return the keys of all objects."""
    back_up(target="t", environment="prod", conninfo=url, bucket=settings, run_id="run-1")
    with Bucket(settings) as bucket:
        return [item.key for item in bucket.objects(settings.prefix)]


@pytest.fixture(scope="module")
def lockable(s3: S3Server) -> str:
    """A bucket with object lock."""
    with_lock = f"lockable-{os.getpid()}"
    client = s3.client()
    client.create_bucket(Bucket=with_lock, ObjectLockEnabledForBucket=True)
    client.close()
    return with_lock


def test_every_object_of_a_backup_is_encrypted_by_the_store_and_tagged(database: str, store: Store) -> None:
    tags = (("team", "shop"), ("a b", "c&d=e/ü"))
    keys = take(database, replace(store.settings, server_side_encryption="AES256", tags=tags))
    assert len(keys) >= 2
    for key in keys:
        assert store.client.head_object(Bucket=store.name, Key=key)["ServerSideEncryption"] == "AES256"
        found = store.client.get_object_tagging(Bucket=store.name, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in found} == dict(tags)


def test_every_object_of_a_backup_is_locked(database: str, store: Store, lockable: str) -> None:
    settings = replace(store.settings, url=f"s3://{lockable}/team", lock_ms=30 * 86_400_000)
    keys = take(database, settings)
    assert len(keys) >= 2
    for key in keys:
        head = store.client.head_object(Bucket=lockable, Key=key)
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert timedelta(days=29) < head["ObjectLockRetainUntilDate"] - datetime.now(UTC) <= timedelta(days=30)
        # What is deleted without a version's name is hidden and not gone; the version itself cannot be deleted.
        with pytest.raises(ClientError):
            store.client.delete_object(Bucket=lockable, Key=key, VersionId=head["VersionId"])
        with Bucket(settings) as bucket:
            until = bucket.locked_until(key)
            assert until is not None and until > datetime.now(UTC)


def test_a_bucket_without_object_lock_is_named_before_anything_is_stored(database: str, store: Store) -> None:
    with pytest.raises(BackupFailed, match="this bucket has no object lock") as caught:
        take(database, replace(store.settings, lock_ms=86_400_000))
    assert "remove object_lock" in (caught.value.hint or "")
    assert not caught.value.retryable
    store.assert_empty()


def test_a_bucket_that_keeps_versions_says_so_when_it_deletes(store: Store, lockable: str) -> None:
    for name, gone in ((store.name, True), (lockable, False)):
        store.client.put_object(Bucket=name, Key="versions/x", Body=b"x")
        with Bucket(replace(store.settings, url=f"s3://{name}")) as bucket:
            assert bucket.delete("versions/x") is gone
            assert bucket.read("versions/x") is None


def test_the_stores_clock_is_the_stores(store: Store) -> None:
    with Bucket(store.settings) as bucket:
        assert abs(bucket.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_part_whose_digest_is_wrong_is_refused_by_the_store(store: Store) -> None:
    key = f"{store.prefix}x"
    with Bucket(store.settings) as bucket:
        upload = bucket.begin_upload(key)
        with pytest.raises(BucketError) as caught:
            bucket.put_part(key, upload, 1, bytearray(b"changed on its way"), size=18, sha256=bytes(32))
        bucket.abort_upload(key, upload)
        with pytest.raises(BucketError):
            bucket.create(key, b"changed on its way", sha256=bytes(32), content_type="x/y")
    assert not caught.value.retryable
    store.assert_empty()


# -- the settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def backup(project: Project) -> Iterator[Any]:
    """Read [backup] with more lines."""

    def read(lines: str, **variables: str) -> BucketSettings:
        project.toml = f'[backup]\nbucket = "s3://bucket"\n{lines}\n'
        project.variables.update(variables)
        project.configure()
        return bucket_settings(project.settings())

    yield read


def test_what_is_configured_is_what_is_asked_for(backup: Any) -> None:
    settings = backup(
        'server_side_encryption = "aws:kms"\nkms_key = "${KMS}"\ntags = { team = "${TEAM}" }\nobject_lock = "30d"',
        KMS="arn:x", TEAM="shop",
    )  # fmt: skip
    assert (settings.server_side_encryption, settings.kms_key) == ("aws:kms", "arn:x")
    assert settings.tags == (("team", "shop"),)
    assert settings.lock_ms == 30 * 86_400_000
    plain = backup("")
    assert (plain.server_side_encryption, plain.kms_key, plain.tags, plain.lock_ms) == (None, None, (), None)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('server_side_encryption = "aes"', "backup.server_side_encryption: 'aes' is none"),
        ('kms_key = "k"', "backup.kms_key: needs server_side_encryption"),
        ('server_side_encryption = "AES256"\nkms_key = "k"', "backup.kms_key: needs server_side_encryption"),
        ('object_lock = "soon"', "backup.object_lock: 'soon' is no duration"),
        ('object_lock = "12h"', "backup.object_lock: S3 locks objects for a day or more"),
        ("tags = { " + ", ".join(f'a{number} = ""' for number in range(11)) + " }", "backup.tags: S3 allows 10"),
    ],
)
def test_what_no_store_knows_is_refused_with_its_line(backup: Any, lines: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^lockstep.toml:[34]: ") as caught:
        backup(lines)
    assert says in str(caught.value)


def test_an_endpoint_that_only_a_variable_knows_is_the_first_guess(
    backup: Any, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The line in lockstep.toml is commented out: AWS is asked, and refuses the other store's credentials.
    unused = backup('# endpoint_url = "${S3_ENDPOINT_URL}"', S3_ENDPOINT_URL=s3.endpoint_url)
    assert unused.unused_endpoint and unused.endpoint_url is None
    used = backup('endpoint_url = "${S3_ENDPOINT_URL}"', S3_ENDPOINT_URL=s3.endpoint_url)
    assert not used.unused_endpoint
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody else's")
    in_place_of_aws = replace(unused, endpoint_url=s3.endpoint_url)
    with Bucket(in_place_of_aws) as bucket, pytest.raises(BucketError, match="credentials were refused") as caught:
        bucket.read("x")
    assert "S3_ENDPOINT_URL is set, but lockstep.toml does not use it" in (caught.value.hint or "")
    with Bucket(used) as bucket, pytest.raises(BucketError) as caught:
        bucket.read("x")
    assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")
