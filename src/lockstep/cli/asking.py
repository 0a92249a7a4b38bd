"""Asking for an approval at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from lockstep.cli.terminal import talk

if TYPE_CHECKING:
    import argparse

    from lockstep.config import Settings
    from lockstep.core.approval import Approval
    from lockstep.service.approval.prompting import Prompt


def prompt_of(arguments: argparse.Namespace, settings: Settings, *, silent: bool) -> Prompt | None:
    """Return who answers for this process: the command's own words, whoever sits there, or nobody.

    Raises UsageError for --approve where two people are needed.
    """
    from lockstep.errors import UsageError
    from lockstep.service.approval.prompting import prompt

    given: str | None = arguments.approve
    if given is not None:
        if settings.approval.two_person:
            raise UsageError(
                "--approve is the word of one person, and [approval] two_person asks for another one's",
                hint="start it without --approve; somebody else answers with lockstep approve",
            )
        return lambda _asked: (True, given)
    if settings.approval.two_person or silent:
        return None
    return prompt() or (ask if sys.stdin.isatty() and sys.stderr.isatty() else None)


def ask(asked: Approval) -> tuple[bool, str | None] | None:
    """Show what waits and ask for an answer; None: not now."""
    from lockstep.service.approval.telling import terminal_text

    talk(terminal_text(asked.request.environment, asked))
    answer = question("Apply it? [yes, no, later] ", lambda text: text in ("yes", "no", "later", "l"))
    if answer in ("later", "l", None):
        return None
    reason = question("Why (may be empty): ", lambda _text: True)
    return answer == "yes", reason or None


def question(text: str, fits: Callable[[str], bool]) -> str | None:
    """Ask until the answer fits; None when the terminal is gone."""
    while True:
        sys.stderr.write(text)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return None
        if fits(line.strip().lower()):
            return line.strip()
