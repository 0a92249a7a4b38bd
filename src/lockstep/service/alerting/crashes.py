"""A run that crashed, where Prefect's server does not tell it: for the hook that the worker calls.

The server tells it where `lockstep alerts apply` was called: also when no worker is left. So this sends only where the
server has no such automation, and nothing arrives twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from lockstep.config import Settings
from lockstep.core.alert import Alert
from lockstep.errors import LockstepError
from lockstep.postgres.entries import RunInfo
from lockstep.service.alerting.automations import name_prefix
from lockstep.service.alerting.sending import Delivery, raise_alert
from lockstep.service.alerting.server import own_automations, project_name
from lockstep.service.prefectapi import configured_server


def alert_crash(settings: Settings, run: RunInfo, *, name: str, state: Sequence[str] = ()) -> tuple[Delivery, ...]:
    """Alert that a run crashed, unless the server does. `state`: what is known of each environment. Never raises."""
    if not settings.alerts.urls or server_tells_crashes(settings):
        return ()
    return raise_alert(
        settings,
        Alert(
            occasion="crashed",
            incident=run.run_id,
            at=datetime.now(UTC),
            environment=None,
            headline=name,
            run_id=run.run_id,
            url=run.orchestrator_url,
            message="Its process ended without a word. What was applied stays applied, and the ledger says what that is.",
            state="; ".join(state),
            next_command=f"lockstep explain {run.run_id}, then: lockstep status",
            contacts=tuple(settings.project.contacts),
            runbook=settings.project.runbook,
        ),
    )


def server_tells_crashes(settings: Settings) -> bool:
    """Whether the configured server has this project's automation for crashes, switched on. Never raises."""
    try:
        server = configured_server()
        if server is None:
            return False
        project = project_name(settings.folder)
        wanted = f"{name_prefix(project)}crashed"
        return any(one["name"] == wanted and one["enabled"] for one in own_automations(server, project))
    except LockstepError:
        return False
