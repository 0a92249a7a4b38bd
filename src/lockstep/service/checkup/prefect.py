"""Prefect: what is installed here, and the server as its API shows it. Prefect itself is not imported: that takes 1.5 s.

It must not start anything, and reads no run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

from lockstep.config import Settings
from lockstep.core.checkup import not_checked, ok, problem, warning
from lockstep.core.setup_rules import prefect_server, prefect_versions, worker
from lockstep.errors import ExitCode, LockstepError
from lockstep.service.checkup.alerts import check_automations
from lockstep.service.checkup.findings import Findings
from lockstep.service.prefectapi import Missing, PrefectApi, configured_server

POOL = "lockstep"  # as prefect.yaml names it, where there is none to read

_ASKED = ("server version", "work pool", "worker", "deployments", "automations")


def check_prefect(findings: Findings, settings: Settings) -> None:
    """Check Prefect's installation and, where a server is configured, the server. Reads only."""
    try:
        server = configured_server()
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
    if _deployments(findings, server, [name for name, _ in wanted]):
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


def _deployments(findings: Findings, server: PrefectApi, names: list[str]) -> bool:
    """Check them; return whether there is any."""
    there = 0
    if not names:
        return False
    with findings.checking("deployments"):
        missing, paused = [], []
        for name in names:
            flow, _, own = name.partition("/")
            try:
                found = server.get(f"/deployments/name/{quote(flow, safe='')}/{quote(own, safe='')}")
            except Missing:
                missing.append(name)
            else:
                there += 1
                paused += [name] if found.get("paused") else []
        if missing:
            findings.add(warning("deployments", f"not on the server: {', '.join(missing)}", "prefect deploy --all"))
        elif paused:
            findings.add(
                warning("deployments", f"paused: {', '.join(paused)}", "prefect deployment schedule resume NAME")
            )
        else:
            findings.add(ok("deployments", ", ".join(names)))
    return there > 0
