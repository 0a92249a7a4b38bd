"""Start a project folder of your own: configuration, an empty migrations folder, the Prefect flows and the guide."""

from __future__ import annotations

import argparse
from pathlib import Path

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json
from lockstep.errors import ExitCode

EXAMPLES = """\
  lockstep new-project shop                          then: cd shop, copy .env.example to .env, fill it in
  lockstep new-project try --with-example-schema     with migrations 001-004 of the example application"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")
    parser.add_argument("--with-example-schema", action="store_true", help="add the example migrations 001-004")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.creating import new_project

    made = new_project(arguments.folder, with_example_schema=arguments.with_example_schema)
    if context.as_json:
        show_json("new-project", {"folder": str(made.folder), "made": made.made})
    else:
        show("\n".join(f"{made.folder}/{name}" for name in made.made))
        show(f"\nnext: cd {made.folder}; cp .env.example .env; fill it in; lockstep init; lockstep status")
    return ExitCode.DONE
