"""The parser of the command line: argparse, with the command's own options alone, and words for mistakes.

Every command has the same options beside its own; they stand behind the command.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import NoReturn

from lockstep.core.nearest import meant


class Parser(argparse.ArgumentParser):
    """argparse's, but that it says what may have been meant."""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(one) for one in action.choices]
            said = f"there is no '{value}'{meant(str(value), known)}"
            raise argparse.ArgumentError(
                action, said if "did you" in said else f"{said}; there are: {', '.join(known)}"
            )

    def error(self, message: str) -> NoReturn:
        """Exit as argparse does, with the words of the call written out where they would steer a terminal."""
        from lockstep.core.text import printable

        super().error("\n".join(map(printable, message.split("\n"))))

    def parse_known_options(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse, and refuse what is left over. Exits as argparse does."""
        found, unknown = self.parse_known_args(list(words))
        if unknown:
            self.refuse(unknown, found)
        return found

    def refuse(self, unknown: Sequence[str], found: argparse.Namespace) -> NoReturn:
        """Exit over words that no option or argument takes."""
        parser = self
        while (inner := parser.chosen(found)) is not None:
            parser = inner
        first = unknown[0].split("=", 1)[0]
        if first.startswith("-"):
            parser.error(f"there is no option {first}{meant(first, parser.options())}")
        parser.error(f"there is no place for: {' '.join(unknown)}")

    def chosen(self, found: argparse.Namespace) -> Parser | None:
        """The parser of the word that was given, where this one has words."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                inner = action.choices.get(getattr(found, action.dest, None) or "")
                return inner if isinstance(inner, Parser) else None
        return None

    def options(self) -> Iterable[str]:
        return [word for action in self._actions for word in action.option_strings if word.startswith("--")]


#: The options that every command has.
SHARED = ("--project", "--json", "-q", "--quiet", "-v", "--verbose", "--timezone")


def shared(*, again: bool = False) -> Parser:
    """The options that every command has. `again`: behind a command's second word, where the first has the defaults."""
    off = argparse.SUPPRESS if again else False
    none = argparse.SUPPRESS if again else None
    parser = Parser(add_help=False)
    parser.add_argument(
        "--project",
        metavar="DIR",
        default=argparse.SUPPRESS if again else ".",
        help="the folder with lockstep.toml (default: here or above)",
    )
    parser.add_argument("--json", action="store_true", default=off, help="print one JSON document instead of a table")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", default=off, help="only errors and the result")
    amount.add_argument(
        "-v", "--verbose", action="store_true", default=off, help="each step with its time, for support"
    )
    parser.add_argument("--timezone", metavar="ZONE", default=none, help="of times: Europe/Berlin, UTC, local")
    return parser
