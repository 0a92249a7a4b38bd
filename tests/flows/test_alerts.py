"""Alerts under Prefect: what runs send themselves, and what the server does when no process of ours is left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from demo.prefectserver import PrefectServer
from lockstep.core.alert import Alert
from lockstep.service.alerting.sending import raise_alert
from tests.flows.conftest import ROOT, App
from tests.flows.test_status import QUIET
from tests.flows.test_status import _run as status
from tests.receivers import MailSink, Receiver, mailing, receiving

TOKEN = "T0k3n-that-nobody-sees"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with mailing() as made:
        yield made


def _alerting(app: App, hook: Receiver, mail: MailSink, more: str = "") -> None:
    app.configure(f"[project]\ncontacts = ['ops@example.com']\n[alerts]\nurls = ['${{HOOK}}', '${{MAIL}}']\n{more}")
    app.write_env(HOOK=hook.url(f"/in/{TOKEN}?Sig=aBc"), MAIL=mail.url("ops@example.com"), BEAT=hook.url("/beat/77"))


def _own(app: App) -> dict[str, dict[str, Any]]:
    found = app.server.post("/automations/filter", {"limit": 200})
    return {one["name"]: one for one in found if one["name"].startswith("lockstep: ")}


def test_a_deploy_that_fails_tells_once_with_its_link_and_then_that_it_is_well(
    app: App, hook: Receiver, mail: MailSink
) -> None:
    _alerting(app, hook, mail)
    (label,) = app.add("SELECT nothing;")
    failed = app.run(environments=["dev"])
    assert not failed.ok
    ((_, got),) = hook.got
    assert got["subject"] == f"lockstep FAILED dev: {label} failed (SQLSTATE 42703)"
    assert (got["run_id"], got["url"]) == (failed.run_id, failed.url)
    assert "3 of 4 applied in this run" in got["body"] and len(mail.got) == 1
    assert any(line.startswith("dev: alerted webhook 127.0.0.1") for line in app.lines)

    assert not app.run(environments=["dev"]).ok and len(hook.got) == 1  # the same again

    (app.migrations / f"{label}.sql").write_text("SELECT 1;\n")
    assert app.run(environments=["dev"]).ok
    assert hook.subjects[1:] == [f"lockstep recovered dev: deploy is well again: {label} failed (SQLSTATE 42703)"]
    deadline = time.monotonic() + 20
    wanted = {"lockstep.deploy.failed", "lockstep.deploy.recovered"}
    while missing := wanted - {one["event"] for one in _events(app, "lockstep.")}:
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)


def test_a_run_that_cannot_even_begin_is_told(app: App, hook: Receiver, mail: MailSink) -> None:
    _alerting(app, hook, mail)
    (app.migrations / "004-step.sql").write_text("SELECT 'no end")
    assert not app.run().ok
    assert len(hook.got) == 1 and "004-step.sql" in hook.got[0][1]["body"]


def test_the_night_tells_a_problem_once_and_pings_only_when_all_is_well(
    app: App, hook: Receiver, mail: MailSink
) -> None:
    _alerting(app, hook, mail, f"heartbeat_url = '${{BEAT}}'\n{QUIET}")
    app.sync()
    assert status(app).is_completed()
    assert hook.got == [("/beat/77", None)]
    file = app.migrations / "002-step.sql"
    before = file.read_text()
    file.write_text("CREATE TABLE another (id int);\n")
    assert status(app).is_failed() and status(app).is_failed()
    assert sorted(subject.split(":")[0] for subject in hook.subjects) == ["lockstep FAILED dev", "lockstep FAILED prod"]
    file.write_text(before)
    assert status(app).is_completed()
    assert sorted(subject.split(":")[0] for subject in hook.subjects[2:]) == [
        "lockstep recovered dev", "lockstep recovered prod",
    ]  # fmt: skip
    assert [path for path, document in hook.got if document is None] == ["/beat/77"] * 2


def test_apply_makes_the_server_what_the_configuration_says_and_test_proves_it(
    app: App, hook: Receiver, mail: MailSink
) -> None:
    _alerting(app, hook, mail)
    refused = app.lockstep("alerts", "apply")
    if refused.returncode != 0:  # no test before this one made the deployments
        assert "prefect deploy --all" in refused.stderr
    app.server._prefect(app.folder, "work-pool", "create", "lockstep", "--type", "process", "--overwrite")
    app.server._prefect(app.folder, "--no-prompt", "deploy", "--all")
    foreign = app.server.post("/automations/", {**_some_automation(), "name": "lockstep: other: crashed"})
    assert app.lockstep("alerts", "apply").returncode == 0
    first = _own(app)
    assert {"lockstep: deploy: no sign of life", "lockstep: deploy: crashed", "lockstep: deploy: late"} <= first.keys()

    again = json.loads(app.lockstep("alerts", "apply", "--json").stdout)
    assert again["silent_deployments"] == [] and again["missing_deployments"] == []
    assert {item["change"] for item in again["items"]} == {"unchanged"}
    assert _own(app) == first

    tested = app.lockstep("alerts", "test", "--json")
    rows = json.loads(tested.stdout)["deliveries"]
    assert tested.returncode == 0, tested.stdout
    assert [(row["way"], row["arrived"]) for row in rows] == [("directly", True)] * 2 + [
        ("by the Prefect server", True)
    ] * 2
    assert sorted(path for path, _ in hook.got) == [f"/in/{TOKEN}?Sig=aBc"] * 2
    assert sorted(hook.subjects) == [
        "lockstep test: alerts of deploy arrive by the Prefect server",
        "lockstep test: alerts of deploy arrive directly",
    ]
    assert len(mail.got) == 2 and all("alerts of deploy arrive" in one for one in mail.got)

    hook.answer = 410  # gone
    tested = app.lockstep("alerts", "test", "--json")
    rows = json.loads(tested.stdout)["deliveries"]
    assert tested.returncode == 8
    assert [row["arrived"] for row in rows] == [False, True, False, True], rows
    hook.answer = 200

    # Changed, more of it wrong, and something of ours that nobody wants.
    toml = app.folder / "lockstep.toml"
    toml.write_text(toml.read_text().replace("'${HOOK}', '${MAIL}'", "'${HOOK}'") + "[approval]\nexpires = '1h'\n")
    mine = first["lockstep: deploy: crashed"]
    app.server.post("/automations/", {**_some_automation(), "name": mine["name"]})
    listed = app.lockstep("alerts", "list")
    assert listed.returncode == 4 and "next: lockstep alerts apply" in listed.stderr
    changed = {
        item["name"]: item["change"] for item in json.loads(app.lockstep("alerts", "apply", "--json").stdout)["items"]
    }
    assert changed["lockstep: deploy: test 2-mailto"] == "removed"
    assert changed["lockstep-deploy-2-mailto"] == "removed"
    assert changed["lockstep: deploy: approval expired"] == "updated"
    assert changed["lockstep: deploy: no sign of life"] == "unchanged"
    second = _own(app)
    assert second["lockstep: other: crashed"]["id"] == foreign["id"]
    assert len([one for one in app.server.post("/automations/filter", {}) if one["name"] == mine["name"]]) == 1
    listed = app.lockstep("alerts", "list")
    assert listed.returncode == 0, listed.stderr
    came = len(hook.got)
    doctor = app.lockstep("doctor", "--json")
    assert '"automations"' in doctor.stdout and len(hook.got) == came  # it sends nothing

    # What this process cannot deliver the server tries from where it stands.
    hook.refuses = 2
    (delivery,) = raise_alert(app.settings, _alert())
    assert not delivery.ok and str(delivery.why).endswith("handed over to the Prefect server")
    assert hook.await_subjects(lambda got: len(got) > came + 2, 30)[came:] == ["lockstep FAILED dev: 005-x failed"] * 3

    talk = "".join(done.stdout + done.stderr for done in (refused, tested, listed, doctor))
    stored = app.server.database.read_bytes() + b"".join(
        file.read_bytes() for file in app.server.folder.glob("prefect.db-*")
    )
    assert TOKEN not in talk and TOKEN.encode() not in stored
    for file in app.server.folder.rglob("*.log"):
        assert TOKEN not in file.read_text(errors="replace"), file


# -- when nobody is left -------------------------------------------------------------------------------------------------

_FLOW = """
import time
from prefect import flow
from prefect.flow_runs import suspend_flow_run

