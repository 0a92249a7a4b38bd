"""What a backup says of its contents is what was in the snapshot, whoever reads it and however many tables there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lockstep.core.contents import Extension
from lockstep.errors import BackupFailed
from lockstep.postgres import contents as contents_module
from lockstep.postgres import snapshot as snapshot_module
from lockstep.postgres.contents import Inventory, read_contents, read_inventory
from lockstep.postgres.snapshot import open_snapshot
from lockstep.postgres.throwaway import FAST, ThrowawayServer
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from tests.integration.backup.store import Store
from tests.integration.backup.test_backup import execute, take


def read(url: str, *, exclude: tuple[str, ...] = ()) -> Inventory:
    with open_snapshot(url, target="t", run_id="r") as snapshot:
        return read_inventory(snapshot, exclude_schemas=exclude)


def test_the_document_in_the_bucket_is_that_of_the_snapshot(database: str, store: Store) -> None:
    execute(database, "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 7); CREATE SEQUENCE s")
    manifest = take(database, store).manifest
    with Bucket(store.settings) as bucket:
        contents = Backups(bucket).contents(manifest)
    assert contents is not None
    (table,) = contents.tables
    assert (table.schema, table.name, table.rows, table.exact) == ("public", "t", 7, True)
    assert [(s.name, s.last_value) for s in contents.sequences] == [("s", None)]
    assert manifest.snapshot_lsn and "/" in manifest.snapshot_lsn
    (size,) = manifest.schema_sizes
    assert (size.name, size.tables, size.size > 0) == ("public", 1, True)


def test_rows_are_those_of_the_snapshot_and_only(database: str) -> None:
    execute(
        database,
        """
        CREATE TABLE parent (i int); CREATE TABLE child () INHERITS (parent);
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
        CREATE TABLE event (i int) PARTITION BY RANGE (i);
        CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (9); INSERT INTO event VALUES (1);
        CREATE SCHEMA "odd.Name"; CREATE TABLE "odd.Name"."t""%s" (); CREATE VIEW v AS SELECT 1;
        CREATE UNLOGGED TABLE quick (); CREATE TEMPORARY TABLE gone ();
        CREATE MATERIALIZED VIEW m AS SELECT 1
        """,
    )
    with open_snapshot(database, target="t", run_id="r") as snapshot:
        execute(database, "INSERT INTO parent VALUES (4)")
        found = read_inventory(snapshot).contents.tables
    assert [(t.schema, t.name, t.rows) for t in found] == [
        ("odd.Name", 't"%s', 0), ("public", "child", 2), ("public", "event_1", 1), ("public", "parent", 1),
        ("public", "quick", 0),
    ]  # fmt: skip


def test_a_large_table_is_estimated_and_the_small_ones_go_first(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(
        database,
        "CREATE TABLE large AS SELECT generate_series(1, 100000) i; CREATE TABLE small AS SELECT 1 i; ANALYZE large",
    )
    monkeypatch.setattr(contents_module, "COUNTED_EACH", 64 * 1024)
    large, small = read(database).contents.tables
    assert (large.exact, small.exact, small.rows) == (False, True, 1)
    assert 90_000 < large.rows < 110_000
    monkeypatch.setattr(contents_module, "COUNTED_EACH", 2**40)
    monkeypatch.setattr(contents_module, "COUNTED_TOTAL", 16 * 1024)
    assert [t.exact for t in read(database).contents.tables] == [False, True]
    with psycopg.connect(database) as connection:
        assert all(t.exact for t in read_contents(connection, each=None, total=None).tables)


def test_sequences_have_their_values_and_nobody_is_kept_from_altering_them(database: str) -> None:
    execute(
        database,
        """
        CREATE SEQUENCE down INCREMENT -5; CREATE SEQUENCE fresh; CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY);
        SELECT nextval('down'), nextval('down'); INSERT INTO t DEFAULT VALUES
        """,
    )
    with open_snapshot(database, target="t", run_id="r") as snapshot:
        found = read_inventory(snapshot).contents.sequences
        execute(database, "SET lock_timeout = '1s'; ALTER SEQUENCE down RESTART; DROP TABLE t")  # nor from dropping
    assert [(s.name, s.last_value, s.increment) for s in found] == [
        ("down", -6, -5),
        ("fresh", None, 1),
        ("t_id_seq", 1, 1),
    ]


def test_changes_count_what_was_written(database: str) -> None:
    execute(
        database, "CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2); UPDATE t SET i = 3; DELETE FROM t WHERE i = 9"
    )
    deadline = time.monotonic() + 10
    while read(database).contents.tables[0].changes != 4:
        assert time.monotonic() < deadline
    execute(database, "TRUNCATE t; INSERT INTO t VALUES (1)")
    while read(database).contents.tables[0].changes != 5:
        assert time.monotonic() < deadline


def test_the_database_itself_is_described_without_its_secrets(database: str, server: ThrowawayServer) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"""
            COMMENT ON DATABASE {name} IS 'Köln'; ALTER DATABASE {name} CONNECTION LIMIT 7;
            ALTER DATABASE {name} SET app.jwt_secret = 'geheim'; ALTER DATABASE {name} SET work_mem = '8MB';
            SELECT lo_create(0), lo_create(0)
        """)
    found = read(database)
    shape = found.contents.database
    assert (shape.owner, shape.encoding, shape.connection_limit, shape.comment) == ("postgres", "UTF8", 7, "Köln")
    assert [s.setting for s in shape.settings] == ["app.jwt_secret", "work_mem=8MB"]
    assert "geheim" not in repr(found)
    assert found.contents.large_objects == 2


ROLES = ("owner", "grantee", "default", "policy", "blob", "sub", "server", "mapped", "publisher", "stranger", "hidden")


@pytest.fixture
def roles(server: ThrowawayServer) -> dict[str, str]:
    """Roles with a purpose each, in the session's cluster; dropped with their database."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"DROP ROLE IF EXISTS r_{role}; CREATE ROLE r_{role}")
    return {role: f"r_{role}" for role in ROLES}


