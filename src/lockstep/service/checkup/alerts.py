"""Alerts: are places configured, and is the Prefect server's part what lockstep.toml says. It sends nothing."""

from __future__ import annotations

from lockstep.config import Settings
from lockstep.core.checkup import not_checked, ok, problem, warning
from lockstep.errors import ExitCode
from lockstep.service.alerting.places import places
from lockstep.service.alerting.server import compare_automations
from lockstep.service.checkup.findings import Findings
from lockstep.service.prefectapi import PrefectApi

_HOW = "set [alerts] urls: docs/how-to/alerts.md"


def check_places(findings: Findings, settings: Settings) -> None:
    """Check the places that alerts go to. Asks none of them: `lockstep alerts test` does."""
    found, trouble = places(settings)
    for text in trouble:
        findings.add(problem("alerts", text, "docs/how-to/alerts.md", ExitCode.USAGE))
    if trouble:
        return
    if found:
        findings.add(
            ok("alerts", f"go to {', '.join(place.shown for place in found)} (lockstep alerts test proves it)")
        )
    elif any(environment.protected for environment in settings.environments.values()):
        findings.add(warning("alerts", "nobody is told when a run fails or waits for approval", _HOW))
    else:
        findings.add(not_checked("alerts", "no place is configured"))


def check_automations(findings: Findings, settings: Settings, server: PrefectApi) -> None:
    """Compare the server's automations and blocks with the configuration. Reads only."""
    found = compare_automations(settings, server)
    wrong = [item.name for item in found.items if item.change.value != "unchanged"]
    if found.silent and not wrong:
        text = f"runs of {', '.join(found.silent)} send no heartbeat every 30 s: one whose machine dies stays Running"
        remedy = 'PREFECT_FLOWS_HEARTBEAT_FREQUENCY: "30" in job_variables, prefect deploy --all, lockstep alerts apply'
        findings.add(warning("automations", text, remedy))
    elif wrong:
        text = f"{len(wrong)} of {len(found.items)} are not as configured: a run whose machine dies may stay Running"
        findings.add(warning("automations", text, "lockstep alerts apply"))
    else:
        count = sum(item.kind == "automation" for item in found.items)
        findings.add(ok("automations", f"{count}, as configured"))
