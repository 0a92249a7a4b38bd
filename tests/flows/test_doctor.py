"""`doctor` against a real Prefect server: what this project needs there is named when it is not there."""

from __future__ import annotations

import json
from typing import Any

from tests.flows.conftest import App


def lines(app: App) -> tuple[int, dict[str, dict[str, Any]]]:
    done = app.lockstep("doctor", "--json")
    (section,) = [one for one in json.loads(done.stdout)["sections"] if one["name"] == "Prefect"]
    return done.returncode, {check["name"]: check for check in section["checks"]}


def test_a_server_without_this_projects_work_pool_and_deployments_is_a_warning_with_the_next_command(app: App) -> None:
    file = app.folder / "prefect.yaml"
    file.write_text(
        file.read_text().replace("name: lockstep", "name: not-there").replace("name: status", "name: other")
    )
    code, found = lines(app)
    assert code == 0  # a deploy works without: in its own process
    assert found["server"]["text"] == app.server.api_url
    assert found["server version"]["outcome"] == "ok"
    assert found["work pool"]["remedy"] == "prefect work-pool create not-there --type process"
    assert found["worker"]["outcome"] == "not checked"
    assert "status/other" in found["deployments"]["text"]
    assert found["deployments"]["remedy"] == "prefect deploy --all"


def test_a_prefect_yaml_that_cannot_be_read_is_a_problem(app: App) -> None:
    (app.folder / "prefect.yaml").write_text("deployments: [")
    code, found = lines(app)
    assert (code, found["deployments"]["outcome"]) == (2, "problem")
