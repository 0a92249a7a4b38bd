"""One Prefect server, one S3 server and project folders for the flows' tests. All real; Prefect is imported late."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from demo.prefectserver import PrefectServer
from demo.s3server import S3Server
from lockstep.config import Settings, load_settings
from lockstep.errors import LockstepError
from lockstep.postgres.entries import RunInfo
from lockstep.service import orchestrator
from lockstep.service.approval.prompting import Prompt
from lockstep.service.deploying import error_of, expected_plans
from lockstep.service.initialise import initialise
from lockstep.service.orchestrator import Ended
from lockstep.service.planning import plan_target
from lockstep.service.progress import Silent
from lockstep.service.project import read_folder
from lockstep.service.run import new_run_id
from lockstep.service.syncing import sync

ROOT = Path(__file__).parents[2]
BUCKET = "backups"

_TOML = """\
[environments.dev]
url = "${DEV_URL}"

[environments.prod]
url = "${PROD_URL}"
after = ["dev"]
settings = { api_token = "${API_TOKEN}" }

[backup]
bucket = "s3://backups/lockstep"
endpoint_url = "${S3_ENDPOINT_URL}"
"""


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """The session's server; this process is a client of it. Nothing of the machine's own Prefect is used."""
    with PrefectServer() as server, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        before = dict(os.environ)
        orchestrator.quiet()
        for name in os.environ.keys() - before.keys():
            patch.setitem(os.environ, name, os.environ.pop(name))
        patch.setenv("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "0.2")
        from prefect.settings import get_current_settings

        assert get_current_settings().api.url == server.api_url  # else Prefect was imported too early
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.make_bucket(BUCKET)
        yield server


@dataclass(kw_only=True)
class App:
    """A user's project folder, with its databases and servers."""

    folder: Path
    dev: str  # connection URLs
    prod: str
    server: PrefectServer
    s3: S3Server
    talk: str = ""  # what the last run in this process wrote to stdout and stderr
    lines: list[str] = field(default_factory=list)  # its progress

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder)

    def url(self, environment: str) -> str:
        return {"dev": self.dev, "prod": self.prod}[environment]

    def add(self, *statements: str, first: int | None = None) -> list[str]:
        """Write one migration per text, each with a down; return their labels."""
        number = first or len(list(self.migrations.glob("*.down.sql"))) + 1
        labels = []
        for offset, statement in enumerate(statements):
            label = f"{number + offset:03d}-step"
            (self.migrations / f"{label}.sql").write_text(statement + "\n")
            (self.migrations / f"{label}.down.sql").write_text("-- nothing to take back in this test\n")
            labels.append(label)
        return labels

    @property
    def migrations(self) -> Path:
        return self.folder / "migrations"

    def write_env(self, **changes: str) -> None:
        values = {
            "DEV_URL": self.dev,
            "PROD_URL": self.prod,
            "API_TOKEN": "tok-5e7t1ng-v4lue",
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        } | changes
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def configure(self, text: str) -> None:
        """Add tables to lockstep.toml."""
        file = self.folder / "lockstep.toml"
        file.write_text(f"{file.read_text()}\n{text}")

    def initialise(self) -> None:
        for environment in self.settings.environments.values():
            initialise(self.settings, environment, read_folder(self.settings))

    def sync(self, to: int | None = None) -> None:
        """Bring all environments to a version, without Prefect and without a backup."""
        settings = self.settings
        text = (self.folder / "lockstep.toml").read_text()
        (self.folder / "lockstep.toml").write_text(text.replace("[backup]", "protected = false\n[backup]"))
        try:
            settings = self.settings
        finally:
            (self.folder / "lockstep.toml").write_text(text)
        report = sync(
            settings,
            tuple(settings.environments.values()),
            read_folder(settings),
            RunInfo(run_id=new_run_id()),
            Silent(),
            to_version=to,
            prompt=lambda _asked: (True, "tested"),
        )
        assert report.error is None, report.error

    def expected(self) -> dict[str, str]:
        """What `lockstep deploy` would send along."""
        settings, folder = self.settings, read_folder(self.settings)
        return expected_plans(plan_target(settings, one, folder) for one in settings.environments.values())

    def run(self, *, prompt: Prompt | None = lambda _asked: (True, "tested"), **parameters: Any) -> Ended:
        """Run the deploy flow of this folder in this process, against the server. `prompt` answers for approvals."""

        class Collect(logging.Handler):
            def emit(_, record: logging.LogRecord) -> None:  # noqa: N805
                if record.levelno >= logging.INFO:
                    self.lines.append(record.getMessage())

        self.lines.clear()
        text = io.StringIO()
        with redirect_stdout(text), redirect_stderr(text):
            ended = orchestrator.run_here(
                self.folder,
                {"project": str(self.folder), **parameters},
                server=True,
                handler=Collect(),
                started=lambda _, __: None,
                prompt=prompt,
            )
        self.talk = text.getvalue()
        return ended

    def lockstep(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "lockstep", *words],
            cwd=self.folder,
            env=self.environment(variables),
            check=False,
            capture_output=True,
            text=True,
        )

    def environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**own, **self.server.environment, **(variables or {})}

    def assert_nowhere(self, *secrets: str) -> None:
        """Look that secrets, by default all of the project's, are neither on stdout or stderr, nor in any file of Prefect's:

        database (parameters, logs, states, artifacts), its write-ahead log, results, and what server and workers say.
        """
        time.sleep(1)  # states and lines are stored a moment later
        passwords = [urlsplit(url).password or url for url in (self.dev, self.prod)]
        secrets = secrets or (
            *passwords,
            self.dev,
            self.prod,
            "tok-5e7t1ng-v4lue",
            self.s3.secret_key,
            self.s3.access_key,
        )
        files = [path for path in self.server.folder.rglob("*") if path.is_file() and "ui" not in path.parts]
        stored = b"".join(path.read_bytes() for path in files)
        assert b"lockstep.run" in stored  # the search finds what is there
        for secret in secrets:
            assert secret not in self.talk
            assert secret.encode() not in stored

    # -- behind the product's back ------------------------------------------------------------------------------------

    def ledger(self, environment: str) -> list[str]:
        return [row[0] for row in self.ask(environment, "SELECT migration_name FROM schema_migrations ORDER BY 1")]

    def events(self, environment: str, run_id: str) -> list[str]:
        query = "SELECT event FROM schema_migrations_log WHERE run_id = %s ORDER BY id"
        return [row[0] for row in self.ask(environment, query, run_id)]

    def ask(self, environment: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(environment)) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def task_runs(self, ended: Ended, at_least: int = 1) -> dict[str, str]:
        """Name -> state of the run's tasks, in the order of their start. The server stores them a little later."""
        body = {"task_runs": None, "flow_runs": {"id": {"any_": [str(ended.id)]}}, "sort": "EXPECTED_START_TIME_ASC"}
        deadline = time.monotonic() + 20
        while True:
            rows = self.server.post("/task_runs/filter", body)
            if len(rows) >= at_least and all(row["end_time"] for row in rows):
                return {row["name"]: row["state_name"] for row in rows}
            if time.monotonic() > deadline:
                raise AssertionError(f"not stored: {rows}")
            time.sleep(0.3)

    def logs(self, ended: Ended) -> list[dict[str, Any]]:
        body = {"logs": {"flow_run_id": {"any_": [str(ended.id)]}}, "sort": "TIMESTAMP_ASC"}
        found: list[dict[str, Any]] = self.server.post("/logs/filter", body)
        return found


