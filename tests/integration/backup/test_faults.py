"""Whatever ends a backup early leaves nothing: no object, no manifest, no unfinished upload, no process, no secret."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from demo.s3server import S3Server
from lockstep.errors import BackupFailed, BucketError, ConfigError, ProgramMissing, Unreachable
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.backup import BackupProgress, BackupReport, back_up
from lockstep.storage import bucket as bucket_module
from lockstep.storage import multipart
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket, BucketSettings
from tests.integration.backup.conftest import BUCKET, fill
from tests.integration.backup.store import Store, assert_no_pg_dump, children, pg_dump_pid
from tests.project import Project


def take(url: str, settings: BucketSettings, **options: Any) -> BackupReport:
    return back_up(target="prod (test)", environment="prod", conninfo=url, bucket=settings, run_id="run-1", **options)


class Once:
    """Progress that does something the first time."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act: Callable[[], object] | None = act

    def __call__(self, progress: BackupProgress) -> None:
        act, self.act = self.act, None
        if act:
            act()


# -- the producer -----------------------------------------------------------------------------------------------------


def test_a_killed_pg_dump_leaves_nothing(large_database: str, store: Store) -> None:
    progress = Once(lambda: os.kill(pg_dump_pid(), signal.SIGKILL))
    with pytest.raises(BackupFailed, match="was killed by SIGKILL; no backup was made") as caught:
        take(large_database, store.settings, progress=progress)
    assert caught.value.retryable
    store.assert_empty()
    assert_no_pg_dump()


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3, 5])  # parts of 8 MiB
def test_a_pg_dump_killed_later_leaves_nothing(large_database: str, store: Store, after: int) -> None:
    news = iter(range(1, 100))

    def kill(_: BackupProgress) -> None:
        if next(news) == after:
            for pid in children(os.getpid(), "pg_dump"):
                os.kill(pid, signal.SIGKILL)

    try:
        take(large_database, store.settings, progress=kill)
    except BackupFailed as error:
        assert "was killed by SIGKILL" in str(error)
        store.assert_empty()
    else:  # the last bytes were on their way already: then it is a whole backup
        assert len(store.stored()) == 3
    assert_no_pg_dump()


