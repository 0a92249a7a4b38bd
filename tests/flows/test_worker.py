"""`lockstep deploy` as people run it: through a deployment and its worker, or in its own process."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from demo.prefectserver import PrefectServer
from tests.flows.conftest import App


@pytest.fixture
def served(app: App, prefect_server: PrefectServer) -> App:
    """The project with its deployments made and a worker that polls."""
    app.sync()
    prefect_server.start_worker(app.folder, replace=True)
    return app


def test_the_worker_runs_it_and_the_terminal_shows_it(served: App) -> None:
    app = served
    assert app.lockstep("alerts", "apply").returncode == 0
    looked = app.lockstep("doctor", "--json")
    (section,) = [one for one in json.loads(looked.stdout)["sections"] if one["name"] == "Prefect"]
    assert {check["outcome"] for check in section["checks"]} == {"ok"}, section
    assert re.search(r"worker-\d+, heartbeat \d+ s ago", looked.stdout)
    app.add("CREATE TABLE a (id int);")

    done = app.lockstep("deploy", "--reason", "OPS-9", "--approve", "tested")

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"in step: 2 applied \(dev, prod\), run \d{8}-\d{6}-[0-9a-f]{4}\n", done.stdout)
    first, link, *lines = done.stderr.splitlines()
    assert first == (
        f"deploy dev, prod 004: by the deployment deploy/deploy of {app.server.api_url}, with the files of {app.folder}"
    )
    assert re.fullmatch(rf"  {app.server.ui_url}/runs/flow-run/[0-9a-f-]{{36}}", link)
    assert re.fullmatch(r"dev:   004-step  applied  \d+ ms", lines[2])
    assert any(re.match(r"prod:   backup  s3://backups/lockstep/\w+/prod/.* \(\d", line) for line in lines)
    assert app.ledger("prod")[-1] == "004-step.sql"
    given = app.ask(
        "prod", "SELECT details->>'how' FROM schema_migrations_log WHERE event = 'approve' ORDER BY id DESC"
    )
    assert given[0] == ("flag",)

    # Somebody else's files: same databases, but another 005 than the worker's folder holds.
    other = app.folder.parent / "other"
    shutil.copytree(app.folder, other)
    app.add("CREATE TABLE b (id int);")
    for name in ("005-step.sql", "005-step.down.sql"):
        (other / "migrations" / name).write_text("CREATE TABLE c (id int);\n")
    home, app.folder = app.folder, other
    refused = app.lockstep("deploy", "--json")
    document = json.loads(refused.stdout)
    assert refused.returncode == 7, refused.stderr
    assert document["deployment"] == "deploy/deploy" and document["error"]["kind"] == "StalePlan"
    assert "005-step.sql is another file here" in document["error"]["message"]
    assert app.ledger("dev")[-1] == "004-step.sql"

    # Ctrl-C leaves it running.
    app.folder = home
    with subprocess.Popen(
        [sys.executable, "-m", "lockstep", "deploy", "--approve", "tested"],
        cwd=app.folder,
        env=app.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "by the deployment" in process.stderr.readline() and "/runs/flow-run/" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "prefect flow-run cancel" in err
    deadline = time.monotonic() + 240  # a rehearsal is in it, on a machine that may be busy
    while app.lockstep("approve", "--yes").returncode != 0:  # nobody is there any more to answer
        assert time.monotonic() < deadline
        time.sleep(0.5)
    while app.ledger("prod")[-1] != "005-step.sql":
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_with_nothing_pending_no_run_is_started(app: App) -> None:
    app.sync()
    before = app.server.post("/flow_runs/count", {})
    done = app.lockstep("deploy", PREFECT_API_URL="http://127.0.0.1:1/api")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in step: nothing to do\n", "")
    assert app.server.post("/flow_runs/count", {}) == before


def test_here_runs_it_in_this_process_against_the_server(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE a (id int);", "SELECT nowhere;")
    done = app.lockstep("deploy", "--here", "--to", "4", "--json", "--approve", "tested")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert document["format"] == "lockstep.deploy/1" and document["deployment"] is None
    assert document["flow_run"]["state"] == "Completed"
    assert document["environments"][1]["migrations"][0]["state"] == "applied"

    failed = app.lockstep("deploy", "--here")
    assert failed.returncode == 6 and failed.stdout == ""
    first, link, *_ = failed.stderr.splitlines()
    assert first == f"deploy dev, prod 005: in this process (as asked), with the files of {app.folder}"
    assert link.startswith(f"  {app.server.ui_url}/runs/flow-run/")
    assert "error: dev" in failed.stderr and "005-step.sql:1:8" in failed.stderr and "  next: " in failed.stderr
    assert "Traceback" not in failed.stderr
