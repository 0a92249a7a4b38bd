"""Several dumps on one snapshot are one backup: the same rows, all of them or none, whatever ends one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockstep.core.shards import LARGE
from lockstep.errors import BackupFailed
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service import backup as backup_module
from lockstep.service.backup import BackupProgress
from lockstep.storage.bucket import Bucket
from lockstep.storage.manifest import Manifest
from tests.integration.backup.conftest import fill
from tests.integration.backup.store import Store, assert_no_pg_dump, children
from tests.integration.backup.test_backup import execute, plain_dump, take
from tests.integration.backup.test_faults import Once

# Names that a careless pattern would read as something else, one beside each that it would then match too.
ODD = """
CREATE SCHEMA "Sales.2026"; CREATE SCHEMA "Sales_2026";
CREATE TABLE "Sales.2026"."Order*" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, total int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE "Sales.2026"."Order lines" (id int REFERENCES "Sales.2026"."Order*", note text);
CREATE TABLE "Sales_2026"."order*" (id int);
CREATE TABLE "Sales.2026"."a""b.c?$|x" (id int);
CREATE TABLE event (at int) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (100); CREATE TABLE event_2 PARTITION OF event DEFAULT;
INSERT INTO "Sales.2026"."Order*" SELECT FROM generate_series(1, 2000);
INSERT INTO "Sales.2026"."Order lines" SELECT i, repeat('x', 200) FROM generate_series(1, 2000) i;
INSERT INTO "Sales_2026"."order*" VALUES (1); INSERT INTO "Sales.2026"."a""b.c?$|x" SELECT generate_series(1, 3000);
INSERT INTO event SELECT generate_series(1, 2000);
"""


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_module, "LARGE", 64 * 1024)


@pytest.fixture(scope="module")
def wide(server: ThrowawayServer) -> Any:
    """URL of a database with three tables of 16 MB. Read it, don't change it."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE backup_wide")
        for name in ("one", "three", "two"):
            fill(server.url("backup_wide"), megabytes=16, table=name)
        yield server.url("backup_wide")
        connection.execute("DROP DATABASE backup_wide WITH (FORCE)")


def restore_by_hand(store: Store, manifest: Manifest, into: str, pg_bin: Path, folder: Path) -> None:
    """Structure, then all rows in any order, then indexes and keys."""
    command: list[str | Path] = [pg_bin / "pg_restore", "--exit-on-error", "--dbname", into]
    for number, key in enumerate([manifest.key, *(one.key for one in manifest.data)]):
        (folder / str(number)).write_bytes(store.read(key))
    subprocess.run([*command, "--section=pre-data", folder / "0"], check=True)
    for number in reversed(range(len(manifest.data) + 1)):
        subprocess.run([*command, "--section=data", folder / str(number)], check=True)
    subprocess.run([*command, "--section=post-data", folder / "0"], check=True)


def test_a_backup_by_several_dumps_restores_to_an_identical_database(
    database: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    execute(database, ODD)
    manifest = take(database, store, jobs=3).manifest
    assert [one.key.rsplit("/", 1)[1] for one in manifest.data] == ["data-1.dump", "data-2.dump"]
    copy = new_database()
    restore_by_hand(store, manifest, copy, pg_bin, tmp_path)
    assert plain_dump(copy, pg_bin) == plain_dump(database, pg_bin)
    for number in (1, 2):  # each has rows of its own and nothing else
        listing = subprocess.run(
            [pg_bin / "pg_restore", "--list", tmp_path / str(number)], check=True, capture_output=True, text=True
        )
        kinds = {line.split(" ", 3)[3][:10] for line in listing.stdout.splitlines() if not line.startswith(";")}
        assert kinds <= {"TABLE DATA", "SEQUENCE S"}


def test_a_small_database_has_one_archive_however_many_jobs_are_allowed(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "LARGE", LARGE)
    execute(database, "CREATE TABLE t AS SELECT generate_series(1, 10000) i")
    assert take(database, store, jobs=4).manifest.data == ()


def test_all_dumps_see_one_snapshot(
    database: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    execute(
        database,
        "CREATE TABLE a AS SELECT generate_series(1, 9000) i; CREATE TABLE b AS SELECT generate_series(1, 9000) i",
    )
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(database) as connection:
            while not stop.is_set():  # both tables in one transaction: they always have as many rows
                connection.execute("INSERT INTO a VALUES (0); INSERT INTO b VALUES (0)")
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifest = take(database, store, jobs=2).manifest
    finally:
        stop.set()
        writer.join()
    assert len(manifest.data) == 1
    copy = new_database()
    restore_by_hand(store, manifest, copy, pg_bin, tmp_path)
    with psycopg.connect(copy) as connection:
        (difference,) = connection.execute("SELECT (SELECT count(*) FROM a) - (SELECT count(*) FROM b)").fetchone() or (
            None,
        )
    assert difference == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["main", "shard"])
def test_when_one_dump_is_killed_all_end_and_nothing_stays(wide: str, store: Store, victim: str) -> None:
    def kill() -> None:
        running = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(os.getpid(), "pg_dump")}
        assert len(running) == 3
        (pid, *_) = [pid for pid, words in running.items() if (b"--data-only" in words) is (victim == "shard")]
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(BackupFailed, match="was killed by SIGKILL; no backup was made") as caught:
        take(wide, store, jobs=3, progress=Once(kill))
    assert caught.value.retryable
    store.assert_empty()
    assert_no_pg_dump()


