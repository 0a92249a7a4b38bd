"""Prefect as seen from outside a run: is there a server, a deployment, a worker; start the flow there or here; follow it.

Nothing is imported from Prefect until it is needed: that takes two seconds. Rules about deploys are not in here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from lockstep.errors import LockstepError, Unreachable, UsageError
from lockstep.service.approval.prompting import Prompt, asking
from lockstep.service.deploying import NOT_APPROVED, artifact_key, run_id_of
from lockstep.service.prefectapi import Missing, PrefectApi, server_of_settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, Log

T = TypeVar("T")

PROGRESS_LOGGER = "lockstep.run"  # a line per thing done; lockstep deploy prints them
LINK_LOGGER = "lockstep.link"  # the run's id and address, at its start

FLOW_FILE = "flows/deploy.py"
ENTRYPOINT = f"{FLOW_FILE}:deploy"

_PROBE_TIMEOUT = 5.0  # seconds for a server to answer at all
_PROBE_TRIES = 10  # where it says that it is busy
_POLL = 0.5  # seconds between looks at a run
_LATE_LOGS = 2.0  # seconds after a run's end in which its last lines may still come
_PATIENCE = 60.0  # seconds without an answer of the server while a run is followed
_TOOK = re.compile(r"  (?:[\d.]+ m?s|\d+ min \d\d s|\d+ h \d\d min)$")  # at the end of a line: core.duration.format_ms
_OVERLAP = 10.0  # seconds: lines are asked for again, since several processes write them


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment of this project's deploy flow on a server, with somebody to run it."""

    id: UUID
    name: str  # flow/deployment
    files: str  # where its worker takes flows and migrations from
    workers: tuple[str, ...]  # online


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a deploy would run."""

    server: str | None  # API address without credentials; None: none that answers
    deployment: Deployment | None
    why_here: str  # why not through a deployment; empty when there is one


@dataclass(slots=True, kw_only=True)
class Ended:
    """A flow run that came to its end."""

    id: UUID
    run_id: str  # ours: what ledger and audit rows hold
    name: str
    url: str | None  # in the UI
    ok: bool
    state: str  # Completed, Failed, Crashed, Cancelled
    message: str
    labels: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)  # artifact key -> rows

    def table(self, environment: str) -> list[dict[str, Any]]:
        """Return the rows of an environment's table; none when the run did not get there."""
        return self.tables.get(artifact_key("deploy", environment), [])


def quiet() -> None:
    """Make Prefect's own console output silent and let our lines reach its API. Call it before Prefect is imported."""
    loggers = [name for name in os.environ.get("PREFECT_LOGGING_EXTRA_LOGGERS", "").split(",") if name]
    if "lockstep" not in loggers:
        os.environ["PREFECT_LOGGING_EXTRA_LOGGERS"] = ",".join([*loggers, "lockstep"])
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")  # seconds; the least that Prefect takes


# -- where ---------------------------------------------------------------------------------------------------------------


def find_place(folder: Path, *, look_for_deployment: bool = True) -> Place:
    """Ask the configured server, if there is one, for this project's deployment and for a worker that runs it.

    Raises UsageError when its work pool is paused: somebody stopped deploys on purpose; and when it refuses the credentials
    or shows a certificate that is not trusted: that mends nobody by running elsewhere.
    """
    server = _server()
    if server is None:
        return Place(server=None, deployment=None, why_here="no Prefect server is configured")
    shown = server.shown
    if not _answers(server):
        return Place(server=None, deployment=None, why_here=f"the Prefect server {shown} does not answer")
    if not look_for_deployment:
        return Place(server=shown, deployment=None, why_here="as asked")
    name = f"deploy/{_deployment_name(folder)}"
    with _client() as client:
        deployment, why = _find_deployment(client, name)
    return Place(server=shown, deployment=deployment, why_here=why)


