"""Whoever works on a copy may do there what he may do in production, and nothing more; settings are production's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.integration.backup.store import Store
from tests.integration.rehearsal.stages import RUN, staged, tried
from tests.project import Project

#: A server whose `postgres` is no superuser, as on Supabase, and whose deployer owns its database.
CLUSTER = """
CREATE ROLE postgres LOGIN CREATEROLE CREATEDB BYPASSRLS;
CREATE ROLE owner_group NOLOGIN IN ROLE pg_read_all_data;
CREATE ROLE stranger NOLOGIN;
CREATE ROLE reporting NOLOGIN;
CREATE ROLE deployer LOGIN PASSWORD 'pw';
GRANT owner_group TO deployer;
ALTER ROLE deployer SET search_path = app, public;
ALTER ROLE deployer SET statement_timeout = '7min';
ALTER ROLE deployer SET app.secret = 'geheim';
CREATE DATABASE shop OWNER owner_group;
ALTER DATABASE shop SET work_mem = '9MB';
ALTER ROLE deployer IN DATABASE shop SET lock_timeout = '3s';
"""

SHOP = """
CREATE SCHEMA app AUTHORIZATION owner_group;
CREATE TABLE app.orders (id int PRIMARY KEY, total int);
ALTER TABLE app.orders OWNER TO owner_group;
CREATE TABLE app.foreign_to_us (id int);
ALTER TABLE app.foreign_to_us OWNER TO stranger;
CREATE EXTENSION hstore;
INSERT INTO app.orders SELECT g, g FROM generate_series(1, 100) g;
"""


@pytest.fixture(scope="module")
def cluster(pg_bin: Path) -> Iterator[ThrowawayServer]:
    settings = {**FAST, "wal_level": "logical", "full_page_writes": "on", "random_page_cost": "1.25", "jit": "on"}
    with ThrowawayServer(pg_bin, settings=settings, user="boss") as running:
        with psycopg.connect(running.url(), autocommit=True) as admin:
            for statement in CLUSTER.strip().splitlines():
                admin.execute(statement.encode())
        with psycopg.connect(running.url("shop"), autocommit=True) as admin:
            admin.execute(SHOP.encode())
        yield running


@pytest.fixture
def shop(cluster: ThrowawayServer, store: Store, tmp_path: Path) -> Project:
    """A project whose prod is entered as `deployer`."""
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={"prod": cluster.url("shop", user="deployer", password="pw")})
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    project.toml = f'[project]\nledger_schema = "app"\nschemas = ["app"]\n[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.configure(prod='protected = true\nrole = "owner_group"')
    done = project.run("init")
    assert done.code == 0, done.err
    assert project.run("baseline", "prod", "--version", "none").code == 0
    return project


@pytest.mark.parametrize(
    "statements",
    [
        {
            "ALTER TABLE app.foreign_to_us ADD COLUMN n int": "42501",
            "CREATE EXTENSION file_fdw": "42501",
            "ALTER ROLE stranger SET work_mem = '1MB'": "42501",
            "DROP EXTENSION hstore": "42501",
            "CREATE TABLE public.t (i int)": None,  # the database's owner may
            "ALTER TABLE app.orders ADD COLUMN n int": None,
            "CREATE SCHEMA more": None,
            "GRANT SELECT ON app.orders TO reporting": None,  # which has nothing so far
            "CREATE EXTENSION citext": None,  # trusted
        }
    ],
)
def test_what_production_refuses_is_refused_on_the_copy_and_what_it_allows_is_not(
    shop: Project, statements: dict[str, str | None]
) -> None:
    on_copy: dict[str, str | None] = {}
    with staged(shop) as stage:
        assert stage.login is not None and stage.login.role == "deployer"
        for statement in statements:
            shop.write("001-change.sql", f"{statement};")
            clone = stage.clone()
            error = tried(shop, clone).error
            on_copy[statement] = error.sqlstate if error else None
            stage.drop(clone)
    assert on_copy == statements
    for statement, state in statements.items():
        actual = None
        with psycopg.connect(shop.urls["prod"]) as there:
            there.execute("SET ROLE owner_group")
            try:
                there.execute(statement.encode())
            except psycopg.Error as refused:
                actual = refused.sqlstate
            there.rollback()
        assert actual == state, f"as in production: {statement}"


@pytest.mark.slow
def test_roles_settings_and_the_database_itself_are_as_in_production(shop: Project) -> None:
    with staged(shop) as stage:
        clone = stage.clone()
        assert "geheim" not in repr(stage)
        with psycopg.connect(clone.settings.url(clone.environment).reveal()) as there:  # type: ignore[union-attr]

            def show(name: str) -> object:
                return there.execute(f"SHOW {name}".encode()).fetchone()[0]  # type: ignore[index]

            assert show("search_path") == "app, public"
            assert (show("statement_timeout"), show("lock_timeout"), show("work_mem")) == ("7min", "3s", "9MB")
            assert (show("wal_level"), show("full_page_writes")) == ("logical", "on")
            assert (show("random_page_cost"), show("jit"), show("fsync")) == ("1.25", "on", "off")
            assert show("max_parallel_maintenance_workers") == "0"
            assert there.info.user == "deployer"
        with psycopg.connect(clone.admin) as there:
            rows = there.execute(
                "SELECT rolname, rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname !~ '^(pg|lockstep)_' ORDER BY 1"
            ).fetchall()
            assert rows == [
                ("boss", True, True, True), ("deployer", False, False, False), ("owner_group", False, False, False),
                ("postgres", False, True, True), ("reporting", False, False, False), ("stranger", False, False, False),
            ]  # fmt: skip
            assert there.execute(
                "SELECT pg_get_userbyid(extowner) FROM pg_extension WHERE extname = 'hstore'"
            ).fetchone() == ("boss",)
            assert there.execute(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
            ).fetchone() == ("owner_group",)
            assert there.execute("SELECT reltuples FROM pg_class WHERE relname = 'orders'").fetchone() == (100.0,)
        assert any("app.secret" in note for note in stage.copy.notes)


@pytest.mark.slow
def test_a_rehearsal_verifies_the_backup_that_it_restores(shop: Project) -> None:
    shop.write("001-change.sql", "SELECT 1;")
    done = shop.run("rehearse", "prod", "--fresh")
    assert done.code == 0, done.err
    assert "restored" in shop.run("backups", "list").out
    assert shop.query(
        "SELECT details->>'level', details->>'ok' FROM app.schema_migrations_log WHERE event = 'verify'", "prod"
    )[-1] == ("restored", "true")


def test_a_copy_that_is_not_what_was_backed_up_ends_it_before_any_trial(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lockstep.errors import BackupDamaged
    from lockstep.postgres import copycheck

    monkeypatch.setattr(copycheck, "_invalid_indexes", lambda _connection: ["index app.i is not valid"])
    with pytest.raises(BackupDamaged, match=r"index app\.i is not valid"), staged(shop, run=RUN):
        raise AssertionError("no trial")
    assert "failed today" in shop.run("backups", "list").out
