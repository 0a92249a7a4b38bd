"""Show every configured value and where it comes from. Secrets are left out; nothing is connected to."""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, width
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep config          a table
  lockstep config --json   for programs"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults()


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.table import render_table

    values = context.settings.values()
    if context.as_json:
        rows = [{"key": v.key, "value": v.shown, "origin": v.origin} for v in values]
        show_json("config", {"folder": str(context.settings.folder), "values": rows})
        return ExitCode.DONE
    show(f"{context.settings.folder / 'lockstep.toml'}\n")
    show(render_table(["key", "value", "origin"], [[v.key, v.shown, v.origin] for v in values], width=width()))
    return ExitCode.DONE