@pytest.mark.slow
def test_ctrl_c_ends_all_dumps(wide: str, store: Store) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            take(wide, store, jobs=3, progress=Once(lambda: signal.raise_signal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    store.assert_empty()
    assert_no_pg_dump()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lockstep")] == []


@pytest.mark.slow
def test_a_part_that_cannot_be_stored_ends_all_dumps(wide: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Bucket.put_part

    def refuse(self: Bucket, key: str, *rest: Any, **more: Any) -> Any:
        return original(self, key if "data-2" not in key else f"{key}-elsewhere", *rest, **more)  # no such upload

    monkeypatch.setattr(Bucket, "put_part", refuse)
    with pytest.raises(BackupFailed, match="no backup was made"):
        take(wide, store, jobs=3)
    store.assert_empty()
    assert_no_pg_dump()


@pytest.mark.slow
def test_when_the_last_object_cannot_be_made_the_others_go(wide: str, store: Store) -> None:
    def occupy() -> None:
        (key,) = [key for key in store.unfinished() if key.endswith("data-2.dump")]
        store.client.put_object(Bucket=store.name, Key=key, Body=b"somebody else's")

    with pytest.raises(BackupFailed, match="exists already and was not overwritten"):
        take(wide, store, jobs=3, progress=Once(occupy))
    assert [key.rsplit("/", 1)[1] for key in store.stored()] == ["data-2.dump"]
    assert store.unfinished() == []


@pytest.mark.slow
def test_progress_is_that_of_all_dumps(wide: str, store: Store) -> None:
    seen: list[BackupProgress] = []
    manifest = take(wide, store, jobs=3, progress=seen.append).manifest
    assert seen[-1].size == manifest.size + sum(one.size for one in manifest.data) > 48_000_000
    assert [p.size for p in seen] == sorted(p.size for p in seen)


# -- between snapshot and locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("statement", ["TRUNCATE t", "ALTER TABLE t ALTER i TYPE bigint", "DROP TABLE t"])
def test_rows_that_were_taken_away_before_the_locks_are_never_missed(
    database: str,
    store: Store,
    jobs: int,
    statement: str,
    new_database: Callable[[], str],
    pg_bin: Path,
    tmp_path: Path,
) -> None:
    execute(
        database,
        "CREATE TABLE t AS SELECT generate_series(1, 9000) i; CREATE TABLE u AS SELECT generate_series(1, 9000) i",
    )
    once = Once(lambda: execute(database, statement))
    told: list[str] = []
    manifest = take(
        database, store, jobs=jobs, read_ledger=lambda _: once(BackupProgress(size=0, elapsed_ms=0)), note=told.append
    ).manifest
    assert told == ["public.t was replaced just as the dump began: once more, with a new snapshot"]
    copy = new_database()
    restore_by_hand(store, manifest, copy, pg_bin, tmp_path)
    assert plain_dump(copy, pg_bin) == plain_dump(database, pg_bin)
    assert_no_pg_dump()


@pytest.mark.slow
def test_a_table_that_is_always_replaced_is_named_at_last(database: str, store: Store) -> None:
    execute(database, "CREATE TABLE t AS SELECT 1 i")
    with pytest.raises(BackupFailed, match=r"public\.t was truncated, rewritten or dropped each time") as caught:
        take(database, store, read_ledger=lambda _: execute(database, "TRUNCATE t"))
    assert caught.value.retryable
    store.assert_empty()


@pytest.mark.slow
def test_vacuum_in_between_is_no_reason_to_begin_again(database: str, store: Store) -> None:
    execute(database, "CREATE TABLE t AS SELECT 1 i")
    told: list[str] = []
    take(database, store, read_ledger=lambda _: execute(database, "VACUUM ANALYZE t"), note=told.append)
    assert told == []


@pytest.mark.slow
def test_somebody_who_waits_for_an_exclusive_lock_gets_it_when_the_dump_is_done(database: str, store: Store) -> None:
    # Our own session keeps no lock: a queued ACCESS EXCLUSIVE would stand between it and pg_dump for ever.
    execute(database, "CREATE TABLE t AS SELECT generate_series(1, 9000) i; CREATE TABLE u AS SELECT 1 i")
    waiting = threading.Thread(target=lambda: execute(database, "ALTER TABLE t ADD x int"))

    def queue() -> None:
        waiting.start()
        time.sleep(0.1)

    started = time.monotonic()
    take(database, store, read_ledger=lambda _: queue())
    waiting.join(10)
    assert not waiting.is_alive()
    assert time.monotonic() - started < 20
