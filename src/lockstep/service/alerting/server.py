"""`alerts apply`: the blocks and automations of this project on Prefect's server, made what the configuration says.

Idempotent: what is as it should be is not touched, what a name of ours has and nobody wants is removed, and nothing of
anybody else is looked at twice. A block's address is written to the server and read back from it, and shown nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lockstep.config import Settings
from lockstep.errors import UsageError
from lockstep.service.alerting.automations import HEARTBEAT_SECONDS, Description, Wish, automations, name_prefix
from lockstep.service.alerting.places import Place, all_places, notifier, places
from lockstep.service.prefectapi import Missing, PrefectApi, configured_server

#: Prefect has no block for "any address that Apprise takes". This one hands Apprise whatever is no address of Slack's.
CARRIER = "slack-webhook"

HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"  # of a deployment's job variables

_PATIENCE = 20.0  # seconds for an answer: a server on SQLite may be busy
_TRIES = 20
_PAGE = 200


class Change(Enum):
    """What `apply` did, or would have to do."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One block or automation of ours."""

    kind: str  # block, automation
    name: str
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The server's part, compared with the configuration or made so."""

    server: str  # its address, without credentials
    project: str
    items: tuple[Item, ...]
    missing: tuple[str, ...]  # deployments of prefect.yaml that the server has not
    silent: tuple[str, ...]  # those whose runs send no heartbeat often enough: nobody sees that their machine died
    notes: tuple[str, ...]  # what the server cannot do for this configuration

    @property
    def matches(self) -> bool:
        return all(item.change is Change.UNCHANGED for item in self.items)


def apply_automations(settings: Settings) -> Applied:
    """Make the configured server's blocks and automations of this project what the configuration says.

    Raises UsageError without a server or deployments there, ConfigError for a place that is none, Unreachable.
    """
    if settings.alerts.urls:
        all_places(settings)  # an address that is none is an error before anything is changed
    return _compare(settings, server_of(), write=True)


def compare_automations(settings: Settings, server: PrefectApi | None = None) -> Applied:
    """Say what `apply_automations` would do. Reads only. Raises what it raises. `server`: None, the configured one."""
    return _compare(settings, server or server_of(), write=False)


def server_of() -> PrefectApi:
    """Return the configured server. Raises UsageError when there is none."""
    server = configured_server(patience=_PATIENCE, tries=_TRIES)
    if server is None:
        raise UsageError(
            "no Prefect server is configured, so there is nobody to watch over runs that die",
            hint="set PREFECT_API_URL in .env; alerts of living runs go out without one",
        )
    return server


def project_name(folder: Path) -> str:
    """Return what tells this project from others on the same server: the name of its deploy deployment."""
    wanted = wanted_deployments(folder)
    return next((name for flow, name in wanted if flow == "deploy"), "deploy")


