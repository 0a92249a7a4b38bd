"""Random files, random commands, random faults: nothing is lost, nothing doubled, nothing left behind.

`make soak` runs the long form: LOCKSTEP_FAULTS faults. LOCKSTEP_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.faults.attacks import KINDS
from tests.faults.files import Tally
from tests.faults.machine import Enough, Machine
from tests.faults.scripts import Shape
from tests.faults.starter import Starter
from tests.faults.world import Pace, World
from tests.integration.pooler import Pooler, find_pgbouncer
from tests.integration.proxy import CountingProxy
from tests.project import Project
from tests.summary import LINES, NOT_RUN

LONG = "LOCKSTEP_FAULTS" in os.environ
FAULTS = int(os.environ.get("LOCKSTEP_FAULTS", "40"))
SECONDS = 35.0  # after which the short form ends, whatever it has done
ALL_KINDS = 300  # faults among which each kind is
STEPS = 8  # on one database
EXAMPLES = 10  # databases a seed; the first is always the simplest one

#: A commit that was reported is there after a crash; the machine itself does not crash.
DURABLE = {**FAST, "synchronous_commit": "on", "max_connections": "100"}


@pytest.fixture
def own_server(pg_bin: Path) -> Iterator[ThrowawayServer]:
    with ThrowawayServer(pg_bin, settings=DURABLE) as server:
        yield server


@pytest.fixture
def starter() -> Iterator[Starter]:
    with Starter() as made:
        yield made


@pytest.fixture
def pooler(own_server: ThrowawayServer) -> Iterator[Pooler | None]:
    """In session mode; None where PgBouncer is not installed, which is said."""
    if find_pgbouncer() is None:
        NOT_RUN.append("random faults behind a pooler not run: pgbouncer is not installed: apt-get install pgbouncer")
        yield None
        return
    with Pooler(own_server.url(), mode="session", size=30, server_login_retry="0.2") as running:
        yield running


class Worlds:
    """Makes projects on fresh databases of one server."""

    def __init__(
        self, server: ThrowawayServer, starter: Starter, folder: Path, tally: Tally, pooler: Pooler | None
    ) -> None:
        self._pooler = pooler  # every fourth works through it
        self._server = server
        self._starter = starter
        self._folder = folder
        self._tally = tally
        self._numbers = count(1)
        self._began = time.monotonic()
        self._before: tuple[str, Path] | None = None
        self.pace = Pace(
            seconds=0.3, seconds_each=0.05, bytes={"client": 0, "server": 0}, bytes_each={"client": 1, "server": 1}
        )

    @property
    def age(self) -> float:
        """Seconds since it all began."""
        return time.monotonic() - self._began

    @property
    def enough(self) -> bool:
        return self._tally.hits >= FAULTS or (not LONG and self.age > SECONDS)

    def make(self) -> World:
        number = next(self._numbers)
        name, folder = f"w{number}", self._folder / str(number)
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            if self._before is not None:
                connection.execute(f"DROP DATABASE {self._before[0]} WITH (FORCE)".encode())
                shutil.rmtree(self._before[1])
            connection.execute(f"CREATE DATABASE {name}".encode())
        self._before = (name, folder)
        (folder / "migrations").mkdir(parents=True)
        project = Project(folder=folder, urls={"dev": self._server.url(name)})
        project.configure(dev='lock_timeout = "300ms"\nretry_budget = "3s"')
        return World(
            project=project,
            server=self._server,
            starter=self._starter,
            pace=self.pace,
            tally=self._tally,
            pooler=self._pooler if number % 4 == 0 else None,
        )

    def measure(self) -> None:
        """Find out what an undisturbed run takes, in time and bytes."""
        world = self.make()
        world.begin()
        costs = []
        for shapes in (0, 3):
            for number in range(shapes):
                kind = ("transaction", "apart", "transaction")[number]
                world.add(Shape(kind=kind, parts=("row", "index", "rows"), fault="", down="transaction"))
            with CountingProxy(self._server.port) as proxy:
                began = time.monotonic()
                world.end(world.start("sync", "dev", "--json", proxy=proxy), codes={0})
                costs.append((time.monotonic() - began, dict(proxy.bytes)))
        (idle, idle_bytes), (busy, busy_bytes) = costs
        self.pace = Pace(
            seconds=idle,
            seconds_each=(busy - idle) / 3,
            bytes=idle_bytes,
            bytes_each={who: (busy_bytes[who] - idle_bytes[who]) // 3 for who in idle_bytes},
        )
        world.finish()


@pytest.mark.timeout(0)
def test_random_faults_lose_nothing_double_nothing_and_leave_nothing(
    own_server: ThrowawayServer, starter: Starter, pooler: Pooler | None
) -> None:
    first = int(os.environ.get("LOCKSTEP_SEED", str(random.SystemRandom().randrange(10**6))))
    tally = Tally()
    folder = Path(tempfile.mkdtemp(prefix="lockstep-faults-"))
    made = Worlds(own_server, starter, folder, tally, pooler)
    made.measure()
    sized = hypothesis_settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        phases=[Phase.generate],  # a smaller example would seldom meet the same moment
        database=None,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    at = first
    try:
        while True:

            class Once(Machine):
                worlds = made

            run_state_machine_as_test(seed(at)(Once), settings=sized)
            if LONG:
                sys.stderr.write(f"{made.age:.0f} s, seed {at} done: {tally.text}\n")
            at += 1
    except Enough:
        pass
    except BaseException:
        # It has seen the same beginning pass, and speaks of that.
        assert not tally.failures, tally.failures[0]
        raise
    finally:
        LINES.append(f"{tally.text}; seed {first}, the last one {at}")
        shutil.rmtree(folder, ignore_errors=True)
    assert tally.hits >= (tally.missed if LONG else 1), "most faults must hit a run at work"
    if tally.hits >= ALL_KINDS:
        assert {kind.replace("_", " ") for kind in KINDS} <= set(tally.faults), "each kind of fault must have hit once"
