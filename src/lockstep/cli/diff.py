"""Compare the live schemas of two environments, object by object. Read-only."""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.differences import difference_document, ignored_documents, ignored_line, show_difference
from lockstep.cli.terminal import show, show_json, talk
from lockstep.core.counting import counted
from lockstep.errors import ExitCode, UsageError

EXAMPLES = """\
  lockstep diff dev prod            exit 4 when their schemas differ
  lockstep diff dev prod --json     every definition whole"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("left", metavar="ENV", help="one environment")
    parser.add_argument("right", metavar="ENV", help="the other one")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.changes import Action
    from lockstep.service.parity import compare_environments

    left, right = (context.settings.environment(name) for name in (arguments.left, arguments.right))
    if left.name == right.name:
        raise UsageError("diff compares two environments", hint=f"lockstep drift {left.name}: live against recorded")
    found = compare_environments(context.settings, left, right)
    code = ExitCode.DISAGREES if found.found or found.absent else ExitCode.DONE
    if context.as_json:
        show_json(
            "diff",
            {
                "left": {
                    "environment": left.name,
                    "target": found.left.target,
                    "version": found.left.version,
                    "postgresql": found.left.schema.major,
                },
                "right": {
                    "environment": right.name,
                    "target": found.right.target,
                    "version": found.right.version,
                    "postgresql": found.right.schema.major,
                },
                "same_migrations": found.same_migrations,
                "out_of_parity": found.out_of_parity,
                "absent_schemas": list(found.absent),
                "objects": [len(found.left.schema.objects), len(found.right.schema.objects)],
                "differences": [difference_document(one) for one in found.found],
                **ignored_documents(found.ignored, found.reprinted, found.other_text),
            },
        )
        return code
    for side in (found.left, found.right):
        version = f"at {side.version:03d}" if side.version is not None else "nothing applied"
        show(f"{side.target}: {version}, {counted(len(side.schema.objects), 'object')}, PostgreSQL {side.schema.major}")
    for schema in found.absent:
        show(f"schema {schema} is in neither: look at [project] schemas in lockstep.toml")
    if not found.same_migrations:
        only = [
            sorted(name for name, _ in one.applied - other.applied)
            for one, other in ((found.left, found.right), (found.right, found.left))
        ]
        for name, files in zip((left.name, right.name), only, strict=True):
            if files:
                more = f" and {len(files) - 5} more" if len(files) > 5 else ""
                show(f"only {name} has applied: {', '.join(files[:5])}{more}")
    if not found.found:
        show("the schemas are equal")
    else:
        what = counted(len(found.found), "object differs", "objects differ")
        show(f"out of parity: the same migrations are applied, and still {what}" if found.out_of_parity else what)
    wording = {
        Action.CREATED: f"only {right.name}:",
        Action.DROPPED: f"only {left.name}:",
        Action.ALTERED: "different:",
    }
    for one in found.found:
        show("")
        show_difference(one, word=wording[one.change.action], undo=False)
    if any(one.change.action is Action.ALTERED for one in found.found):
        talk(f"- is {left.name}, + is {right.name}")
    if text := ignored_line(found.ignored, found.reprinted, found.other_text):
        show(text)
    return code
