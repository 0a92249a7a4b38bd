"""`doctor` against a real store: each right is tried on a probe object, a missing one is named, and the probe goes."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyrage
import pytest
from botocore.exceptions import ClientError

from demo.s3server import S3Server
from lockstep.core.checkup import Outcome
from lockstep.core.setup_rules import clock
from lockstep.storage import probe as probe_module
from lockstep.storage.bucket import Bucket, BucketSettings, Patience
from lockstep.storage.probe import NAME, Request, probe
from tests.integration.backup.store import Store
from tests.integration.test_doctor import checks, nothing_of_this_machine
from tests.project import Outcome as Called
from tests.project import Project

__all__ = ["nothing_of_this_machine"]

CANARY = "canary-7f3a9"


@pytest.fixture
def own_bucket(s3: S3Server, store: Store, request: pytest.FixtureRequest) -> Iterator[Callable[..., BucketSettings]]:
    """Make a bucket of one's own, whose policy or locks disturb nobody; it stays with the server."""
    made: list[str] = []

    def make(*denied: str, lock: bool = False, **settings: Any) -> BucketSettings:
        name = f"doctor-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]}-{len(made)}"
        store.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        made.append(name)
        if denied:
            deny(store, name, *denied)
        return BucketSettings(url=f"s3://{name}/team", endpoint_url=s3.endpoint_url, **settings)

    yield make
    for name in made:
        open_again(store, name)


def open_again(store: Store, bucket: str) -> None:
    with suppress(ClientError):  # there is no policy
        store.client.delete_bucket_policy(Bucket=bucket)


