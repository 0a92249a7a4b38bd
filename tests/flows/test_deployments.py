"""prefect.yaml as a team uses it: `prefect deploy --all`, the forms and schedules that the server then has, and workers."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml  # type: ignore[import-untyped]

from demo.prefectserver import PrefectServer
from tests.flows.conftest import App
from tests.flows.test_status import QUIET

NAMES = {"deploy", "status", "revert", "restore", "verify-backups"}


def deployments(app: App) -> dict[str, dict[str, Any]]:
    found = app.server.post("/deployments/filter", {})
    return {one["name"]: one for one in found}


def started(app: App, name: str, **parameters: object) -> str:
    made = app.server.post(
        f"/deployments/{deployments(app)[name]['id']}/create_flow_run",
        {"parameters": parameters, "state": {"type": "SCHEDULED"}},
    )
    return str(made["id"])


def ended(app: App, run: str, within: float = 180) -> dict[str, Any]:
    deadline = time.monotonic() + within
    while True:
        (found,) = app.server.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return dict(found)
        assert time.monotonic() < deadline, (found["state_name"], app.server.log())
        time.sleep(0.3)


def test_what_is_deployed_has_its_forms_and_its_schedules(app: App, prefect_server: PrefectServer) -> None:
    file = app.folder / "prefect.yaml"
    file.write_text(file.read_text().replace("timezone: Etc/UTC", "timezone: America/New_York"))
    prefect_server.deploy(app.folder)
    made = deployments(app)
    assert set(made) >= NAMES

    # The form in the UI is made of the stored schema: each parameter has its text, and none hides in an object.
    for name in NAMES:
        properties = made[name]["parameter_openapi_schema"]["properties"]
        assert properties, name
        assert not [key for key, schema in properties.items() if not schema.get("description")], name
        assert not [key for key, schema in properties.items() if "$ref" in schema or "allOf" in schema], name
        assert made[name]["tags"] == ["lockstep"] and made[name]["work_pool_name"] == "lockstep"
        assert made[name]["job_variables"]["env"]["PREFECT_LOGGING_EXTRA_LOGGERS"] == "lockstep"
        assert made[name]["description"]

    # Schedules really yield runs, at the time of day of their own zone; a deploy has none.
    scheduled = {name: at(app, made[name]["id"]) for name in NAMES if made[name]["schedules"]}
    assert set(scheduled) == {"status", "verify-backups"}
    assert {(t.hour, t.minute) for t in scheduled["status"]} == {(3, 15)}
    assert {(t.hour, t.minute, t.isoweekday()) for t in scheduled["verify-backups"]} == {(4, 15, 7)}
    dates = sorted(t.date() for t in scheduled["status"])
    assert [(b - a).days for a, b in pairwise(dates)] == [1] * (len(dates) - 1)


@pytest.mark.slow  # that a worker carries out a deploy is looked at each time
def test_a_worker_carries_out_the_look_of_the_night(app: App, prefect_server: PrefectServer) -> None:
    app.sync()
    app.configure(QUIET)
    prefect_server.start_worker(app.folder, replace=True)
    run = ended(app, started(app, "status"))
    assert run["state_name"] == "Completed", (run["state"]["message"], app.server.log())
    assert "dev: " in run["state"]["message"] and "prod: " in run["state"]["message"]


def at(app: App, deployment: str, within: float = 120) -> list[datetime]:
    """When the runs are due that the server's scheduler made, in the schedule's own zone."""
    body = {
        "deployments": {"id": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"after_": _now()}},
    }
    deadline = time.monotonic() + within
    while not (found := app.server.post("/flow_runs/filter", body)):
        assert time.monotonic() < deadline, app.server.log("server.log")
        time.sleep(0.5)
    return [
        datetime.fromisoformat(one["expected_start_time"]).astimezone(ZoneInfo("America/New_York"))
        for one in found
        if one["auto_scheduled"]
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat()


@pytest.mark.slow
def test_a_worker_on_another_machine_gets_the_files_from_git_and_the_secrets_from_its_own_environment(
    app: App, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """The recipe of docs/how-to/run-under-prefect.md: a pull step, an empty PREFECT_HOME, no .env, no project folder."""
    app.sync()
    app.add("CREATE TABLE from_git (id int);")
    content = yaml.safe_load((app.folder / "prefect.yaml").read_text())
    step = {"repository": f"file://{app.folder}", "branch": "main"}
    content["pull"] = [{"prefect.deployments.steps.git_clone": step}]
    (app.folder / "prefect.yaml").write_text(yaml.safe_dump(content))
    (app.folder / ".gitignore").write_text(".env\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "files"]):
        subprocess.run(["git", *words], cwd=app.folder, check=True)
    # What is written after the commit is nobody's but ours: the worker must not see it.
    app.add("CREATE TABLE not_committed (id int);")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lines = (app.folder / ".env").read_text().splitlines()
    secrets = dict(line.split("=", 1) for line in lines)
    first = prefect_server.start_worker(app.folder, replace=True)
    first.send_signal(signal.SIGTERM)
    first.wait(30)
    prefect_server.add_worker(elsewhere, {**secrets, "PREFECT_HOME": str(tmp_path / "empty")})

    run = ended(app, started(app, "deploy", environments=["dev"]))

    assert run["state_name"] == "Completed", (run["state"]["message"], app.server.log())
    assert app.ledger("dev")[-1] == "004-step.sql"
    assert not (elsewhere / "migrations").exists()
    stored = str(app.server.post("/deployments/filter", {}))
    assert app.s3.secret_key not in stored and app.dev not in stored
