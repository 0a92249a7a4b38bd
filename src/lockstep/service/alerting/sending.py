"""Sends an alert to every configured place, and says which of them took it.

The process that notices sends by itself, so that it sees whether it arrived and nothing else has to be there. What
it cannot deliver it hands to Prefect's server, which may reach what it cannot (docs/adr/0020-alerts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from lockstep.config import Settings
from lockstep.core.alert import DEPLOY, Alert, incident_id
from lockstep.core.alerttext import body, subject
from lockstep.errors import LockstepError
from lockstep.service.alerting import incidents
from lockstep.service.alerting.automations import UNDELIVERED, resource_id
from lockstep.service.alerting.delivery import Delivery, deliver, ping
from lockstep.service.alerting.events import emit
from lockstep.service.alerting.places import Place, places
from lockstep.service.alerting.server import project_name
from lockstep.service.prefectapi import PrefectApi, configured_server
from lockstep.service.redaction import known_secrets, redact
from lockstep.storage.incidents import Incident

__all__ = ["Delivery", "heartbeat", "raise_alert", "recovered", "tell"]


def raise_alert(settings: Settings, alert: Alert) -> tuple[Delivery, ...]:
    """Send an alert unless its incident was told already (repeat_after), and note it. Never raises.

    What of it was told is not decided by who calls: of several processes with the same incident one sends. Returns ()
    when nothing was to be sent.
    """
    try:
        secrets = known_secrets(settings)
        safe = redacted(alert, secrets)
        emit(safe)
        if not settings.alerts.urls or alert.occasion not in settings.alerts.on:
            return ()
        claimed = incidents.claim(settings, safe)
        if claimed is None:
            return ()
        made = send(settings, claimed, secrets)
        if not any(delivery.ok for delivery in made):
            incidents.undelivered(settings, claimed)
        return made
    except Exception as error:
        return (Delivery(place="alerts", ok=False, why=f"unexpected {type(error).__name__}"),)


def recovered(
    settings: Settings, environment: str | None, *, run_id: str, url: str | None, source: str = DEPLOY
) -> tuple[Delivery, ...]:
    """Tell once that what was alerted about an environment is over. Nothing was: nothing is sent. Never raises.

    `source` is what ended well: only what the same kind of run alerted is over then.
    """
    try:
        if not settings.alerts.urls:
            return ()
        over = incidents.close(settings, environment, source)
        if not over or "recovered" not in settings.alerts.on:
            return ()
        return send_recovery(
            settings, environment, over, known_secrets(settings), run_id=run_id, url=url, source=source
        )
    except Exception as error:
        return (Delivery(place="alerts", ok=False, why=f"unexpected {type(error).__name__}"),)


def send_recovery(
    settings: Settings,
    environment: str | None,
    over: Sequence[Incident],
    secrets: Sequence[str],
    *,
    run_id: str,
    url: str | None,
    source: str,
) -> tuple[Delivery, ...]:
    """Tell that these incidents are over."""
    safe = redacted(_recovery(settings, environment, over, run_id=run_id, url=url, source=source), secrets)
    emit(safe)
    return send(settings, safe, secrets)


def heartbeat(settings: Settings) -> str | None:
    """Ping `[alerts] heartbeat_url`; return why that failed, without the address. None: it was answered, or is not set.

    Never raises.
    """
    if not settings.alerts.heartbeat_url:
        return None
    try:
        url = settings.resolved(settings.alerts.heartbeat_url, "alerts.heartbeat_url").strip()
        why = ping(url) if url else None
    except LockstepError as error:
        return error.message
    except ValueError:
        return "alerts.heartbeat_url is no address"
    return redact(why, known_secrets(settings)) if why else None


def tell(deliveries: Sequence[Delivery]) -> list[str]:
    """Return what a run says about its alert: a line per place."""
    return [
        f"alerted {one.place}" if one.ok else f"the alert did not reach {one.place}: {one.why}" for one in deliveries
    ]


def redacted(alert: Alert, secrets: Sequence[str]) -> Alert:
    """Return the alert without any secret that is known, whatever field it got into."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return redact(value, secrets)
        return tuple(map(clean, value)) if isinstance(value, tuple) else value

    # The address of the run is ours, and whom to call is public: a password may well be a word in them.
    kept = {"url", "runbook", "contacts", "incident", "occasion", "source"}
    texts = {field.name: clean(getattr(alert, field.name)) for field in fields(alert) if field.name not in kept}
    return replace(alert, **texts)


def send(settings: Settings, alert: Alert, secrets: Sequence[str]) -> tuple[Delivery, ...]:
    """Send an alert that holds no secret to every place, whatever was told before."""
    found, trouble = places(settings)
    made = deliver(found, alert, secrets)
    made = _handed_over(settings, alert, found, made)
    return (*made, *(Delivery(place=text, ok=False, why="no place") for text in trouble))


def _handed_over(
    settings: Settings, alert: Alert, found: Sequence[Place], made: tuple[Delivery, ...]
) -> tuple[Delivery, ...]:
    """Give Prefect's server, where there is one, what did not arrive."""
    failed = [place for place, delivery in zip(found, made, strict=True) if not delivery.ok]
    if not failed:
        return made
    try:
        server = configured_server()
        if server is None:
            return made
        project = project_name(settings.folder)
        for place in failed:
            send_event(server, UNDELIVERED, project, place, alert)
    except LockstepError:
        return made
    return tuple(one if one.ok else replace(one, why=f"{one.why}; handed over to the Prefect server") for one in made)


def send_event(server: PrefectApi, event: str, project: str, place: Place, alert: Alert) -> str:
    """Put an event about one place onto the server, for its automation there; return the event's id. Raises."""
    made = str(uuid4())
    content: list[dict[str, object]] = [
        {
            "id": made,
            "occurred": datetime.now(UTC).isoformat(),
            "event": event,
            "resource": {
                "prefect.resource.id": resource_id(project, place.name),
                "prefect.resource.name": place.shown,
            },
            "related": [],
            "payload": {"subject": subject(alert), "body": body(alert), "incident": alert.incident},
        }
    ]
    server.post("/events", content)
    return made


def _recovery(
    settings: Settings,
    environment: str | None,
    over: Sequence[Incident],
    *,
    run_id: str,
    url: str | None,
    source: str,
) -> Alert:
    now = datetime.now(UTC)
    since = min(one.first_at for one in over)
    lines = [f"{one.first_at:%Y-%m-%d %H:%M} UTC {one.occasion}: {one.headline} ({one.id})" for one in over]
    project = "deploy"
    with suppress(LockstepError):
        project = project_name(settings.folder)
    return Alert(
        occasion="recovered",
        incident=over[0].id if len(over) == 1 else incident_id(project, environment, *(one.id for one in over)),
        at=now,
        environment=environment,
        headline=f"{source} is well again" + (f": {over[0].headline}" if len(over) == 1 else ""),
        run_id=run_id,
        url=url,
        message="\n".join(["over:", *lines]),
        state=f"it began {since:%Y-%m-%d %H:%M} UTC",
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
        source=source,
    )
