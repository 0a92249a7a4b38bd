"""`alerts test`: one alert to each place by each way, and what became of it. It waits for the answer of the place itself.

Directly, as a run sends it; and by Prefect's server, as it tells what no run can: an event, the automation, the block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lockstep.config import Settings
from lockstep.core.counting import counted
from lockstep.errors import LockstepError
from lockstep.service.alerting.automations import TEST, name_prefix
from lockstep.service.alerting.delivery import deliver
from lockstep.service.alerting.making import of_test
from lockstep.service.alerting.places import Place, all_places
from lockstep.service.alerting.sending import redacted, send_event
from lockstep.service.alerting.server import Change, compare_automations, project_name, server_of
from lockstep.service.prefectapi import PrefectApi, configured_server
from lockstep.service.redaction import known_secrets, redact

SERVER_PATIENCE = 60.0  # seconds for the server to say what became of it
_POLL = 0.5

DIRECTLY, BY_SERVER = "directly", "by the Prefect server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One alert by one way to one place."""

    place: str  # shown
    way: str  # directly, by the Prefect server
    ok: bool
    ms: int | None  # until it was known; None: it was not tried
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """What `alerts test` found out."""

    proofs: tuple[Proof, ...]
    without_server: str | None  # why nothing was sent by one; None: it was

    @property
    def ok(self) -> bool:
        return all(proof.ok for proof in self.proofs)


def prove(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Proofs:
    """Send a test alert to each place by each way, and wait for each. Raises ConfigError and UsageError."""
    found = all_places(settings)
    secrets = known_secrets(settings)
    tell(f"sending to {counted(len(found), 'place')} …")
    began = time.monotonic()
    made = deliver(found, redacted(of_test(settings, DIRECTLY), secrets), secrets)
    ms = round((time.monotonic() - began) * 1000)
    proofs = [Proof(place=one.place, way=DIRECTLY, ok=one.ok, ms=ms, why=one.why) for one in made]
    if configured_server() is None:
        return Proofs(proofs=tuple(proofs), without_server="no Prefect server is configured (PREFECT_API_URL)")
    tell("and by the Prefect server …")
    try:
        server = server_of()
        proofs += _by_server(settings, server, found, secrets)
    except LockstepError as error:
        proofs += [Proof(place=one.shown, way=BY_SERVER, ok=False, ms=None, why=error.message) for one in found]
    return Proofs(proofs=tuple(proofs), without_server=None)


def _by_server(settings: Settings, server: PrefectApi, found: Sequence[Place], secrets: Sequence[str]) -> list[Proof]:
    project = project_name(settings.folder)
    there = {
        item.name for item in compare_automations(settings).items if item.change in {Change.UNCHANGED, Change.UPDATED}
    }
    alert = redacted(of_test(settings, BY_SERVER), secrets)
    sent: dict[str, Place] = {}
    proofs: dict[int, Proof] = {}
    began, since = time.monotonic(), datetime.now(UTC) - timedelta(minutes=5)
    for place in found:
        if f"{name_prefix(project)}test {place.name}" in there:
            sent[send_event(server, TEST, project, place, alert)] = place
        else:
            why = "its automations are not on the server: lockstep alerts apply"
            proofs[place.number] = Proof(place=place.shown, way=BY_SERVER, ok=False, ms=None, why=why)
    waiting = dict(sent)
    while waiting and time.monotonic() - began < SERVER_PATIENCE:
        for event in _answers(server, tuple(waiting), since):
            if event["about"] in waiting:
                place = waiting.pop(event["about"])
                ms = round((time.monotonic() - began) * 1000)
                said = None if event["ok"] else redact(event["why"], secrets)
                proofs[place.number] = Proof(place=place.shown, way=BY_SERVER, ok=event["ok"], ms=ms, why=said)
        if waiting:
            time.sleep(_POLL)
    for place in waiting.values():
        why = f"the server did not say within {SERVER_PATIENCE:.0f} s that it sent it"
        proofs[place.number] = Proof(place=place.shown, way=BY_SERVER, ok=False, ms=None, why=why)
    return [proofs[place.number] for place in found]


def _answers(server: PrefectApi, events: Sequence[str], since: datetime) -> list[dict[str, Any]]:
    """What the server says of the actions that these events triggered."""
    wanted = {f"prefect.event.{one}": one for one in events}
    answer = server.post(
        "/events/filter",
        {
            "filter": {
                "occurred": {"since": since.isoformat(), "until": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
                "event": {"name": ["prefect.automation.action.executed", "prefect.automation.action.failed"]},
                "related": {"id": list(wanted)},
            },
            "limit": 50,
        },
    )
    found = []
    for event in answer["events"]:
        about = next(
            (wanted[r["prefect.resource.id"]] for r in event["related"] if r["prefect.resource.id"] in wanted), ""
        )
        payload = event.get("payload") or {}
        log = str(payload.get("notification_log") or "").strip().splitlines()
        why = f"{payload.get('reason') or 'it failed'}" + (f": {log[-1]}" if log else "")
        found.append({"about": about, "ok": event["event"].endswith(".executed"), "why": why})
    return found
