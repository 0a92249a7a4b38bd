"""A rehearsal that is ended anywhere, by any signal, alone or with its process group, leaves nothing: no server, no file,
no session in production. `LOCKSTEP_KILLS` sets how many, `LOCKSTEP_SEED` repeats a run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockstep.cli.main import _terminate, main
from tests.faults.kills import wait_for
from tests.integration.backup.conftest import new_store, s3, store
from tests.integration.backup.store import Store
from tests.project import Project
from tests.summary import LINES

__all__ = ["new_store", "s3", "store"]

KILLS = int(os.environ.get("LOCKSTEP_KILLS", "9"))


@pytest.fixture
def prod(tmp_path: Path, new_database: Callable[[], str], store: Store) -> Iterator[Project]:
    """A project with a plan that takes a while, and a backup."""
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={"prod": new_database()})
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.configure(prod="protected = true")
    project.query("CREATE TABLE big AS SELECT g AS id, repeat('x', 200) AS t FROM generate_series(1, 60000) g", "prod")
    assert project.run("init").code == 0
    assert project.run("baseline", "prod", "--version", "none").code == 0
    project.write("001-index.sql", "CREATE INDEX big_id ON big (id);\nSELECT pg_sleep(0.3);")
    project.write("001-index.down.sql", "DROP INDEX big_id;")
    project.write("002-apart.sql", "-- lockstep: transaction=none\nCREATE INDEX CONCURRENTLY big_t ON big (t);")
    project.write("002-apart.down.sql", "DROP INDEX big_t;")
    assert project.run("backup", "prod").code == 0
    yield project


def start(project: Project, temporary: Path) -> int:
    """Begin a rehearsal in a copy of this process, which leads a process group; its temporary files go to a folder."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, _terminate)  # as the console entry point does
        tempfile.tempdir = str(temporary)
        os.environ.update(project.environ)
        os.environ["TMPDIR"] = str(temporary)
        with (
            (project.folder / "output.txt").open("a") as out,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            code = main(["rehearse", "prod", "--project", str(project.folder)])
    finally:
        os._exit(code)
    raise AssertionError("never reached")


def users(folder: Path) -> list[str]:
    """Processes that know the folder by their words or variables, but for us and copies of us."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if os.fsencode(folder) in words and int(process.name) != os.getpid():
                found.append(words.split(b"\0", 1)[0].decode())
    return found


@pytest.mark.timeout(600 + 10 * KILLS)
@pytest.mark.slow
def test_a_rehearsal_that_is_ended_anywhere_leaves_nothing(prod: Project) -> None:
    seed = int(os.environ.get("LOCKSTEP_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)
    temporary = Path(tempfile.mkdtemp(prefix="lockstep-k-", dir="/tmp"))  # short: sockets lie in it
    ledger = prod.query("SELECT migration_name FROM schema_migrations", "prod")
    began = time.monotonic()
    assert wait_for(start(prod, temporary)) == 0, (prod.folder / "output.txt").read_text()
    span = time.monotonic() - began
    assert not list(temporary.iterdir())
    hits = 0
    try:
        for number in range(KILLS):
            how = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number % 3]
            pid = start(prod, temporary)
            time.sleep(chance.uniform(0.02, 0.95 * span))
            hits += any(temporary.iterdir())
            (os.killpg if chance.random() < 0.5 else os.kill)(pid, how)
            wait_for(pid)
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline and (any(temporary.iterdir()) or users(temporary)):
                time.sleep(0.05)
            assert not list(temporary.iterdir()), f"{how.name}, seed {seed}"
            assert not users(temporary), f"{how.name}, seed {seed}"
    finally:
        LINES.append(f"rehearsals ended by a signal: {KILLS}, of them {hits} with a server, seed {seed}")
    assert hits >= KILLS / 3
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 10
    while prod.query(open_ones, "prod") != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert prod.query(open_ones, "prod") == [(0,)]
    assert prod.query("SELECT migration_name FROM schema_migrations", "prod") == ledger
    assert prod.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "prod") == [(0,)]
    temporary.rmdir()
