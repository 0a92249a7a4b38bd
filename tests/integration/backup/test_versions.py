"""Another major than the tests' own: its database is backed up and restored by its own clients, or refused by name."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.errors import ProgramMissing
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.backup.store import Store
from tests.integration.backup.test_backup import WHOLE, execute, plain_dump, take

PG15 = Path("/usr/lib/postgresql/15/bin")

pytestmark = pytest.mark.postgresql15


@pytest.fixture(scope="module")
def server15() -> Iterator[ThrowawayServer]:
    with ThrowawayServer(PG15) as running:
        yield running


@pytest.mark.parametrize("jobs", [1, 2])
def test_postgresql_15_is_backed_up_and_restored_by_its_own_clients(
    server15: ThrowawayServer, store: Store, tmp_path: Path, jobs: int
) -> None:
    with psycopg.connect(server15.url(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS source WITH (FORCE)")
        admin.execute("CREATE DATABASE source")
        admin.execute("DROP DATABASE IF EXISTS copy WITH (FORCE)")
        admin.execute("CREATE DATABASE copy")
    source, copy = server15.url("source"), server15.url("copy")
    execute(source, WHOLE)
    manifest = take(source, store, jobs=jobs).manifest
    assert manifest.server_version.startswith("15.")
    assert manifest.client_version.startswith("15.")
    assert manifest.compression == "gzip:1"
    assert manifest.roles == ("backup_owner", "backup_reader", "postgres")
    archive = tmp_path / "archive"
    archive.write_bytes(store.read(manifest.key))
    subprocess.run([PG15 / "pg_restore", "--exit-on-error", "--dbname", copy, archive], check=True)
    assert plain_dump(copy, PG15) == plain_dump(source, PG15)  # pg_attver (15.20 and later) is in neither


def test_without_clients_of_its_major_it_is_refused_by_name(
    server15: ThrowawayServer, store: Store, pg_bin: Path
) -> None:
    with pytest.raises(ProgramMissing, match=r"pg_dump 15 is needed \(the server's own major version\)") as caught:
        take(server15.url(), store, programs=pg_bin)
    assert "apt-get install postgresql-client-15" in (caught.value.hint or "")
    assert 'programs = "/path/to/bin"' in (caught.value.hint or "")
    assert str(pg_bin) in str(caught.value)
    store.assert_empty()


@pytest.mark.slow
def test_a_setting_names_the_place_of_several_majors(server15: ThrowawayServer, store: Store, tmp_path: Path) -> None:
    (tmp_path / "15").mkdir()
    (tmp_path / "15" / "bin").symlink_to(PG15)
    assert shutil.which(tmp_path / "15" / "bin" / "pg_dump")
    assert take(server15.url(), store, programs=tmp_path).manifest.client_version.startswith("15.")