def _find_deployment(client: SyncPrefectClient, name: str) -> tuple[Deployment | None, str]:
    from prefect.client.schemas.objects import WorkerStatus
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None, f"the Prefect server has no deployment {name} (prefect deploy --all makes it)"
    pool = found.work_pool_name
    if pool is None:
        return None, f"the deployment {name} has no work pool"
    if client.read_work_pool(pool).is_paused:
        raise UsageError(
            f"the work pool {pool} of the deployment {name} is paused, so nothing was started",
            hint=f"prefect work-pool resume {pool}; or, if it may run beside it: lockstep deploy --here",
        )
    workers = client.read_workers_for_work_pool(pool)
    online = tuple(worker.name for worker in workers if worker.status == WorkerStatus.ONLINE)
    if not online:
        return None, f"no worker polls the work pool {pool} (prefect worker start --pool {pool})"
    return Deployment(id=found.id, name=name, files=_files(found.pull_steps, found.path), workers=online), ""


def _files(pull_steps: list[dict[str, Any]] | None, path: str | None) -> str:
    for step in pull_steps or []:
        for arguments in step.values():
            for key in ("repository", "directory"):
                if isinstance(arguments, dict) and arguments.get(key):
                    return without_credentials(str(arguments[key]))
    return path or "its worker's folder"


def _deployment_name(folder: Path) -> str:
    """The name that this project's prefect.yaml gives to the deploy flow."""
    import yaml  # type: ignore[import-untyped]  # comes with Prefect

    file = folder / "prefect.yaml"
    if not file.is_file():
        return "deploy"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        found = [one["name"] for one in content["deployments"] if one.get("entrypoint") == ENTRYPOINT]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise UsageError(
            "prefect.yaml cannot be read", hint="prefect deploy --all says what is wrong with it"
        ) from None
    return str(found[0]) if found else "deploy"


def _server() -> PrefectApi | None:
    """The server that Prefect's client is set to; what it reads besides the environment and profiles counts as well."""
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    if not api.url:
        return None
    secrets = {"PREFECT_API_AUTH_STRING": api.auth_string, "PREFECT_API_KEY": api.key}
    values = {name: secret.get_secret_value() for name, secret in secrets.items() if secret}
    values |= {"PREFECT_API_URL": api.url, "PREFECT_API_SSL_CERT_FILE": api.ssl_cert_file or ""}
    values["PREFECT_API_TLS_INSECURE_SKIP_VERIFY"] = str(api.tls_insecure_skip_verify)
    return server_of_settings(values, patience=_PROBE_TIMEOUT, tries=_PROBE_TRIES)


def _answers(server: PrefectApi) -> bool:
    """Whether it takes our calls; False: nobody is there. Raises UsageError where the calls would be refused."""
    try:
        server.get("/admin/version")
    except Missing:
        return True  # Prefect Cloud has no such thing, and answers
    except Unreachable:
        return False
    return True


