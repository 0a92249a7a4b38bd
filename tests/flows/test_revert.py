"""The revert flow: looked at, proven, approved, one task run per migration; and what the ledger says when it fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lockstep.config import pass_on
from lockstep.service.approval.prompting import asking
from tests.flows.conftest import ROOT, App


@pytest.fixture
def project(app: App) -> Iterator[App]:
    """Five migrations with real downs, everywhere; prod has rows in the table of the last one."""
    for number in (4, 5):
        app.add(f"CREATE TABLE t{number} (id int);", first=number)
        (app.migrations / f"{number:03d}-step.down.sql").write_text(f"DROP TABLE t{number};\n")
    app.sync()
    sys.path.insert(0, str(ROOT))
    pass_on(app.settings)
    yield app
    sys.path.remove(str(ROOT))


def run(app: App, environment: str, **parameters: Any) -> Any:
    from prefect.flows import load_flow_from_entrypoint

    flow: Any = load_flow_from_entrypoint(f"{ROOT}/flows/revert.py:revert", use_placeholder_flow=False)
    with asking(lambda asked: (True, "by the test")):
        return flow(environment=environment, project=str(app.folder), return_state=True, **parameters)


def flow_run(app: App, state: Any) -> dict[str, Any]:
    flow_run_id = str(state.state_details.flow_run_id)
    (found,) = app.server.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
    artifacts = app.server.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}})
    tasks = app.server.post(
        "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
    )
    return {
        "name": found["name"],
        "artifacts": {one["key"]: one["data"] for one in artifacts},
        "tasks": [one["name"] for one in tasks],
    }


def rows(app: App, state: Any, environment: str) -> list[tuple[str, str]]:
    import json

    table = json.loads(flow_run(app, state)["artifacts"][f"revert-{environment}"])
    return [(row["migration"], row["state"]) for row in table]


def test_prod_is_backed_up_proven_and_approved_before_a_down_runs(project: App) -> None:
    app = project
    shown = run(app, "prod", to_version=3, dry_run=True)
    assert shown.is_completed() and shown.message == "dry run: 2 to take back, nothing was changed"
    assert rows(app, shown, "prod") == [("005-step", "to take back"), ("004-step", "to take back")]
    assert app.ledger("prod")[-1] == "005-step.sql"

    state = run(app, "prod", steps=2, reason="OPS-3")

    assert state.is_completed(), state.message
    assert state.message == "2 reverted (prod); they are held there until a file changes"
    seen = flow_run(app, state)
    assert seen["name"] == "revert prod to 003"
    assert rows(app, state, "prod") == [("005-step", "reverted"), ("004-step", "reverted")]
    assert "backup `" in seen["artifacts"]["revert"] and "OPS-3" in seen["artifacts"]["revert"]
    assert "prod: revert 005-step" in seen["tasks"] and "prod: revert 004-step" in seen["tasks"]
    assert app.ledger("prod")[-1] == "003-step.sql"
    run_id = app.ask("prod", "SELECT run_id FROM schema_migrations_log WHERE event = 'revert'")[0][0]
    assert app.events("prod", run_id) == ["backup", "ask", "approve", "revert", "revert"]


@pytest.mark.slow
def test_a_revert_that_would_lose_rows_is_refused_and_a_trial_says_so_beforehand(project: App) -> None:
    app = project
    app.ask("prod", "INSERT INTO t5 VALUES (1), (2)")
    state = run(app, "prod", only=5)
    assert state.is_failed() and "this revert is not proven, so nothing was reverted" in state.message
    assert "2 rows of public.t5" in state.message and "lockstep revert prod --only 5" in app_hint(app, state)
    assert rows(app, state, "prod") == [("005-step", "still applied")]
    shown = run(app, "prod", to_version=4, dry_run=True)  # on the backup that the refused one took
    assert shown.is_completed() and "2 rows of public.t5" in flow_run(app, shown)["artifacts"]["revert"]
    assert app.ask("prod", "SELECT count(*) FROM t5") == [(2,)]


def app_hint(app: App, state: Any) -> str:
    (found,) = app.server.post(
        "/flow_runs/filter", {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}}
    )
    return str(found["labels"]["lockstep.hint"])


@pytest.mark.slow
def test_after_a_down_that_fails_the_table_says_what_the_ledger_says(project: App) -> None:
    app = project
    (app.migrations / "004-step.down.sql").write_text("DROP TABLE t4;\nSELECT nowhere;\n")
    state = run(app, "dev", to_version=0)
    assert state.is_failed() and "004-step.down.sql:2:8" in state.message
    assert rows(app, state, "dev")[:3] == [
        ("005-step", "reverted"),
        ("004-step", "its revert failed, rolled back: applied"),
        ("003-step", "still applied"),
    ]
    assert app.ledger("dev")[-1] == "004-step.sql"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "say what is to be taken back"),
        ({"steps": 1, "only": 5}, "only one of steps, only can be given"),
        ({"steps": 0}, "the parameter steps: Input should be greater than or equal to 1"),
        ({"only": 99}, "version 99 is not applied here"),
    ],
)
def test_a_revert_that_is_not_said_clearly_is_refused(project: App, given: dict[str, Any], said: str) -> None:
    state = run(project, "dev", **given)
    assert state.is_failed() and said in state.message, state.message
    assert project.ledger("dev")[-1] == "005-step.sql"
