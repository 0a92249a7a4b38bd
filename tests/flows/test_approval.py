"""Approval under Prefect: a worker's run is suspended, somebody answers, another worker goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import pytest

from demo.prefectserver import PrefectServer
from lockstep.service.orchestrator import Following
from tests.flows.conftest import App


@pytest.fixture
def served(app: App, prefect_server: PrefectServer) -> App:
    # A folder of its own: the ends of other tests' logs, which lie beside their backups, are not of this one's.
    file = app.folder / "lockstep.toml"
    file.write_text(file.read_text().replace("s3://backups/lockstep", f"s3://backups/approval-{uuid4().hex[:8]}"))
    app.sync()
    prefect_server.start_worker(app.folder, replace=True)
    return app


def start(app: App, **parameters: object) -> str:
    """Start the deployment as the UI does; return the flow run's id."""
    found = app.server.post("/deployments/filter", {"deployments": {"name": {"any_": ["deploy"]}}})
    made = app.server.post(
        f"/deployments/{found[0]['id']}/create_flow_run", {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    )
    return str(made["id"])


def flow_run(app: App, run: str) -> dict[str, Any]:
    (found,) = app.server.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return dict(found)


def reaches(app: App, run: str, *names: str, within: float = 240) -> dict[str, Any]:
    deadline = time.monotonic() + within
    while (found := flow_run(app, run))["state_name"] not in names:
        assert time.monotonic() < deadline, (
            found["state_name"],
            found["state"].get("message"),
            app.server.log("worker.log"),
        )
        if found["state_type"] in ("FAILED", "CRASHED", "CANCELLED", "COMPLETED"):
            raise AssertionError(f"{found['state_name']}: {found['state']['message']}\n{app.server.log()}")
        time.sleep(0.3)
    return found


def names(app: App, run: str) -> list[str]:
    body = {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return [row["name"] for row in app.server.post("/task_runs/filter", body)]


def test_a_suspended_run_is_approved_by_command_and_a_second_worker_goes_on_where_it_was(
    served: App, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    app = served
    app.add("CREATE TABLE a (id int);")
    run = start(app, expected_plans=app.expected())
    waiting = reaches(app, run, "Suspended")
    assert app.ledger("dev")[-1] == "004-step.sql" and app.ledger("prod")[-1] == "003-step.sql"
    asked = app.lockstep("approve", "20200101-000000-abcd")
    assert asked.returncode == 2, asked.stderr
    prefect_server.add_worker(app.folder, {"PREFECT_HOME": str(tmp_path / "empty")}, replace=True)
    followed = Following(id=UUID(run), run_id="", name="", url=None)
    told: list[str] = []
    follower = Thread(target=lambda: told.extend(followed.lines(lambda: None)), daemon=True)
    follower.start()

    done = app.lockstep("approve", run, "--reason", "OPS-1")

    assert done.returncode == 0, done.stderr
    ended = reaches(app, run, "Completed")
    assert ended["state"]["message"] == "in step: 2 applied (dev, prod)"
    assert app.ledger("prod")[-1] == "004-step.sql"
    run_id = waiting["name"] and app.ask("prod", "SELECT run_id FROM schema_migrations WHERE version = 4")[0][0]
    assert app.events("prod", run_id) == ["backup", "verify", "rehearse", "ask", "approve", "apply"]
    assert app.events("dev", run_id) == ["apply"]
    assert app.lockstep("history", "prod", "--verify").returncode == 0
    follower.join(60)  # what `lockstep deploy` would have shown
    assert [line for line in told if line.startswith("prod:   backup  ")] == [
        line for line in told if "backup  s3://" in line
    ][:1]
    assert len(told) == len(set(told)), told
    app.assert_nowhere()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "event"),
    [
        (lambda app, run: app.lockstep("reject", run, "--reason", "not tonight"), "reject"),
        (lambda app, run: form(app, run, decision="reject", reason="not tonight"), "reject"),
    ],
    ids=["command", "form"],
)
def test_a_rejected_run_ends_as_not_approved(served: App, answer: Callable[[App, str], object], event: str) -> None:
    app = served
    app.add("CREATE TABLE a (id int);")
    run = start(app)
    reaches(app, run, "Suspended")
    answer(app, run)
    ended = reaches(app, run, "NotApproved")
    assert ended["state_type"] == "CANCELLED" and "not tonight" in ended["state"]["message"]
    assert app.ledger("prod")[-1] == "003-step.sql"
    assert app.ask("prod", "SELECT event FROM schema_migrations_log ORDER BY id DESC LIMIT 1") == [(event,)]


@pytest.mark.slow
def test_the_form_approves_where_one_person_may(served: App) -> None:
    app = served
    app.add("CREATE TABLE a (id int);")
    run = start(app)
    reaches(app, run, "Suspended")
    form(app, run, decision="approve", reason=None)
    reaches(app, run, "Completed")
    assert app.ask("prod", "SELECT details->>'how' FROM schema_migrations_log WHERE event = 'approve'") == [("form",)]


@pytest.mark.slow
def test_the_form_does_not_count_where_two_must_and_the_run_waits_on(served: App) -> None:
    app = served
    app.configure("[approval]\ntwo_person = true\n")
    app.add("CREATE TABLE a (id int);")
    run = start(app)
    reaches(app, run, "Suspended")
    form(app, run, decision="approve", reason=None)
    deadline = time.monotonic() + 120
    while not said(app, run, "the form's answer does not count"):
        assert time.monotonic() < deadline, flow_run(app, run)["state"]
        time.sleep(0.3)
    reaches(app, run, "Suspended")
    assert app.ledger("prod")[-1] == "003-step.sql"
    assert app.lockstep("approve", run).returncode == 7  # the same database role
    assert app.lockstep("reject", run, "--reason", "enough").returncode == 0
    reaches(app, run, "NotApproved")


@pytest.mark.slow
def test_a_form_is_an_answer_to_what_it_showed_and_to_nothing_that_is_asked_later(served: App) -> None:
    app = served
    toml = app.folder / "lockstep.toml"
    toml.write_text(toml.read_text().replace('after = ["dev"]', 'after = ["dev"]\non_drift = "warn"'))
    app.add("CREATE TABLE IF NOT EXISTS a (id int); CREATE TABLE b (id int);")
    run = start(app)
    reaches(app, run, "Suspended")
    app.ask("prod", "CREATE TABLE a (id int)")  # now the same plan changes something else

    form(app, run, decision="approve", reason=None)

    deadline = time.monotonic() + 120
    asks = "SELECT event, details->>'plan', details->>'changes' FROM schema_migrations_log WHERE event IN ('ask', 'approve')"
    while len(found := app.ask("prod", f"{asks} ORDER BY id")) < 2:
        assert time.monotonic() < deadline, flow_run(app, run)["state"]
        time.sleep(0.3)
    (_, plan, changes), (event, plan_then, changes_then) = found[:2]
    assert (event, plan_then == plan, changes_then == changes) == ("ask", True, False), found
    reaches(app, run, "Suspended")
    assert len(app.ask("prod", asks)) == 2 and app.ledger("prod")[-1] == "003-step.sql"
    form(app, run, decision="approve", reason=None)
    reaches(app, run, "Completed")


def said(app: App, run: str, text: str) -> bool:
    body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
    return any(text in line["message"] for line in app.server.post("/logs/filter", body))


def form(app: App, run: str, **answer: object) -> None:
    """Answer as the UI's form does."""
    result = app.server.post(f"/flow_runs/{run}/resume", {"run_input": answer})
    assert result["status"] == "ACCEPT", result
