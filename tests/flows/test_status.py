"""The status flow, for the night."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from lockstep.postgres.throwaway import free_port
from tests.flows.conftest import ROOT, App


def _run(app: App, **parameters: Any) -> Any:
    from prefect.flows import load_flow_from_entrypoint

    sys.path.insert(0, str(ROOT))
    flow: Any = load_flow_from_entrypoint(f"{app.folder}/flows/status.py:status", use_placeholder_flow=False)
    return flow(**parameters, return_state=True)


#: The tests' server forgets what a crash would take, and nobody has taken a backup: neither is what these are about.
QUIET = "".join(
    f"[[health.ignore]]\ncheck = '{check}'\nobject = '*'\nreason = 'tests'\n"
    for check in ("unsafe-settings", "backup-age")
)


def _overview(app: App, state: Any) -> str:
    body = {
        "artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}, "key": {"any_": ["overview"]}}
    }
    (found,) = app.server.post("/artifacts/filter", body)
    return str(found["data"])


def _table(app: App, state: Any) -> list[dict[str, str]]:
    body = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}, "key": {"any_": ["status"]}}}
    (found,) = app.server.post("/artifacts/filter", body)
    rows: list[dict[str, str]] = json.loads(found["data"])
    return rows


def test_pending_alone_is_no_failure(app: App) -> None:
    app.sync()
    app.configure(QUIET)
    app.add("CREATE TABLE later (id int);")
    state = _run(app)
    assert state.is_completed() and state.message.startswith("dev: 1 pending")
    rows = {row["migration"]: row for row in _table(app, state)}
    assert rows["004-step"] == {"migration": "004-step", "dev": "pending", "prod": "pending"}
    assert rows["001-step"]["prod"].startswith("applied 20")
    first, second, third = _overview(app, state).splitlines()[:3]
    assert first == "**In step? Not yet.** dev: 1 pending; prod: 1 pending.\\"
    assert second == "**Proven? No.** prod: no backup.\\"
    assert third == "**Healthy? Yes.** nothing is critical, no warnings."


def test_an_unreachable_environment_fails_the_run_and_hides_nothing(app: App) -> None:
    app.sync()
    app.write_env(DEV_URL=f"postgresql://nobody:s3cr3t-nobody@127.0.0.1:{free_port()}/gone")
    state = _run(app)
    assert state.is_failed() and "s3cr3t-nobody" not in state.message
    assert "dev: cannot be reached: " in state.message and "prod: 3 critical: " in state.message
    rows = _table(app, state)
    assert [row["dev"] for row in rows] == ["not readable"] * 3
    assert all(row["prod"].startswith("applied 20") for row in rows)


def test_a_look_at_one_environment_replaces_no_answer_for_all(app: App) -> None:
    app.sync()
    app.configure(f'{QUIET}[report]\nhtml = "page.html"')
    state = _run(app, environments=["prod"])
    assert state.is_completed(), state.message
    body = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}}
    found = {one["key"]: one for one in app.server.post("/artifacts/filter", body)}
    assert {"overview", "status"} & found.keys() == set()
    assert found["overview-prod"]["description"].startswith("Only prod. In step: ")
    assert "The other environments were not looked at." in found["overview-prod"]["data"]
    assert not (app.folder / "page.html").exists()


def test_a_changed_file_fails_the_run(app: App) -> None:
    app.sync()
    (app.migrations / "002-step.sql").write_text("CREATE TABLE another (id int);\n")
    state = _run(app)
    assert state.is_failed() and state.message.count("002-step changed") == 2
    assert _table(app, state)[1]["dev"].startswith("changed 20")


def test_the_night_leaves_charts_and_the_page_and_a_page_that_cannot_be_written_hides_nothing(app: App) -> None:
    app.sync()
    app.configure(f'{QUIET}[report]\nhtml = "site/page.html"')
    assert _run(app).is_completed()  # there is no such folder: it is said, and hides nothing
    (app.folder / "site").mkdir()
    again = _run(app)
    assert again.is_completed()
    page = (app.folder / "site" / "page.html").read_text()
    assert "In step?" in page and "003-step" in page and "tok-5e7t1ng-v4lue" not in page
    body = {"artifacts": {"flow_run_id": {"any_": [str(again.state_details.flow_run_id)]}}}
    found = {one["key"]: one for one in app.server.post("/artifacts/filter", body)}
    assert found["history-slowest-migrations-chart"]["data"].startswith("data:image/png;base64,")
    rows = json.loads(found["history-slowest-migrations"]["data"])
    assert {row["migration"] for row in rows} == {"001-step", "002-step", "003-step"}
    assert {"history-deploy-times", "history-deploy-times-chart"} <= found.keys()


def test_what_was_found_is_alerted_though_the_report_cannot_be_stored(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.sync()
    sys.path.insert(0, str(ROOT))
    watched: list[Any] = []

    def watch(_settings: object, found: list[Any], **_: object) -> tuple[()]:
        watched.extend(found)
        return ()

    monkeypatch.setattr("tasks.alerts.watch", watch)
    monkeypatch.setattr("tasks.report.overview_markdown", lambda _: 1 / 0)
    assert _run(app).is_failed()
    assert {one.environment for one in watched} == {None, "dev", "prod"}
