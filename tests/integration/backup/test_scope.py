"""A backup holds all that the database has, or is refused, or says what it leaves out: whoever the role is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from lockstep.errors import BackupFailed, ConfigError
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.backup.store import Store
from tests.integration.backup.test_backup import execute, plain_dump, restore, take


def listed(store: Store, key: str, pg_bin: Path, folder: Path) -> str:
    archive = folder / "archive"
    archive.write_bytes(store.read(key))
    return subprocess.run([pg_bin / "pg_restore", "--list", archive], check=True, capture_output=True, text=True).stdout


# -- the role ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dump_migrator(server: ThrowawayServer, database: str) -> Iterator[str]:
    """A login that inherits nothing, a member of `dump_migrator`, which owns a table; its URL."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("""
            CREATE ROLE dump_migrator; CREATE ROLE dump_deployer LOGIN NOINHERIT PASSWORD 'pw' IN ROLE dump_migrator;
            CREATE SCHEMA app AUTHORIZATION dump_migrator; CREATE TABLE app.t AS SELECT 7 AS i; ALTER TABLE app.t OWNER TO dump_migrator;
            ALTER TABLE app.t ENABLE ROW LEVEL SECURITY
        """)
        yield make_conninfo(database, user="dump_deployer", password="pw")
        connection.execute("DROP OWNED BY dump_migrator, dump_deployer CASCADE; DROP ROLE dump_deployer, dump_migrator")


def test_the_dump_runs_as_the_configured_role(
    dump_migrator: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    with pytest.raises(BackupFailed, match="role dump_deployer cannot read all"):
        take(dump_migrator, store)
    manifest = take(dump_migrator, store, role="dump_migrator").manifest
    copy = new_database()
    restore(store, manifest.key, copy, pg_bin, tmp_path)
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT i FROM app.t").fetchall() == [(7,)]
    execute(copy, "DROP OWNED BY dump_migrator CASCADE")


@pytest.mark.parametrize("role", ["nobody_knows", "postgres"])
def test_a_role_that_cannot_be_taken_is_named(dump_migrator: str, store: Store, role: str) -> None:
    with pytest.raises(ConfigError, match=f'cannot take the role "{role}"'):
        take(dump_migrator, store, role=role)
    store.assert_empty()


# -- row level security -------------------------------------------------------------------------------------------------


def test_a_leaf_that_is_filtered_is_found_and_a_filtered_parent_is_none(
    database: str, store: Store, new_role: Callable[..., str]
) -> None:
    role = new_role(database, attributes="IN ROLE pg_read_all_data")
    execute(
        database,
        """CREATE TABLE event (i int) PARTITION BY RANGE (i); CREATE TABLE e1 PARTITION OF event DEFAULT;
        INSERT INTO event VALUES (1); ALTER TABLE event ENABLE ROW LEVEL SECURITY""",
    )
    take(role, store, run_id="parent")
    execute(database, "ALTER TABLE e1 ENABLE ROW LEVEL SECURITY")
    with pytest.raises(BackupFailed, match=r"public\.e1: row level security filters it") as caught:
        take(role, store)
    assert "ALTER ROLE backup_role_0 BYPASSRLS" in (caught.value.hint or "")


def test_the_grants_of_the_hint_are_all_that_it_takes(
    database: str, store: Store, new_role: Callable[..., str]
) -> None:
    execute(
        database,
        """
        CREATE SCHEMA "Closed one"; CREATE TABLE "Closed one".t (); CREATE SEQUENCE counter; CREATE TABLE secret ();
        CREATE TABLE filtered (); ALTER TABLE filtered ENABLE ROW LEVEL SECURITY; SELECT lo_create(0)
        """,
    )
    role = new_role(database)
    tried = 0
    while True:
        try:
            take(role, store)
            break
        except BackupFailed as error:
            assert error.hint
            for grant in error.hint.split(". GRANT pg_read_all_data")[0].split("; "):
                execute(database, grant)
            tried += 1
    assert tried == 2  # USAGE comes before SELECT


# -- large objects, materialized views ----------------------------------------------------------------------------------


def test_a_large_object_that_may_not_be_read_is_found_before_the_dump(
    database: str, store: Store, new_role: Callable[..., str]
) -> None:
    execute(database, "SELECT lo_from_bytea(4711, 'x'), lo_from_bytea(4712, 'y')")
    role = new_role(database, attributes="IN ROLE pg_read_all_data")
    with pytest.raises(BackupFailed, match="large object 4711 and 1 more like it: no SELECT") as caught:
        take(role, store)
    assert "GRANT SELECT ON LARGE OBJECT 4711 TO backup_role_0" in (caught.value.hint or "")
    store.assert_empty()
    execute(database, "GRANT SELECT ON LARGE OBJECT 4711, 4712 TO backup_role_0")
    take(role, store, run_id="granted")
    execute(database, "REVOKE SELECT ON LARGE OBJECT 4711, 4712 FROM backup_role_0")
    name = make_conninfo(role, options="-c lo_compat_privileges=on")
    with pytest.raises(BackupFailed, match="large object"):
        take(role, store, run_id="revoked")
    with pytest.raises(Exception, match="permission denied to set parameter"):
        take(name, store, run_id="compat")
    execute(database, "ALTER ROLE backup_role_0 SET lo_compat_privileges = on")
    take(role, store, run_id="compat")


def test_a_materialized_view_needs_no_grant(database: str, store: Store, new_role: Callable[..., str]) -> None:
    execute(
        database,
        "CREATE SCHEMA closed; CREATE MATERIALIZED VIEW closed.m AS SELECT 1 i; CREATE VIEW closed.v AS SELECT 1 i",
    )
    take(new_role(database), store)


# -- managed services -----------------------------------------------------------------------------------------------------

# As on Supabase: the platform's roles own the schemas, the customer's role is in none of them.
SUPABASE = """
CREATE ROLE supabase_admin; CREATE ROLE supabase_auth_admin;
CREATE SCHEMA auth AUTHORIZATION supabase_admin; CREATE SCHEMA vault AUTHORIZATION supabase_admin;
CREATE SCHEMA graphql AUTHORIZATION supabase_admin;
CREATE TABLE auth.users (id int PRIMARY KEY); ALTER TABLE auth.users OWNER TO supabase_auth_admin;
CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE EXTENSION citext SCHEMA graphql;
CREATE TABLE vault.secrets (id int); ALTER TABLE vault.secrets OWNER TO supabase_admin;
CREATE TABLE profile (id int CONSTRAINT whose REFERENCES auth.users (id));
CREATE POLICY own ON profile USING (id = auth.uid()); CREATE TYPE mood AS ENUM ('ok');
GRANT SELECT ON profile TO PUBLIC;
"""


@pytest.fixture
def supabase(database: str, new_role: Callable[..., str]) -> Iterator[str]:
    """URL of the customer's role in a database like Supabase's."""
    role = new_role(database)
    execute(database, SUPABASE)
    yield role
    execute(
        database,
        "DROP OWNED BY supabase_admin, supabase_auth_admin CASCADE; DROP ROLE supabase_admin, supabase_auth_admin",
    )


def test_a_managed_schema_that_may_not_be_read_is_left_out_and_named(
    supabase: str, store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    manifest = take(supabase, store, own_schemas=("public",), note=told.append).manifest
    assert manifest.excluded_schemas == ("auth", "vault")
    assert manifest.schemas == ("graphql", "public")
    reason = "schema auth, which supabase_admin keeps for the database service (auth.users: no USAGE on its schema)"
    assert reason in manifest.not_covered
    assert "what foreign keys into excluded schemas refer to: whose on profile" in manifest.not_covered
    assert [reason in line for line in told] == [True, False]
    contents = listed(store, manifest.key, pg_bin, tmp_path)
    assert "TABLE DATA public profile" in contents
    assert "auth users" not in contents


def test_a_managed_schema_that_may_be_read_stays(supabase: str, database: str, store: Store) -> None:
    execute(database, "GRANT USAGE ON SCHEMA auth TO backup_role_0; GRANT SELECT ON auth.users TO backup_role_0")
    assert take(supabase, store).manifest.excluded_schemas == ("vault",)


def test_a_managed_schema_that_is_the_projects_own_is_refused(supabase: str, store: Store) -> None:
    with pytest.raises(BackupFailed, match=r"auth\.users: no USAGE on its schema") as caught:
        take(supabase, store, own_schemas=("public", "auth"))
    assert "GRANT USAGE ON SCHEMA auth TO backup_role_0" in (caught.value.hint or "")
    assert "vault" not in str(caught.value)
    store.assert_empty()


def test_only_name_and_owner_together_make_a_schema_managed(supabase: str, database: str, store: Store) -> None:
    execute(database, "ALTER SCHEMA auth OWNER TO postgres")
    with pytest.raises(BackupFailed, match=r"auth\.users"):
        take(supabase, store)
    execute(database, "ALTER SCHEMA auth OWNER TO supabase_admin; ALTER SCHEMA auth RENAME TO customers")
    with pytest.raises(BackupFailed, match=r"customers\.users"):
        take(supabase, store)


def test_a_member_of_the_owner_is_told_to_use_it(supabase: str, database: str, store: Store) -> None:
    # It could read: by SET ROLE, or by a grant that is its to give. Nothing is left out behind its back.
    execute(database, "ALTER ROLE backup_role_0 NOINHERIT; GRANT supabase_admin TO backup_role_0 WITH INHERIT FALSE")
    with pytest.raises(BackupFailed, match=r"auth\.users"):
        take(supabase, store)


def test_what_is_left_restores_beside_the_services_own_schemas(
    supabase: str, new_database: Callable[[], str], store: Store, pg_bin: Path, tmp_path: Path
) -> None:
    manifest = take(supabase, store).manifest
    copy = new_database()  # as a new project of the same service: its schemas are there
    execute(
        copy,
        "CREATE SCHEMA auth; CREATE TABLE auth.users (id int PRIMARY KEY); CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    restore(store, manifest.key, copy, pg_bin, tmp_path)
    assert "CREATE POLICY own" in plain_dump(copy, pg_bin)
    execute(copy, "DROP OWNED BY supabase_admin CASCADE")