@flow(name="deploy", persist_result=False)
def deploy(waits: bool = False):
    if waits:
        suspend_flow_run(timeout=None)
    time.sleep(600)
"""


@pytest.fixture
def alone(tmp_path: Path, hook: Receiver) -> Iterator[tuple[PrefectServer, Path]]:
    """A server and a worker of its own, which a test may kill, and a project with one flow that does nothing."""
    folder = tmp_path / "project"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "deploy.py").write_text(_FLOW)
    text = (ROOT / "prefect.yaml").read_text()
    (folder / "prefect.yaml").write_text(text[: text.index("  - name: status")])
    (folder / "lockstep.toml").write_text(
        "[project]\ncontacts = ['ops@example.com']\n[environments.dev]\nurl = '${DEV_URL}'\n"
        "[alerts]\nurls = ['${HOOK}']\n[approval]\nexpires = '45s'\n"
    )
    (folder / ".env").write_text(f"HOOK={hook.url('/in')}\n")
    with PrefectServer(folder=tmp_path / "prefect") as server:
        server.start_worker(folder)
        yield server, folder


def test_what_no_process_can_tell_is_told_by_the_server_and_a_run_that_waits_is_left_alone(
    alone: tuple[PrefectServer, Path], hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lockstep.config import load_settings
    from lockstep.service.alerting.server import apply_automations
    from lockstep.service.prefectapi import configured_server

    server, folder = alone
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    apply_automations(load_settings(folder))
    deployment = _get(server, "/deployments/name/deploy/deploy")["id"]
    path = f"/deployments/{deployment}/create_flow_run"
    works = server.post(path, {"name": "works", "parameters": {}})["id"]
    waits = server.post(path, {"name": "waits", "parameters": {"waits": True}})["id"]
    _until(lambda: (_state(server, works), _state(server, waits)) == ("Running", "Suspended"), 120)
    waiting = time.monotonic()
    time.sleep(2)
    # A heartbeat that comes behind the suspension, as one of its last second may.
    heartbeat = {
        "id": str(uuid4()),
        "occurred": _now(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{waits}", "prefect.resource.name": "waits"},
        "related": [{"prefect.resource.id": f"prefect.deployment.{deployment}", "prefect.resource.role": "deployment"}],
    }
    api = configured_server()
    assert api is not None and api.url == server.api_url
    api.post("/events", [heartbeat])
    for pid in _processes(server, works):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    server.post(path, {"name": "due", "parameters": {}})

    seen: list[str] = []
    while time.monotonic() - killed < 120 and _state(server, works) != "Crashed":
        seen.append(_state(server, waits))
        time.sleep(1)
    assert time.monotonic() - killed < 120 and set(seen) == {"Suspended"}
    assert "lockstep crashed: works" in hook.await_subjects(lambda got: "lockstep crashed: works" in got, 30)
    assert _state(server, waits) == "Suspended" and time.monotonic() - waiting > 75

    everything = {"lockstep crashed: works", "lockstep late: due of deploy", "lockstep not approved: waits"}
    hook.await_subjects(lambda got: everything <= set(got), 120)
    time.sleep(3)
    assert sorted(hook.subjects) == sorted(everything)  # each once
    assert _state(server, waits) == "NotApproved"
    body = next(document["body"] for _, document in hook.got if "crashed" in document["subject"])
    assert "no sign of life for 75 s" in body and f"{server.ui_url}/runs/flow-run/{works}" in body
    assert "lockstep explain 20" in body and "contacts: ops@example.com" in body


def _alert() -> Alert:
    return Alert(
        occasion="failed", incident="0123456789ab", at=datetime.now(UTC), environment="dev", headline="005-x failed"
    )


def _some_automation() -> dict[str, Any]:
    return {
        "trigger": {"type": "event", "posture": "Reactive", "expect": ["nothing.at.all"], "threshold": 1, "within": 0},
        "actions": [{"type": "do-nothing"}],
    }


def _events(app: App, start: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = app.server.post("/events/filter", {"filter": {"event": {"prefix": [start]}}})[
        "events"
    ]
    return found


def _get(server: PrefectServer, path: str) -> Any:
    from urllib.request import urlopen

    with urlopen(f"{server.api_url}{path}", timeout=20) as answer:
        return json.loads(answer.read())


def _state(server: PrefectServer, flow_run: str) -> str:
    return str(_get(server, f"/flow_runs/{flow_run}")["state_name"])


def _until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _processes(server: PrefectServer, flow_run: str) -> list[int]:
    """The worker of this server and the process of this run: all of them are children of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment, words = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        of_ours = str(server.folder).encode() in environment
        if of_ours and (flow_run.encode() in environment or (b"worker" in words and b"prefect" in words)):
            found.append(int(entry.name))
    return found