@pytest.mark.slow
def test_a_pg_dump_killed_before_its_first_byte_leaves_nothing(database: str, store: Store) -> None:
    with psycopg.connect(database) as blocker, psycopg.connect(database, autocommit=True) as observer:
        blocker.execute("CREATE TABLE t (i int) PARTITION BY LIST (i)")
        blocker.commit()
        blocker.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )

        def kill() -> None:
            _await(lambda: observer.execute(waiting).fetchone() == (1,))
            os.kill(pg_dump_pid(), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(BackupFailed, match="was killed by SIGKILL"):
            take(database, store.settings)
        killer.join()
    store.assert_empty()


def test_a_failing_pg_dump_leaves_nothing_and_its_words_hide_the_password(
    server: ThrowawayServer, new_database: Callable[[], str], store: Store
) -> None:
    # pg_dump names the table it was reading: a table that is called like the password.
    url, password = new_database(), "hunter2-geheim"
    name = conninfo_to_dict(url)["dbname"]
    fill(url, megabytes=20, table=password)
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE careless LOGIN SUPERUSER PASSWORD '{password}'")

        def end_its_session() -> None:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY%%'"
            assert admin.execute(query, [name]).fetchall() == [(True,)]

        try:
            with pytest.raises(BackupFailed, match="ended with status 1; no backup was made") as caught:
                take(
                    make_conninfo(url, user="careless", password=password),
                    store.settings,
                    progress=Once(end_its_session),
                )
        finally:
            admin.execute("DROP ROLE careless")
    text = str(caught.value)
    assert '"***"' in text  # the table's name was there
    assert password not in text
    assert not caught.value.retryable  # the server lives: this is no lost connection
    store.assert_empty()


def test_a_server_that_dies_in_the_middle_leaves_nothing_and_is_worth_another_try(pg_bin: Path, store: Store) -> None:
    with ThrowawayServer(pg_bin) as own:
        fill(own.url(), megabytes=20)
        with pytest.raises(BackupFailed, match="and the server is gone; no backup was made") as caught:
            take(own.url(), store.settings, progress=Once(own.kill))
    assert caught.value.retryable
    store.assert_empty()
    assert_no_pg_dump()


def test_a_server_that_is_not_there_is_unreachable(store: Store) -> None:
    with pytest.raises(Unreachable) as caught:
        take(f"postgresql://u:geheim@127.0.0.1:{_closed_port()}/db", store.settings)
    assert "geheim" not in str(caught.value)
    with pytest.raises(Unreachable) as caught:
        take("postgresql://u:geheim@nowhere:port/db?what=geheim", store.settings)
    assert "geheim" not in str(caught.value)


def test_a_wrong_password_is_not_repeated(database: str, store: Store) -> None:
    with pytest.raises(Unreachable, match="password authentication failed") as caught:
        take(make_conninfo(database, password="geheim"), store.settings)
    assert "geheim" not in str(caught.value)
    store.assert_empty()


def test_without_a_program_of_the_servers_major_nothing_is_begun(database: str, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="pg_dump 17 is needed"):
        take(database, store.settings, programs=tmp_path)
    store.assert_empty()


# -- ourselves --------------------------------------------------------------------------------------------------------


def test_an_exception_in_the_middle_leaves_nothing(large_database: str, store: Store) -> None:
    def burst() -> None:
        pg_dump_pid()  # it runs
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take(large_database, store.settings, progress=Once(burst))
    store.assert_empty()
    assert_no_pg_dump()


def test_ctrl_c_in_the_middle_leaves_nothing(large_database: str, store: Store) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            take(large_database, store.settings, progress=Once(lambda: signal.raise_signal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    store.assert_empty()
    assert_no_pg_dump()


BACK_UP = """
import signal, sys
from lockstep.service.backup import back_up
from lockstep.storage.bucket import BucketSettings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
conninfo, url, endpoint = sys.argv[1:]
back_up(target="t", environment="prod", conninfo=conninfo, run_id="r",
        bucket=BucketSettings(url=url, endpoint_url=endpoint))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_pg_dump_and_its_query_end_with_us_even_while_it_waits_for_a_lock(
    database: str, store: Store, how: signal.Signals
) -> None:
    # While it waits it writes nothing, so neither it nor its server would notice that nobody reads any more.
    settings = store.settings
    command = [sys.executable, "-c", BACK_UP, database, settings.url, settings.endpoint_url or ""]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(database) as blocker, psycopg.connect(database, autocommit=True) as observer:
        # A partitioned parent: pg_dump locks it, and our own session has nothing to look at in it.
        blocker.execute("CREATE TABLE t (i int) PARTITION BY LIST (i)")
        blocker.commit()
        blocker.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as ours:
            _await(lambda: observer.execute(waiting).fetchone() == (1,))
            (pid,) = children(ours.pid, "pg_dump")
            ours.send_signal(how)
        _await(lambda: _is_gone(pid))
        _await(lambda: observer.execute(waiting).fetchone() == (0,))  # nor does its query stay in the queue
    assert store.stored() == []
    if how is signal.SIGINT:
        store.assert_empty()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_ended_leaves_nothing(project: Project, store: Store, how: signal.Signals, code: int) -> None:
    fill(project.urls["dev"], megabytes=60)
    settings = store.settings
    project.toml = f'[backup]\nbucket = "{settings.url}"\nendpoint_url = "{settings.endpoint_url}"\n'
    project.configure()
    command = [sys.executable, "-m", "lockstep", "backup", "dev"]
    with subprocess.Popen(command, cwd=project.folder, env=project.environ, stderr=subprocess.PIPE, text=True) as ours:
        _await(lambda: _dumping(ours.pid) != [])  # earlier ones only tell their version
        (pid,) = _dumping(ours.pid)
        ours.send_signal(how)
        _, talk = ours.communicate(timeout=60)
    assert ours.returncode == code, talk
    assert "Traceback" not in talk
    store.assert_empty()
    _await(lambda: _is_gone(pid))


def test_no_space_for_a_part_leaves_nothing(
    large_database: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Nothing real fills a disk of this machine: /dev/full refuses what is written to it.
    from lockstep.storage import multipart

    original = multipart.MultipartStream.__init__

    def spilling(self: Any, bucket: Bucket, key: str, **options: Any) -> None:
        original(self, bucket, key, sizes=lambda number: 8 * 1024 * 1024, spill_over=1024)

    monkeypatch.setattr(multipart.MultipartStream, "__init__", spilling)

    def full(*_: object, **__: object) -> Any:
        return os.fdopen(os.open("/dev/full", os.O_RDWR), "r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(BackupFailed, match="no backup was made: No space left on device") as caught:
        take(large_database, store.settings)
    assert "TMPDIR" in (caught.value.hint or "")
    store.assert_empty()
    assert_no_pg_dump()


def test_the_password_is_in_no_argument_and_not_in_the_manifest(large_database: str, store: Store) -> None:
    password = str(conninfo_to_dict(large_database)["password"])
    seen: list[bytes] = []
    take(
        large_database,
        store.settings,
        progress=Once(lambda: seen.append(Path(f"/proc/{pg_dump_pid()}/cmdline").read_bytes())),
    )
    (arguments,) = seen
    assert b"--snapshot=" in arguments
    assert b"--dbname=keepalives_idle=30 " in arguments  # what has no environment variable, and is no secret
    assert password.encode() not in arguments
    for document in (key for key in store.stored() if key.endswith(".json")):
        assert password.encode() not in store.read(document)


# -- the bucket -------------------------------------------------------------------------------------------------------


def test_wrong_credentials_are_named_as_such(database: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        with monkeypatch.context() as patched:
            patched.setenv(variable, "geheim-und-falsch")
            with pytest.raises(BackupFailed, match="the credentials were refused") as caught:
                take(database, store.settings)
        assert not caught.value.retryable
        assert "geheim" not in str(caught.value)
    store.assert_empty()


def test_missing_credentials_are_named_as_such(database: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BackupFailed, match="no AWS credentials were found") as caught:
        take(database, store.settings)
    assert not caught.value.retryable
    assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")


def test_a_missing_bucket_is_named_as_such(database: str, store: Store) -> None:
    with pytest.raises(BackupFailed, match="s3://not-there: there is no such bucket") as caught:
        take(database, replace(store.settings, url="s3://not-there/team"))
    assert not caught.value.retryable


def test_an_endpoint_that_does_not_answer_is_worth_another_try(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "ATTEMPTS", 1)
    endpoint = f"http://127.0.0.1:{_closed_port()}"
    with pytest.raises(BackupFailed, match=f"no answer from {endpoint}") as caught:
        take(database, replace(store.settings, endpoint_url=endpoint))
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["", "bucket", "s3://", "https://bucket/x", "s3://UPPER/x", "s3://user:pw@bucket"])
def test_a_bucket_that_is_no_url_is_a_config_error(database: str, store: Store, url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[backup\] bucket"):
        take(database, replace(store.settings, url=url))
    with pytest.raises(ConfigError, match=r"\[backup\] endpoint_url"):
        take(database, replace(store.settings, endpoint_url="not a url"))


def test_an_s3_server_that_dies_in_the_middle_is_worth_another_try(
    large_database: str, new_store: Callable[[S3Server], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "RESUMES", 0)
    monkeypatch.setattr(bucket_module, "ATTEMPTS", 1)
    with S3Server() as own:
        own.make_bucket(BUCKET)
        store = new_store(own)
        with pytest.raises(BackupFailed) as caught:
            take(large_database, store.settings, progress=Once(own.stop))
    assert caught.value.retryable
    cause = caught.value.__cause__
    assert isinstance(cause, BucketError)
    assert "could not be removed" in "".join(cause.__notes__)
    assert_no_pg_dump()


def test_a_manifest_that_exists_is_not_overwritten(database: str, store: Store) -> None:
    manifest = take(database, store.settings).manifest
    key = manifest.key.replace("database.dump", "manifest.json")
    document = store.read(key)
    with Bucket(store.settings) as bucket:
        Backups(bucket).record(manifest)  # the very same one: the answer to the first try was lost
        with pytest.raises(BucketError, match="exists already and was not overwritten") as caught:
            Backups(bucket).record(replace(manifest, attempt=2))
    assert not caught.value.retryable
    assert store.read(key) == document


def test_an_object_that_shrank_on_its_way_gets_no_manifest(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing real makes a store lose bytes that it has acknowledged: cut the object between completion and look.
    original = Bucket.finish_upload

    def cut(self: Bucket, key: str, *rest: Any, **more: Any) -> bool:
        done = original(self, key, *rest, **more)
        store.client.put_object(Bucket=store.name, Key=key, Body=b"PG")
        return done

    monkeypatch.setattr(Bucket, "finish_upload", cut)
    with pytest.raises(BackupFailed, match="has 2 bytes instead of"):
        take(database, store.settings)
    store.assert_empty()


# -- helpers ----------------------------------------------------------------------------------------------------------


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _dumping(parent: int) -> list[int]:
    found = []
    for pid in children(parent, "pg_dump"):
        try:
            if b"--snapshot=" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:  # it has ended
            continue
    return found


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
    except OSError:
        return True
