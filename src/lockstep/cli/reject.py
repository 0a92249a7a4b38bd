"""Reject what a run waits to do: it ends as not approved, nothing is applied, and the audit log keeps who and why."""

from __future__ import annotations

import argparse

from lockstep.cli import words
from lockstep.cli.approve import reply, target
from lockstep.cli.context import Context
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep reject 20261123-052152-9f67 --reason "not before the weekend"
  lockstep reject --reason "it locks orders for too long"    the only run that waits"""


def configure(parser: argparse.ArgumentParser) -> None:
    target(parser)
    parser.add_argument("--reason", required=True, type=words.reason, metavar="TEXT", help="why; the run is told")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    return reply(arguments, context, approve=False)