def test_every_role_that_a_restore_needs_is_named_and_no_other(database: str, roles: dict[str, str]) -> None:
    execute(
        database,
        """
        CREATE SCHEMA app AUTHORIZATION r_owner; CREATE TABLE app.t (); GRANT SELECT ON app.t TO r_grantee;
        CREATE TABLE app.u (); ALTER TABLE app.u OWNER TO r_owner;
        ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO r_default;
        CREATE POLICY p ON app.t TO r_policy;
        DO $$ BEGIN EXECUTE format('ALTER LARGE OBJECT %s OWNER TO r_blob', lo_create(0)); END $$;
        CREATE PUBLICATION pub; GRANT CREATE ON DATABASE """
        + str(conninfo_to_dict(database)["dbname"])
        + """ TO r_publisher; ALTER PUBLICATION pub OWNER TO r_publisher;
        CREATE FOREIGN DATA WRAPPER f; CREATE SERVER far FOREIGN DATA WRAPPER f; GRANT USAGE ON FOREIGN SERVER far TO r_server;
        CREATE USER MAPPING FOR r_mapped SERVER far; CREATE FOREIGN TABLE app.remote () SERVER far;
        CREATE EXTENSION citext; CREATE SCHEMA private; CREATE TABLE private.t (); ALTER TABLE private.t OWNER TO r_hidden;
        GRANT pg_read_all_data TO r_stranger
        """,
    )
    needed = [
        "r_blob",
        "r_default",
        "r_grantee",
        "r_hidden",
        "r_mapped",
        "r_owner",
        "r_policy",
        "r_publisher",
        "r_server",
    ]
    found = read(database)
    assert list(found.roles) == ["postgres", *needed]
    assert found.extensions == (Extension(name="citext", version=found.extensions[0].version),)
    assert "rows of foreign tables, which are on another server: app.remote" in found.not_covered
    needed.remove("r_hidden")
    assert list(read(database, exclude=("private",)).roles) == ["postgres", *needed]
    named = ", ".join(roles.values())
    execute(database, f"DROP FOREIGN DATA WRAPPER f CASCADE; DROP OWNED BY {named} CASCADE; DROP ROLE {named}")


