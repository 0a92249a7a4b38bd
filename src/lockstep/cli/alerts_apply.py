"""Make the Prefect server's part of the alerts what lockstep.toml says: the automations that give up runs whose machine
died, end approvals that expired, and tell of what crashed or is late; and a block per place that they send by.

May be called again at any time: what is right is not touched, what nobody wants any more is removed. Only names that
begin with `lockstep: ` and this project's deployment are ever changed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk
from lockstep.core.counting import counted
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.service.alerting.server import Applied

EXAMPLES = """\
  lockstep alerts apply          after `prefect deploy --all`
  lockstep alerts apply --json   for programs"""


def configure(parser: argparse.ArgumentParser) -> None:
    del parser


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.alerting.server import Change, apply_automations

    del arguments
    found = apply_automations(context.settings)
    if context.as_json:
        show_json("alerts-apply", document(found))
        return ExitCode.DONE
    for item in found.items:
        if item.change is not Change.UNCHANGED:
            show(f"{item.change.value}  {item.kind}  {item.name}")
    for text in remarks(found):
        talk(text)
    unchanged = sum(item.change is Change.UNCHANGED for item in found.items)
    automations = sum(item.kind == "automation" and item.change is not Change.REMOVED for item in found.items)
    show(
        f"{found.server}: {counted(automations, 'automation')} of {found.project}, {unchanged} of {len(found.items)} unchanged"
    )
    return ExitCode.DONE


def remarks(found: Applied) -> list[str]:
    """What a person should know besides."""
    lines = [f"note: {note}" for note in found.notes]
    if found.missing:
        lines.append(
            f"not watched, since they are not on the server: {', '.join(found.missing)} (prefect deploy --all)"
        )
    if found.silent:
        lines.append(
            f"never given up, since they send no heartbeat every 30 s: {', '.join(found.silent)} "
            '(PREFECT_FLOWS_HEARTBEAT_FREQUENCY: "30" in their job variables, then prefect deploy --all)'
        )
    return lines


def document(found: Applied) -> dict[str, Any]:
    """The server's part as JSON."""
    return {
        "server": found.server,
        "project": found.project,
        "items": [{"kind": item.kind, "name": item.name, "change": item.change.value} for item in found.items],
        "missing_deployments": list(found.missing),
        "silent_deployments": list(found.silent),
        "notes": list(found.notes),
    }
