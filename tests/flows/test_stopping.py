"""docs/reference/stopping.md, row by row: a run stopped in every way, what is left of it, and what the next deploy does."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.prefectserver import PrefectServer
from demo.s3server import S3Server
from tests.flows.conftest import _TOML, ROOT, App
from tests.flows.stopped import UnderWay

SLOWLY = "SELECT pg_sleep(60);"

pytestmark = pytest.mark.usefixtures("keeps_environment")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, prefect_server: PrefectServer) -> Path:
    """A project folder whose flows are deployed, and a worker that polls: for all tests of this file."""
    folder = tmp_path_factory.mktemp("site") / "project"
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    (folder / "lockstep.toml").write_text(_TOML)
    prefect_server.start_worker(folder, replace=True)
    return folder


@pytest.fixture
def keeps_environment() -> Iterator[None]:
    path, names = list(sys.path), set(os.environ)
    yield
    sys.path[:] = path
    for name in set(os.environ) - names:
        del os.environ[name]


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
    done = app.lockstep("deploy", environment, "--here")
    assert done.returncode == 0, done.stderr + done.stdout
    assert set(app.ledger(environment)) >= {f"{label}.sql" for label in labels}


def quicken(app: App, label: str, text: str = "CREATE TABLE slow (id int);") -> None:
    (app.migrations / f"{label}.sql").write_text(text + "\n")


def test_a_cancel_ends_the_statement_at_once_and_says_so_in_the_audit_log(shop: App) -> None:
    (label,) = shop.add(f"CREATE TABLE slow (id int); {SLOWLY}")
    run = UnderWay.start(shop, environments=["dev"])
    run.at_work("pg_sleep")

    run.cancel()

    assert run.gone() < 10
    state = run.ended()
    assert (state["type"], state["name"]) == ("CANCELLED", "Cancelled")
    own, hook = run.stops()
    assert (own["how"], own["by"]) == ("SIGTERM", "its own process")
    assert own["outcome"] == "004-step was rolled back, nothing of it stayed"
    assert hook["how"] == "cancelled" and hook["sessions"] == 0
    quicken(shop, label)
    next_deploy_finishes(shop, label)
