"""The deploy flow in this process, against a real Prefect server, PostgreSQL and S3."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import yaml  # type: ignore[import-untyped]

from lockstep.errors import (
    BackupFailed,
    DriftFound,
    ExitCode,
    LedgerMissing,
    MigrationFailed,
    MigrationFileError,
    RehearsalRefused,
    StalePlan,
    Unreachable,
)
from lockstep.storage.manifest import decode
from tests.flows.conftest import BUCKET, ROOT, App, failure


def test_every_entrypoint_of_prefect_yaml_loads_for_real(app: App) -> None:
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint

    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    entrypoints = {one["name"]: one["entrypoint"] for one in content["deployments"]}
    assert set(entrypoints) == {"deploy", "status", "revert", "restore", "verify-backups"}
    sys.path.insert(0, str(ROOT))
    for entrypoint in entrypoints.values():
        flow: Flow[..., object] = load_flow_from_entrypoint(f"{ROOT}/{entrypoint}", use_placeholder_flow=False)
        properties = flow.parameters.model_dump()["properties"]
        undescribed = [name for name, schema in properties.items() if not schema.get("description")]
        assert not undescribed  # the UI's form shows them


def test_prefect_yaml_holds_nothing_of_this_machine() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    content = yaml.safe_load(text)
    assert str(ROOT) not in text and "/work" not in text
    for one in content["deployments"]:
        assert one["work_pool"]["name"] == "lockstep"
        assert one["work_pool"]["job_variables"]["env"]["PREFECT_LOGGING_EXTRA_LOGGERS"] == "lockstep"
    crons = {one["name"]: one["schedules"][0]["cron"] for one in content["deployments"] if "schedules" in one}
    assert crons["status"].split()[2:] == ["*", "*", "*"] and crons["verify-backups"].split()[2:] == ["*", "*", "0"]
    assert all(one["schedules"][0]["timezone"] for one in content["deployments"] if "schedules" in one)


def test_a_deploy_applies_what_is_pending_with_a_backup_of_prod_first(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE orders (id bigint PRIMARY KEY);", "ALTER TABLE orders ADD COLUMN note text;")

    ended = app.run(reason="OPS-7")

    assert ended.ok, ended.message
    assert ended.name == "deploy dev, prod 004–005"
    assert ended.message == "in step: 4 applied (dev, prod)"
    assert app.task_runs(ended, 22) == dict.fromkeys(
        [
            *("validate", "dev: plan", "prod: preflight", "dev: lock", "dev: 004-step", "dev: 005-step"),
            *("dev: verify", "dev: report"),
            *("prod: plan", "prod: check for drift", "prod: backup", "prod: rehearse", "prod: approval"),
            *("prod: wait for approval", "prod: check the backup", "prod: lock"),
            *("prod: 004-step", "prod: 005-step", "prod: verify", "prod: check", "prod: report", "report", "history"),
        ],
        "Completed",
    )
    assert list(app.task_runs(ended))[8:13] == [
        "prod: plan", "prod: check for drift", "prod: backup", "prod: rehearse", "prod: approval"
    ]  # fmt: skip
    for environment in ("dev", "prod"):
        assert app.ledger(environment)[-2:] == ["004-step.sql", "005-step.sql"]
        recorded = app.ask(
            environment, "SELECT checksum, execution_time_ms FROM schema_migrations WHERE version > 3 ORDER BY version"
        )
        assert [
            (row["migration"], row["state"], row["execution ms"], row["checksum"]) for row in ended.table(environment)
        ] == [
            (label, "applied", ms, checksum[:12])
            for label, (checksum, ms) in zip(("004-step", "005-step"), recorded, strict=True)
        ]
    assert app.events("prod", ended.run_id) == ["backup", "verify", "rehearse", "ask", "approve", "apply", "apply"]
    assert all(row["rehearsed ms"] is not None for row in ended.table("prod"))
    assert app.ask(
        "prod", "SELECT DISTINCT orchestrator_url FROM schema_migrations_log WHERE run_id = %s", ended.run_id
    )
    # the backup is whole, and was taken before anything was applied
    with closing(app.s3.client()) as client:
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        (manifest_key,) = [key for key in keys if ended.run_id in key and key.endswith("manifest.json")]
        manifest = decode(client.get_object(Bucket=BUCKET, Key=manifest_key)["Body"].read())
        assert client.head_object(Bucket=BUCKET, Key=manifest.key)["ContentLength"] == manifest.size
    assert manifest.ledger is not None and manifest.ledger.version == 3
    # lines: in this process, and at Prefect's API under the same logger
    assert any(re.match(r"prod:   backup  s3://backups/lockstep/\w+/prod/", line) for line in app.lines)
    assert any("prod: approved by " in line for line in app.lines)
    stored = [log["message"] for log in app.logs(ended) if log["name"] == "lockstep.run"]
    assert stored == [line for line in app.lines if not line.startswith("run ")]
    report = next(a for a in _artifacts(app, ended.id) if a["key"] == "deploy")
    assert "OPS-7" in report["data"] and manifest.key in report["data"]
    rehearsal = next(a for a in _artifacts(app, ended.id) if a["key"] == "rehearsal-prod")
    assert rehearsal["data"].startswith("**prod: rehearsal passed**: backup verified, 2 migrations pass")
    assert "004-step" in rehearsal["data"] and "restore" in rehearsal["data"]


def test_what_would_fail_on_prods_rows_is_refused_with_its_report_and_prod_is_not_touched(app: App) -> None:
    app.sync()
    app.ask("prod", "INSERT INTO public.t1 VALUES (-7)")
    app.add("ALTER TABLE public.t1 ADD CONSTRAINT t1_id_positive CHECK (id > 0);")

    ended = app.run()

    assert (ended.state, type(failure(ended))) == ("Failed", RehearsalRefused)
    assert failure(ended).exit_code is ExitCode.REFUSED
    assert "the rehearsal failed, so nothing was applied" in ended.message
    assert "id = -7" in ended.message
    assert app.ledger("prod")[-1] == "003-step.sql"
    assert app.task_runs(ended)["prod: rehearse"] == "Failed" and "prod: lock" not in app.task_runs(ended)
    rehearsal = next(a for a in _artifacts(app, ended.id) if a["key"] == "rehearsal-prod")
    assert rehearsal["data"].startswith("**prod: rehearsal failed**")

    app.ask("prod", "DELETE FROM public.t1")
    assert (again := app.run(override="not needed any more")).ok, again.message
    assert "override" not in app.events("prod", again.run_id)  # it passed by itself


def test_what_prods_backup_lacks_stops_the_deploy_before_dev_is_changed(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE never (id int);")
    toml = app.folder / "lockstep.toml"
    toml.write_text(toml.read_text().replace("s3://backups/", "s3://not-there/"))

    ended = app.run()

    assert (ended.state, type(failure(ended))) == ("Failed", BackupFailed)
    assert "no backup could be made: s3://not-there: there is no such bucket" in ended.message
    assert app.task_runs(ended)["prod: preflight"] == "Failed"
    assert "dev: lock" not in app.task_runs(ended)
    assert len(app.ledger("dev")) == 3


def test_what_was_changed_on_prod_by_hand_stops_the_deploy_before_a_backup_is_taken(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE orders (id bigint PRIMARY KEY);")
    app.ask("prod", "CREATE INDEX by_hand ON public.t1 (id)")

    ended = app.run()

    assert isinstance(failure(ended), DriftFound), ended.message
    assert "index public.by_hand was added" in ended.message
    assert "prod: backup" not in app.task_runs(ended)
    assert "004-step.sql" not in app.ledger("dev") + app.ledger("prod")  # found before dev was changed
    app.ask("prod", "DROP INDEX public.by_hand")
    again = app.run()
    assert again.ok, again.message


@pytest.mark.slow
def test_a_file_outside_of_a_transaction_goes_on_at_the_next_deploy(app: App) -> None:
    app.sync()
    head = "-- lockstep: transaction=none\n"
    app.add(f"{head}CREATE TABLE half (id int);\nCREATE INDEX CONCURRENTLY half_id ON half (id);\nSELECT 1/0;")

    ended = app.run()

    assert (ended.state, type(failure(ended))) == ("Failed", MigrationFailed)
    assert "of 004-step 2 of 3 statements done, which stay" in ended.message
    assert [(row["migration"], row["state"]) for row in ended.table("dev")] == [
        ("004-step", "failed 2/3, what is done stays")
    ]
    file = app.folder / "migrations" / "004-step.sql"
    file.write_text(file.read_text().replace("1/0", "1"))

    again = app.run()

    assert again.ok, again.message
    assert app.events("dev", again.run_id) == ["resume", "apply"]
    assert app.events("prod", again.run_id) == ["backup", "verify", "rehearse", "ask", "approve", "start", "apply"]


def test_a_failing_migration_stops_everything_behind_it_and_leaves_the_earlier_ones(app: App) -> None:
    app.sync()
    app.add(
        "CREATE TABLE fine (id int);", "CREATE TABLE half (id int);\nSELECT nowhere;", "CREATE TABLE never (id int);"
    )

    ended = app.run()

    error = failure(ended)
    assert (ended.state, type(error), error.exit_code) == ("Failed", MigrationFailed, ExitCode.FAILED)
    assert "005-step.sql:2:8" in ended.message and "1 of 3 done; 005-step rolled back" in ended.message
    tasks = app.task_runs(ended, 8)
    assert tasks.pop("prod: preflight") == "Completed"  # which changes nothing
    assert (tasks["dev: 004-step"], tasks["dev: 005-step"]) == ("Completed", "Failed")
    assert not [name for name in tasks if name.startswith("prod") or "006" in name]
    assert [(row["migration"], row["state"]) for row in ended.table("dev")] == [
        ("004-step", "applied"),
        ("005-step", "failed, rolled back"),
        ("006-step", "pending"),
    ]
    assert app.ledger("dev")[-1] == "004-step.sql" and app.ledger("prod")[-1] == "003-step.sql"
    assert app.events("dev", ended.run_id) == ["apply", "fail"]
    assert app.events("prod", ended.run_id) == []
    assert not [log for log in app.logs(ended) if "Traceback" in log["message"]]  # a person reads this
    report = next(a for a in _artifacts(app, ended.id) if a["key"] == "deploy")
    assert "**prod**: not started" in report["data"]


def test_a_plan_that_is_not_the_expected_one_is_refused_naming_the_file(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE a (id int);", "CREATE TABLE b (id int);")
    expected = app.expected()
    (app.migrations / "005-step.sql").write_text("CREATE TABLE c (id int);\n")

    ended = app.run(expected_plans=expected)

    error = failure(ended)
    assert (type(error), error.exit_code) == (StalePlan, ExitCode.REFUSED)
    assert "005-step.sql is another file here" in ended.message
    assert "004-step" not in ended.message
    assert len(app.ledger("dev")) == 3
    assert app.run(expected_plans=app.expected()).ok


def test_a_dry_run_changes_nothing_and_takes_no_backup(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE a (id int);")

    ended = app.run(dry_run=True)

    assert ended.ok and ended.name == "plan dev, prod 004"
    assert [(row["migration"], row["state"]) for row in ended.table("prod")] == [("004-step", "to apply")]
    assert "prod: backup" not in app.task_runs(ended, 6)
    assert len(app.ledger("dev")) == 3 and app.events("prod", ended.run_id) == []


def test_one_environment_and_a_version_can_be_chosen(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE a (id int);", "CREATE TABLE b (id int);")

    assert app.run(environments=["dev"], to_version=4).ok
    assert len(app.ledger("dev")) == 4 and len(app.ledger("prod")) == 3


@pytest.mark.slow
def test_many_pending_migrations_are_one_task_run(app: App) -> None:
    app.add(*(f"CREATE TABLE m{number} (id int);" for number in range(60)))

    ended = app.run(environments=["dev"])

    assert ended.ok and len(app.ledger("dev")) == 63
    assert set(app.task_runs(ended, 7)) == {
        *("validate", "dev: plan", "dev: lock", "dev: 63 migrations", "dev: verify", "dev: report", "report")
    }
    assert len(ended.table("dev")) == 63
    assert sum("applied" in line and "-step" in line for line in app.lines) == 63


def test_a_file_that_does_not_parse_stops_the_deploy_before_anything_runs(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE a (id int);", "CREATE TABEL b (id int);")
    ended = app.run()
    error = failure(ended)
    assert (type(error), error.exit_code) == (MigrationFileError, ExitCode.REFUSED)
    assert "005-step.sql:1:8" in ended.message
    assert app.task_runs(ended, 2) == {"validate": "Failed", "report": "Completed"}
    assert len(app.ledger("dev")) == 3


def test_a_missing_ledger_ends_as_what_it_is(app: App) -> None:
    app.ask("dev", "DROP TABLE schema_migrations CASCADE")
    error = failure(app.run(environments=["dev"]))
    assert isinstance(error, LedgerMissing) and error.hint == "lockstep init dev"


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_password_reaches_prefect_when_the_address_is_wrong(app: App) -> None:
    secret = "Wr0ng-Passw0rd-42"
    app.write_env(DEV_URL=app.dev.replace(app.dev.split(":")[2].split("@")[0], secret))

    ended = app.run(environments=["dev"])

    error = failure(ended)
    assert (type(error), error.exit_code) == (Unreachable, ExitCode.UNREACHABLE)
    assert app.task_runs(ended, 3)["dev: plan"] == "Failed"
    app.assert_nowhere(secret)


def test_no_secret_reaches_prefect_when_a_run_fails_or_ends_well(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE fine (id int);")
    assert app.run().ok
    app.add("SELECT 1 / 0;")
    assert not app.run().ok
    password = app.dev.split(":")[2].split("@")[0]
    app.assert_nowhere(password, app.s3.secret_key, "tok-5e7t1ng-v4lue", app.dev, app.prod)


def test_an_unexpected_error_is_redacted_at_the_boundary(app: App) -> None:
    """A library's exception that quotes what it was given: the address, a setting's value, an S3 key."""
    sys.path.insert(0, str(ROOT))
    from prefect import flow

    from tasks.boundary import Ending, step
    from tasks.run import opened

    @step("leak", "leak")
    def leak() -> None:
        try:
            raise ValueError(f"inner {app.prod}")
        except ValueError as error:
            raise RuntimeError(f"cannot parse {app.dev} tok-5e7t1ng-v4lue {app.s3.secret_key}") from error

    @flow(name="leaky", persist_result=False)
    def leaky() -> object:
        with Ending() as end, opened(app.folder, None):
            leak()
        return end.state

    state = leaky(return_state=True)
    assert state.is_failed()
    assert "RuntimeError: cannot parse" in str(state.message) and "***" in str(state.message)
    app.assert_nowhere(app.dev, app.prod, "tok-5e7t1ng-v4lue", app.s3.secret_key)


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_in_this_process_rolls_the_migration_back(app: App) -> None:
    app.sync()
    app.add("CREATE TABLE quick (id int);", "CREATE TABLE slow (id int); SELECT pg_sleep(60);")
    running = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    with subprocess.Popen(
        [sys.executable, "-m", "lockstep", "deploy", "dev", "--here"],
        cwd=app.folder,
        env=app.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not app.ask("dev", running):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "what could be rolled back was, what was done stays" in err
    flow_run_id = err.split("/runs/flow-run/")[1].split()[0]
    (flow_run,) = app.server.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
    assert flow_run["state_name"] == "Crashed"
    assert app.ledger("dev")[-1] == "004-step.sql"
    assert app.ask("dev", "SELECT to_regclass('slow')") == [(None,)]
    assert not app.ask("dev", running)
    assert not app.ask("dev", "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'")


def _artifacts(app: App, flow_run_id: object) -> list[dict[str, str]]:
    found: list[dict[str, str]] = app.server.post(
        "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [str(flow_run_id)]}}}
    )
    return found


@pytest.mark.parametrize("broken", ["import nowhere_to_be_found\n", "def deploy(:\n"])
def test_a_broken_flow_file_is_a_usage_error(app: App, broken: str) -> None:
    from lockstep.errors import UsageError

    file = app.folder / "flows" / "deploy.py"
    file.write_text(broken + file.read_text())
    with pytest.raises(UsageError, match=r"flows/deploy\.py cannot be loaded: (ModuleNotFoundError|SyntaxError)"):
        app.run()


@pytest.mark.slow
def test_a_schema_that_changes_all_the_time_ends_the_run_instead_of_a_backup_after_the_other(app: App) -> None:
    toml = app.folder / "lockstep.toml"
    toml.write_text(toml.read_text().replace('after = ["dev"]', 'after = ["dev"]\non_drift = "warn"'))
    app.sync()
    app.add("CREATE TABLE a (id int);")
    done = threading.Event()

    def restless() -> None:
        for number in range(400):  # it ends by itself, so that a run without a bound does
            if done.wait(0.5):
                return
            app.ask("prod", f"CREATE TABLE other_{number} (id int)")

    thread = threading.Thread(target=restless)
    thread.start()
    try:
        ended = app.run()
    finally:
        done.set()
        thread.join()
    error = failure(ended)
    assert isinstance(error, BackupFailed) and "after 5 backups in one run" in error.message, ended.message
    assert app.ledger("prod")[-1] == "003-step.sql"
    run_id = app.ask("prod", "SELECT run_id FROM schema_migrations_log WHERE event = 'ask'")[0][0]
    assert app.events("prod", run_id).count("backup") == 5
