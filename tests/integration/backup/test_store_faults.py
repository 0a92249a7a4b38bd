"""A bad store or a bad line to it: a backup comes about all the same, or there is none, and the error says why.

Every fault is one request's (see faulty.py); the store behind is real.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from botocore.retries import standard

from demo.s3server import S3Server
from lockstep.errors import BackupFailed, BucketError, LockstepError
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.backup import BackupReport, back_up
from lockstep.storage import bucket as bucket_module
from lockstep.storage import download, multipart
from lockstep.storage.archive import archives_of, read_archive
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket, BucketSettings
from lockstep.storage.manifest import Manifest
from lockstep.storage.multipart import MIB, MultipartStream
from tests.integration.backup.conftest import BUCKET, fill
from tests.integration.backup.faulty import (
    Fault,
    FaultyStore,
    cuts_the_answer,
    cuts_the_body,
    first,
    is_slow,
    loses_the_answer,
    refuses,
    stalls,
)
from tests.integration.backup.store import Store, assert_no_pg_dump, children
from tests.integration.backup.test_restore import restore_into

SLOW_DOWN = refuses(503, "SlowDown")
BROKEN = refuses(500, "InternalError")


@pytest.fixture(scope="module")
def noise(server: ThrowawayServer) -> Iterator[str]:
    """URL of a database whose backup has three parts of the size below."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE backup_noise")
        fill(server.url("backup_noise"), megabytes=11)
        yield server.url("backup_noise")
        connection.execute("DROP DATABASE backup_noise WITH (FORCE)")


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest parts that S3 takes. As many tries as a user has, with less time between them."""
    defaults = MultipartStream.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "sizes", lambda number: 5 * MIB)
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.02)
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(multipart, "FIRST_PAUSE", 0.02)


@pytest.fixture
def line(s3: S3Server) -> Iterator[FaultyStore]:
    with FaultyStore(s3.port) as proxy:
        yield proxy


@pytest.fixture
def settings(store: Store, line: FaultyStore) -> BucketSettings:
    return replace(store.settings, endpoint_url=line.endpoint_url)


def take(url: str, settings: BucketSettings, **options: Any) -> BackupReport:
    given = {"run_id": "run-1", **options}
    return back_up(target="prod (test)", environment="prod", conninfo=url, bucket=settings, **given)


def offered(settings: BucketSettings) -> list[str]:
    with Bucket(settings) as bucket:
        return [manifest.id for manifest in Backups(bucket).listing("prod").backups]


def assert_whole(manifest: Manifest, store: Store) -> None:
    """It is offered, and its archive reads from end to end."""
    assert offered(store.settings) == [manifest.id]
    with Bucket(store.settings) as bucket:
        for archive in archives_of(manifest):
            read_archive(bucket, archive, lambda _chunk: None)
    assert store.unfinished() == []
    assert_no_pg_dump()


# -- what passes ------------------------------------------------------------------------------------------------------

PASSING: dict[str, tuple[str, Fault, dict[str, Any]]] = {
    "the first look is refused": ("list", SLOW_DOWN, {"times": 3}),
    "the upload is not begun at once": ("create", SLOW_DOWN, {"times": 2}),
    "a part is refused": ("part", SLOW_DOWN, {"times": 3, "part": 2}),
    "every part is refused once": ("part", BROKEN, {"times": 3}),
    "half of a part arrives": ("part", cuts_the_body, {"times": 1, "part": 2}),
    "a part is stored and nobody hears of it": ("part", loses_the_answer, {"times": 2}),
    "the line is slow": ("part", is_slow(0.2), {}),
    "completion is refused": ("complete", SLOW_DOWN, {"times": 2}),
    "half of the answer to completion arrives": ("complete", cuts_the_answer(20), {"times": 1}),
    "it is complete and nobody hears of it": ("complete", loses_the_answer, {"times": 1}),
    "the look back is refused": ("head", BROKEN, {"times": 1}),
    "the manifest is refused": ("put", SLOW_DOWN, {"times": 2, "key": "manifest.json"}),
    "the manifest is written and nobody hears of it": ("put", loses_the_answer, {"times": 1, "key": "manifest.json"}),
    "the contents are written and nobody hears of it": ("put", loses_the_answer, {"times": 1, "key": "contents.json"}),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_costs_a_moment_and_no_backup(
    noise: str, line: FaultyStore, settings: BucketSettings, store: Store, name: str
) -> None:
    kind, fault, when = PASSING[name]
    line.on(kind, fault, **when)
    manifest = take(noise, settings).manifest
    assert line.harmed >= min(when.get("times", 3), 3) - (kind == "part")
    assert_whole(manifest, store)


@pytest.mark.slow
def test_a_second_upload_that_nobody_knows_of_stays_to_be_removed(
    noise: str, line: FaultyStore, settings: BucketSettings, store: Store
) -> None:
    line.on("create", loses_the_answer, times=1)
    manifest = take(noise, settings).manifest
    assert store.unfinished() == [manifest.key]
    with Bucket(store.settings) as bucket:
        for upload in bucket.uploads(store.prefix):
            bucket.abort_upload(upload.key, upload.id)
    assert_whole(manifest, store)


# -- what stays -------------------------------------------------------------------------------------------------------

STAYING: dict[str, tuple[str, Fault, dict[str, Any], str]] = {
    "busy at the first look": ("list", SLOW_DOWN, {}, r"the store answered SlowDown \(HTTP 503\)"),
    "busy when the upload begins": ("create", SLOW_DOWN, {}, r"the store answered SlowDown \(HTTP 503\)"),
    "busy at a part": ("part", SLOW_DOWN, {"part": 2}, r"the store answered SlowDown \(HTTP 503\)"),
    "broken at a part": ("part", BROKEN, {"part": 3}, r"the store answered InternalError \(HTTP 500\)"),
    "cut at a part": (
        "part",
        cuts_the_body,
        {"part": 1},
        r"no answer from http://127.0.0.1:\d+ \(ConnectionClosedError\)",
    ),
    "silent at a part": ("part", stalls, {"part": 2}, r"no answer from http://127.0.0.1:\d+ \(ReadTimeoutError\)"),
    "busy at completion": ("complete", SLOW_DOWN, {}, r"the store answered SlowDown \(HTTP 503\)"),
    "broken at the look back": ("head", BROKEN, {}, r"the store answered 500 \(HTTP 500\)"),
    "busy at the manifest": ("put", SLOW_DOWN, {"key": "manifest.json"}, r"the store answered SlowDown \(HTTP 503\)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STAYING)
def test_a_fault_that_stays_is_no_backup_and_worth_another_try(
    noise: str, line: FaultyStore, settings: BucketSettings, store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, fault, when, words = STAYING[name]
    monkeypatch.setattr(bucket_module, "ATTEMPTS", 2)
    monkeypatch.setattr(multipart, "RESUMES", 1)
    monkeypatch.setattr(bucket_module, "READ_TIMEOUT", 0.5)
    line.on(kind, fault, **when)
    with pytest.raises(BackupFailed, match=f"no backup was made: s3://backups: {words}") as caught:
        take(noise, settings)
    assert (caught.value.retryable, caught.value.exit_code) == (True, 7)
    assert offered(store.settings) == []
    assert store.unfinished() == []
    assert_no_pg_dump()


def test_an_upload_that_could_not_be_thrown_away_is_told_of_and_found_later(
    noise: str, line: FaultyStore, settings: BucketSettings, store: Store
) -> None:
    line.on("part", SLOW_DOWN, part=2)
    line.on("abort", BROKEN)
    with pytest.raises(BackupFailed) as caught:
        take(noise, settings)
    cause = caught.value.__cause__
    assert isinstance(cause, BucketError)
    (note,) = cause.__notes__
    assert "could not be removed: the store answered InternalError (HTTP 500)." in note
    assert offered(store.settings) == []
    assert_no_pg_dump()
    with Bucket(store.settings) as bucket:
        (left,) = bucket.uploads(store.prefix)
        assert left.key in note
        bucket.abort_upload(left.key, left.id)
    store.assert_empty()


# -- the store itself goes away and comes back ------------------------------------------------------------------------


@pytest.fixture
def mortal(new_store: Callable[[S3Server], Store]) -> Iterator[tuple[S3Server, Store]]:
    """A server that may be killed."""
    with S3Server() as own:
        own.make_bucket(BUCKET)
        yield own, new_store(own)


@pytest.mark.slow
def test_a_store_that_is_killed_and_comes_back_costs_a_moment(
    noise: str, mortal: tuple[S3Server, Store], new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, store = mortal
    monkeypatch.setattr(multipart, "FIRST_PAUSE", 0.5)  # as a user has it
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.5)

    def kill() -> None:
        own.crash()
        own.restart()

    # The server ends with the thread that started it, and the proxy's threads end with their requests.
    with ThreadPoolExecutor(1) as keeper, FaultyStore(own.port) as line:

        def killed() -> None:
            keeper.submit(kill).result()

        through = replace(store.settings, endpoint_url=line.endpoint_url)
        line.on("part", first(killed), times=1, part=2)
        manifest = take(noise, through).manifest
        assert line.harmed == 1
        assert_whole(manifest, store)

        line.on("get", cuts_the_answer(6 * MIB), times=1, key="database.dump")
        line.on("get", first(killed), times=1, key="database.dump")
        copy = new_database()
        restore_into(replace(store, settings=through), manifest, copy)
        assert line.harmed == 3
    with psycopg.connect(copy) as one, psycopg.connect(noise) as other:
        query = "SELECT count(*), md5(string_agg(noise, '' ORDER BY id)) FROM noise"
        assert one.execute(query).fetchone() == other.execute(query).fetchone()


@pytest.mark.slow
def test_a_store_that_dies_in_a_restore_leaves_the_database_empty(
    noise: str, line: FaultyStore, settings: BucketSettings, store: Store, new_database: Callable[[], str]
) -> None:
    manifest = take(noise, store.settings).manifest
    line.on("get", cuts_the_answer(6 * MIB), times=1, key="database.dump")
    line.on("get", loses_the_answer, key="database.dump")
    copy = new_database()
    with pytest.raises(LockstepError) as caught:
        restore_into(replace(store, settings=settings), manifest, copy)
    assert isinstance(caught.value, BucketError)
    assert caught.value.retryable
    with closing(psycopg.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert list(children(os.getpid(), "pg_restore")) == []
