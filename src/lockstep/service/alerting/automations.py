"""What Prefect's server is to do by itself, as its API takes it: mark runs that nobody carries out any more, and alert.

Only what no living process of ours can tell. Everything else is sent by the process that notices (sending.py). Pure:
descriptions in, descriptions out; nothing is sent to a server here.

A proactive trigger holds one window per run. It begins with an event of `after`, an event of `expect` fills it, and one
that is still empty at its end fires. An event of both begins it anew (prefect/server/events/triggers.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lockstep.service.deploying import NOT_APPROVED
from lockstep.settings import OCCASIONS

Description = dict[str, Any]

#: Seconds without a sign of life after which a run is given up: two heartbeats and a half. Prefect's least is 30.
ZOMBIE_SECONDS = 75
HEARTBEAT_SECONDS = 30  # as prefect.yaml sets it; by default it is 180, and living runs would look dead
LATE_SECONDS = 60  # behind what Prefect calls late
PENDING_SECONDS = 600  # a worker took it, and it did not begin
CANCELLING_SECONDS = 90
EXPIRY_SLACK_SECONDS = 60  # a process of ours that is there settles it first

LOST = "Lost"  # the state, for a moment, of a run that gave no sign of life
LOST_MESSAGE = f"no sign of life for {ZOMBIE_SECONDS} s: its process and its worker are gone"
EXPIRED_MESSAGE = "nobody approved it in time"

UNDELIVERED = "lockstep.alert.undelivered"
TEST = "lockstep.alert.test"

_HEARTBEAT = "prefect.flow-run.heartbeat"
_OVER = tuple(
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", NOT_APPROVED, "RolledBack")
)
_WAITS = ("prefect.flow-run.Suspended", "prefect.flow-run.Paused", "prefect.flow-run.Suspending")
_GOES_ON = tuple(
    f"prefect.flow-run.{state}"
    for state in (
        "Resuming", "Scheduled", "Late", "Pending", "Submitting", "InfrastructurePending", "Running", "Retrying",
        "AwaitingRetry", "AwaitingConcurrencySlot", "Cancelling",
    )
)  # fmt: skip
_EACH_RUN = ["prefect.resource.id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the server's part is made from."""

    project: str  # the name of its deploy deployment: no other project on the server has it
    deployments: tuple[str, ...]  # ids of those of prefect.yaml that the server has
    beating: tuple[str, ...]  # of them, those whose runs send a heartbeat often enough to miss one
    blocks: Mapping[str, str]  # place -> id of the block that sends there
    on: frozenset[str]  # of settings.OCCASIONS
    expires_seconds: int  # how long an approval may take
    contacts: tuple[str, ...]
    runbook: str | None
    run_url: str | None  # of a flow run in the UI; {id} stands for it

    @property
    def prefix(self) -> str:
        return name_prefix(self.project)


def name_prefix(project: str) -> str:
    """Return what the names of a project's automations begin with."""
    return f"lockstep: {project}: "


def automations(wish: Wish) -> tuple[Description, ...]:
    """Return every automation that a project wants, as POST /automations/ takes it. Names are unique."""
    made: list[Description] = []
    if wish.deployments:
        made += [_cancelled(wish), _expired(wish)]
        if wish.beating:
            made += [_lost(wish), _crash(wish)]
        if wish.blocks and "crashed" in wish.on:
            made.append(_crashed(wish))
        if wish.blocks and "late" in wish.on:
            made += [_late(wish), _stuck(wish)]
    made += [_undelivered(wish, place, block) for place, block in wish.blocks.items()]
    made += [_test(wish, place, block) for place, block in wish.blocks.items()]
    return tuple(made)


# -- runs that nobody carries out any more ---------------------------------------------------------------------------------