def wanted_deployments(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return flow and name of each deployment of prefect.yaml. Raises UsageError when it cannot be read."""
    file = folder / "prefect.yaml"
    if not file.is_file():
        return ()
    import yaml  # type: ignore[import-untyped]  # comes with Prefect

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return tuple(
            (str(one["entrypoint"]).rpartition(":")[2].replace("_", "-"), str(one["name"]))
            for one in content["deployments"]
        )
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise UsageError(
            "prefect.yaml cannot be read", hint="prefect deploy --all says what is wrong with it"
        ) from None


# -- inside --------------------------------------------------------------------------------------------------------------


def _compare(settings: Settings, server: PrefectApi, *, write: bool) -> Applied:
    project = project_name(settings.folder)
    there, missing = _deployments(server, wanted_deployments(settings.folder))
    beating = {name: one for name, one in there.items() if _beats(one)}
    if not there:
        raise UsageError(
            f"{server.shown} has none of this project's deployments, so there is nothing to watch",
            hint="prefect deploy --all, then: lockstep alerts apply",
        )
    found, _ = places(settings)
    blocks, items = _blocks(server, project, found, write=write)
    wish = Wish(
        project=project,
        deployments=tuple(sorted(str(one["id"]) for one in there.values())),
        beating=tuple(sorted(str(one["id"]) for one in beating.values())),
        blocks=blocks,
        on=frozenset(settings.alerts.on),
        expires_seconds=settings.approval.expires_ms // 1000,
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
        run_url=_run_url(server),
    )
    items += _automations(server, wish, write=write)
    if write:  # only now: an automation must not point to nothing
        _remove_blocks(server, project, {f"{_block_prefix(project)}{place.name}" for place in found})
    return Applied(
        server=server.shown,
        project=project,
        items=tuple(items),
        missing=missing,
        silent=tuple(sorted(there.keys() - beating.keys())),
        notes=tuple(note for place in found for note in _notes(place)),
    )


def _run_url(server: PrefectApi) -> str:
    import os

    base = os.environ.get("PREFECT_UI_URL", "").rstrip("/") or server.shown.removesuffix("/api")
    return f"{base}/runs/flow-run/{{id}}"


def _notes(place: Place) -> Iterable[str]:
    if place.webhook:
        yield (
            f"{place.shown}: alerts of runs that were killed, hang or are late are sent there by the Prefect server, and "
            "hold a subject and a body only; all others have the fields of docs/how-to/alerts.md as well"
        )
        carried = notifier(place.carried().reveal())
        if carried is None or not _same(carried, place):
            yield f"{place.shown}: the server cannot send there: Apprise writes this address otherwise"


def _same(carried: Any, place: Place) -> bool:
    from urllib.parse import parse_qsl, unquote, urlsplit

    parts = urlsplit(place.address.reveal())
    return str(carried.fullpath or "/") == unquote(parts.path or "/") and dict(carried.params) == dict(
        parse_qsl(parts.query, keep_blank_values=True)
    )


def _beats(deployment: Mapping[str, Any]) -> bool:
    """Whether its runs send a heartbeat often enough, by its job variables. Prefect's own interval is three minutes."""
    variables = (deployment.get("job_variables") or {}).get("env") or {}
    try:
        return int(str(variables.get(HEARTBEAT_VARIABLE))) <= HEARTBEAT_SECONDS
    except ValueError:
        return False


def _deployments(
    server: PrefectApi, wanted: Iterable[tuple[str, str]]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    found: dict[str, dict[str, Any]] = {}
    missing = []
    for flow, name in wanted:
        try:
            found[f"{flow}/{name}"] = server.get(f"/deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}")
        except Missing:
            missing.append(f"{flow}/{name}")
    return found, tuple(missing)


# -- blocks ----------------------------------------------------------------------------------------------------------------


def _block_prefix(project: str) -> str:
    """Of a block's name, which takes small letters, digits and dashes."""
    return f"lockstep-{re.sub(r'[^a-z0-9]+', '-', project.lower()).strip('-')}-"


def _blocks(
    server: PrefectApi, project: str, found: Iterable[Place], *, write: bool
) -> tuple[dict[str, str], list[Item]]:
    """Return place -> id of its block, and what was done. A block that is only to be made has no id yet."""
    there = {block["name"]: block for block in _own_blocks(server, project)}
    kind, schema = _carrier(server)
    ids: dict[str, str] = {}
    items: list[Item] = []
    for place in found:
        name = f"{_block_prefix(project)}{place.name}"
        data = {"url": place.carried().reveal(), "notify_type": "info", "allow_private_urls": True}
        old = there.pop(name, None)
        if old is None:
            change = Change.CREATED
            body = {"name": name, "data": data, "block_type_id": kind, "block_schema_id": schema}
            ids[place.name] = str(server.post("/block_documents/", body)["id"]) if write else "to be made"
        else:
            ids[place.name] = str(old["id"])
            change = Change.UNCHANGED
            if not _covers(old["data"], data):
                change = Change.UPDATED
                if write:
                    server.patch(f"/block_documents/{old['id']}", {"data": data, "merge_existing_data": False})
        items.append(Item(kind="block", name=name, change=change))
    items += [Item(kind="block", name=name, change=Change.REMOVED) for name in sorted(there)]
    return ids, items


def _own_blocks(server: PrefectApi, project: str) -> list[dict[str, Any]]:
    found = server.get(f"/block_types/slug/{CARRIER}/block_documents?include_secrets=true")
    pattern = re.compile(re.escape(_block_prefix(project)) + r"\d+-[a-z0-9-]+")
    return [block for block in found if pattern.fullmatch(str(block.get("name") or ""))]


def _carrier(server: PrefectApi) -> tuple[str, str]:
    kind = str(server.get(f"/block_types/slug/{CARRIER}")["id"])
    schemas = server.post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    return kind, str(schemas[0]["id"])


def _remove_blocks(server: PrefectApi, project: str, wanted: set[str]) -> None:
    for block in _own_blocks(server, project):
        if block["name"] not in wanted:
            server.delete(f"/block_documents/{block['id']}")


# -- automations -------------------------------------------------------------------------------------------------------------


def own_automations(server: PrefectApi, project: str) -> list[dict[str, Any]]:
    """Return what the server has under this project's names."""
    found: list[dict[str, Any]] = []
    while page := server.post("/automations/filter", {"limit": _PAGE, "offset": len(found), "sort": "NAME_ASC"}):
        found += page
    return [one for one in found if str(one["name"]).startswith(name_prefix(project))]


def _automations(server: PrefectApi, wish: Wish, *, write: bool) -> list[Item]:
    there: dict[str, list[dict[str, Any]]] = {}
    for one in own_automations(server, wish.project):
        there.setdefault(one["name"], []).append(one)
    items: list[Item] = []
    for wanted in automations(wish):
        name = str(wanted["name"])
        same = there.pop(name, [])
        old = same[0] if same else None
        if old is None:
            change = Change.CREATED
            if write:
                server.post("/automations/", wanted)
        elif _covers(old, wanted):
            change = Change.UNCHANGED
        else:
            change = Change.UPDATED
            if write:
                server.put(f"/automations/{old['id']}", wanted)
        items.append(Item(kind="automation", name=name, change=change))
        if same[1:]:
            there[name] = same[1:]
    for name, surplus in there.items():
        for one in surplus:
            if write:
                server.delete(f"/automations/{one['id']}")
            items.append(Item(kind="automation", name=name, change=Change.REMOVED))
    return items


def _covers(there: Any, wanted: Any) -> bool:
    """Whether the server's document says what is wanted; what it adds of its own does not count. Lists are sets."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(_covers(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(there, list) or len(there) != len(wanted):
            return False
        if all(isinstance(one, str) for one in (*wanted, *there)):
            return set(there) == set(wanted)
        return all(_covers(one, other) for one, other in zip(there, wanted, strict=True))
    if isinstance(wanted, int | float) and isinstance(there, int | float):
        return float(there) == float(wanted)
    return bool(there == wanted)


def describe(one: Description) -> str:
    """Return an automation's name without what all of a project's names begin with."""
    return str(one["name"]).split(": ", 2)[-1]
