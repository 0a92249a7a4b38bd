"""Explain one run on one screen, for whoever is on call: what ran and what did not, why it stopped, what is true now, the
ways back with their measured times, and the next command.

It only reads, and works without Prefect and without the bucket: what could not be looked at is named.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from lockstep.cli.context import Context
from lockstep.cli.terminal import paint, show, show_json, width
from lockstep.errors import ExitCode, LockstepError

EXAMPLES = """\
  lockstep explain                         the newest run, whoever started it
  lockstep explain 20261123-052152-9f67    one by its id
  lockstep explain http://127.0.0.1:4200/runs/flow-run/0c3a8a5e-…    by its address in the UI"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="its id, its flow run's id or address in the UI (default: the newest)"
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.explaining import explain

    try:
        folder = context.folder
    except LockstepError:
        context.settings  # noqa: B018  # a broken configuration is another matter: nothing can be asked
        folder = None
    found = explain(context.settings, folder, arguments.run)
    if context.as_json:
        show_json("explain", _document(found))
        return ExitCode.DONE
    from lockstep.core.explanation_text import explanation_text

    show(explanation_text(found, now=datetime.now(UTC), width=width(), paint=paint))
    return ExitCode.DONE


def _document(found: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from lockstep.core.explanation import next_command

    document = asdict(found)
    document["environments"] = document.pop("places")
    document["flow_run"] = document.pop("orchestrated")
    document["not_looked_at"] = document.pop("unseen")
    return {**document, "at_work": found.at_work, "next": next_command(found)}
