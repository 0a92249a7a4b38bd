"""Send a test alert to each place of [alerts] urls, directly and by the Prefect server, and wait for the answer of each.

Exit code 8 when one did not arrive.
"""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk, width
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep alerts test          before you rely on them, and after each change
  lockstep alerts test --json   for programs"""


def configure(parser: argparse.ArgumentParser) -> None:
    del parser


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.duration import format_ms
    from lockstep.core.table import render_table
    from lockstep.service.alerting.proving import prove

    del arguments
    found = prove(context.settings, (lambda _: None) if context.as_json else talk)
    if context.as_json:
        rows = [
            {"place": one.place, "way": one.way, "arrived": one.ok, "ms": one.ms, "why": one.why}
            for one in found.proofs
        ]
        show_json("alerts-test", {"ok": found.ok, "deliveries": rows, "without_server": found.without_server})
    else:
        rows_text = [
            [
                one.place,
                one.way,
                f"arrived  {format_ms(one.ms)}" if one.ok else f"DID NOT ARRIVE: {one.why}",
            ]
            for one in found.proofs
        ]
        show(render_table(["place", "way", "outcome"], rows_text, width=width()))
        if found.without_server:
            talk(f"{found.without_server}: what no run can tell by itself (killed, late) is told by nobody")
    return ExitCode.DONE if found.ok else ExitCode.UNREACHABLE
