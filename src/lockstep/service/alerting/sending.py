"""Sends an alert to every configured place, and says which of them took it."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.config import Settings
from lockstep.core.alert import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one alert at one place."""

    place: str  # shown: slack, mailto ops@example.com, https://hooks.example.com/… without its secret
    ok: bool
    why: str | None = None  # it did not arrive


def raise_alert(settings: Settings, alert: Alert) -> tuple[Delivery, ...]:
    """Send an alert unless its incident was told already (repeat_after), and note it. Never raises."""
    raise NotImplementedError


def recovered(settings: Settings, environment: str, *, run_id: str, url: str | None) -> tuple[Delivery, ...]:
    """Tell once that what was alerted about an environment is over. Nothing was: nothing is sent. Never raises."""
    raise NotImplementedError
