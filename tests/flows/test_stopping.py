"""docs/reference/stopping.md, row by row: a run stopped in every way, what is left of it, and what the next deploy does."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from demo.prefectserver import PrefectServer
from demo.s3server import S3Server
from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.flows.conftest import _TOML, ROOT, App, failure
from tests.flows.stopped import STARTED, Foreground, UnderWay, below, eventually, flows_under_way, lives, words_of
from tests.integration.proxy import CountingProxy

SLOWLY = "SELECT pg_sleep(60);"

pytestmark = pytest.mark.usefixtures("keeps_environment")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder, for all tests of this file."""
    folder = tmp_path_factory.mktemp("site") / "project"
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    (folder / "lockstep.toml").write_text(_TOML)
    return folder


@pytest.fixture(scope="module")
def deployed(site: Path, prefect_server: PrefectServer) -> None:
    """Its flows are deployed, and a worker polls."""
    prefect_server.start_worker(site, replace=True)


@pytest.fixture
def worked(shop: App, deployed: None) -> Iterator[App]:
    """A shop whose deploys a worker runs. One that a test ended is replaced, and what it left running ends."""
    yield shop
    for pid in flows_under_way():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def keeps_environment() -> Iterator[None]:
    """What a flow in this process changes there is put back; what a failed test left running ends, and is heard."""
    path, names = list(sys.path), set(os.environ)
    yield
    sys.path[:] = path
    for name in set(os.environ) - names:
        del os.environ[name]
    while STARTED:
        process = STARTED.pop()
        if process.stdout is not None and not process.stdout.closed:
            process.kill()
            sys.stderr.write("\n".join(process.communicate()))


@pytest.fixture
def shop(site: Path, new_database: Callable[[], str], prefect_server: PrefectServer, s3: S3Server) -> App:
    """The same project on two fresh databases, with three migrations applied."""
    shutil.rmtree(site / "migrations", ignore_errors=True)
    (site / "migrations").mkdir()
    made = App(folder=site, dev=new_database(), prod=new_database(), server=prefect_server, s3=s3)
    made.add(*(f"CREATE TABLE t{number} (id bigint PRIMARY KEY);" for number in (1, 2, 3)))
    made.write_env()
    made.initialise()
    made.sync()
    return made


def next_deploy_finishes(app: App, *labels: str, environment: str = "dev") -> None:
    """With the statement made harmless, the next deploy starts clean and ends well."""
    ended = app.run(environments=[environment])
    assert ended.ok, ended.message
    assert set(app.ledger(environment)) >= {f"{label}.sql" for label in labels}


def accept_drift(app: App) -> None:
    done = app.lockstep("drift", "prod", "--accept", "made for a test")
    assert done.returncode == 0, done.stderr


def quicken(app: App, label: str, text: str = "CREATE TABLE slow (id int);") -> None:
    (app.migrations / f"{label}.sql").write_text(text + "\n")


# -- under a worker ----------------------------------------------------------------------------------------------------


def test_a_cancel_ends_the_statement_at_once_and_says_so_in_the_audit_log(worked: App) -> None:
    (label,) = worked.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    run = UnderWay.start(worked, environments=["dev"])
    run.at_work("pg_sleep")

    run.cancel()

    assert run.gone() < 10
    assert run.ended()["name"] == "Cancelled"
    own, hook = run.stops()
    assert (own["how"], own["by"]) == ("SIGTERM", "its own process")
    assert own["outcome"] == "004-step was rolled back, nothing of it stayed"
    assert hook["how"] == "cancelled" and hook["sessions"] == 0
    worked.assert_nowhere()
    quicken(worked, label)
    next_deploy_finishes(worked, label)


@pytest.mark.slow
def test_a_terminated_process_ends_its_statement_itself(worked: App) -> None:
    (label,) = worked.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    run = UnderWay.start(worked, environments=["dev"])
    run.at_work("pg_sleep")

    run.kill(signal.SIGTERM)

    assert run.gone() < 10
    assert run.ended()["type"] == "CRASHED"
    (stop,) = run.stops()
    assert (stop["how"], stop["by"]) == ("SIGTERM", "its own process")
    quicken(worked, label)
    next_deploy_finishes(worked, label)