def failure(ended: Ended) -> LockstepError:
    """What `lockstep deploy` would raise for this run."""
    assert not ended.ok
    return error_of(ended.labels, ended.message)


@pytest.fixture
def app(tmp_path: Path, new_database: Callable[[], str], prefect_server: PrefectServer, s3: S3Server) -> Iterator[App]:
    """A project with three migrations, two fresh databases whose ledgers are made, and the example's flows and tasks."""
    path, names = list(sys.path), set(os.environ)
    yield make_app(tmp_path / "project", new_database(), new_database(), prefect_server, s3)
    sys.path[:] = path
    for name in set(os.environ) - names:  # .env's own, passed on to libraries
        del os.environ[name]


def make_app(folder: Path, dev: str, prod: str, server: PrefectServer, s3: S3Server) -> App:
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    (folder / "migrations").mkdir()
    # A place of its own in the bucket: open incidents and the ends of other tests' logs are not this one's.
    place = f"s3://backups/lockstep/{uuid4().hex[:8]}"
    (folder / "lockstep.toml").write_text(_TOML.replace("s3://backups/lockstep", place))
    made = App(folder=folder, dev=dev, prod=prod, server=server, s3=s3)
    made.add(*(f"CREATE TABLE t{number} (id bigint PRIMARY KEY);" for number in (1, 2, 3)))
    made.write_env()
    made.initialise()
    return made
