"""What Prefect calls when a run was stopped.

A flow's process that is told to end (by a signal) ends its SQL itself. These hooks come after that, mostly in another
process, and end what is left where it could not.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, State

from lockstep.config import Environment, Settings, load_settings, pass_on
from lockstep.core import privacy
from lockstep.postgres.entries import RunInfo
from lockstep.service.alerting.crashes import alert_crash
from lockstep.service.alerting.sending import tell
from lockstep.service.deploying import run_id_of
from lockstep.service.orchestrator import ui_url
from lockstep.service.redaction import known_secrets
from lockstep.service.stopping import end_sql
from tasks.progress import LOG
from tasks.run import project_of


def on_cancellation(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """End what is left of a run that somebody cancelled, and write it into the audit log."""
    _end(flow_run, state, "cancelled")


def on_crashed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """End what is left of a run whose process died, and write it into the audit log."""
    _end(flow_run, state, "crashed")


def _end(flow_run: FlowRun, state: State[Any], how: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(flow_run.id)
        assert found.created is not None
        settings = load_settings(project_of(__file__, found.parameters.get("project")))
        pass_on(settings)
        privacy.hide(partial(known_secrets, settings))
        run = RunInfo(run_id=run_id_of(found.created, found.id), orchestrator_url=ui_url(found.id))
        # Both moments are this machine's: the state was made by the worker that calls us.
        age = max(0.0, (datetime.now(UTC) - state.timestamp).total_seconds())
        known: list[str] = []
        try:
            environments = _environments(settings, found.parameters)
            for one in end_sql(settings, run, environments, how=how, age=age, under_way=_under_way(found.id)):
                LOG.info("%s: %s: %s", one.environment, how, one.text)
                known.append(f"{one.environment}: {one.text}")
        finally:  # also when a database does not answer
            if how == "crashed" and found.deployment_id is not None:  # in the foreground somebody sees it
                for text in tell(alert_crash(settings, run, name=found.name, state=known)):
                    LOG.info("%s", text)
    except Exception as error:  # its text may hold a secret, and Prefect would log it
        LOG.warning("what is left of the run could not be looked at: %s", type(error).__name__)


def _environments(settings: Settings, parameters: Mapping[str, Any]) -> tuple[Environment, ...]:
    """Which environments a run was about, by its parameters."""
    names = parameters.get("environments")
    if not names and (one := parameters.get("environment") or parameters.get("into")):
        names = [one]
    if not names:
        names = [key for key in parameters.get("expected_plans") or {} if "/" not in key]
    return settings.chosen(list(names))


def _under_way(flow_run: UUID) -> dict[str, str]:
    """What the run was doing, by its newest tasks that have not ended well: environment -> step. Empty if unknown."""
    with suppress(Exception), get_client(sync_client=True) as client:
        found = client.read_task_runs(
            flow_run_filter=filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[flow_run])), limit=200
        )
        at = [one for one in found if one.state is not None and (not one.state.is_final() or one.state.is_crashed())]
        at.sort(key=lambda one: one.start_time or datetime.min.replace(tzinfo=UTC))
        return dict(one.name.split(": ", 1) for one in at if ": " in one.name)
    return {}
