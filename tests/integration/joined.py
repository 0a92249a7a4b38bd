"""A project of quick migrations, and a run of it through a proxy: for tests of what travels in one message."""

from __future__ import annotations

import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service import together
from tests.integration.proxy import CountingProxy
from tests.project import Outcome, Project

MANY = 12  # the first goes alone, then two, four and five


@pytest.fixture
def many(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """So many files, each with a table of its version's number; `init` was run."""
    monkeypatch.setattr(together, "SPAN", 60.0)  # however slow the machine is
    project.run("init")
    for number in range(1, MANY + 1):
        project.write(f"{number:03d}-t.sql", f"CREATE TABLE public.t{number} (id bigint PRIMARY KEY);")
    return project


def sync_through(server: ThrowawayServer, project: Project, proxy: CountingProxy) -> Outcome:
    """Call `sync` by way of a proxy."""
    plain = project.urls["dev"]
    project.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
    try:
        return project.run("sync")
    finally:
        project.urls["dev"] = plain


def applied(project: Project) -> list[int]:
    """Versions in the ledger; each table must be there, and no other."""
    versions = [row[0] for row in project.query("SELECT version FROM schema_migrations ORDER BY 1")]
    tables = project.query(r"SELECT substr(relname, 2)::int FROM pg_class WHERE relname ~ '^t\d+$' ORDER BY 1")
    assert [row[0] for row in tables] == versions
    return versions