def _lost(wish: Wish) -> Description:
    """Pause, and not crash: Prefect pauses no run but a running one, so one that waits for approval is left alone.

    A heartbeat may well reach the server behind the event that a run suspended itself, and begins a window.
    """
    return _automation(
        wish,
        "no sign of life",
        f"A run whose heartbeats stop for {ZOMBIE_SECONDS} s is given up. One that waits for approval is left alone.",
        _proactive(
            wish,
            after=[_HEARTBEAT],
            expect=[_HEARTBEAT, *_OVER, *_WAITS, *_GOES_ON, f"prefect.flow-run.{LOST}"],
            within=ZOMBIE_SECONDS,
            of=wish.beating,
        ),
        [_state(LOST, "PAUSED", LOST_MESSAGE)],
    )


def _crash(wish: Wish) -> Description:
    return _automation(
        wish,
        "given up",
        "A run that was given up is marked as crashed.",
        _reactive(wish, [f"prefect.flow-run.{LOST}"]),
        [_state("Crashed", "CRASHED", LOST_MESSAGE)],
    )


def _cancelled(wish: Wish) -> Description:
    return _automation(
        wish,
        "cancelled",
        "A run that was cancelled while nobody was there to stop it is marked as cancelled.",
        _proactive(wish, after=["prefect.flow-run.Cancelling"], expect=list(_OVER), within=CANCELLING_SECONDS),
        [_state("Cancelled", "CANCELLED", "cancelled; its worker did not say so")],
    )


def _expired(wish: Wish) -> Description:
    actions = [_state(NOT_APPROVED, "CANCELLED", EXPIRED_MESSAGE)]
    if "not approved" in wish.on:
        actions += _notify(
            wish, "not approved: {{ flow_run.name }}", ["Nobody approved it in time, so nothing was applied."]
        )
    return _automation(
        wish,
        "approval expired",
        "A run that waits for approval for longer than [approval] expires ends as not approved.",
        _proactive(
            wish,
            after=["prefect.flow-run.Suspended"],
            # Suspended too: a run that waits a second time gets a window of its own.
            expect=["prefect.flow-run.Suspended", *_OVER, *_GOES_ON],
            within=wish.expires_seconds + EXPIRY_SLACK_SECONDS,
        ),
        actions,
    )


# -- alerts ------------------------------------------------------------------------------------------------------------


def _crashed(wish: Wish) -> Description:
    # Of the state's message only what is known to hold no secret: others write exceptions into it.
    message = "event.resource['prefect.state-message']"
    why = (
        f"{{% if {message} == {_quoted(LOST_MESSAGE)} %}}{LOST_MESSAGE}"
        f"{{% elif ({message} or '').startswith('Flow run process exited') %}}{{{{ {message} }}}}"
        "{% else %}its process ended without a word{% endif %}"
    )
    lines = [f"It did not come to its end: {why}.", "What was applied stays applied, and the ledger says what that is."]
    return _automation(
        wish,
        "crashed",
        "Tells that a run of this project crashed.",
        _reactive(wish, ["prefect.flow-run.Crashed"]),
        _notify(wish, "crashed: {{ flow_run.name }}", lines),
    )


def _late(wish: Wish) -> Description:
    return _automation(
        wish,
        "late",
        "Tells that a run of this project is due and nobody takes it.",
        _proactive(
            wish,
            after=["prefect.flow-run.Late"],
            expect=[*_OVER, *(event for event in _GOES_ON if not event.endswith(".Late"))],
            within=LATE_SECONDS,
        ),
        _notify(
            wish,
            "late: {{ flow_run.name }} of {{ flow.name }}",
            ["It is due, and no worker takes it.", "Look whether one polls its work pool: lockstep doctor"],
        ),
    )


def _stuck(wish: Wish) -> Description:
    return _automation(
        wish,
        "not begun",
        "Tells that a worker took a run of this project, and it did not begin.",
        _proactive(
            wish,
            after=["prefect.flow-run.Pending"],
            expect=[*_OVER, *_WAITS, *(event for event in _GOES_ON if not event.endswith("Pending"))],
            within=PENDING_SECONDS,
        ),
        _notify(
            wish,
            "late: {{ flow_run.name }} of {{ flow.name }}",
            [f"A worker took it {PENDING_SECONDS // 60} minutes ago, and it has not begun since."],
        ),
    )


