"""Prefect: what is installed here, and the server as its API shows it. Prefect itself is not imported: that takes 1.5 s.

It must not start anything, and reads no run.
"""

from __future__ import annotations

import base64
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lockstep.config import Settings
from lockstep.core.checkup import not_checked, ok, problem, warning
from lockstep.core.setup_rules import prefect_server, prefect_versions, worker
from lockstep.errors import ExitCode, LockstepError, Unreachable, UsageError
from lockstep.service.checkup.findings import Findings

PATIENCE = 5.0  # seconds for each answer
POOL = "lockstep"  # as prefect.yaml names it, where there is none to read
_LARGEST = 4 * 1024 * 1024  # bytes of an answer

_ASKED = ("server version", "work pool", "worker", "deployments")


def check_prefect(findings: Findings, settings: Settings) -> None:
    """Check Prefect's installation and, where a server is configured, the server. Reads only."""
    try:
        server = _configured()
    except LockstepError as error:
        server = None
        findings.add(warning("server", error.message, error.hint))
    installed = _version("prefect")
    findings.add(prefect_versions(installed, _version("fastapi"), own_server=server is None))
    if server is None:
        findings.skip(("server",), "none is configured (PREFECT_API_URL): lockstep deploy runs in its own process")
        return
    answered = False
    with findings.checking("server"):
        server.get("/health")
        answered = True
        findings.add(ok("server", server.shown))
    if not answered:
        findings.skip(_ASKED, "no answer")
        return
    with findings.checking("server version"):
        findings.add(prefect_server(str(server.get("/admin/version")), installed))
    wanted = _wanted(findings, settings.folder)
    for pool in dict.fromkeys(pool for _, pool in wanted) or (POOL,):
        _pool(findings, server, pool)
    _deployments(findings, server, [name for name, _ in wanted])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# -- the server --------------------------------------------------------------------------------------------------------


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """The credentials are for this host alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """A configured API. Every method raises LockstepError, without credentials in it."""

    url: str  # without credentials and without a slash at its end
    authorization: str | None  # the header's value: a secret

    @property
    def shown(self) -> str:
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def get(self, path: str) -> Any:
        return self._ask(path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self._ask(path, json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None) -> Any:
        headers = {"accept": "application/json", "content-type": "application/json"}
        if self.authorization:
            headers["authorization"] = self.authorization
        request = Request(f"{self.url}{path}", data=body, headers=headers)
        try:
            with build_opener(_NoRedirect).open(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read(_LARGEST))
        except HTTPError as error:
            error.close()
            if error.code == 404 and path != "/health":
                raise _Missing(path) from None
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

    def _unreachable(self, reason: str) -> Unreachable:
        return Unreachable(
            target=self.shown,
            reason=reason,
            hint="check PREFECT_API_URL (it ends in /api) and the server; without Prefect: lockstep sync",
        )


class _Missing(LockstepError):
    """The server has no such thing."""


def _configured() -> _Server | None:
    """The server that Prefect's own settings name: the environment (with .env), else the active profile.

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
    return _Server(url=urlunsplit(parts._replace(netloc=host, query="", fragment="")), authorization=authorization)


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


# -- what this project needs there -------------------------------------------------------------------------------------


def _wanted(findings: Findings, folder: Path) -> list[tuple[str, str]]:
    """The deployments of prefect.yaml as flow/name, each with its work pool."""
    file = folder / "prefect.yaml"
    if not file.is_file():
        findings.add(not_checked("deployments", "this project has no prefect.yaml"))
        return []
    try:
        import yaml  # type: ignore[import-untyped]  # comes with Prefect

        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return [
            (
                f"{one['entrypoint'].rpartition(':')[2].replace('_', '-')}/{one['name']}",
                str((one.get("work_pool") or {}).get("name") or POOL),
            )
            for one in content["deployments"]
        ]
    except Exception as error:  # whatever a file of others holds
        text = f"prefect.yaml cannot be read ({type(error).__name__})"
        findings.add(problem("deployments", text, "prefect deploy --all says what is wrong with it", ExitCode.USAGE))
        return []


def _pool(findings: Findings, server: _Server, pool: str) -> None:
    there = False
    path = f"/work_pools/{quote(pool, safe='')}"
    with findings.checking("work pool"):
        try:
            found = server.get(path)
        except _Missing:
            text = f"there is none named {pool}: deploys run where they are called, and nothing scheduled runs"
            findings.add(warning("work pool", text, f"prefect work-pool create {pool} --type process"))
        else:
            there = True
            if found.get("is_paused"):
                remedy = f"prefect work-pool resume {pool}"
                findings.add(problem("work pool", f"{pool} is paused: lockstep deploy refuses", remedy, ExitCode.USAGE))
            else:
                findings.add(ok("work pool", f"{pool} ({found.get('type')})"))
    if not there:
        findings.skip(("worker",), "there is no work pool")
        return
    with findings.checking("worker"):
        workers = server.post(f"{path}/workers/filter", {})
        online = tuple(
            (str(w["name"]), _moment(w.get("last_heartbeat_time"))) for w in workers if w["status"] == "ONLINE"
        )
        findings.add(worker(online, len(workers), datetime.now(UTC), pool))


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _deployments(findings: Findings, server: _Server, names: list[str]) -> None:
    if not names:
        return
    with findings.checking("deployments"):
        missing, paused = [], []
        for name in names:
            flow, _, own = name.partition("/")
            try:
                found = server.get(f"/deployments/name/{quote(flow, safe='')}/{quote(own, safe='')}")
            except _Missing:
                missing.append(name)
            else:
                paused += [name] if found.get("paused") else []
        if missing:
            findings.add(warning("deployments", f"not on the server: {', '.join(missing)}", "prefect deploy --all"))
        elif paused:
            findings.add(
                warning("deployments", f"paused: {', '.join(paused)}", "prefect deployment schedule resume NAME")
            )
        else:
            findings.add(ok("deployments", ", ".join(names)))
