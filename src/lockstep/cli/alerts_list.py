"""Show where alerts go, on which occasions, what is open, and the Prefect server's part compared with lockstep.toml.
Sends nothing and changes nothing.

Exit code 4 when the server's part is not what lockstep.toml says.
"""

from __future__ import annotations

import argparse
from typing import Any

from lockstep.cli.alerts_apply import document, remarks
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk
from lockstep.errors import ExitCode, LockstepError

EXAMPLES = """\
  lockstep alerts list          where alerts go
  lockstep alerts list --json   for programs; exit 0 when the server has all of its part"""


def configure(parser: argparse.ArgumentParser) -> None:
    del parser


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.alerting.incidents import open_incidents
    from lockstep.service.alerting.places import places
    from lockstep.service.alerting.server import Change, compare_automations
    from lockstep.service.prefectapi import configured_server

    del arguments
    settings = context.settings
    found, trouble = places(settings)
    applied, problem = None, None
    if configured_server() is not None:
        try:
            applied = compare_automations(settings)
        except LockstepError as error:
            problem = error
    opened = [(name, one) for name in (*settings.environments, None) for one in open_incidents(settings, name)]
    wrong = bool(trouble) or problem is not None or (applied is not None and not applied.matches)
    code = ExitCode.DISAGREES if wrong else ExitCode.DONE
    if context.as_json:
        body: dict[str, Any] = {
            "places": [{"name": one.name, "kind": one.kind, "shown": one.shown} for one in found],
            "trouble": list(trouble),
            "on": settings.alerts.on,
            "heartbeat": settings.alerts.heartbeat_url is not None,
            "open": [
                {
                    "environment": name,
                    "incident": one.id,
                    "occasion": one.occasion,
                    "headline": one.headline,
                    "first_at": one.first_at,
                    "last_at": one.last_at,
                    "told_at": one.told_at,
                    "repeats": one.repeats,
                }
                for name, one in opened
            ],
            "server": document(applied) if applied else None,
            "server_problem": problem.message if problem else None,
        }
        show_json("alerts-list", body)
        return code
    show("\n".join([f"{one.name}  {one.shown}" for one in found]) or "no place: set [alerts] urls")
    for text in trouble:
        talk(f"no place: {text}", urgent=True)
    show(f"on: {', '.join(settings.alerts.on)}")
    show(f"heartbeat: {'after each good nightly run' if settings.alerts.heartbeat_url else 'none'}")
    for name, one in opened:
        times = f", {one.repeats} more times since" if one.repeats else ""
        show(
            f"open: {name or 'project'}: {one.occasion}: {one.headline} ({one.id}, {one.first_at:%Y-%m-%d %H:%M} UTC{times})"
        )
    if applied is None:
        talk(problem.message if problem else "no Prefect server is configured: nobody tells of runs that die")
        return code
    for item in applied.items:
        state = {Change.CREATED: "missing", Change.UPDATED: "differs", Change.REMOVED: "surplus"}.get(item.change, "ok")
        show(f"{state:8}{item.kind}  {item.name}")
    for text in remarks(applied):
        talk(text)
    if not applied.matches:
        talk("next: lockstep alerts apply")
    return code
