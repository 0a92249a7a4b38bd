"""Prefect: what is installed here, and the server as its API shows it. Prefect itself is not imported: that takes 1.5 s.

It must not start anything, and reads no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lockstep.config import Settings
from lockstep.core.checkup import Check, not_checked, ok, problem, warning
from lockstep.core.setup_rules import duration, prefect_server, prefect_versions, retention, worker
from lockstep.errors import ExitCode, LockstepError, Unauthorized
from lockstep.service.checkup.alerts import check_automations
from lockstep.service.checkup.findings import Findings, problem_of
from lockstep.service.checkup.flows import check_flows
from lockstep.service.prefectapi import Missing, PrefectApi, configured_server

POOL = "lockstep"  # as prefect.yaml names it, where there is none to read

_ASKED = ("server version", "retention", "work pool", "worker", "deployments", "automations")


def check_prefect(findings: Findings, settings: Settings) -> None:
    """Check Prefect's installation and, where a server is configured, the server. Reads only."""
    try:
        server = configured_server()
    except LockstepError as error:
        server = None
        findings.add(warning("server", error.message, error.hint))
    installed = _version("prefect")
    findings.add(prefect_versions(installed, _version("fastapi"), own_server=server is None))
    with findings.checking("flows"):
        check_flows(findings, settings.folder)
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
    welcome = True
    with findings.checking("server version"):
        try:
            findings.add(prefect_server(str(server.get("/admin/version")), installed))
        except Unauthorized as error:  # said once, not by every check
            welcome = False
            findings.add(problem_of("credentials", error))
    if not welcome:
        findings.skip(_ASKED, "it refuses the credentials")
        return
    with findings.checking("retention"):
        findings.add(_retention(server))
    wanted = _wanted(findings, settings.folder)
    for pool in dict.fromkeys(pool for _, pool in wanted) or (POOL,):
        _pool(findings, server, pool)
    if _deployments(findings, server, settings.folder, [name for name, _ in wanted]):
        with findings.checking("automations"):
            check_automations(findings, settings, server)
    else:
        findings.skip(("automations",), "there is no deployment to watch")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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


def _pool(findings: Findings, server: PrefectApi, pool: str) -> None:
    there = False
    path = f"/work_pools/{quote(pool, safe='')}"
    with findings.checking("work pool"):
        try:
            found = server.get(path)
        except Missing:
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


def _retention(server: PrefectApi) -> Check:
    """How long the server keeps what its UI shows. What it calls its settings is not promised: it may not be found."""
    try:
        found = server.get("/admin/settings")["server"]
        vacuum = found["services"]["db_vacuum"]
        on = vacuum["enabled"]
        removed = on is True or (isinstance(on, list) and "flow_runs" in on)
        events = duration(str(found["events"]["retention_period"]))
        runs = duration(str(vacuum["retention_period"])) if removed else None
    except (Missing, KeyError, TypeError, ValueError):
        return not_checked("retention", "this server does not tell how long it keeps its record")
    return retention(events, runs)


def _other_folder(deployment: Mapping[str, Any], folder: Path) -> str | None:
    """The folder whose files a deployment runs, where it is another of this machine; one of its worker's may be anywhere."""
    steps = [arguments for step in deployment.get("pull_steps") or [] for arguments in step.values()]
    named = [one["directory"] for one in steps if isinstance(one, dict) and one.get("directory")]
    if any(isinstance(one, dict) and one.get("repository") for one in steps):
        return None
    path = Path(str(named[-1] if named else deployment.get("path") or folder))
    return str(path) if path.is_dir() and path.resolve() != folder.resolve() else None


def _deployments(findings: Findings, server: PrefectApi, folder: Path, names: list[str]) -> bool:
    """Check them; return whether there is any."""
    there = 0
    if not names:
        return False
    with findings.checking("deployments"):
        missing, paused, elsewhere = [], [], {}
        for name in names:
            flow, _, own = name.partition("/")
            try:
                found = server.get(f"/deployments/name/{quote(flow, safe='')}/{quote(own, safe='')}")
            except Missing:
                missing.append(name)
            else:
                there += 1
                paused += [name] if found.get("paused") else []
                if (other := _other_folder(found, folder)) is not None:
                    elsewhere[name] = other
        if missing:
            findings.add(warning("deployments", f"not on the server: {', '.join(missing)}", "prefect deploy --all"))
        elif elsewhere:
            text = f"with the files of {', '.join(sorted(set(elsewhere.values())))}, not of this folder: "
            findings.add(
                warning("deployments", text + ", ".join(elsewhere), "prefect deploy --all, where they should be")
            )
        elif paused:
            findings.add(
                warning("deployments", f"paused: {', '.join(paused)}", "prefect deployment schedule resume NAME")
            )
        else:
            findings.add(ok("deployments", ", ".join(names)))
    return there > 0
