"""A machine that vanishes without a word, in a network that really drops its packets: the server frees its lock.

With short bounds here; the slow form takes those that Lockstep sets, and a minute and a half.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.faults.namespaces import Network
from tests.integration.test_doctor import self_signed
from tests.project import Project
from tests.summary import LINES

pytestmark = pytest.mark.namespaces

#: What the server is told in place of the session's own bounds; the others stay.
SHORT = {
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "1",
    "tcp_user_timeout": "2000",
}

#: Takes the lock as a run does, and then waits with it, in a statement or between two.
HOLDER = """
import sys
from pathlib import Path
from lockstep.config import load_settings
from lockstep.postgres import connection
from lockstep.postgres.lock import take_lock
from lockstep.service.project import target_of
own, bounds = connection.own_settings, {bounds}
connection.own_settings = lambda *words, **more: {{**own(*words, **more), **bounds}}
settings = load_settings(Path('.'))
session = connection.open_session(target_of(settings, settings.environment('dev')), run_id='asleep')
take_lock(session)
print('held', flush=True)
{work}
"""
WORKS = {
    "between two statements": "sys.stdin.read()",
    "in a statement": "session.connection.execute('SELECT pg_sleep(600)')",
    "in a transaction": "session.connection.execute('BEGIN; LOCK TABLE public.schema_migrations'); sys.stdin.read()",
}


@pytest.fixture
def asleep(pg_bin: Path, tmp_path: Path) -> Iterator[tuple[Project, Network, str]]:
    """A project, a network, and the address of its database seen from the other side of it."""
    certificate, key = self_signed(tmp_path)
    with Network() as network:
        settings = {**FAST, "ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        settings["listen_addresses"] = f"127.0.0.1,{network.here}"
        with ThrowawayServer(pg_bin, settings=settings) as server:
            with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"hostssl all all {network.there}/32 scram-sha-256\n")
            project = Project(folder=tmp_path, urls={"dev": server.url()})
            (tmp_path / "migrations").mkdir()
            project.configure()
            project.query("SELECT pg_reload_conf()")
            assert project.run("init").code == 0
            yield project, network, server.url().replace("127.0.0.1", network.here)


def freed_after(asleep: tuple[Project, Network, str], work: str, bounds: dict[str, str], limit: float) -> float:
    """Let a client take the lock and its machine vanish; return how long the server kept the lock, in seconds."""
    project, network, url = asleep
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    client = subprocess.Popen(
        network.inside(sys.executable, "-c", HOLDER.format(bounds=bounds, work=work)),
        cwd=project.folder, env=project.environ | {"DEV_URL": url}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert client.stdout is not None and client.stdout.readline() == b"held\n"
        time.sleep(0.5)  # into the statement, and until all that was sent is acknowledged
        with psycopg.connect(project.urls["dev"], autocommit=True) as connection:
            assert connection.execute(held).fetchone() == (1,)
            network.fall_asleep()
            began = time.monotonic()
            while connection.execute(held).fetchone() != (0,):
                assert time.monotonic() - began < limit, "the lock of a machine that vanished is still held"
                time.sleep(0.02)
            took = time.monotonic() - began
    finally:
        client.kill()
        client.communicate()
    # Nothing of it is left, and whoever comes next works.
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    done = project.run("sync", "dev")
    assert done.code == 0, done.err
    return took


@pytest.mark.parametrize("work", ["between two statements", "in a statement"])
def test_a_machine_that_falls_asleep_frees_the_lock_within_the_keepalive_bound(
    work: str, asleep: tuple[Project, Network, str]
) -> None:
    took = freed_after(asleep, WORKS[work], SHORT, 20.0)
    assert took > 1.0, "the line was not closed: it went silent"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("work", WORKS)
def test_with_the_bounds_that_lockstep_sets_it_takes_a_minute(work: str, asleep: tuple[Project, Network, str]) -> None:
    took = freed_after(asleep, WORKS[work], {}, 80.0)
    LINES.append(f"lock of a machine that fell asleep {work}: free after {took:.0f} s (bound 75 s)")
    assert took <= 75.0
