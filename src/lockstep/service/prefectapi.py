"""Prefect's server through its API, without Prefect: importing that takes two seconds.

Never a credential in what it raises. Which server is what Prefect's own settings say.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from lockstep.errors import LockstepError, Unauthorized, Unreachable, UsageError

PATIENCE = 5.0  # seconds for each answer
_BUSY = 0.5  # seconds until a busy server is asked again
_LARGEST = 4 * 1024 * 1024  # bytes of an answer
_YES = {"1", "true", "yes", "on", "y", "t"}
_WITHOUT = "without Prefect: lockstep sync"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """The credentials are for this host alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectApi:
    """A configured API. Every method raises LockstepError, without credentials in it."""

    url: str  # without credentials and without a slash at its end
    authorization: str | None = field(repr=False)  # the header's value: a secret
    patience: float = PATIENCE
    tries: int = 1  # where the server says that it is busy, as one on SQLite does
    authority: str | None = (
        None  # file with the certificates that an https server may show; None: certifi's, as Prefect
    )
    verified: bool = True  # False: any certificate will do (PREFECT_API_TLS_INSECURE_SKIP_VERIFY)

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
                raise Unauthorized(
                    f"{self.shown} refuses the credentials (HTTP {error.code})"
                    if self.authorization
                    else f"{self.shown} asks for credentials (HTTP {error.code}), and none are known here",
                    hint="set PREFECT_API_AUTH_STRING (USER:PASSWORD, as the server has it), or PREFECT_API_KEY for "
                    f"Prefect Cloud; {_WITHOUT}",
                ) from None
            if error.code in {301, 302, 307, 308}:
                raise self._unreachable(f"it sends elsewhere (HTTP {error.code}); name that address itself") from None
            raise self._unreachable(f"it answered with HTTP {error.code}: is it a Prefect API?") from None
        except ValueError:
            raise self._unreachable("what it answered is no JSON: is it a Prefect API?") from None
        except (URLError, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise UsageError(
                    f"the certificate of {self.shown} is not trusted here ({reason.verify_message})",
                    hint="PREFECT_API_SSL_CERT_FILE names the file with its authority's certificate (Prefect does not read "
                    f"the system's own); {_WITHOUT}",
                ) from None
            raise self._unreachable(f"no answer ({type(reason).__name__})") from None
        except Exception as error:  # http.client has a tree of its own
            raise self._unreachable(f"no usable answer ({type(error).__name__})") from None

    def _answer(self, request: Request) -> Any:
        opener = self._opener()
        left, vouched = self.tries, False
        while True:
            try:
                with opener.open(request, timeout=self.patience) as answer:
                    text = answer.read(_LARGEST)
                    return json.loads(text) if text else None
            except HTTPError as error:
                if error.code == 403 and request.get_method() != "GET" and not vouched:
                    vouched = True
                    if self._vouch(opener, request):
                        continue
                left -= 1
                if error.code != 503 or left < 1:
                    raise
            time.sleep(_BUSY)

    def _vouch(self, opener: OpenerDirector, request: Request) -> bool:
        """Add what a server with PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED wants to see; False: it wants no such thing."""
        client = str(uuid.uuid4())
        asked = Request(f"{self.url}/csrf-token?client={client}")  # http(s), as configured_server saw to
        if self.authorization:
            asked.add_header("authorization", self.authorization)
        try:
            with opener.open(asked, timeout=self.patience) as answer:
                token = json.loads(answer.read(_LARGEST))["token"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        request.add_header("Prefect-Csrf-Token", str(token))
        request.add_header("Prefect-Csrf-Client", client)
        return True

    def _opener(self) -> OpenerDirector:
        if not self.url.startswith("https:"):
            return build_opener(_NoRedirect)
        import certifi

        try:
            context = ssl.create_default_context(cafile=self.authority or certifi.where())
        except OSError:  # ssl.SSLError is one
            raise UsageError(
                f"PREFECT_API_SSL_CERT_FILE names a file that holds no certificates: {self.authority}",
                hint="a PEM file with the certificate of the server's authority",
            ) from None
        if not self.verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return build_opener(_NoRedirect, HTTPSHandler(context=context))

    def _unreachable(self, reason: str) -> Unreachable:
        return Unreachable(
            target=self.shown,
            reason=reason,
            hint=f"check PREFECT_API_URL (it ends in /api) and the server; {_WITHOUT}",
        )


class Missing(LockstepError):
    """The server has no such thing."""


def configured_server(*, patience: float = PATIENCE, tries: int = 1) -> PrefectApi | None:
    """The server that Prefect's own settings name: the environment (with .env), else the active profile; None: none.

    Raises UsageError when the address is no URL.
    """
    return server_of_settings({**_profile(), **os.environ}, patience=patience, tries=tries)


def server_of_settings(values: Mapping[str, str], *, patience: float = PATIENCE, tries: int = 1) -> PrefectApi | None:
    """The server that these settings of Prefect's name; None: none. Raises UsageError when the address is no URL."""
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
    return PrefectApi(
        url=urlunsplit(parts._replace(netloc=host, query="", fragment="")),
        authorization=authorization,
        patience=patience,
        tries=tries,
        authority=values.get("PREFECT_API_SSL_CERT_FILE") or values.get("SSL_CERT_FILE") or None,
        verified=values.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").strip().lower() not in _YES,
    )


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
