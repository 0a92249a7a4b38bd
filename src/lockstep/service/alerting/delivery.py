"""One alert to several places at once: two tries each, and a bound on how long that may take.

A place that does not answer is left to itself: whoever sends goes on. No address and no part of one is in what comes
back, nor in any log.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lockstep.core.alert import Alert
from lockstep.core.alerttext import body, document, subject
from lockstep.service.alerting.places import Place, notifier
from lockstep.service.redaction import redact

PATIENCE = 10.0  # seconds for a place in all
_ANSWER = 4.0  # seconds for one answer
_TRIES = 2
_PAUSE = 1.0  # seconds between them

_LOG = logging.getLogger("apprise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one alert at one place."""

    place: str  # shown: slack hooks.slack.com, mailto ops@example.com, webhook HOST; without its secret
    ok: bool
    why: str | None = None  # it did not arrive
    name: str = ""  # of the place: 1-slack


def deliver(places: Sequence[Place], alert: Alert, secrets: Sequence[str]) -> tuple[Delivery, ...]:
    """Send `alert`, which holds no secret, to every place at once; return within PATIENCE. Never raises."""
    answers: dict[int, str | None] = {}

    def send(place: Place) -> None:
        answers[place.number] = _tried(lambda: _send(place, alert))

    threads = [threading.Thread(target=send, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    made = []
    for place in places:
        why = answers.get(place.number, f"no answer within {PATIENCE:.0f} s")
        made.append(
            Delivery(
                place=place.shown,
                ok=why is None,
                why=None if why is None else redact(why, secrets),
                name=place.name,
            )
        )
    return tuple(made)


def _tried(send: Callable[[], str | None]) -> str | None:
    why: str | None = None
    for left in reversed(range(_TRIES)):
        try:
            why = send()
        except Exception as error:  # of whatever library carries it
            why = type(error).__name__
        if why is None or not left:
            break
        time.sleep(_PAUSE)
    return why


def _send(place: Place, alert: Alert) -> str | None:
    """Send once; return why it did not arrive."""
    if place.webhook:
        return post(place.address.reveal(), document(alert))
    return _by_apprise(place, alert)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """An alert is for this host alone."""


def post(url: str, content: object) -> str | None:
    """POST JSON; return why it was not taken."""
    headers = {"content-type": "application/json", "user-agent": "lockstep"}
    return _asked(Request(url, data=json.dumps(content).encode(), headers=headers, method="POST"))


def get(url: str) -> str | None:
    """GET an address; return why it was not answered."""
    return _asked(Request(url, headers={"user-agent": "lockstep"}))


def _asked(request: Request) -> str | None:
    try:
        with build_opener(_NoRedirect).open(request, timeout=_ANSWER) as answer:
            answer.read(4096)
            return None
    except HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return f"no answer ({type(reason).__name__})"


def ping(url: str) -> str | None:
    """GET an address, twice where need be; return why it was not answered. Never raises."""
    return _tried(lambda: get(url))


# -- Apprise -------------------------------------------------------------------------------------------------------------


class _Words(logging.Handler):
    """Keeps what Apprise says in one thread: the only place where it says why."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.last = record.getMessage()


def _by_apprise(place: Place, alert: Alert) -> str | None:
    import apprise

    made = notifier(place.address.reveal())
    if made is None:
        return "Apprise does not know this address"
    made.socket_connect_timeout = min(made.socket_connect_timeout, _ANSWER)
    made.socket_read_timeout = min(made.socket_read_timeout, _ANSWER)
    sender = apprise.Apprise()
    sender.add(made)
    _LOG.setLevel(logging.WARNING)
    words = _Words()
    _LOG.addHandler(words)
    room = made.body_maxlen - (0 if made.title_maxlen else len(subject(alert)) + 2)
    try:
        sent = sender.notify(
            body=body(alert, most=room),
            title=subject(alert),
            notify_type=_TYPES.get(alert.occasion, "failure"),
            body_format="text",
        )
    finally:
        _LOG.removeHandler(words)
    return None if sent else words.last or "it was refused"


_TYPES = {"waiting": "warning", "not approved": "warning", "late": "warning", "recovered": "success", "test": "info"}