# -- there ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Following:
    """A flow run that a worker carries out. Leaving off does not stop it."""

    id: UUID
    run_id: str  # ours
    name: str
    url: str | None
    _seen: set[UUID] = field(default_factory=set)
    _newest: Any = None  # time of the newest line
    _told: set[str] = field(default_factory=set)  # lines, as they were given out
    _waited: bool = False  # it has waited for approval, and goes on from its beginning

    @classmethod
    def start(cls, deployment: Deployment, parameters: Mapping[str, Any], name: str) -> Following:
        """Create the run; a worker will take it."""
        with _client() as client:
            made = client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters), name=name)
        return cls._of(made)

    @classmethod
    def find(cls, deployment: Deployment, expected: Mapping[str, str]) -> Following | None:
        """Return the run of this deployment that is under way, or waits for approval, and does all of this.

        `expected`: as expected_plans makes it. What such a run has applied by now is not pending any more.
        """
        from prefect.client.schemas import filters
        from prefect.client.schemas.objects import StateType
        from prefect.client.schemas.sorting import FlowRunSort

        alive = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]
        with _client() as client:
            found = client.read_flow_runs(
                deployment_filter=filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[deployment.id])),
                flow_run_filter=filters.FlowRunFilter(
                    state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=alive))
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=50,
            )
        files = {key: checksum for key, checksum in expected.items() if "/" in key}
        for one in found:
            its = one.parameters.get("expected_plans") or {}
            if files.items() <= its.items() and not one.parameters.get("dry_run"):
                return cls._of(one)
        return None

    @classmethod
    def _of(cls, flow_run: FlowRun) -> Following:
        assert flow_run.created is not None
        run_id = run_id_of(flow_run.created, flow_run.id)
        return cls(id=flow_run.id, run_id=run_id, name=flow_run.name, url=ui_url(flow_run.id))

    def lines(self, waiting: Callable[[], None], asks: Callable[[str], None] = lambda _run_id: None) -> Iterator[str]:
        """Yield the run's progress lines as they come, until it has ended. `waiting` is called once if nobody takes it.

        `asks` gets our id of the run each time that it begins to wait for approval.

        Raises Unreachable when the server does not answer any more; the run goes on.
        """
        started = answered = time.monotonic()
        ended: float | None = None
        told = asked = False
        while ended is None or time.monotonic() - ended < _LATE_LOGS:
            try:
                with _client() as client:
                    yield from self._new_lines(client)
                    state = client.read_flow_run(self.id).state
                answered = time.monotonic()
            except _http_errors() as error:
                if time.monotonic() - answered > _PATIENCE:
                    raise Unreachable(
                        target="the Prefect server",
                        reason=f"it does not answer any more ({type(error).__name__}); the run goes on",
                        hint=f"look at it later: {self.url}",
                    ) from None
                state = None
            if state is not None and state.is_final() and ended is None:
                ended = time.monotonic()
            if state is not None and state.is_paused() != asked:
                asked = not asked
                if asked:
                    self._waited = True
                    asks(self.run_id)
            if not told and state is not None and state.is_scheduled() and time.monotonic() - started > 20:
                told = True
                waiting()
            time.sleep(_POLL)

    def _new_lines(self, client: SyncPrefectClient) -> Iterator[str]:
        from datetime import timedelta

        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterTimestamp

        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self.id]))
        if self._newest is not None:
            wanted.timestamp = LogFilterTimestamp(after_=self._newest - timedelta(seconds=_OVERLAP))
        offset = 0
        while page := client.read_logs(wanted, offset=offset):
            offset += len(page)
            yield from self._unseen(page)

    def _unseen(self, page: list[Log]) -> Iterator[str]:
        for line in page:
            if line.id not in self._seen:
                self._seen.add(line.id)
                self._newest = line.timestamp if self._newest is None else max(self._newest, line.timestamp)
                if line.name == PROGRESS_LOGGER and not self._again(line.message):
                    self._told.add(line.message)
                    yield line.message

    def _again(self, text: str) -> bool:
        """Whether it tells what was told before the wait.

        A run that goes on begins anew and finds what it did: such a line is the same, or has no time any more. What was
        done once more has a time of its own.
        """
        return self._waited and (text in self._told or any(_TOOK.sub("", old) == text for old in self._told))

    def end(self) -> Ended:
        """Return how the run ended."""
        with _client() as client:
            return _ended(client, self.id)


def _http_errors() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.HTTPError,)


# -- here ----------------------------------------------------------------------------------------------------------------


def run_here(
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    server: bool,
    handler: logging.Handler,
    started: Callable[[UUID, str | None], None],
    prompt: Prompt | None = None,
) -> Ended:
    """Load the deploy flow from the project's own file and run it in this process, to its end.

    With `server` its records go to the configured one, else to a temporary one on this machine. `started` is told
    the flow run's id and address; `prompt` asks for approvals, without it the run waits until somebody answers elsewhere.
    Raises UsageError when the flow's file cannot be loaded. Ctrl-C goes through.
    """
    with _records(server), _listening(handler), asking(prompt):
        flow = _load(folder)
        with _client() as client:
            made = client.create_flow_run(flow, parameters=dict(parameters), name="deploy", state=_pending())
        started(made.id, ui_url(made.id))
        from prefect.exceptions import Abort
        from prefect.flow_engine import run_flow

        with suppress(Abort):  # it was given up meanwhile, or another process has taken it over
            _heard(lambda: run_flow(flow, flow_run=made, parameters=dict(parameters), return_type="state"))
        with _client() as client:
            return _heard(lambda: _ended(client, made.id))


def _heard(call: Callable[[], T]) -> T:
    """Call something of Prefect's. Where its server is gone meanwhile, no more is lost than the record of the run."""
    try:
        return call()
    except _http_errors() as error:
        raise Unreachable(
            target="the Prefect server",
            reason=f"it does not answer any more ({type(error).__name__}), so how the run ended is not recorded there",
            hint="lockstep status shows what was applied",
        ) from None


