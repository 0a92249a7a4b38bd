"""A restore puts back what was backed up, or leaves the database as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockstep.core.address import parse_address
from lockstep.errors import BackupDamaged, RestoreFailed, RestoreRefused, Unreachable
from lockstep.postgres.connection import Target
from lockstep.postgres.contents import read_contents
from lockstep.postgres.copycheck import check_copy
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.filling import StoredBackup
from lockstep.service.progress import Silent
from lockstep.service.proving import verify_backup
from lockstep.service.restoring import Replacement, RestoreChoices, RestoreReport, restore
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from lockstep.storage.manifest import Manifest
from lockstep.storage.verification import Level
from tests.integration.backup.store import Store
from tests.integration.backup.test_backup import EVERYTHING, execute, plain_dump, take

RUN = RunInfo(run_id="20261124-120000-beef")


@contextmanager
def stored(store: Store, manifest: Manifest) -> Iterator[StoredBackup]:
    with Bucket(store.settings) as bucket:
        yield StoredBackup(bucket=bucket, manifest=manifest, contents=Backups(bucket).contents(manifest), identity=None)


def restore_into(store: Store, manifest: Manifest, url: str, **choices: Any) -> RestoreReport:
    with stored(store, manifest) as backup:
        into = Target(environment="copy", address=parse_address(url))
        return restore(backup, into, RUN, Silent(), RestoreChoices(**choices))


@pytest.fixture
def taken(database: str, store: Store) -> Manifest:
    execute(database, EVERYTHING)
    return take(database, store).manifest


@pytest.mark.parametrize("jobs", [None, 2], ids=["one transaction", "two sessions"])
def test_a_copy_is_identical_to_its_source(
    database: str, taken: Manifest, store: Store, new_database: Callable[[], str], pg_bin: Path, jobs: int | None
) -> None:
    copy = new_database()
    report = restore_into(store, taken, copy, jobs=jobs)
    assert plain_dump(copy, pg_bin) == plain_dump(database, pg_bin)
    assert report.proof.differences == ()


def test_a_database_that_is_not_empty_is_refused_and_left_alone(
    taken: Manifest, store: Store, new_database: Callable[[], str], pg_bin: Path
) -> None:
    copy = new_database()
    execute(copy, "CREATE TABLE mine (id int)")
    before = plain_dump(copy, pg_bin)
    with pytest.raises(RestoreRefused, match="not empty: 1 table, view or sequence"):
        restore_into(store, taken, copy)
    assert plain_dump(copy, pg_bin) == before


@pytest.fixture
def restorer(server: ThrowawayServer, new_database: Callable[[], str]) -> Iterator[str]:
    """URL of an empty database, as its owner, who is no superuser."""
    url = new_database()
    name = parse_address(url).database
    execute(server.url(), "CREATE ROLE restorer LOGIN PASSWORD 'pw'")
    execute(server.url(), f"ALTER DATABASE {name} OWNER TO restorer")
    yield server.url(name, user="restorer", password="pw")
    execute(server.url(), f"ALTER DATABASE {name} OWNER TO postgres")
    execute(url, "DROP OWNED BY restorer CASCADE")
    execute(server.url(), "DROP ROLE restorer")


def test_a_failure_in_the_middle_leaves_an_empty_database_empty(
    taken: Manifest, store: Store, restorer: str, pg_bin: Path
) -> None:
    empty = plain_dump(restorer, pg_bin)
    with pytest.raises(RestoreFailed, match=r"must be able to SET ROLE|must be member of role") as caught:
        restore_into(store, taken, restorer)
    assert "is empty as before" in caught.value.message
    assert plain_dump(restorer, pg_bin) == empty
    report = restore_into(store, taken, restorer, owners=False)
    assert report.proof.differences == ()
    with psycopg.connect(restorer) as connection:
        assert connection.execute("SELECT count(*) FROM app.person").fetchone() == (500,)


def test_a_damaged_archive_is_never_committed(
    taken: Manifest, store: Store, new_database: Callable[[], str], pg_bin: Path
) -> None:
    copy = new_database()
    empty = plain_dump(copy, pg_bin)
    body = bytearray(store.read(taken.key))
    body[-1] ^= 1  # the very last byte: everything before it was restored by then
    store.client.put_object(Bucket=store.name, Key=taken.key, Body=bytes(body))
    with pytest.raises(BackupDamaged, match="SHA-256"):
        restore_into(store, taken, copy)
    assert plain_dump(copy, pg_bin) == empty


def test_every_level_of_verification_holds_for_a_good_backup(taken: Manifest, store: Store, pg_bin: Path) -> None:
    with stored(store, taken) as backup:
        for level in Level:
            proof = verify_backup(backup, level, Silent(), programs=pg_bin)
            assert proof.holds, proof.findings
            assert (proof.server_version is not None) == (level is Level.RESTORED)


# -- in the place of a living database ---------------------------------------------------------------------------------


@pytest.fixture
def living(server: ThrowawayServer) -> Iterator[str]:
    """URL of a database with settings, grants and an owner of its own. All that its restores make is dropped."""
    name = "living"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE living_owner NOLOGIN")
        connection.execute("CREATE ROLE living_guest LOGIN")
        connection.execute("CREATE DATABASE living OWNER living_owner CONNECTION LIMIT 40 TEMPLATE template0 "
                           "ENCODING 'LATIN1' LOCALE 'C'")  # fmt: skip
        connection.execute("COMMENT ON DATABASE living IS 'it''s alive'")
        connection.execute('ALTER DATABASE living SET search_path = app, "Odd, ""name""", public')
        connection.execute("ALTER DATABASE living SET app.jwt = 'it''s, secret'")
        connection.execute("ALTER DATABASE living SET default_transaction_read_only = off")
        connection.execute("ALTER ROLE living_guest IN DATABASE living SET statement_timeout = '7s'")
        connection.execute("REVOKE CONNECT ON DATABASE living FROM PUBLIC")
        connection.execute("GRANT CONNECT ON DATABASE living TO living_guest WITH GRANT OPTION")
    yield server.url(name)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for (made,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'living%'").fetchall():
            connection.execute(f'ALTER DATABASE "{made}" ALLOW_CONNECTIONS true')
            connection.execute(f'DROP DATABASE "{made}" WITH (FORCE)')
        connection.execute("DROP OWNED BY living_owner, living_guest; DROP ROLE living_owner; DROP ROLE living_guest")


def whole_shape(server: ThrowawayServer, name: str) -> list[Any]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        shape = connection.execute(
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, "
            "shobj_description(oid, 'pg_database'), ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1) "
            "FROM pg_database WHERE datname = %s",
            (name,),
        ).fetchall()
        settings = connection.execute(
            "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting WHERE setdatabase = "
            "(SELECT oid FROM pg_database WHERE datname = %s) ORDER BY 1",
            (name,),
        ).fetchall()
    return [*shape, *settings]


def databases(server: ThrowawayServer) -> set[str]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'living%'").fetchall()
    return {row[0] for row in rows}


def test_a_living_database_is_replaced_and_the_old_one_kept(
    server: ThrowawayServer, living: str, store: Store, pg_bin: Path
) -> None:
    execute(living, "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT i FROM generate_series(1, 100) i")
    good = plain_dump(living, pg_bin)
    manifest = take(living, store).manifest
    execute(living, "DELETE FROM app.t WHERE i > 3; CREATE TABLE app.bad ()")
    bad = plain_dump(living, pg_bin)
    shape = whole_shape(server, "living")
    asked: list[Replacement] = []
    with psycopg.connect(living) as session:  # somebody at work, who is thrown out
        session.execute("SELECT 1")
        report = restore_into(store, manifest, living, replace=True, confirm=asked.append)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert [replacement.database for replacement in asked] == ["living"]
    assert plain_dump(living, pg_bin) == good
    assert whole_shape(server, "living") == shape
    assert report.kept is not None
    assert databases(server) == {"living", report.kept}
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        psycopg.connect(server.url(report.kept))
    execute(server.url(), f'ALTER DATABASE "{report.kept}" ALLOW_CONNECTIONS true')
    assert plain_dump(server.url(report.kept), pg_bin) == bad


def test_who_does_not_mean_it_changes_nothing(server: ThrowawayServer, living: str, store: Store, pg_bin: Path) -> None:
    execute(living, "CREATE TABLE public.t (i int)")
    manifest = take(living, store).manifest
    before = plain_dump(living, pg_bin)

    def no(_replacement: Replacement) -> None:
        raise RestoreRefused(("not meant",), target="living")

    with pytest.raises(RestoreRefused, match="not meant"):
        restore_into(store, manifest, living, replace=True, confirm=no)
    assert plain_dump(living, pg_bin) == before and databases(server) == {"living"}


def test_a_damaged_backup_replaces_nothing(server: ThrowawayServer, living: str, store: Store, pg_bin: Path) -> None:
    execute(living, "CREATE TABLE public.t AS SELECT i FROM generate_series(1, 1000) i")
    manifest = take(living, store).manifest
    before, shape = plain_dump(living, pg_bin), whole_shape(server, "living")
    body = bytearray(store.read(manifest.key))
    body[len(body) // 2] ^= 1
    store.client.put_object(Bucket=store.name, Key=manifest.key, Body=bytes(body))
    with pytest.raises((BackupDamaged, RestoreFailed)):
        restore_into(store, manifest, living, replace=True)
    assert plain_dump(living, pg_bin) == before and whole_shape(server, "living") == shape
    assert databases(server) == {"living"}
    with stored(store, manifest) as backup:
        assert not verify_backup(backup, Level.DIGESTS, Silent(), programs=pg_bin).holds


@pytest.mark.slow
def test_settings_and_grants_that_come_while_it_is_restored_are_kept(
    server: ThrowawayServer, living: str, store: Store
) -> None:
    execute(living, "CREATE TABLE public.t AS SELECT 1 AS i")
    manifest = take(living, store).manifest

    class Meddling(Silent):
        def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
            if what == "restore":
                execute(server.url(), "ALTER DATABASE living SET work_mem = '9MB'")
                execute(server.url(), "GRANT TEMPORARY ON DATABASE living TO living_guest")

    with stored(store, manifest) as backup:
        into = Target(environment="copy", address=parse_address(living))
        restore(backup, into, RUN, Meddling(), RestoreChoices(replace=True))
    owner, *_, acl = whole_shape(server, "living")[0]
    assert owner == "living_owner"
    assert "living_guest=Tc*/living_owner" in acl
    assert "work_mem=9MB" in str(whole_shape(server, "living"))


@pytest.mark.slow
def test_the_owner_may_replace_without_being_a_superuser(server: ThrowawayServer, living: str, store: Store) -> None:
    execute(living, "CREATE TABLE public.t AS SELECT 1 AS i; ALTER TABLE public.t OWNER TO living_owner")
    manifest = take(living, store).manifest
    execute(
        server.url(), "ALTER ROLE living_owner LOGIN CREATEDB PASSWORD 'pw'; GRANT pg_signal_backend TO living_owner"
    )
    execute(server.url(), "ALTER ROLE living_guest IN DATABASE living RESET ALL")
    execute(server.url(), "ALTER DATABASE living RESET ALL")
    execute(living, "ALTER SCHEMA public OWNER TO living_owner")
    url = server.url("living", user="living_owner", password="pw")
    with psycopg.connect(living) as superuser:
        superuser.execute("SELECT 1")
        with pytest.raises(RestoreRefused, match="1 sessions of superusers"):
            restore_into(store, manifest, url, replace=True)
    report = restore_into(store, manifest, url, replace=True)
    assert report.kept in databases(server)


def test_trouble_of_this_machine_is_no_damage(taken: Manifest, store: Store, pg_bin: Path, tmp_path: Path) -> None:
    for program in pg_bin.iterdir():
        (tmp_path / program.name).symlink_to(program)
    (tmp_path / "pg_restore").unlink()
    killed = tmp_path / "pg_restore"
    killed.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {pg_bin}/pg_restore --version\nhead -c 100 >/dev/null; kill -9 $$\n'
    )
    killed.chmod(0o755)
    with stored(store, taken) as backup:
        for level in (Level.ARCHIVE, Level.RESTORED):
            with pytest.raises(RestoreFailed, match="says nothing about it"):
                verify_backup(backup, level, Silent(), programs=tmp_path)


@pytest.mark.slow
def test_what_only_a_superuser_may_own_is_verified(
    database: str, server: ThrowawayServer, store: Store, pg_bin: Path
) -> None:
    execute(server.url(), "CREATE ROLE dba SUPERUSER")
    try:
        execute(database, "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
        execute(database, "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()")
        execute(database, "ALTER EVENT TRIGGER e OWNER TO dba")
        execute(database, "CREATE TABLE t AS SELECT 1 AS i")
        execute(database, f"ALTER DATABASE {parse_address(database).database} SET DateStyle = 'SQL, DMY'")
        with stored(store, take(database, store).manifest) as backup:
            proof = verify_backup(backup, Level.RESTORED, Silent(), programs=pg_bin)
        assert proof.holds, proof.findings
    finally:
        execute(database, "DROP EVENT TRIGGER IF EXISTS e")
        execute(server.url(), "DROP ROLE dba")


def test_a_copy_that_lacks_something_is_not_what_was_backed_up(database: str) -> None:
    execute(
        database,
        "CREATE TABLE big (i int); CREATE VIEW v AS SELECT 1; CREATE INDEX ON big (i); SELECT lo_create(0);"
        "INSERT INTO big SELECT 1",
    )
    with psycopg.connect(database, autocommit=True) as connection:
        with connection.transaction():
            contents = read_contents(connection, each=0)
        assert check_copy(connection, contents).differences == ()
        connection.execute(
            "TRUNCATE big; DROP VIEW v; DROP INDEX big_i_idx; SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata"
        )
        found = check_copy(connection, contents).differences
    assert found == (
        "table public.big is empty, and was not", "0 indexes instead of 1", "0 views instead of 1",
        "0 large objects instead of 1",
    )  # fmt: skip


@pytest.mark.slow
def test_a_database_that_was_left_closed_is_told_how_to_open(
    server: ThrowawayServer, living: str, store: Store
) -> None:
    manifest = take(living, store).manifest
    execute(server.url(), "ALTER DATABASE living ALLOW_CONNECTIONS false")
    with pytest.raises(Unreachable) as caught:
        restore_into(store, manifest, living, replace=True)
    assert "ALTER DATABASE living ALLOW_CONNECTIONS true;" in (caught.value.hint or "")
