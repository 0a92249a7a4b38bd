"""A backup holds the whole database of one moment, restores to the same, and is taken once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lockstep.errors import BackupFailed, UsageError
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.backup import BackupProgress, BackupReport, back_up
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from lockstep.storage.manifest import LedgerHead
from tests.integration.backup.conftest import fill
from tests.integration.backup.store import Store, assert_no_pg_dump

WHOLE = Path(__file__).with_name("everything.sql").read_text(encoding="utf-8")
EVERYTHING = WHOLE.split("-- grants, default privileges")[0]  # without roles, which belong to the cluster


def take(url: str, store: Store, **options: Any) -> BackupReport:
    given: dict[str, Any] = {"environment": "prod", "run_id": "run-1", **options}
    return back_up(target="prod (test)", conninfo=url, bucket=store.settings, **given)


def restore(store: Store, key: str, into: str, pg_bin: Path, folder: Path) -> None:
    archive = folder / "archive"
    archive.write_bytes(store.read(key))
    subprocess.run([pg_bin / "pg_restore", "--exit-on-error", "--dbname", into, archive], check=True)


def plain_dump(url: str, pg_bin: Path) -> str:
    command = [str(pg_bin / "pg_dump"), "--restrict-key=x", "--dbname", url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def rich_database(database: str) -> str:
    execute(database, EVERYTHING)
    return database


# -- what a backup is -----------------------------------------------------------------------------------------------


def test_a_backup_restores_to_an_identical_database(
    database: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    execute(database, WHOLE)
    report = take(database, store)
    copy = new_database()
    restore(store, report.manifest.key, copy, pg_bin, tmp_path)
    source = plain_dump(database, pg_bin)
    for word in ("GENERATED ALWAYS AS IDENTITY", "CREATE EVENT TRIGGER", "lo_open", "WITH NO DATA", "BEGIN ATOMIC"):
        assert word in source
    assert plain_dump(copy, pg_bin) == source


def test_the_manifest_tells_what_is_in_the_bucket(rich_database: str, store: Store, server: ThrowawayServer) -> None:
    before = datetime.now(UTC)
    manifest = take(rich_database, store, run_id="r.1", attempt=2).manifest
    folder = f"{store.prefix}prod/{manifest.taken_at:%Y%m%dT%H%M%SZ}-r.1"
    assert store.stored() == [f"{folder}/{name}" for name in ("contents.json", "database.dump", "manifest.json")]
    assert manifest.id == folder.rsplit("/", 1)[-1]
    dump = store.read(manifest.key)
    assert dump.startswith(b"PGDMP")
    assert (manifest.size, manifest.sha256) == (len(dump), hashlib.sha256(dump).hexdigest())
    assert before <= manifest.taken_at <= datetime.now(UTC)
    assert manifest.database == conninfo_to_dict(rich_database)["dbname"]
    assert manifest.schemas == ("Odd name*", "app", "public")
    assert manifest.excluded_schemas == ()
    assert manifest.compression == "zstd:1"
    assert manifest.server_version.startswith("17.") and manifest.client_version.startswith("17.")
    with psycopg.connect(server.url()) as connection:
        (identifier,) = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone() or ()
    assert manifest.system_identifier == identifier
    assert (manifest.run_id, manifest.attempt, manifest.environment, manifest.ledger) == ("r.1", 2, "prod", None)
    assert json.loads(store.read(f"{folder}/manifest.json"))["sha256"] == manifest.sha256


def test_the_ledger_head_is_that_of_the_dump_even_when_a_migration_commits_meanwhile(
    database: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    execute(database, "CREATE TABLE ledger AS SELECT 1 AS version")

    def read(connection: psycopg.Connection[Any]) -> LedgerHead:
        execute(database, "INSERT INTO ledger VALUES (2)")  # another session's commit, after the snapshot
        setting, version, entries = connection.execute(
            "SELECT current_setting('row_security'), max(version), count(*) FROM ledger"
        ).fetchone() or (None, None, 0)
        assert setting == "off"
        return LedgerHead(version=version, entries=entries, audit_head="ab" * 32, audit_length=7)

    manifest = take(database, store, read_ledger=read).manifest
    assert manifest.ledger == LedgerHead(version=1, entries=1, audit_head="ab" * 32, audit_length=7)
    copy = new_database()
    restore(store, manifest.key, copy, pg_bin, tmp_path)
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT version FROM ledger").fetchall() == [(1,)]


def test_an_error_of_the_ledger_reader_ends_the_backup_as_it_is(database: str, store: Store) -> None:
    def read(connection: psycopg.Connection[Any]) -> LedgerHead:
        raise UsageError("the ledger is filtered")

    with pytest.raises(UsageError, match="filtered"):
        take(database, store, read_ledger=read)
    store.assert_empty()


def test_an_excluded_schema_is_taken_by_name_and_recorded(
    database: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    execute(database, """CREATE SCHEMA "a*"; CREATE SCHEMA "a""b"; CREATE SCHEMA ab; CREATE TABLE ab.kept ()""")
    manifest = take(database, store, exclude_schemas=("a*", 'a"b', "not there")).manifest
    assert manifest.excluded_schemas == ('a"b', "a*")
    assert manifest.schemas == ("ab", "public")
    copy = new_database()
    restore(store, manifest.key, copy, pg_bin, tmp_path)
    with psycopg.connect(copy) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'a%'").fetchall()
    assert found == [("ab",)]


def test_a_database_from_environment_variables_is_dumped_from_the_same_server(
    rich_database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The address names nothing; the service and the client encoding around it must not reach pg_dump.
    parts = conninfo_to_dict(rich_database)
    for name, key in {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}.items():
        monkeypatch.setenv(name, str(parts[key]))
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")  # cannot hold 東京
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1h")
    manifest = take(f"dbname={parts['dbname']}", store).manifest
    assert manifest.database == parts["dbname"]


def test_progress_counts_up_and_ends_with_the_size(large_database: str, store: Store) -> None:
    seen: list[BackupProgress] = []
    report = take(large_database, store, progress=seen.append)
    assert_no_pg_dump()
    sizes = [progress.size for progress in seen]
    assert len(sizes) > 3
    assert sizes == sorted(sizes)
    assert sizes[-1] == report.manifest.size


def test_a_program_without_zstd_compresses_with_gzip(
    rich_database: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    # The real program behind the refusal that a build without zstd gives.
    stand_in = tmp_path / "pg_dump"
    stand_in.write_text(
        '#!/bin/sh\ncase "$*" in *zstd*) echo "pg_dump: error: invalid compression specification: this build does not '
        f'support compression with ZSTD" >&2; exit 1;; esac\nexec {pg_bin / "pg_dump"} "$@"\n'
    )
    stand_in.chmod(0o755)
    manifest = take(rich_database, store, programs=tmp_path).manifest
    assert manifest.compression == "gzip:1"
    copy = new_database()
    restore(store, manifest.key, copy, pg_bin, tmp_path)
    assert plain_dump(copy, pg_bin) == plain_dump(rich_database, pg_bin)


# -- once per attempt of a run ----------------------------------------------------------------------------------------


def test_the_same_attempt_of_a_run_reuses_its_backup_and_another_takes_a_new_one(database: str, store: Store) -> None:
    first = take(database, store)
    assert not first.reused
    again = take(database, store)
    assert again.reused
    assert again.manifest == first.manifest
    assert len(store.stored()) == 3
    # A new second: the key has the time and the run, and one that is taken is never overwritten.
    while datetime.now(UTC).replace(microsecond=0) <= first.manifest.taken_at.replace(microsecond=0):
        pass
    other = take(database, store, attempt=2)
    assert not other.reused
    assert len(store.stored()) == 6
    assert take(database, store).manifest == first.manifest
    assert take(database, store, attempt=2).manifest == other.manifest


def test_a_backup_of_another_run_or_environment_is_not_reused(database: str, store: Store) -> None:
    take(database, store, run_id="x-1")
    assert not take(database, store, run_id="1").reused  # the first one's key ends like this one's
    assert not take(database, store, run_id="1", environment="stage").reused
    assert take(database, store, run_id="1").reused


@pytest.mark.parametrize("fault", ["dump gone", "dump cut", "manifest gone"])
def test_a_backup_that_is_not_whole_is_never_reused(database: str, store: Store, fault: str) -> None:
    first = take(database, store).manifest
    manifest_key = first.key.replace("database.dump", "manifest.json")
    if fault == "dump cut":
        store.client.put_object(Bucket=store.name, Key=first.key, Body=b"PGDMP")
    else:
        store.delete(first.key if fault == "dump gone" else manifest_key)
    with Bucket(store.settings) as bucket:
        assert Backups(bucket).find("prod", run_id="run-1", attempt=1) is None
        listed = Backups(bucket).listing("prod").backups
    assert [manifest.id for manifest in listed] == ([] if fault == "manifest gone" else [first.id])


def test_a_listing_is_ordered_and_names_what_it_cannot_read(database: str, store: Store) -> None:
    first, second = take(database, store, run_id="a").manifest, take(database, store, run_id="b").manifest
    for at, document in {"20200101T000000Z-a": b"{", "20210101T000000Z-b": b'{"format": 99}'}.items():
        store.client.put_object(Bucket=store.name, Key=f"{store.prefix}prod/{at}/manifest.json", Body=document)
    with Bucket(store.settings) as bucket:
        listing = Backups(bucket).listing("prod")
        assert Backups(bucket).read("prod", second.id) == second
        assert Backups(bucket).read("prod", "20200101T000000Z-none") is None
    assert listing.backups == (first, second)
    assert listing.unreadable == tuple(
        f"{store.prefix}prod/{at}/manifest.json" for at in ("20200101T000000Z-a", "20210101T000000Z-b")
    )


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 300])
def test_a_name_that_cannot_be_part_of_a_key_is_refused(database: str, store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        take(database, store, run_id=name)
    with pytest.raises(UsageError):
        take(database, store, environment=name)
    store.assert_empty()


# -- what the role must see -----------------------------------------------------------------------------------------


def test_a_role_that_row_level_security_filters_is_refused_before_the_dump(
    database: str, store: Store, new_role: Any
) -> None:
    role = new_role(database, attributes="IN ROLE pg_read_all_data")
    execute(database, "CREATE SCHEMA app; CREATE TABLE app.t (); ALTER TABLE app.t ENABLE ROW LEVEL SECURITY")
    ran: list[bool] = []
    with pytest.raises(BackupFailed, match=r"app\.t: row level security filters it") as caught:
        take(role, store, read_ledger=lambda _: ran.append(True))
    assert "no backup was begun" in str(caught.value)
    assert "BYPASSRLS" in (caught.value.hint or "")
    assert not caught.value.retryable
    assert not ran
    store.assert_empty()


def test_row_level_security_that_does_not_filter_this_role_is_no_obstacle(
    database: str, store: Store, new_role: Any
) -> None:
    bypassing = new_role(database, attributes="BYPASSRLS IN ROLE pg_read_all_data")
    reading = new_role(database, attributes="IN ROLE pg_read_all_data")
    execute(database, "CREATE SCHEMA app; CREATE TABLE app.t (); ALTER TABLE app.t ENABLE ROW LEVEL SECURITY")
    execute(database, "CREATE TABLE p (i int) PARTITION BY LIST (i); CREATE TABLE p1 PARTITION OF p DEFAULT")
    execute(database, "ALTER TABLE p ENABLE ROW LEVEL SECURITY; INSERT INTO p VALUES (1)")
    assert take(bypassing, store, run_id="bypass").manifest.excluded_schemas == ()
    # The partitioned parent's policy filters no leaf, and an excluded schema is not read.
    assert take(reading, store, run_id="exclude", exclude_schemas=("app",)).manifest.excluded_schemas == ("app",)


def test_an_owner_whom_forced_row_level_security_filters_is_refused(database: str, store: Store, new_role: Any) -> None:
    owner = new_role(database)
    execute(database, "GRANT CREATE ON SCHEMA public TO backup_role_0")
    execute(owner, "CREATE TABLE mine (); ALTER TABLE mine ENABLE ROW LEVEL SECURITY")
    assert take(owner, store, run_id="own").manifest.size > 0
    execute(owner, "ALTER TABLE mine FORCE ROW LEVEL SECURITY")
    with pytest.raises(BackupFailed, match=r"public\.mine: row level security"):
        take(owner, store, run_id="forced")


def test_every_reason_why_a_role_cannot_read_all_is_named(database: str, store: Store, new_role: Any) -> None:
    role = new_role(database)
    execute(database, "CREATE SCHEMA closed; CREATE TABLE closed.t (); CREATE SEQUENCE public.counter")
    execute(database, 'CREATE TABLE public."T ä" ()')
    with pytest.raises(BackupFailed) as caught:
        take(role, store)
    text = str(caught.value)
    for line in ("closed.t: no USAGE on its schema", "public.counter: no SELECT", 'public."T ä": no SELECT'):
        assert line in text
    store.assert_empty()


# -- cost -------------------------------------------------------------------------------------------------------------


def test_nothing_imports_boto3_before_a_bucket_is_opened() -> None:
    code = "import sys, lockstep.service.backup; assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


MEASURE = """
import sys
from pathlib import Path
from lockstep.service.backup import back_up
from lockstep.storage.bucket import BucketSettings

def peak():  # KiB of this program alone; getrusage would begin with its parent's
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)

conninfo, url, endpoint = sys.argv[1:]
import boto3
before = peak()
report = back_up(target="t", environment="prod", conninfo=conninfo, run_id="r",
                 bucket=BucketSettings(url=url, endpoint_url=endpoint))
print(report.manifest.size, peak() - before)
"""


def test_memory_does_not_grow_with_the_size_of_the_dump(database: str, store: Store) -> None:
    fill(database, megabytes=200)
    settings = store.settings
    command = [sys.executable, "-c", MEASURE, database, settings.url, settings.endpoint_url or ""]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    size, grown = (int(word) for word in answer.split())
    assert size > 180_000_000
    assert grown < 120 * 1024  # KiB
