"""Events of our own on Prefect's server, for people's own automations: `lockstep.deploy.failed`, `lockstep.deploy.waiting`, …

Only from inside a flow run: elsewhere there may be no server, and Prefect is not imported for it.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from lockstep.core.alert import Alert
from lockstep.core.alerttext import document


def event_name(alert: Alert) -> str:
    """Return lockstep.SOURCE.OCCASION with dashes for blanks."""
    return f"lockstep.{alert.source}.{alert.occasion.replace(' ', '-')}"


def emit(alert: Alert) -> None:
    """Emit the event of an alert that holds no secret. Never raises."""
    if "prefect" not in sys.modules:
        return
    with suppress(Exception):
        from prefect.context import FlowRunContext
        from prefect.events import emit_event

        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return
        emit_event(
            event_name(alert),
            resource={
                "prefect.resource.id": f"lockstep.environment.{alert.environment or 'none'}",
                "prefect.resource.name": alert.environment or "",
            },
            payload=document(alert),
        )
