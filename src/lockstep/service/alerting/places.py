"""Where alerts go, from `[alerts] urls`: what each place is, how it is shown, and as which address Apprise takes it.

An address is a secret as a whole: whoever has it can post there. It sends nothing.
"""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from lockstep.config import Secret, Settings
from lockstep.errors import ConfigError, UsageError

if TYPE_CHECKING:
    import apprise

KEY = "alerts.urls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place that alerts go to."""

    number: int  # of [alerts] urls, from 1
    kind: str  # webhook, slack, mailto, …: a word of Apprise's, or ours
    shown: str  # for people: no secret in it
    address: Secret  # as configured, with its variables filled in
    webhook: bool  # a plain one: gets our own JSON

    @property
    def name(self) -> str:
        """As blocks and results call it: 1-slack."""
        return f"{self.number}-{re.sub(r'[^a-z0-9]+', '-', self.kind.lower()).strip('-')}"

    def carried(self) -> Secret:
        """Return the address as Apprise takes it: what Prefect's server sends by."""
        return Secret(_as_apprise(self.address.reveal())) if self.webhook else self.address


def places(settings: Settings) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """Return the places, and what is wrong with those that are none. Raises nothing: the others are still told."""
    found: list[Place] = []
    trouble: list[str] = []
    for number, text in enumerate(settings.alerts.urls, start=1):
        try:
            address = settings.resolved(text, KEY).strip()
        except ConfigError as error:
            trouble.append(f"{KEY} {number}: {error.message}")
            continue
        if not address:
            continue  # a variable that is set to nothing: switched off there
        try:
            found.append(_place(number, address))
        except ValueError as error:
            trouble.append(f"{KEY} {number} {error} ({settings.where(KEY)})")
    return tuple(found), tuple(trouble)


def all_places(settings: Settings) -> tuple[Place, ...]:
    """Return the places. Raises ConfigError when one of them is none, and UsageError when there is none."""
    found, trouble = places(settings)
    if trouble:
        raise ConfigError("; ".join(trouble), where=settings.where(KEY), hint="docs/how-to/alerts.md")
    if not found:
        raise UsageError("no place is configured that alerts could go to", hint="[alerts] urls: docs/how-to/alerts.md")
    return found


def notifier(address: str) -> apprise.NotifyBase | None:
    """Return Apprise's plug-in for an address; None when it knows none."""
    # What it logs may hold a part of an address: whoever wants to hear it listens there (delivery.py).
    log = logging.getLogger("apprise")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its plug-ins' own, when they are loaded
        import apprise  # late: 0.7 s with its plug-ins, and only where an alert is sent

        asset = apprise.AppriseAsset(app_id="Lockstep", app_desc="Lockstep", app_url="")
        made = apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
    return made or None


def _place(number: int, address: str) -> Place:
    scheme = address.split(":", 1)[0].lower()
    known = notifier(address)
    if known is not None:
        kind = _kind(known, scheme)
        return Place(number=number, kind=kind, shown=_shown(kind, address), address=Secret(address), webhook=False)
    if scheme not in {"http", "https"}:
        raise ValueError("is no address that Apprise knows, and no https:// webhook")
    if not (urlsplit(address).hostname):
        raise ValueError("is no webhook: it names no host")
    return Place(number=number, kind="webhook", shown=_shown("webhook", address), address=Secret(address), webhook=True)


def _kind(known: apprise.NotifyBase, scheme: str) -> str:
    if scheme not in {"http", "https"}:
        return scheme
    secure = known.secure_protocol or known.protocol  # a native address of a service: hooks.slack.com, …
    return secure if isinstance(secure, str) else next(iter(secure or ("webhook",)))


def _shown(kind: str, address: str) -> str:
    """The service and the host, and to whom an e-mail goes. A webhook's path is its secret."""
    parts = urlsplit(address)
    if kind.startswith("mailto"):
        query = dict(parse_qsl(parts.query))
        if to := query.get("to"):
            return f"{kind} {to}"
        return f"{kind} {_host(address)}"
    if parts.scheme.lower() in {"http", "https"} or kind in {"json", "jsons", "xml", "xmls", "form", "forms"}:
        return f"{kind} {_host(address)}"
    return kind  # its host may well be a token


def _host(address: str) -> str:
    parts = urlsplit(address)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname or '?'}{port}"


def _as_apprise(url: str) -> str:
    """A plain webhook as Apprise's own JSON, with the two fields that ours has as well."""
    parts = urlsplit(url)
    own = [(f"-{name}", value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    fields = [(":title", "subject"), (":message", "body"), (":version", ""), (":attachments", ""), (":type", "")]
    how = [("method", "POST"), ("retry", "1"), ("wait", "1.0")]
    query = "&".join((urlencode(own, quote_via=quote), urlencode([*fields, *how], safe=":", quote_via=quote))).strip(
        "&"
    )
    return f"{'jsons' if parts.scheme.lower() == 'https' else 'json'}://{parts.netloc}{parts.path or '/'}?{query}"
