"""The run under way: what its tasks share and Prefect must not see.

One per flow run, reached through `current()`. All tasks of a run are called from the flow's body and work in its own
thread, so one database session can stay open from the task that takes the lock to the last migration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as runtime

from lockstep.config import Environment, Settings, load_settings, pass_on
from lockstep.core import privacy
from lockstep.core.approval import Approval
from lockstep.core.migration import Folder
from lockstep.errors import LockstepError
from lockstep.postgres.entries import RunInfo
from lockstep.service.applying import ApplyRun
from lockstep.service.deploying import files_of, run_id_of, run_name
from lockstep.service.health import Observations
from lockstep.service.orchestrator import ui_url
from lockstep.service.overview import EnvironmentOverview, Overview
from lockstep.service.planning import TargetPlan
from lockstep.service.project import read_folder
from lockstep.service.proving import Proof
from lockstep.service.redaction import known_secrets, redact
from lockstep.service.syncing import EnvironmentResult, summary
from lockstep.storage.manifest import Manifest
from tasks.lookout import looking_out
from tasks.parameters import DeployParameters
from tasks.progress import LINK, LOG, LogProgress


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of a flow."""

    settings: Settings
    info: RunInfo
    attempt: int  # from 1; each try after the run had ended counts on, and takes a backup of its own
    environments: tuple[Environment, ...]  # in promotion order
    asked: DeployParameters = field(default_factory=DeployParameters)  # of a deploy
    files: Folder | None = None  # None: this flow has nothing to do with migrations
    progress: LogProgress = field(default_factory=LogProgress)
    plans: dict[str, TargetPlan] = field(default_factory=dict)
    results: dict[str, EnvironmentResult] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)  # of the backups that were taken
    tries: dict[str, int] = field(default_factory=dict)  # of backup and rehearsal that were not to be relied on
    observations: Observations  # earlier backups, for rates: one connection to the bucket for all looks
    looks: dict[str, EnvironmentOverview] = field(default_factory=dict)  # of the nightly run
    overview: Overview | None = None  # of all of them
    approvals: dict[str, Approval] = field(default_factory=dict)
    proofs: dict[str, tuple[Proof, ...]] = field(default_factory=dict)  # of backups
    failures: dict[str, LockstepError] = field(default_factory=dict)  # of environments that do not stop the others
    preflighted: bool = False  # later environments' backups have been looked at
    error: LockstepError | None = None  # what stopped it
    applying: ApplyRun | None = None  # holds the lock, and the session that all migrations run on
    session: ExitStack = field(default_factory=ExitStack)  # closes it

    @property
    def folder(self) -> Folder:
        assert self.files is not None
        return self.files

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(environment.name for environment in self.environments)

    @property
    def whole(self) -> bool:
        """Whether it is about all environments."""
        return len(self.environments) == len(self.settings.environments)

    @property
    def summary(self) -> str:
        """How the run ended, in one sentence."""
        if self.error is not None:
            failed = next((name for name, result in self.results.items() if result.error), None)
            return f"failed at {failed}" if failed else "failed before any environment's turn"
        if self.asked.dry_run:
            count = sum(len(preview.plan.steps) for preview in self.plans.values())
            return f"dry run: {count} to apply, nothing was changed" if count else "in step: nothing to do"
        applied = {name: len(result.earlier) + len(result.applied) for name, result in self.results.items()}
        return summary(applied, whole=self.whole)

    def environment(self, name: str) -> Environment:
        return self.settings.environment(name)


_current: ContextVar[Run] = ContextVar("lockstep_run")


def current() -> Run:
    """Return the run that this task belongs to."""
    return _current.get()


def flow_run_of_deployment() -> str | None:
    """Return Prefect's id of a flow run that a worker can take up again; None for one that only this process runs."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return None
    return str(context.flow_run.id)


def safe(error: Exception) -> LockstepError:
    """Return what of an error may leave our code: Lockstep's own as it is, of another one its redacted text."""
    if isinstance(error, LockstepError):
        return error
    run = _current.get(None)
    text = redact(f"{type(error).__name__}: {error}", known_secrets(run.settings) if run else ()).strip()
    made = LockstepError(text, hint="this is unexpected: look at the run's log, and report it")
    return made.with_traceback(error.__traceback__)


@contextmanager
def opened(
    project: Path,
    environments: Sequence[str] | None,
    *,
    asked: DeployParameters | None = None,
    files: bool = True,
) -> Iterator[Run]:
    """Read the project and make it the current run; whatever it holds open is closed on any exit.

    Without `files` the migrations are not read, so a broken one is in nobody's way.

    Raises ConfigError, UsageError (an unknown environment) and MigrationFileError.
    """
    settings = load_settings(project)
    pass_on(settings)
    privacy.hide(partial(known_secrets, settings))
    info, attempt, flow_run = _identity()
    made = Run(
        settings=settings,
        info=info,
        attempt=attempt,
        environments=settings.chosen(list(environments or [])),
        asked=asked or DeployParameters(),
        observations=Observations(settings),
    )
    made.session.callback(made.observations.close)
    token = _current.set(made)
    LINK.info("run %s%s", info.run_id, f": {info.orchestrator_url}" if info.orchestrator_url else "")
    try:
        if files:
            made.files = read_folder(settings)
        with looking_out(flow_run.id, flow_run.run_count):
            yield made
    except Exception as error:
        passed = safe(error)
        from tasks.alerts import alert_failure  # late: it needs this module

        alert_failure(passed)
        raise passed from None
    finally:
        made.session.close()
        _current.reset(token)


def _identity() -> tuple[RunInfo, int, FlowRun]:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("this is called from a flow's body")
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(context.flow_run.id)
        states = client.read_flow_run_states(flow_run.id)
    assert flow_run.created is not None
    info = RunInfo(run_id=run_id_of(flow_run.created, flow_run.id), orchestrator_url=ui_url(flow_run.id))
    # One that goes on after it waited is the same attempt: it relies on its backup and its rehearsal.
    return info, 1 + sum(state.is_final() for state in states), flow_run


# -- its name in the UI ------------------------------------------------------------------------------------------------


def first_name() -> str:
    """Return the name that the flow run starts under; Prefect asks when it starts. The plans complete it."""
    parameters = runtime.parameters or {}
    what = "plan" if parameters.get("dry_run") else "deploy"
    environments = parameters.get("environments")
    expected = parameters.get("expected_plans") or {}
    if not environments:
        environments = [key for key in expected if "/" not in key]
    if not environments:
        return what
    return run_name(what, environments, {name: list(files_of(name, expected)) for name in environments})


def rename() -> None:
    """Put the versions that are known by now into the flow run's name. The name is a convenience: failing is no error."""
    run = current()
    context = FlowRunContext.get()
    if run.asked.expected_plans or context is None or context.flow_run is None:
        return  # the name was complete from the start
    files = {name: [step.name for step in preview.plan.steps] for name, preview in run.plans.items()}
    name = run_name("plan" if run.asked.dry_run else "deploy", list(run.plans), files)
    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(context.flow_run.id, name)
    except Exception as error:
        LOG.debug("the run keeps its name: %s", type(error).__name__)


def project_of(flow_file: str, project: str | None) -> Path:
    """Return where to look for lockstep.toml: as told, else beside the folder that the flow's file lies in."""
    return Path(project) if project else Path(os.path.realpath(flow_file)).parent.parent
