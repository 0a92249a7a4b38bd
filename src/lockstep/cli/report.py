"""Write one page for those who do not log in to Prefect: are the databases in step, proven and healthy, and what
became of the last deploys.

It is one HTML file that needs nothing else: no script, no font, no picture from elsewhere. An environment that cannot
be reached is said in it. FILE is replaced whole; s3:// uses the store of [backup].
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import error_document, show, show_json, talk
from lockstep.errors import ExitCode, UsageError

EXAMPLES = """\
  lockstep report --html report.html               every environment
  lockstep report --html report.html prod -n 100   one, with more of its history
  lockstep report --html s3://company-pages/shop/databases.html
  lockstep report                                  to where [report] html says"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument(
        "--html", metavar="FILE|s3://BUCKET/KEY", help="where the page goes (default: [report] html of lockstep.toml)"
    )
    parser.add_argument(
        "-n", "--limit", type=words.count, metavar="N", help="how many rows of history each table has (default 30)"
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.core.size import format_bytes
    from lockstep.service.page.report import ROWS, report

    settings = context.settings
    place, base = arguments.html, Path()
    if place is None:
        place, base = settings.report_place, settings.folder
    if not place:
        raise UsageError("where to? There is no [report] html in lockstep.toml", hint="lockstep report --html FILE")
    done = report(
        settings,
        settings.chosen(arguments.environments),
        context.folder,
        place,
        base=base,
        rows=arguments.limit or ROWS,
    )
    if context.as_json:
        body = {
            "place": done.place,
            "size": done.size,
            "answers": [{"question": a.question, "light": a.light.value, "text": a.text} for a in done.answers],
            "unread": [{"environment": name, "error": error_document(error)} for name, error in done.errors],
        }
        show_json("report", body)
    else:
        for answer in done.answers:
            show(f"{answer.question:9} {answer.word.lower()}: {answer.text}")
        show(f"written: {done.place} ({format_bytes(done.size)})")
        for name, error in done.errors:
            talk(f"{name} could not be read: {error.message}")
    if done.errors and len(done.errors) == done.environments:
        return max(error.exit_code for _, error in done.errors)
    return ExitCode.DONE
