"""Look after the alerts: where they go, what Prefect's server does by itself, and whether they arrive."""

from __future__ import annotations

import argparse
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from lockstep.cli.parser import shared

if TYPE_CHECKING:
    from lockstep.cli.context import Context
    from lockstep.errors import ExitCode

#: word -> (module, one line for --help). Each module has EXAMPLES, configure and execute, as a command's has.
WORDS = {
    "apply": ("alerts_apply", "make the Prefect server's automations and blocks what lockstep.toml says"),
    "test": ("alerts_test", "send one to each place, directly and by the Prefect server, and wait for each"),
    "list": ("alerts_list", "the places, and the server's part compared with lockstep.toml"),
}

EXAMPLES = """\
  lockstep alerts apply   once, and after each change of [alerts], [approval] expires or prefect.yaml
  lockstep alerts test    exit 0 when everything arrived
  lockstep alerts list    where alerts go, and whether the server has all of its part"""


def configure(parser: argparse.ArgumentParser) -> None:
    words = parser.add_subparsers(dest="word", metavar="WORD", title="words", required=True)
    for word, (_, summary) in WORDS.items():
        module = word_module(word)
        module.configure(
            words.add_parser(
                word,
                help=summary,
                parents=[shared(again=True)],
                description=_filled(module.__doc__ or ""),
                epilog=f"examples:\n{module.EXAMPLES}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )


def _filled(text: str) -> str:
    from textwrap import fill

    return "\n\n".join(fill(paragraph, 80) for paragraph in text.strip().split("\n\n"))


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    code: ExitCode = word_module(arguments.word).execute(arguments, context)
    return code


def word_module(word: str) -> ModuleType:
    """Return the module behind one word."""
    return import_module(f"lockstep.cli.{WORDS[word][0]}")