def deny(store: Store, bucket: str, *actions: str, condition: Mapping[str, Any] | None = None) -> None:
    arn = f"arn:aws:s3:::{bucket}"
    statement: dict[str, Any] = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": [arn, f"{arn}/*"],
    }
    if condition:
        statement["Condition"] = condition
    store.client.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


def stored(store: Store, bucket: BucketSettings) -> list[str]:
    open_again(store, bucket.name)
    found = store.client.list_objects_v2(Bucket=bucket.name).get("Contents", ())
    return [item["Key"] for item in found]


def unfinished(store: Store, bucket: BucketSettings) -> list[str]:
    return [item["Key"] for item in store.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", ())]


def configure(project: Project, bucket: BucketSettings, more: str = "", rehearsal: str = "") -> None:
    project.toml = (
        f'[backup]\nbucket = "{bucket.url}"\nendpoint_url = "{bucket.endpoint_url}"\n{more}\n[rehearsal]\n{rehearsal}\n'
    )
    project.configure()


def lines(done: Called) -> dict[str, dict[str, Any]]:
    return checks(done, "backups")


def test_all_rights_are_tried_and_nothing_is_left(store: Store, project: Project) -> None:
    configure(project, store.settings, 'server_side_encryption = "AES256"\ntags = { team = "x" }')
    done = project.run("doctor", "--json")
    found = lines(done)
    assert done.code == 0, done
    assert found["rights"]["text"] == (
        "list, put, get, conditional put, multipart upload, abort of an upload, delete, list of uploads"
    )
    assert found["encryption at rest"]["text"] == "AES256, accepted by the store"
    assert found["clock"]["outcome"] == "ok"
    assert found["versioning"]["text"] == "versioning off, object lock off"
    store.assert_empty()


#: Right that is denied -> (requests that fail, the line's name, its outcome, does the probe stay)
DENIED = {
    "s3:ListBucket": ({Request.LIST}, "list", "problem", False),
    # This server asks for it where AWS has a right of its own for the list of uploads.
    "s3:PutObject": ({Request.PUT, Request.UPLOAD, Request.UPLOADS}, "put", "problem", False),
    "s3:GetObject": ({Request.GET}, "get", "problem", False),
    "s3:AbortMultipartUpload": ({Request.ABORT}, "abort of an upload", "problem", False),
    "s3:DeleteObject": ({Request.DELETE}, "delete", "warning", True),
    "s3:ListBucketMultipartUploads": ({Request.UPLOADS}, "list of uploads", "warning", False),
}


@pytest.mark.slow
@pytest.mark.parametrize("right", DENIED)
def test_a_missing_right_is_named_as_iam_calls_it(
    right: str, store: Store, own_bucket: Callable[..., BucketSettings], project: Project
) -> None:
    failing, name, outcome, stays = DENIED[right]
    bucket = own_bucket(right)
    report = probe(bucket)
    assert {one.request for one in report.answers if one.error} == failing
    configure(project, bucket)
    done = project.run("doctor", "--json")
    line = lines(done)[name]
    assert (line["outcome"], done.code) == (outcome, 8 if outcome == "problem" else 0)
    assert f"{right} is missing" in line["text"] and f"grant {right} on s3://{bucket.name}" in line["remedy"]
    left = stored(store, bucket)
    assert [key.startswith(f"team/{NAME}") for key in left] == [True] * len(left)
    assert bool(left) == stays
    assert bool(unfinished(store, bucket)) == (right == "s3:AbortMultipartUpload")


@pytest.mark.slow
def test_where_nothing_may_be_deleted_one_probe_serves_for_ever(
    store: Store, own_bucket: Callable[..., BucketSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = own_bucket("s3:DeleteObject")
    first = probe(bucket)
    monkeypatch.setattr(probe_module, "LEFT_OVER", -probe_module.LEFT_OVER)  # it is old enough at once
    second = probe(bucket)
    assert first.left == second.left and len(first.left) == 1
    assert not second.done(Request.DELETE) and second.done(Request.CONDITION) and second.done(Request.GET)
    store.client.delete_bucket_policy(Bucket=bucket.name)
    assert probe(bucket).left == []
    assert stored(store, bucket) == []


def test_what_object_lock_keeps_is_said(
    store: Store, own_bucket: Callable[..., BucketSettings], project: Project
) -> None:
    bucket = own_bucket(lock=True)
    configure(project, bucket, 'object_lock = "30d"')
    done = project.run("doctor", "--json")
    found = lines(done)
    assert done.code == 0, done
    assert "an old version of team/doctor-probe-" in found["probe"]["text"]
    assert found["versioning"]["text"] == "versioning enabled, object lock possible, none by default"
    versions = store.client.list_object_versions(Bucket=bucket.name)["Versions"]
    assert len(versions) == 1
    until = store.client.head_object(Bucket=bucket.name, Key=versions[0]["Key"], VersionId=versions[0]["VersionId"])[
        "ObjectLockRetainUntilDate"
    ]
    assert (until - versions[0]["LastModified"]).total_seconds() < 1300  # and not for the 30 days of a backup
    assert stored(store, bucket) == []


def test_a_lock_that_the_bucket_does_not_have_is_a_problem(store: Store, project: Project) -> None:
    configure(project, store.settings, 'object_lock = "30d"')
    done = project.run("doctor", "--json")
    assert done.code == 8
    assert lines(done)["put"]["text"] == "this bucket has no object lock, which [backup] object_lock asks for"
    store.assert_empty()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "value", "request_", "right"),
    [
        ("s3:x-amz-tagging", "team=x", Request.TAGS, "s3:PutObjectTagging"),
        ("s3:x-amz-object-lock-mode", "GOVERNANCE", Request.LOCK, "s3:PutObjectRetention"),
    ],
)
def test_the_right_to_tag_or_to_lock_is_told_from_the_right_to_store(
    header: str,
    value: str,
    request_: Request,
    right: str,
    store: Store,
    own_bucket: Callable[..., BucketSettings],
    project: Project,
) -> None:
    bucket = own_bucket(lock=True, tags=(("team", "x"),), lock_ms=86_400_000)
    deny(store, bucket.name, "s3:PutObject", condition={"StringEquals": {header: value}})
    report = probe(bucket)
    assert {Request.TAGS, Request.LOCK} & {one.request for one in report.answers if one.error} == {request_}
    assert report.answer(Request.PUT) is None
    configure(project, bucket, 'object_lock = "1d"\ntags = { team = "x" }')
    assert f"{right} is missing" in project.run("doctor").out
    assert stored(store, bucket) == []


BAD = {
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": CANARY}, "backups", "the credentials were refused"),
    "unknown key": ({"AWS_ACCESS_KEY_ID": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY}, "backups", "the credentials were"),
    "no bucket": ({}, "there-is-none", "there is no such bucket"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_store_that_refuses_everything_is_one_problem_without_a_secret(
    fault: str, store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, name, said = BAD[fault]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    configure(project, BucketSettings(url=f"s3://{name}/team", endpoint_url=store.settings.endpoint_url))
    done = project.run("doctor", "--json")
    problems = [line for line in lines(done).values() if line["outcome"] == "problem"]
    assert (done.code, len(problems)) == (8, 1)
    assert said in problems[0]["text"]
    assert CANARY not in done.out + done.err
    assert lines(done)["clock"]["outcome"] == "ok"  # a refusal has a date, too


def test_an_endpoint_that_is_closed_is_said(store: Store, project: Project) -> None:
    configure(project, BucketSettings(url=store.settings.url, endpoint_url="http://127.0.0.1:1"))
    done = project.run("doctor", "--json")
    assert done.code == 8
    assert "no answer from http://127.0.0.1:1" in lines(done)["bucket"]["text"]


def test_a_store_that_takes_connections_and_never_answers_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "PATIENCE", Patience(connect=1, read=1, attempts=1))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        begun = time.monotonic()
        report = probe(BucketSettings(url=store.settings.url, endpoint_url=url))
    assert time.monotonic() - begun < 5
    assert [one.request for one in report.answers if one.error] == [Request.LIST] and len(report.answers) == 1


def test_the_stores_clock_is_compared_with_ours(store: Store) -> None:
    report = probe(store.settings)
    assert report.clock is not None
    assert clock(report.clock, "the store's").outcome is Outcome.OK


def test_the_key_of_this_machine_is_tried_on_what_backups_are_encrypted_to(
    store: Store, project: Project, tmp_path: Path
) -> None:
    key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    file = tmp_path / "identity.txt"
    file.write_text(f"{key}\n")
    file.chmod(0o644)
    for recipient, outcome, said in (
        (key, "ok", "decrypts it (tried)"),
        (other, "warning", "could neither restore nor rehearse"),
    ):
        configure(project, store.settings, f'encrypt_to = ["{recipient.to_public()}"]', f'identity = "{file}"')
        found = lines(project.run("doctor", "--json"))
        line = found["encryption"]
        assert ("secret key" in found) == (outcome == "ok")  # which everybody may read
        assert (line["outcome"], said in line["text"]) == (outcome, True), line
    configure(project, store.settings, f'encrypt_to = ["{other.to_public()}"]')
    assert "no secret key, and cannot restore" in lines(project.run("doctor", "--json"))["encryption"]["text"]


def test_the_disk_is_compared_with_the_newest_backup(
    store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.query("CREATE TABLE a AS SELECT i FROM generate_series(1, 1000) i")
    configure(project, store.settings)
    assert project.run("backup", "dev").code == 0
    assert "the newest backup of dev restored takes about" in lines(project.run("doctor", "--json"))["disk"]["text"]
    before = store.stored()
    with Bucket(store.settings) as bucket:
        assert [one.key for one in bucket.objects(store.prefix)] == before  # the probe is none of them