def test_a_role_that_is_no_superuser_reads_the_same(database: str, new_role: Callable[..., str]) -> None:
    execute(
        database, "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 i; CREATE SEQUENCE app.s; SELECT nextval('app.s')"
    )
    role = new_role(database, attributes="IN ROLE pg_read_all_data")
    assert read(role).contents.tables[0].rows == 1
    assert read(role).contents.sequences == read(database).contents.sequences
    assert read(role).roles == read(database).roles


def test_an_excluded_schema_is_left_out_and_what_leads_into_it_is_named(database: str) -> None:
    execute(
        database,
        """
        CREATE SCHEMA auth; CREATE TABLE auth.users (id int PRIMARY KEY); CREATE SEQUENCE auth.s;
        CREATE TABLE profile (id int CONSTRAINT whose REFERENCES auth.users); CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext
        """,
    )
    found = read(database, exclude=("auth", "ext"))
    assert [t.name for t in found.contents.tables] == ["profile"]
    assert found.contents.sequences == ()
    assert [s.name for s in found.schema_sizes] == ["public"]
    assert "what foreign keys into excluded schemas refer to: whose on profile" in found.not_covered
    assert "schemas of extensions, excluded; make them before a restore: ext of citext" in found.not_covered


def test_a_table_that_stays_locked_ends_it_with_words(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "LOCK_WAIT_MS", 100)
    execute(database, "CREATE TABLE t ()")
    with psycopg.connect(database) as blocker:
        blocker.execute("LOCK TABLE t")
        with pytest.raises(BackupFailed, match="a table was locked") as caught:
            take(database, store)
    assert caught.value.retryable
    store.assert_empty()


@pytest.mark.slow
def test_five_thousand_tables_take_seconds_and_few_questions(pg_bin: Path) -> None:
    settings = {**FAST, "max_locks_per_transaction": "512"}
    with ThrowawayServer(pg_bin, settings=settings) as own:
        execute(
            own.url(),
            """DO $$ BEGIN FOR i IN 1..5000 LOOP EXECUTE format('CREATE TABLE t%s (id int)', i); END LOOP; END $$""",
        )
        started = time.monotonic()
        assert len(read(own.url()).contents.tables) == 5000
        assert time.monotonic() - started < 6  # 0.7 s on a quiet machine


@pytest.mark.slow
def test_a_standby_is_backed_up_without_what_it_lacks(pg_bin: Path, store: Store, tmp_path: Path) -> None:
    import shutil
    import subprocess

    settings = {**FAST, "wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}
    with ThrowawayServer(pg_bin, settings=settings) as primary:
        execute(
            primary.url(), "CREATE TABLE t AS SELECT 1 i; CREATE UNLOGGED TABLE quick AS SELECT 1 i; CREATE SEQUENCE s"
        )
        with ThrowawayServer(pg_bin, settings=settings) as standby:
            standby.kill()
            data = standby.folder / "data"
            owner = data.stat()
            shutil.rmtree(data)
            subprocess.run(
                [pg_bin / "pg_basebackup", "-d", primary.url(), "-D", data, "-R", "-X", "stream", "-c", "fast"],
                check=True,
            )
            for path in (data, *data.rglob("*")):
                shutil.chown(path, owner.st_uid, owner.st_gid)
            standby.password = primary.password
            standby.start()
            manifest = take(standby.url(), store).manifest
            assert manifest.snapshot_lsn is None
            assert "rows of unlogged tables, which a standby does not have: public.quick" in manifest.not_covered
            assert manifest.roles == ("postgres",)
            with Bucket(store.settings) as bucket:
                contents = Backups(bucket).contents(manifest)
            assert contents is not None
            assert [(t.name, t.rows, t.changes) for t in contents.tables] == [("t", 1, None)]
