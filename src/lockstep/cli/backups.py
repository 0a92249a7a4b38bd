"""Look after the backups in the bucket: list them, prove them, and remove what is needed no more."""

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
    "list": ("backups_list", "every backup, with what is known of it"),
    "verify": ("backups_verify", "prove them: digests, archive, restored into a throw-away server"),
    "prune": ("backups_prune", "remove what retention lets go, and leftovers of interrupted backups"),
}

EXAMPLES = """\
  lockstep backups list            every backup of every environment
  lockstep backups verify          restore the newest of each environment into a throw-away server
  lockstep backups prune --dry-run what would be removed, and why the rest stays"""


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
