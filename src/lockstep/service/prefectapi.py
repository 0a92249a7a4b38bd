"""Prefect's server through its API, without Prefect: importing that takes two seconds.

Never a credential in what it raises. Which server is what Prefect's own settings say.
"""

from __future__ import annotations

import base64
import json
import os
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lockstep.errors import LockstepError, Unreachable, UsageError

PATIENCE = 5.0  # seconds for each answer
_BUSY = 0.5  # seconds until a busy server is asked again
_LARGEST = 4 * 1024 * 1024  # bytes of an answer


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """The credentials are for this host alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectApi:
    """A configured API. Every method raises LockstepError, without credentials in it."""

    url: str  # without credentials and without a slash at its end
    authorization: str | None  # the header's value: a secret
    patience: float = PATIENCE
    tries: int = 1  # where the server says that it is busy, as one on SQLite does

    @property
    def shown(self) -> str:
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, object] | Sequence[object]) -> Any:
        return self._ask("POST", path, body)

    def put(self, path: str, body: Mapping[str, object]) -> None:
        self._ask("PUT", path, body)

    def patch(self, path: str, body: Mapping[str, object]) -> None:
        self._ask("PATCH", path, body)

    def delete(self, path: str) -> None:
        self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: Mapping[str, object] | Sequence[object] | None) -> Any:
        headers = {"accept": "application/json", "content-type": "application/json"}
        if self.authorization:
            headers["authorization"] = self.authorization
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        try:
            return self._answer(request)
        except HTTPError as error:
            error.close()
            if error.code == 404 and path != "/health":
                raise Missing(path) from None
            if error.code in {401, 403}:
                raise UsageError(
                    f"{self.shown} refuses the credentials (HTTP {error.code})",
                    hint="set PREFECT_API_AUTH_STRING (USER:PASSWORD), or PREFECT_API_KEY for Prefect Cloud",
                ) from None
            raise self._unreachable(f"it answered with HTTP {error.code}: is it a Prefect API?") from None
        except ValueError:
            raise self._unreachable("what it answered is no JSON: is it a Prefect API?") from None
        except (URLError, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise self._unreachable(f"no answer ({type(reason).__name__})") from None
        except Exception as error:  # http.client has a tree of its own
            raise self._unreachable(f"no usable answer ({type(error).__name__})") from None

    def _answer(self, request: Request) -> Any:
        for left in reversed(range(self.tries)):
            try:
                with build_opener(_NoRedirect).open(request, timeout=self.patience) as answer:
                    text = answer.read(_LARGEST)
                    return json.loads(text) if text else None
            except HTTPError as error:
                if error.code != 503 or not left:
                    raise
            time.sleep(_BUSY)
        raise AssertionError

    def _unreachable(self, reason: str) -> Unreachable:
        return Unreachable(
            target=self.shown,
            reason=reason,
            hint="check PREFECT_API_URL (it ends in /api) and the server; without Prefect: lockstep sync",
        )


class Missing(LockstepError):
    """The server has no such thing."""


def configured_server(*, patience: float = PATIENCE, tries: int = 1) -> PrefectApi | None:
    """The server that Prefect's own settings name: the environment (with .env), else the active profile; None: none.

    Raises UsageError when the address is no URL.
    """
    values = {**_profile(), **os.environ}
    url = values.get("PREFECT_API_URL", "").strip().rstrip("/")
    if not url:
        return None
    problem = UsageError("PREFECT_API_URL is not the URL of an API", hint="PREFECT_API_URL=https://HOST:4200/api")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for one that is none
    except ValueError:
        raise problem from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise problem
    authorization = None
    if key := values.get("PREFECT_API_KEY"):
        authorization = f"Bearer {key}"
    who, _, host = parts.netloc.rpartition("@")
    if auth := values.get("PREFECT_API_AUTH_STRING") or unquote(who):
        authorization = f"Basic {base64.b64encode(auth.encode()).decode()}"
    address = urlunsplit(parts._replace(netloc=host, query="", fragment=""))
    return PrefectApi(url=address, authorization=authorization, patience=patience, tries=tries)


def _profile() -> dict[str, str]:
    """The settings of Prefect's active profile; none when there is no file, or it cannot be read."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or content.get("active")
        return {name: str(value) for name, value in content["profiles"][active].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