def _pending() -> Any:
    from prefect.states import Pending

    return Pending()


def _load(folder: Path) -> Any:
    from prefect.exceptions import MissingFlowError, ScriptError
    from prefect.flows import load_flow_from_entrypoint

    file = folder / FLOW_FILE
    if not file.is_file():
        raise UsageError(
            f"this project has no {FLOW_FILE}",
            hint="lockstep new-project makes one to copy from; without Prefect: lockstep sync",
        )
    # Where a worker stands: `tasks` is found beside `flows`.
    sys.path.insert(0, str(folder))
    try:
        return load_flow_from_entrypoint(f"{file}:deploy", use_placeholder_flow=False)
    except (MissingFlowError, ScriptError) as error:
        cause = error.__cause__ or getattr(error, "user_exc", None) or error
        raise UsageError(
            f"{file} cannot be loaded: {type(cause).__name__}: {cause}",
            hint="mend it (flows/ and tasks/ are this project's own files); without Prefect: lockstep sync",
        ) from None


@contextmanager
def _records(server: bool) -> Iterator[None]:
    """Where Prefect keeps what it notes: the configured server, or a temporary one on this machine's own database."""
    if server:
        yield
        return
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

    with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}, restore_defaults={PREFECT_API_URL}):
        yield


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (PROGRESS_LOGGER, LINK_LOGGER)]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


# -- what waits ----------------------------------------------------------------------------------------------------------


def is_over(flow_run_id: str) -> bool:
    """Whether a flow run has ended, or is not there any more. False also where the server cannot be asked."""
    quiet()
    from prefect.exceptions import ObjectNotFound

    try:
        server = _server()
        if server is None or not _answers(server):
            return False
        with _client() as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except ObjectNotFound:
        return True
    except LockstepError:
        return False
    except _http_errors():
        return False
    return state is not None and state.is_final()


def wake(flow_run_id: str, *, approve: bool, reason: str | None) -> str | None:
    """Let a suspended flow run go on, to read its answer. Returns why it could not be done, in words; None: it was."""
    quiet()
    try:
        server = _server()
        there = server is not None and _answers(server)
        where = f"the Prefect server {server.shown} does not answer" if server else "no Prefect server is known"
    except LockstepError as error:
        there, where = False, error.message
    if not there:
        return f"the answer stands, but the run was not woken: {where}; resume it in Prefect's UI, or answer again"
    try:
        with _client() as client:
            # Prefect says 200 to what it does not take: the body tells.
            result = client.resume_flow_run(
                UUID(flow_run_id), run_input={"decision": "approve" if approve else "reject", "reason": reason}
            )
    except _http_errors() as error:
        return f"the answer stands, but the run was not woken ({type(error).__name__}); resume it in Prefect's UI"
    if result.status.value == "ACCEPT":
        return None
    why = getattr(result.details, "reason", None) or "it does not wait any more"
    return f"the answer stands, but the run was not woken: {why}"


# -- both ----------------------------------------------------------------------------------------------------------------


def _client() -> SyncPrefectClient:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def _ended(client: SyncPrefectClient, flow_run_id: UUID) -> Ended:
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    found: FlowRun = client.read_flow_run(flow_run_id)
    assert found.created is not None
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    )
    return Ended(
        id=found.id,
        run_id=run_id_of(found.created, found.id),
        name=found.name,
        url=ui_url(found.id),
        ok=bool(found.state and found.state.is_completed()),
        state=found.state_name or "Unknown",
        message=(found.state.message if found.state else None) or f"the run ended as {found.state_name}",
        # One that was killed or cancelled may carry the labels of an earlier try.
        labels=found.labels if found.state and (found.state.is_failed() or found.state.name == NOT_APPROVED) else {},
        tables={one.key: json.loads(str(one.data)) for one in artifacts if one.type == "table" and one.key},
    )


def ui_url(flow_run_id: UUID) -> str | None:
    """Return the flow run's address in the UI, without credentials. None where no server with a UI is configured."""
    from prefect.utilities.urls import url_for

    url = url_for("flow-run", flow_run_id)
    return without_credentials(url) if url else None


def without_credentials(url: str) -> str:
    """Return an address without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))
