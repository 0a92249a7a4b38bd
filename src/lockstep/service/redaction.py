"""What must not show of a project: for texts that others wrote, exceptions of libraries above all.

Lockstep's own errors hold no secret to begin with; this is for all the rest. `core.redaction` takes them out.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from lockstep.config import Settings
from lockstep.core.address import parse_address
from lockstep.core.redaction import SHORTEST, elements, redact
from lockstep.errors import ConfigError

__all__ = ["known_secrets", "redact"]

_TOKEN, _LONG = 8, 16  # characters of a part of a webhook that may be its token; shorter ones need a digit
_TELLING = re.compile(r"PASSW|SECRET|TOKEN|PRIVATE|CREDENTIAL|AUTH|_KEY$|_KEY_|WEBHOOK|_URL$|DSN", re.IGNORECASE)


def known_secrets(settings: Settings) -> tuple[str, ...]:
    """Return every text that must not show: addresses, passwords, settings' values, variables with telling names.

    Longest first, so that a part is not replaced before the whole.
    """
    found: set[str] = set()
    for environment in settings.environments.values():
        for read in (settings.url, settings.setting_values):
            try:
                value = read(environment)
            except ConfigError:
                continue  # a variable that is not set holds nothing
            if isinstance(value, dict):
                for text in value.values():
                    found |= elements(text)
            elif value is not None:
                found |= _of_address(value.reveal())
    with suppress(ConfigError):
        if (server := settings.rehearsal_server()) is not None:
            found |= _of_address(server.reveal())
    checks = (one.table.check.url or "" for one in settings.environments.values() if one.table.check)
    for text in (*settings.alerts.urls, settings.alerts.heartbeat_url or "", *checks):
        with suppress(ConfigError):
            found |= _of_webhook(settings.resolved(text, "alerts"))
    for name, text in settings.variables.items():
        if _TELLING.search(name):
            found |= _of_address(text)
    found |= _of_password_files(settings)
    return tuple(sorted((s for s in found if len(s) >= SHORTEST), key=len, reverse=True))


def _of_password_files(settings: Settings) -> set[str]:
    """Passwords that libpq reads by itself: of .pgpass and of the service file, wherever these are."""
    files = {settings.variables.get("PGPASSFILE", ""), settings.variables.get("PGSERVICEFILE", "")}
    files |= {str(Path.home() / name) for name in (".pgpass", ".pg_service.conf")}
    for environment in settings.environments.values():
        with suppress(ConfigError, ValueError):
            if (url := settings.url(environment)) is not None:
                files.add(parse_address(url.reveal()).options.get("passfile", ""))
    found: set[str] = set()
    for file in filter(None, files):
        with suppress(OSError, UnicodeDecodeError):
            for line in Path(file).read_text().splitlines():
                if match := _PASSFILE.match(line) or _SERVICE.match(line):
                    found |= _of_address(re.sub(r"\\(.)", r"\1", match[1]))
    return found


_PASSFILE = re.compile(r"(?:(?:[^:\\]|\\.)*:){4}(.+)$")  # host:port:database:user:password
_SERVICE = re.compile(r"\s*password\s*=\s*(.+)$")


def _of_webhook(text: str) -> set[str]:
    """Whoever has the address can post there, and parts of it show up alone: in a request line, in an error."""
    try:
        parts = urlsplit(text)
        words = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), parts.password or ""]
    except ValueError:
        return {text}
    tokens = {word for word in words if len(word) >= _TOKEN and (len(word) >= _LONG or any(map(str.isdigit, word)))}
    path = {f"{parts.path}?{parts.query}", parts.path} if len(parts.path) >= _TOKEN else set()
    return {text, *path, *tokens, *map(unquote, tokens)} if "://" in text else {text}


def _of_address(text: str) -> set[str]:
    try:
        password = parse_address(text).password if "://" in text or "password" in text else ""
    except ValueError:
        password = ""
    # A password may stand in the address in another spelling than the server gets.
    return {text, password, quote(password), quote(password, safe=""), quote_plus(password)}
