"""Alerts of what is looked at again and again: each problem is told once, as long as it lasts, and once that it is over.

A deploy fails at one moment; what the nightly run finds is a state. So what is there now is compared with the incidents
in the bucket: what is new is told, what is not there any more is over, and what could not be looked at stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby

from lockstep.config import Settings
from lockstep.core.alert import STATUS, Alert, incident_id
from lockstep.service.alerting import incidents
from lockstep.service.alerting.events import emit
from lockstep.service.alerting.sending import Delivery, redacted, send, send_recovery
from lockstep.service.redaction import known_secrets

_LISTED = 20  # findings of one alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What was found of one environment, or of the project as a whole."""

    environment: str | None
    alerts: tuple[Alert, ...]  # one per problem, each with an incident of its own
    judged: Callable[[str], bool]  # whether what is `about` this would have been found, were it there


def watch(
    settings: Settings, found: Iterable[Watched], *, run_id: str, url: str | None, source: str = STATUS
) -> tuple[tuple[str | None, Delivery], ...]:
    """Tell what is new and what is over, per environment. Never raises; what reached nobody is new again next time."""
    made: list[tuple[str | None, Delivery]] = []
    try:
        secrets = known_secrets(settings)
        with incidents.opened(settings) as stores:
            for one in found:
                safe = replace(one, alerts=tuple(redacted(alert, secrets) for alert in one.alerts))
                made += [
                    (one.environment, each) for each in _watch(settings, stores, safe, run_id, url, source, secrets)
                ]
    except Exception as error:
        made.append((None, Delivery(place="alerts", ok=False, why=f"unexpected {type(error).__name__}")))
    return tuple(made)


def _watch(
    settings: Settings,
    stores: incidents.Stores,
    one: Watched,
    run_id: str,
    url: str | None,
    source: str,
    secrets: Sequence[str],
) -> list[Delivery]:
    for alert in combined(one.alerts):
        emit(alert)
    if not settings.alerts.urls:
        return []
    wanted = [alert for alert in one.alerts if alert.occasion in settings.alerts.on]
    changes = incidents.reconcile(stores, one.environment, wanted, source=source, judged=one.judged)
    made: list[Delivery] = []
    for alert in combined(changes.new):
        sent = send(settings, alert, secrets)
        if not any(delivery.ok for delivery in sent):
            ids = {each.incident for each in changes.new if each.occasion == alert.occasion}
            incidents.unnoted(stores, one.environment, ids)
        made += sent
    if changes.over and "recovered" in settings.alerts.on:
        made += send_recovery(settings, one.environment, changes.over, secrets, run_id=run_id, url=url, source=source)
    return made


def combined(alerts: Sequence[Alert]) -> list[Alert]:
    """Make one alert of those of one occasion: a night that finds ten things sends one message, not ten."""
    ordered = sorted(alerts, key=lambda alert: alert.occasion)
    return [_combined(list(group)) for _, group in groupby(ordered, key=lambda alert: alert.occasion)]


def _combined(alerts: list[Alert]) -> Alert:
    first = alerts[0]
    if len(alerts) == 1:
        return first
    listed = [alert.message.splitlines()[0] for alert in alerts[:_LISTED]]
    more = [f"and {len(alerts) - _LISTED} more"] if len(alerts) > _LISTED else []
    return replace(
        first,
        incident=incident_id(*sorted(alert.incident for alert in alerts)),
        at=datetime.now(UTC),
        headline=f"{first.headline} (and {len(alerts) - 1} more)",
        message="\n".join([*listed, *more]),
        next_command=first.next_command,
        repeats=0,
    )