def _undelivered(wish: Wish, place: str, block: str) -> Description:
    """An alert that one of our processes could not deliver to this place: the server tries it from where it stands."""
    return _own(wish, "undelivered", "Sends an alert that the run itself could not deliver.", UNDELIVERED, place, block)


def _test(wish: Wish, place: str, block: str) -> Description:
    return _own(wish, "test", "Sends what `lockstep alerts test` asks for.", TEST, place, block)


def _own(wish: Wish, what: str, why: str, event: str, place: str, block: str) -> Description:
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "expect": [event],
        "match": {"prefect.resource.id": resource_id(wish.project, place)},
        "threshold": 1,
        "within": 0,
    }
    action = {
        "type": "send-notification",
        "block_document_id": block,
        "subject": "{{ event.payload.subject }}",
        "body": "{{ event.payload.body }}",
    }
    return _automation(wish, f"{what} {place}", why, trigger, [action])


def resource_id(project: str, place: str) -> str:
    """Return the resource of our own events about one place."""
    return f"lockstep.place.{project}.{place}"


# -- parts -------------------------------------------------------------------------------------------------------------


def _automation(
    wish: Wish, name: str, description: str, trigger: Description, actions: Sequence[Description]
) -> Description:
    return {
        "name": f"{wish.prefix}{name}",
        "description": f"{description} Made by `lockstep alerts apply`: change lockstep.toml instead.",
        "enabled": True,
        "tags": ["lockstep"],
        "trigger": trigger,
        "actions": list(actions),
    }


def _proactive(
    wish: Wish, *, after: list[str], expect: list[str], within: int, of: Sequence[str] | None = None
) -> Description:
    return {
        **_ours(wish.deployments if of is None else of),
        "posture": "Proactive",
        "after": after,
        "expect": expect,
        "for_each": _EACH_RUN,
        "threshold": 1,
        "within": within,
    }


def _reactive(wish: Wish, expect: list[str]) -> Description:
    return {**_ours(wish.deployments), "posture": "Reactive", "expect": expect, "threshold": 1, "within": 0}


def _ours(deployments: Sequence[str]) -> Description:
    # By id: the event of a heartbeat names no deployment otherwise.
    return {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {
            "prefect.resource.role": "deployment",
            "prefect.resource.id": [f"prefect.deployment.{one}" for one in deployments],
        },
    }


def _state(name: str, kind: str, message: str) -> Description:
    return {"type": "change-flow-run-state", "name": name, "state": kind, "message": message}


#: Our id of a run, from what Prefect knows: service.deploying.run_id_of in Jinja.
_RUN_ID = "{{ flow_run.created.strftime('%Y%m%d-%H%M%S') }}-{{ (flow_run.id | string)[-4:] }}"


def _notify(wish: Wish, subject: str, lines: Sequence[str]) -> list[Description]:
    """One action per place. Jinja: what is ours is quoted, so that a brace in a contact is a brace."""
    body = [*lines, "", f"run: {_RUN_ID} ({{{{ flow_run.name }}}})"]
    if wish.run_url:
        before, _, behind = wish.run_url.partition("{id}")
        body.append(f"link: {_literal(before)}{{{{ flow_run.id }}}}{_literal(behind) if behind else ''}")
    body += [f"next: lockstep explain {_RUN_ID}, then: lockstep status"]
    if wish.contacts:
        body.append(f"contacts: {_literal(', '.join(wish.contacts))}")
    if wish.runbook:
        body.append(f"runbook: {_literal(wish.runbook)}")
    return [
        {"type": "send-notification", "block_document_id": block, "subject": f"lockstep {subject}", "body": text}
        for block in wish.blocks.values()
        for text in ["\n".join(body)]
    ]


def _literal(text: str) -> str:
    return f"{{{{ {_quoted(text)} }}}}"


def _quoted(text: str) -> str:
    return json.dumps(text)


assert {"crashed", "late", "not approved"} <= set(OCCASIONS)