@pytest.mark.slow
def test_a_second_run_ends_as_busy_and_one_behind_a_killed_one_is_not_held_up(worked: App) -> None:
    (label,) = worked.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    run = UnderWay.start(worked, environments=["dev"])
    run.at_work("pg_sleep")

    refused = failure(worked.run(environments=["dev"]))
    assert (refused.exit_code, type(refused).__name__) == (5, "LockHeld")
    assert run.run_id in refused.message
    run.clock = time.monotonic()
    run.kill(signal.SIGKILL)

    assert run.gone() < 10  # the server finds out that its client is gone
    quicken(worked, label)
    next_deploy_finishes(worked, label)
    assert run.ended()["type"] == "CRASHED"  # the worker saw it
    stop = eventually(run.stops, "the worker's hook")[-1]
    assert stop["how"] == "crashed" and stop["by"] != "its own process"


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_goes_on_and_can_be_cancelled(worked: App, site: Path) -> None:
    worked.add("SELECT pg_sleep(5);", f"CREATE TABLE slow (id int); {SLOWLY}")
    run = UnderWay.start(worked, environments=["dev"])
    run.at_work("pg_sleep(5)")

    os.kill(run.workers[-1], signal.SIGKILL)
    run.at_work("pg_sleep(60)")  # beyond the lines that nobody reads any more
    run.cancel()

    assert run.gone() < 15
    assert run.ended()["name"] == "Cancelled"
    assert worked.ledger("dev")[-1] == "004-step.sql"
    (stop,) = run.stops()
    assert stop["outcome"] == "005-step was rolled back, nothing of it stayed"
    worked.server.add_worker(site)
    worked.assert_nowhere()


@pytest.mark.slow
def test_a_run_that_was_given_up_while_it_slept_does_not_go_on(worked: App) -> None:
    worked.add("SELECT pg_sleep(4);", "CREATE TABLE after_it_woke (id int);" + SLOWLY)
    run = UnderWay.start(worked, environments=["dev"])
    run.at_work("pg_sleep(4)")
    run.kill(signal.SIGSTOP)
    crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": "no sign of life"}, "force": True}
    worked.server.post(f"/flow_runs/{run.id}/set_state", crashed)

    run.kill(signal.SIGCONT)

    eventually(lambda: not lives(run.pid), "its end")
    assert "005-step.sql" not in worked.ledger("dev") and run.gone() < 60
    assert (run.state()["type"], run.state()["message"]) == ("CRASHED", "no sign of life")


@pytest.mark.slow
def test_a_run_that_lost_its_process_and_its_worker_is_given_up(worked: App, site: Path) -> None:
    """SIGTERM of a worker kills its flows, and no one says so; SIGKILL of both does the same."""
    applied = worked.lockstep("alerts", "apply")
    assert applied.returncode == 0, applied.stderr
    worked.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    shut = UnderWay.start(worked, environments=["dev"])
    shut.at_work("pg_sleep")
    time.sleep(3)  # a heartbeat reaches the server
    os.kill(shut.workers[-1], signal.SIGTERM)
    assert shut.gone() < 10
    worked.server.add_worker(site)
    killed = UnderWay.start(worked, environments=["dev"])
    killed.at_work("pg_sleep")
    time.sleep(3)
    os.kill(killed.workers[-1], signal.SIGKILL)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.gone() < 10
    quicken(worked, "004-step")
    next_deploy_finishes(worked, "004-step")
    worked.server.add_worker(site)
    for run in (shut, killed):
        assert run.ended(180)["type"] == "CRASHED"


# -- what runs just then: in a process of its own, ended by Ctrl-C or SIGTERM --------------------------------------------


