"""A rehearsal can hurt nobody: it reaches no other server, and knows no password of one."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.integration.backup.store import Store
from tests.integration.rehearsal.stages import staged, tried
from tests.project import Project


@pytest.fixture(scope="module")
def publisher(pg_bin: Path) -> Iterator[ThrowawayServer]:
    """Another server, which production reads from and writes to."""
    settings = {**FAST, "wal_level": "logical", "max_wal_senders": "8", "max_replication_slots": "8"}
    with ThrowawayServer(pg_bin, settings=settings) as running:
        yield running


@pytest.fixture
def prod(publisher: ThrowawayServer, store: Store, tmp_path: Path) -> Iterator[Project]:
    """prod subscribes to a publication of the other server, and has foreign tables on it."""
    with psycopg.connect(publisher.url(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        admin.execute("CREATE DATABASE shop")
        admin.execute("CREATE TABLE IF NOT EXISTS events (id int PRIMARY KEY); TRUNCATE events")
        admin.execute("DROP PUBLICATION IF EXISTS pub; CREATE PUBLICATION pub FOR TABLE events")
        admin.execute("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    to = conninfo_to_dict(publisher.url())
    with psycopg.connect(publisher.url("shop"), autocommit=True) as here:
        here.execute("CREATE TABLE events (id int PRIMARY KEY)")
        here.execute(
            f"CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port={to['port']} user=postgres password={to['password']} dbname=postgres'"
            " PUBLICATION pub WITH (create_slot = false, enabled = false)".encode()
        )
        here.execute("CREATE EXTENSION postgres_fdw")
        here.execute(
            f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{to['port']}', dbname 'postgres')".encode()
        )
        here.execute(
            f"CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password '{to['password']}')".encode()
        )
        here.execute("CREATE FOREIGN TABLE far_events (id int) SERVER far OPTIONS (table_name 'events')")
        here.execute("CREATE MATERIALIZED VIEW seen AS SELECT * FROM far_events")
        here.execute("CREATE MATERIALIZED VIEW own AS SELECT 1 AS n")
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={"prod": publisher.url("shop")})
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.configure(prod="protected = true")
    assert project.run("init").code == 0
    assert project.run("baseline", "prod", "--version", "none").code == 0
    yield project
    with psycopg.connect(publisher.url("shop"), autocommit=True) as here:
        here.execute("ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
        here.execute("DROP SUBSCRIPTION feed")
    with psycopg.connect(publisher.url(), autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot('feed')")


def test_nothing_that_is_tried_arrives_anywhere_else(prod: Project, publisher: ThrowawayServer) -> None:
    with staged(prod) as stage:
        clone = stage.clone()
        assert stage.server.isolated == stage.copy.isolated
        with psycopg.connect(clone.admin, autocommit=True) as inside:
            assert inside.execute("SELECT count(*) FROM pg_subscription").fetchone() == (0,)
            assert inside.execute("SELECT count(*) FROM pg_user_mapping").fetchone() == (0,)
            assert inside.execute("SELECT count(*) FROM pg_foreign_table").fetchone() == (1,)
            assert inside.execute("SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1").fetchall() == [
                ("own", True), ("seen", False),
            ]  # fmt: skip
            with pytest.raises(psycopg.Error):
                inside.execute("DROP SUBSCRIPTION feed")
            # The very attack: somebody knows the password and brings it along.
            password = conninfo_to_dict(publisher.url())["password"]
            inside.execute(
                f"CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password '{password}')".encode()
            )
            if stage.server.isolated:
                with pytest.raises(psycopg.Error):
                    inside.execute("INSERT INTO far_events VALUES (666)")
                with pytest.raises(psycopg.Error):
                    inside.execute(
                        f"CREATE SUBSCRIPTION other CONNECTION 'host=127.0.0.1 port={publisher.port} user=postgres password={password}' PUBLICATION pub".encode()
                    )
        assert any("public.seen" in note for note in stage.copy.notes)
    with psycopg.connect(publisher.url(), autocommit=True) as admin:
        assert admin.execute("SELECT count(*) FROM events").fetchone() == (0,)
        assert admin.execute("SELECT slot_name::text FROM pg_replication_slots").fetchall() == [("feed",)]


def test_a_plan_that_drops_the_subscription_leaves_the_slot(prod: Project, publisher: ThrowawayServer) -> None:
    prod.write("001-drop.sql", "-- lockstep: transaction=none\nDROP SUBSCRIPTION IF EXISTS feed;")
    done = prod.run("rehearse", "prod", "--fresh")
    assert done.code in (0, 7), done.err
    with psycopg.connect(publisher.url(), autocommit=True) as admin:
        assert admin.execute("SELECT slot_name::text FROM pg_replication_slots").fetchall() == [("feed",)]
    assert prod.query("SELECT subname::text FROM pg_subscription", "prod") == [("feed",)]


def test_its_server_has_no_network_and_a_socket_that_only_we_can_enter(prod: Project) -> None:
    prod.write("001-a.sql", "CREATE TABLE a (i int);")
    with staged(prod) as stage:
        server = stage.server
        assert isinstance(server, ThrowawayServer)
        sockets = Path(str(conninfo_to_dict(server.url())["host"]))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert tried(prod, stage.clone()).error is None
        folders = (sockets, server.folder)
    assert not [folder for folder in folders if folder.exists()]


@pytest.mark.slow
def test_production_is_locked_by_nobody_while_its_copy_is_tried(prod: Project, publisher: ThrowawayServer) -> None:
    from lockstep.service.progress import Silent
    from lockstep.service.rehearsal.stage import open_stage
    from tests.integration.rehearsal.stages import backed_up

    prod.write("001-a.sql", "ALTER TABLE events ADD COLUMN n int;")
    settings = prod.settings()
    with backed_up(prod) as backup, psycopg.connect(prod.urls["prod"]) as holder:
        holder.execute(
            "LOCK TABLE events, schema_migrations IN ACCESS EXCLUSIVE MODE"
        )  # whoever wants one waits for ever
        with open_stage(settings, settings.environment("prod"), backup, Silent()) as stage:
            assert tried(prod, stage.clone()).error is None
            others = holder.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND application_name LIKE 'lockstep/%'"
            ).fetchone()
            assert others == (0,)
