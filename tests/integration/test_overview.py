"""What the morning is told: all environments at once, each within its time, and what each comes to."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.morning import overview_markdown
from lockstep.service.outcome import Grade, answers, outcomes
from lockstep.service.overview import overview
from tests.project import Project

IGNORED = """
[[health.ignore]]
check = "unsafe-settings"
object = "*"
reason = "a server for tests"
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as listener:
        yield listener.getsockname()[1]


def test_neither_a_black_hole_nor_a_wrong_password_hides_the_others(
    server: ThrowawayServer, project: Project, new_database: Callable[[], str], silent: int
) -> None:
    project.urls = {f"t{number:02d}": new_database() for number in range(1, 7)}
    project.urls["hole"] = f"postgresql://app@127.0.0.1:{silent}/app"
    project.urls["locked"] = server.url("postgres").replace(server.password, "wr0ng-passw0rd")
    project.toml = IGNORED
    project.configure()
    project.write("001-first.sql", "CREATE TABLE first (id bigint PRIMARY KEY);")
    names = [name for name in project.urls if name.startswith("t")]
    assert project.run("init", *names).code == 0 and project.run("sync", *names).code == 0
    settings = project.settings()
    began = time.monotonic()
    found = overview(settings, tuple(settings.environments.values()), project.files(), seconds=4)
    took = time.monotonic() - began
    print(took)
    for one in outcomes(found):
        print(one.environment, one.grade, one.sentence)
    print(overview_markdown(found))
    assert 0