@contextmanager
def in_the_way(url: str, statement: str) -> Iterator[None]:
    """Another session holds what `statement` takes."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())
        yield


CONCURRENTLY = "-- lockstep: transaction=none\nCREATE TABLE IF NOT EXISTS one (id int);\nCREATE INDEX CONCURRENTLY slow ON t1 (id);"
BACKFILL = (
    "-- lockstep: repeat-until-empty\nUPDATE t1 SET done = true WHERE id IN (SELECT id FROM t1 WHERE NOT done ORDER BY id "
    "LIMIT 1) AND (id < 3 OR {} IS NOT NULL);"
)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_process_that_is_told_to_end_rolls_its_statement_back(shop: App, how: signal.Signals) -> None:
    (label,) = shop.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    run = Foreground.begin(shop, "dev")
    run.at_work("pg_sleep")

    run.kill(how)

    assert run.gone() < 10
    code, said = run.finish()
    assert code == (130 if how is signal.SIGINT else 143 if code > 0 else -15), said
    assert run.ended()["type"] == "CRASHED"
    (stop,) = run.stops()
    assert stop["how"] == ("Ctrl-C" if how is signal.SIGINT else "SIGTERM")
    assert stop["outcome"] == "004-step was rolled back, nothing of it stayed"
    quicken(shop, label)
    next_deploy_finishes(shop, label)


@pytest.mark.slow
def test_an_index_that_was_being_built_is_finished_by_the_next_deploy(shop: App) -> None:
    (label,) = shop.add(CONCURRENTLY)
    with in_the_way(shop.dev, "INSERT INTO t1 VALUES (1)"):
        run = Foreground.begin(shop, "dev")
        run.at_work("CREATE INDEX CONCURRENTLY")
        run.kill(signal.SIGTERM)
        assert run.gone() < 10
        run.finish()
    (stop,) = run.stops()
    assert stop["outcome"] == "004-step is unfinished: 1 of 2 statements done, which stay"
    assert shop.ask("dev", "SELECT indisvalid FROM pg_index WHERE indexrelid = 'slow'::regclass") == [(False,)]
    assert shop.ask("dev", "SELECT state FROM schema_migrations WHERE version = 4") == [("started",)]
    next_deploy_finishes(shop, label)
    assert shop.ask("dev", "SELECT indisvalid FROM pg_index WHERE indexrelid = 'slow'::regclass") == [(True,)]


@pytest.mark.slow
def test_a_backfill_keeps_the_batches_that_it_did(shop: App) -> None:
    shop.add("ALTER TABLE t1 ADD COLUMN done boolean NOT NULL DEFAULT false;")
    (label,) = shop.add(BACKFILL.format("pg_sleep(60)"))
    shop.ask("dev", "INSERT INTO t1 SELECT generate_series(1, 4)")
    run = Foreground.begin(shop, "dev")
    eventually(lambda: shop.ask("dev", "SELECT 1 FROM schema_migrations WHERE progress->>'batches' = '2'"), "2 batches")
    run.at_work("pg_sleep")
    run.kill(signal.SIGINT)
    assert run.gone() < 10
    run.finish()
    (stop,) = run.stops()
    assert stop["outcome"].startswith("005-step is unfinished: 2 batches"), stop
    assert shop.ask("dev", "SELECT count(*) FROM t1 WHERE done") == [(2,)]
    quicken(shop, label, BACKFILL.format("pg_sleep(0)"))
    next_deploy_finishes(shop, label)


def test_a_migration_that_waits_for_a_lock_stops_waiting(shop: App) -> None:
    (label,) = shop.add("ALTER TABLE t1 ADD COLUMN more int;")
    with in_the_way(shop.dev, "LOCK TABLE t1"):
        run = Foreground.begin(shop, "dev")
        run.at_work("ADD COLUMN more")
        run.kill(signal.SIGINT)
        assert run.gone() < 10
        run.finish()
    next_deploy_finishes(shop, label)


@pytest.mark.slow
def test_a_backup_that_is_stopped_leaves_no_program_and_nothing_in_the_bucket(shop: App) -> None:
    shop.add("CREATE TABLE a (id int);")
    shop.ask(
        "prod",
        "ALTER TABLE t1 ADD COLUMN t text; INSERT INTO t1 SELECT g, repeat(md5(g::text), 9) FROM generate_series(1, 700000) g",
    )
    accept_drift(shop)
    run = Foreground.begin(shop)
    run.at_work("COPY", "prod")
    children = below(run.pid)
    assert any("pg_dump" in " ".join(words_of(one)) for one in children)
    run.kill(signal.SIGTERM)
    assert run.gone("prod") < 15
    run.finish()
    eventually(lambda: not any(lives(one) for one in children), "the end of its programs")
    assert run.state()["type"] == "CRASHED"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_a_rehearsal_that_is_stopped_leaves_no_server_and_no_folder(shop: App, how: signal.Signals) -> None:
    shop.ask(
        "prod",
        "CREATE FUNCTION slowly(a bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS "
        "$$ BEGIN IF inet_server_addr() IS NULL THEN PERFORM pg_sleep(60); END IF; RETURN a; END $$;"
        "INSERT INTO t1 VALUES (1); CREATE INDEX ON t1 (slowly(id))",
    )
    accept_drift(shop)
    shop.add("CREATE TABLE a (id int);")
    temporary = Path(tempfile.mkdtemp(prefix="lockstep-t-", dir="/tmp"))  # short: sockets lie in it
    run = Foreground.begin(shop, TMPDIR=str(temporary))
    try:
        eventually(lambda: any("CREATE INDEX" in " ".join(words_of(one)) for one in below(run.pid)), "the restore")
        assert any(temporary.iterdir())
        children = below(run.pid)
        run.kill(how)
        run.finish()
        eventually(lambda: not any(temporary.iterdir()), "its folders' end", 40)
        eventually(lambda: not any(lives(one) for one in children), "the end of its programs", 40)
        assert not run.backends("prod")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# -- without a worker --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_deploy_in_the_foreground_can_be_cancelled_in_the_ui(shop: App) -> None:
    (label,) = shop.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    run = Foreground.begin(shop, "dev")
    run.at_work("pg_sleep")

    run.cancel()

    assert run.gone() < 15
    code, said = run.finish()
    assert code == 1 and "cancelled" in said and "Traceback" not in said, said
    assert run.ended()["name"] == "Cancelled"
    quicken(shop, label)
    next_deploy_finishes(shop, label)


@pytest.mark.slow
def test_a_deploy_goes_on_to_its_end_when_the_prefect_server_is_gone(shop: App) -> None:
    shop.add("CREATE TABLE slow (id int); SELECT pg_sleep(3);", "CREATE TABLE later (id int);")
    with CountingProxy(shop.server.port) as proxy:
        address = f"http://127.0.0.1:{proxy.port}/api"
        # Else Prefect's client repeats each call for a minute, and there are several.
        run = Foreground.begin(shop, "dev", PREFECT_API_URL=address, PREFECT_CLIENT_MAX_RETRIES="0")
        run.at_work("pg_sleep")
    assert run.gone() < 40
    assert shop.ledger("dev")[-2:] == ["004-step.sql", "005-step.sql"]
    assert run.process.stderr is not None
    said = next(line for line in run.process.stderr if "error: " in line)
    assert "error: the Prefect server: it does not answer any more (ConnectError)" in said
    run.kill(signal.SIGKILL)  # at its end Prefect's library tries each of its events once more, for seven seconds each


@pytest.mark.slow
def test_a_database_that_is_restarted_loses_nothing(shop: App, pg_bin: Path, new_database: Callable[[], str]) -> None:
    with ThrowawayServer(pg_bin) as own:
        shop.dev = own.url("postgres")
        shop.write_env()
        shop.initialise()
        labels = [f"{number:03d}-step" for number in (1, 2, 3)]
        labels += shop.add(f"CREATE TABLE slow (id int); {SLOWLY}")
        run = Foreground.begin(shop, "dev")
        run.at_work("pg_sleep")
        own.restart(FAST)
        code, said = run.finish()
        assert code == 8 and "004-step was rolled back, nothing of it stayed" in said, said
        assert run.ended()["type"] == "FAILED"
        quicken(shop, labels[-1])
        next_deploy_finishes(shop, *labels)
